//! The promises of [`KeyProvider`], one async function each, so that any implementation can prove that
//! it keeps them. A promise that is broken is an `Err` with a sentence.
//!
//! [`all`] runs what any provider can be asked at any time. Three more change something at the provider and are
//! run by name: [`creates_its_root_key_once`], [`survives_rotation`], and [`creates_a_signing_key_once`] for those
//! that sign.

use std::{collections::HashSet, pin::Pin, task::Poll};

use crate::{
    Context, KeyProvider, KeyRef, KeySpec, KmsError, SecretKey, SignatureScheme, SigningKey, WrappedKey, spki,
};

/// What was promised and not kept.
pub type Broken = String;

/// Runs every promise. `other` is a provider of the same kind with another root key.
///
/// # Errors
/// The first promise that is broken.
pub async fn all(provider: &dyn KeyProvider, other: &dyn KeyProvider) -> Result<(), Broken> {
    opens_what_it_wrapped(provider).await?;
    binds_the_context(provider).await?;
    refuses_every_changed_byte(provider).await?;
    refuses_every_truncation(provider).await?;
    refuses_another_root_key(provider, other).await?;
    refuses_another_provider(provider).await?;
    never_repeats_a_wrap(provider).await?;
    survives_encoding(provider).await?;
    rewraps_what_it_wrapped(provider).await?;
    makes_no_second_root_key(provider).await?;
    serves_many_at_once(provider).await?;
    finds_no_signing_key_that_is_not_there(provider).await?;
    says_what_it_is(provider).await?;
    is_healthy(provider).await
}

/// What `wrap` made, `unwrap` opens, for keys of any content.
///
/// # Errors
/// If another key comes back, or none.
pub async fn opens_what_it_wrapped(provider: &dyn KeyProvider) -> Result<(), Broken> {
    for key in [fresh()?, constant(0), constant(0xff)] {
        for context in [Context::new(), context()] {
            let wrapped = provider.wrap(&key, &context).await.map_err(broke("wrap"))?;
            let opened = provider.unwrap(&wrapped, &context).await.map_err(broke("unwrap"))?;
            check(opened.ct_eq(&key), "unwrap gave another key than was wrapped")?;
            check(!contains(&wrapped.blob, key.expose()), "the wrapped blob holds the key in the clear")?;
        }
    }
    Ok(())
}

/// A wrap opens under its own context only.
///
/// # Errors
/// If another context opens it, or the refusal is not `Invalid`.
pub async fn binds_the_context(provider: &dyn KeyProvider) -> Result<(), Broken> {
    let wrapped = provider.wrap(&fresh()?, &context()).await.map_err(broke("wrap"))?;
    let others = [
        Context::new(),
        context().with("version", "2"),
        context().with("more", ""),
        Context::new().with("partner", "ptn_conformance"),
        Context::new().with("partner", "ptn_conformance1").with("version", ""),
    ];
    for other in others {
        refused(provider.unwrap(&wrapped, &other).await, "under another context")?;
    }
    Ok(())
}

/// Not one byte of the blob can be changed.
///
/// # Errors
/// If a changed blob opens, or the refusal is not `Invalid`.
pub async fn refuses_every_changed_byte(provider: &dyn KeyProvider) -> Result<(), Broken> {
    let wrapped = provider.wrap(&fresh()?, &context()).await.map_err(broke("wrap"))?;
    // A service call per byte is dear: a spread of places stands for all of a long blob.
    let step = (wrapped.blob.len() / 64).max(1);
    for at in (0..wrapped.blob.len()).step_by(step) {
        let mut changed = wrapped.clone();
        changed.blob[at] ^= 1;
        refused(provider.unwrap(&changed, &context()).await, &format!("with byte {at} changed"))?;
    }
    Ok(())
}

/// A blob that is cut short, or empty, does not open.
///
/// # Errors
/// If one opens, or the refusal is not `Invalid`.
pub async fn refuses_every_truncation(provider: &dyn KeyProvider) -> Result<(), Broken> {
    let wrapped = provider.wrap(&fresh()?, &context()).await.map_err(broke("wrap"))?;
    for len in [0, 1, wrapped.blob.len() / 2, wrapped.blob.len() - 1] {
        let cut = WrappedKey { blob: wrapped.blob[..len].to_vec(), ..wrapped.clone() };
        refused(provider.unwrap(&cut, &context()).await, &format!("cut to {len} bytes"))?;
    }
    Ok(())
}

/// A wrap of another root key does not open, even when it is relabelled.
///
/// # Errors
/// If one opens.
pub async fn refuses_another_root_key(
    provider: &dyn KeyProvider,
    other: &dyn KeyProvider,
) -> Result<(), Broken> {
    let foreign = other.wrap(&fresh()?, &context()).await.map_err(broke("wrap"))?;
    match provider.unwrap(&foreign, &context()).await {
        Err(KmsError::NotFound { .. } | KmsError::Invalid { .. } | KmsError::Denied { .. }) => {}
        Err(error) => return Err(format!("a wrap of another root key was refused as {error:?}")),
        Ok(_) => return Err("a wrap of another root key opened".into()),
    }
    let ours = provider.describe();
    let relabelled = WrappedKey { key_id: ours.key_id, key_version: ours.key_version, ..foreign };
    check(
        provider.unwrap(&relabelled, &context()).await.is_err(),
        "a relabelled wrap of another root key opened",
    )
}

/// What another kind of provider wrapped is refused by what it says of itself.
///
/// # Errors
/// If it opens, or the refusal is not `Invalid`.
pub async fn refuses_another_provider(provider: &dyn KeyProvider) -> Result<(), Broken> {
    let wrapped = provider.wrap(&fresh()?, &context()).await.map_err(broke("wrap"))?;
    let foreign = WrappedKey { provider: "another".into(), ..wrapped.clone() };
    refused(provider.unwrap(&foreign, &context()).await, "of another provider")?;
    let foreign = WrappedKey { algorithm: "another".into(), ..wrapped };
    refused(provider.unwrap(&foreign, &context()).await, "of another algorithm")
}

/// A wrap made anew holds the same key under the same context, and is another blob.
///
/// # Errors
/// If it does not, or another context will do.
pub async fn rewraps_what_it_wrapped(provider: &dyn KeyProvider) -> Result<(), Broken> {
    let key = fresh()?;
    let wrapped = provider.wrap(&key, &context()).await.map_err(broke("wrap"))?;
    let anew = provider.rewrap(&wrapped, &context()).await.map_err(broke("rewrap"))?;
    check(anew.blob != wrapped.blob, "a rewrap is the same bytes")?;
    let opened = provider.unwrap(&anew, &context()).await.map_err(broke("unwrap"))?;
    check(opened.ct_eq(&key), "another key came back after a rewrap")?;
    match provider.rewrap(&wrapped, &Context::new()).await {
        Err(KmsError::Invalid { .. }) => Ok(()),
        Err(error) => Err(format!("a rewrap under another context was refused as {error:?}")),
        Ok(_) => Err("a rewrap took another context".into()),
    }
}

/// The bootstrap of a root key that exists is refused and changes nothing.
///
/// # Errors
/// If it succeeds, if the refusal is neither `Invalid`, `Unsupported` nor `Denied`, or if an older wrap or the
/// description is no longer what it was.
pub async fn makes_no_second_root_key(provider: &dyn KeyProvider) -> Result<(), Broken> {
    let key = fresh()?;
    let wrapped = provider.wrap(&key, &context()).await.map_err(broke("wrap"))?;
    let before = provider.describe();
    match provider.create_root().await {
        Err(KmsError::Invalid { .. } | KmsError::Unsupported { .. } | KmsError::Denied { .. }) => {}
        Err(error) => return Err(format!("a second bootstrap of the root key was refused as {error:?}")),
        Ok(_) => return Err("a root key was made where there was one".into()),
    }
    check(provider.describe() == before, "a refused bootstrap changed the root key")?;
    let opened = provider.unwrap(&wrapped, &context()).await.map_err(broke("unwrap"))?;
    check(opened.ct_eq(&key), "another key came back after a refused bootstrap")
}

/// Thirty-two callers at the same time each get their own key back.
///
/// # Errors
/// If one does not.
pub async fn serves_many_at_once(provider: &dyn KeyProvider) -> Result<(), Broken> {
    let mut callers: Vec<Option<Caller<'_>>> = Vec::new();
    for caller in 0..32 {
        let context = context().with("caller", caller.to_string());
        callers.push(Some(Box::pin(async move {
            let key = fresh()?;
            let wrapped = provider.wrap(&key, &context).await.map_err(broke("wrap"))?;
            let opened = provider.unwrap(&wrapped, &context).await.map_err(broke("unwrap"))?;
            check(opened.ct_eq(&key), "a caller got the key of another")
        })));
    }
    std::future::poll_fn(move |task| {
        for caller in &mut callers {
            match caller.as_mut().map(|caller| caller.as_mut().poll(task)) {
                None | Some(Poll::Pending) => {}
                Some(Poll::Ready(Ok(()))) => *caller = None,
                Some(Poll::Ready(Err(broken))) => return Poll::Ready(Err(broken)),
            }
        }
        if callers.iter().all(Option::is_none) { Poll::Ready(Ok(())) } else { Poll::Pending }
    })
    .await
}

type Caller<'a> = Pin<Box<dyn Future<Output = Result<(), Broken>> + Send + 'a>>;

/// A signing key that does not exist is `NotFound`, and is not made by asking for it.
///
/// # Errors
/// If there is one, or the refusal is neither `NotFound` nor `Unsupported`.
pub async fn finds_no_signing_key_that_is_not_there(provider: &dyn KeyProvider) -> Result<(), Broken> {
    let name = format!("missing-{}", hex::encode(&fresh()?.expose()[..8]));
    for _ in 0..2 {
        match provider.signing_key(&KeyRef(name.clone())).await {
            Err(KmsError::NotFound { .. } | KmsError::Unsupported { .. }) => {}
            Err(error) => return Err(format!("a missing signing key was refused as {error:?}")),
            Ok(_) => return Err("a signing key was there that nobody made".into()),
        }
    }
    Ok(())
}

/// A root key that is missing is `NotFound` and stays missing until it is made by name, once. Not one of [`all`]:
/// `provider` is one whose root key does not exist yet, and has it afterwards.
///
/// # Errors
/// If it wraps before, does not afterwards, or makes a second root key.
pub async fn creates_its_root_key_once(provider: &dyn KeyProvider) -> Result<(), Broken> {
    for _ in 0..2 {
        match provider.wrap(&fresh()?, &context()).await {
            Err(KmsError::NotFound { .. }) => {}
            Err(error) => return Err(format!("without a root key, wrap was refused as {error:?}")),
            Ok(_) => return Err("it wrapped under a root key that nobody made".into()),
        }
    }
    let told = provider.create_root().await.map_err(broke("create_root"))?;
    check(told == provider.describe(), "create_root told of another key than describe")?;
    opens_what_it_wrapped(provider).await?;
    makes_no_second_root_key(provider).await?;
    match provider.create_root().await {
        Err(KmsError::Invalid { .. }) => Ok(()),
        Err(error) => Err(format!("the second bootstrap was refused as {error:?}")),
        Ok(_) => Err("a root key was made twice".into()),
    }
}

/// A signing key is made once, is found again as `key_ref`, and signs. Not one of [`all`]: it makes a key.
/// `key_ref` is how the provider refers to a key that was made as `name`.
///
/// # Errors
/// If it can be made twice, is not found, or does not sign.
pub async fn creates_a_signing_key_once(
    provider: &dyn KeyProvider,
    name: &str,
    key_ref: &KeyRef,
    spec: KeySpec,
) -> Result<(), Broken> {
    let made = provider.create_signing_key(name, spec).await.map_err(broke("create_signing_key"))?;
    check(made.spec() == spec, "the key that was made is of another kind")?;
    check(
        matches!(provider.create_signing_key(name, spec).await, Err(KmsError::Invalid { .. })),
        "a second key was made under the same name",
    )?;
    let found = provider.signing_key(key_ref).await.map_err(broke("signing_key"))?;
    check(found.public_key_der() == made.public_key_der(), "another key was found than was made")?;
    signs_under_its_public_key(&*made).await?;
    signs_under_its_public_key(&*found).await
}

/// By the scheme for its kind a key signs messages of any length, so that aws-lc-rs agrees under the public
/// key that it shows; by the schemes of other kinds it is `Unsupported`.
///
/// # Errors
/// If a signature does not hold, or a scheme is not refused as it should be.
pub async fn signs_under_its_public_key(key: &dyn SigningKey) -> Result<(), Broken> {
    let scheme = key.spec().default_scheme();
    for message in [&b"m"[..], &[7; 4000]] {
        let signature = key.sign(scheme, message).await.map_err(broke("sign"))?;
        spki::check_signature("conformance", scheme, key.public_key_der(), message, signature)
            .map_err(broke("the check of a signature"))?;
    }
    let other = match scheme {
        SignatureScheme::EcdsaSha256 => SignatureScheme::EcdsaSha384,
        _ => SignatureScheme::EcdsaSha256,
    };
    match key.sign(other, b"m").await {
        Err(KmsError::Unsupported { .. }) => Ok(()),
        Err(error) => Err(format!("a scheme of another kind of key was refused as {error:?}")),
        Ok(_) => Err("it signed by a scheme of another kind of key".into()),
    }
}

/// Wrapping one key many times gives as many different blobs.
///
/// # Errors
/// If two are the same.
pub async fn never_repeats_a_wrap(provider: &dyn KeyProvider) -> Result<(), Broken> {
    let key = fresh()?;
    let mut seen = HashSet::new();
    for _ in 0..16 {
        let wrapped = provider.wrap(&key, &context()).await.map_err(broke("wrap"))?;
        check(seen.insert(wrapped.blob), "two wraps of one key are the same bytes")?;
    }
    Ok(())
}

/// A wrap opens after it went through [`WrappedKey::to_bytes`].
///
/// # Errors
/// If it does not.
pub async fn survives_encoding(provider: &dyn KeyProvider) -> Result<(), Broken> {
    let key = fresh()?;
    let wrapped = provider.wrap(&key, &context()).await.map_err(broke("wrap"))?;
    let decoded = WrappedKey::from_bytes(&wrapped.to_bytes()).map_err(broke("decode"))?;
    let opened = provider.unwrap(&decoded, &context()).await.map_err(broke("unwrap"))?;
    check(opened.ct_eq(&key), "another key came back after encoding")
}

/// A wrap made before the root key was rotated in place opens afterwards, and can be made anew. Not one of
/// [`all`]: it changes the root key. For a provider that cannot rotate there is nothing to keep.
///
/// # Errors
/// If an older wrap does not open, or the version stays what it was.
pub async fn survives_rotation(provider: &dyn KeyProvider) -> Result<(), Broken> {
    let key = fresh()?;
    let before = provider.wrap(&key, &context()).await.map_err(broke("wrap"))?;
    let told = match provider.rotate().await {
        Err(KmsError::Unsupported { .. }) => return Ok(()),
        result => result.map_err(broke("rotate"))?,
    };
    let opened = provider.unwrap(&before, &context()).await.map_err(broke("unwrap after rotation"))?;
    check(opened.ct_eq(&key), "another key came back after rotation")?;
    let after = provider.wrap(&key, &context()).await.map_err(broke("wrap after rotation"))?;
    check(
        after.key_version == told.key_version,
        "a wrap after rotation is not of the version that was told",
    )?;
    let versioned = before.key_version.is_some();
    check(!versioned || after.key_version != before.key_version, "rotation did not change the version")?;
    let anew = provider.rewrap(&before, &context()).await.map_err(broke("rewrap"))?;
    check(anew.key_version == after.key_version, "a rewrap is not of the current version")?;
    let opened = provider.unwrap(&anew, &context()).await.map_err(broke("unwrap after rewrap"))?;
    check(opened.ct_eq(&key), "another key came back after a rewrap")?;
    refused(provider.unwrap(&anew, &Context::new()).await, "made anew and under another context")
}

/// The description agrees with what `wrap` records.
///
/// # Errors
/// If a field is empty or differs.
pub async fn says_what_it_is(provider: &dyn KeyProvider) -> Result<(), Broken> {
    let told = provider.describe();
    check(
        !told.provider.is_empty() && !told.key_id.is_empty() && !told.algorithm.is_empty(),
        "an empty description",
    )?;
    let wrapped = provider.wrap(&fresh()?, &context()).await.map_err(broke("wrap"))?;
    check(wrapped.provider == told.provider, "the wrap names another provider than the description")?;
    check(wrapped.key_id == told.key_id, "the wrap names another root key than the description")
}

/// A provider that works says so.
///
/// # Errors
/// If its health call fails.
pub async fn is_healthy(provider: &dyn KeyProvider) -> Result<(), Broken> {
    provider.health().await.map(drop).map_err(broke("health"))
}

fn context() -> Context {
    Context::new().with("partner", "ptn_conformance").with("version", "1")
}

fn fresh() -> Result<SecretKey, Broken> {
    SecretKey::generate().map_err(broke("generate"))
}

fn constant(byte: u8) -> SecretKey {
    #[expect(clippy::unwrap_used, reason = "32 bytes make a key")]
    SecretKey::from_slice(&[byte; SecretKey::LEN]).unwrap()
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

fn check(kept: bool, promise: &str) -> Result<(), Broken> {
    if kept { Ok(()) } else { Err(promise.to_owned()) }
}

fn refused(result: Result<SecretKey, KmsError>, how: &str) -> Result<(), Broken> {
    match result {
        Err(KmsError::Invalid { .. }) => Ok(()),
        Err(error) => Err(format!("a wrap {how} was refused as {error:?} and not as Invalid")),
        Ok(_) => Err(format!("a wrap {how} opened")),
    }
}

fn broke(what: &'static str) -> impl Fn(KmsError) -> Broken {
    move |error| format!("{what} failed: {error:?}")
}
