//! The promises of [`KeyProvider`], one async function each, so that any implementation can prove that
//! it keeps them. A promise that is broken is an `Err` with a sentence.

use std::collections::HashSet;

use crate::{Context, KeyProvider, KmsError, SecretKey, WrappedKey};

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
    never_repeats_a_wrap(provider).await?;
    survives_encoding(provider).await?;
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
