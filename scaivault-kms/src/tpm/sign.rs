use std::sync::Arc;

use async_trait::async_trait;
use aws_lc_rs::{
    digest::{SHA256, SHA384, digest},
    signature::{ParsedPublicKey, RSA_PSS_2048_8192_SHA256},
};
use tss_esapi::{
    attributes::ObjectAttributesBuilder,
    constants::tss::{TPM2_RH_NULL, TPM2_ST_HASHCHECK},
    handles::ObjectHandle,
    interface_types::{
        algorithm::{HashingAlgorithm, PublicAlgorithm},
        ecc::EccCurve,
        key_bits::RsaKeyBits,
    },
    structures::{
        Digest, EccParameter, EccPoint, EccScheme, HashScheme, HashcheckTicket, Public, PublicBuilder,
        PublicEccParametersBuilder, PublicKeyRsa, PublicRsaParametersBuilder, RsaExponent, RsaScheme,
        Signature, SignatureScheme as Scheme,
    },
    tss2_esys::TPMT_TK_HASHCHECK,
};

use super::{
    error::{Failure, device, invalid, not_found, unsupported},
    session::{Open, Worker, keep, persistent},
};
use crate::{KeySpec, KmsError, SignatureScheme, SigningKey, der, device::Pool};

/// A signing key at a persistent handle of a TPM.
pub struct TpmKey {
    pool: Arc<Pool<Worker>>,
    handle: u32,
    spec: KeySpec,
    public: Vec<u8>,
}

impl std::fmt::Debug for TpmKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let handle = format!("{:#010x}", self.handle);
        f.debug_struct("TpmKey").field("handle", &handle).field("spec", &self.spec).finish_non_exhaustive()
    }
}

#[async_trait]
impl SigningKey for TpmKey {
    fn spec(&self) -> KeySpec {
        self.spec
    }

    fn public_key_der(&self) -> &[u8] {
        &self.public
    }

    /// RSA-PSS signatures are verified before they leave: some TPMs salt them with another length than the hash's.
    async fn sign(&self, scheme: SignatureScheme, message: &[u8]) -> Result<Vec<u8>, KmsError> {
        let (hash, of_tpm) = scheme_of(self.spec, scheme)?;
        let hash = digest(hash, message).as_ref().to_vec();
        let (handle, expected) = (self.handle, self.public.clone());
        let signature = self
            .pool
            .call(move |worker| worker.run("signing", |open| sign(open, handle, &expected, of_tpm, &hash)))
            .await?;
        if scheme == SignatureScheme::RsaPssSha256 {
            ParsedPublicKey::new(&RSA_PSS_2048_8192_SHA256, &self.public)
                .map_err(|_| device("the TPM told a public key that is none"))?
                .verify_sig(message, &signature)
                .map_err(|_| {
                    unsupported("this TPM does not salt RSA-PSS with as many bytes as the hash has")
                })?;
        }
        Ok(signature)
    }
}

/// Makes a key under the root key and keeps it at the handle `name`.
pub(super) async fn create(
    pool: &Arc<Pool<Worker>>,
    name: &str,
    spec: KeySpec,
) -> Result<Arc<dyn SigningKey>, KmsError> {
    let handle = handle_of(name).ok_or_else(|| invalid(no_handle(name)))?;
    let template = template(spec)?;
    pool.call(move |worker| {
        // Loaded first, so that what must not be done twice begins on a connection that works.
        worker.run("making a signing key", |open| match persistent(&mut open.context, handle)? {
            Some(_) => {
                Err(invalid(format!("there is a key at {handle:#010x} already; it is not overwritten"))
                    .into())
            }
            None => Ok(()),
        })?;
        worker.run("making a signing key", |open| {
            let (root, template) = (open.root, template.clone());
            let made = open.within(|context| context.create(root, template, None, None, None, None))?;
            let loaded = open.within(|context| context.load(root, made.out_private, made.out_public))?;
            // Once it is kept, a second round would find the handle taken, and say so.
            keep(&mut open.context, loaded, handle)
        })
    })
    .await?;
    refer(pool, name).await
}

/// Finds the key at the handle `name`.
pub(super) async fn refer(pool: &Arc<Pool<Worker>>, name: &str) -> Result<Arc<dyn SigningKey>, KmsError> {
    // No key has such a name.
    let handle = handle_of(name).ok_or_else(|| not_found(no_handle(name)))?;
    let (spec, public) = pool
        .call(move |worker| {
            worker.run("looking up a signing key", |open| {
                let (mut object, told) = find(open, handle)?;
                open.context.tr_close(&mut object)?;
                Ok(told)
            })
        })
        .await?;
    Ok(Arc::new(TpmKey { pool: Arc::clone(pool), handle, spec, public }))
}

fn handle_of(name: &str) -> Option<u32> {
    let digits = name.strip_prefix("handle:").unwrap_or(name);
    digits.strip_prefix("0x").and_then(|hex| u32::from_str_radix(hex, 16).ok())
}

fn no_handle(name: &str) -> String {
    format!("a key in a TPM is named by its persistent handle (0x81010001), not {name:?}")
}

type Told = (KeySpec, Vec<u8>);

/// The key at this handle; the caller closes it or lets the connection do so.
fn find(open: &mut Open, handle: u32) -> Result<(ObjectHandle, Told), Failure> {
    let Some(object) = persistent(&mut open.context, handle)? else {
        return Err(not_found(format!("no key at handle {handle:#010x}")).into());
    };
    let (public, _, _) =
        open.context.execute_without_session(|context| context.read_public(object.into()))?;
    Ok((object, describe(&public)?))
}

fn describe(public: &Public) -> Result<Told, KmsError> {
    if !public.object_attributes().sign_encrypt() || public.object_attributes().restricted() {
        return Err(unsupported("the key may not sign what it is given"));
    }
    match public {
        Public::Ecc { parameters, unique, .. } => {
            let (spec, curve, size) = match parameters.ecc_curve() {
                EccCurve::NistP256 => (KeySpec::EcP256, der::P256, 32),
                EccCurve::NistP384 => (KeySpec::EcP384, der::P384, 48),
                other => return Err(unsupported(format!("the curve {other:?}"))),
            };
            let point = [&[4], &padded(unique.x(), size)[..], &padded(unique.y(), size)].concat();
            Ok((spec, der::ec_public_key(curve, &point)))
        }
        Public::Rsa { parameters, unique, .. } => {
            let spec = match parameters.key_bits() {
                RsaKeyBits::Rsa2048 => KeySpec::Rsa2048,
                RsaKeyBits::Rsa3072 => KeySpec::Rsa3072,
                RsaKeyBits::Rsa4096 => KeySpec::Rsa4096,
                other => return Err(unsupported(format!("an RSA key of kind {other:?}"))),
            };
            // Zero stands for the usual one.
            let exponent = match parameters.exponent().value() {
                0 => 65537,
                exponent => exponent,
            };
            Ok((spec, der::rsa_public_key(unique.value(), &exponent.to_be_bytes())))
        }
        _ => Err(unsupported("a signing key that is neither RSA nor on an elliptic curve")),
    }
}

fn padded(number: &EccParameter, size: usize) -> Vec<u8> {
    let mut out = vec![0; size.saturating_sub(number.value().len())];
    out.extend_from_slice(number.value());
    out
}

fn template(spec: KeySpec) -> Result<Public, KmsError> {
    let built = || -> tss_esapi::Result<Option<Public>> {
        let attributes = ObjectAttributesBuilder::new()
            .with_fixed_tpm(true)
            .with_fixed_parent(true)
            .with_sensitive_data_origin(true)
            .with_user_with_auth(true)
            .with_no_da(true)
            .with_sign_encrypt(true)
            .build()?;
        let builder = PublicBuilder::new()
            .with_name_hashing_algorithm(HashingAlgorithm::Sha256)
            .with_object_attributes(attributes);
        let ec = |curve, hash| {
            let scheme = EccScheme::EcDsa(HashScheme::new(hash));
            PublicEccParametersBuilder::new_unrestricted_signing_key(scheme, curve).build()
        };
        let rsa = |bits| {
            PublicRsaParametersBuilder::new_unrestricted_signing_key(
                RsaScheme::Null,
                bits,
                RsaExponent::default(),
            )
            .build()
        };
        let ecc = |parameters| {
            builder
                .clone()
                .with_public_algorithm(PublicAlgorithm::Ecc)
                .with_ecc_parameters(parameters)
                .with_ecc_unique_identifier(EccPoint::default())
                .build()
        };
        let rsa_key = |parameters| {
            builder
                .clone()
                .with_public_algorithm(PublicAlgorithm::Rsa)
                .with_rsa_parameters(parameters)
                .with_rsa_unique_identifier(PublicKeyRsa::default())
                .build()
        };
        Ok(Some(match spec {
            KeySpec::EcP256 => ecc(ec(EccCurve::NistP256, HashingAlgorithm::Sha256)?)?,
            KeySpec::EcP384 => ecc(ec(EccCurve::NistP384, HashingAlgorithm::Sha384)?)?,
            KeySpec::Rsa2048 => rsa_key(rsa(RsaKeyBits::Rsa2048)?)?,
            KeySpec::Rsa3072 => rsa_key(rsa(RsaKeyBits::Rsa3072)?)?,
            KeySpec::Rsa4096 => rsa_key(rsa(RsaKeyBits::Rsa4096)?)?,
            _ => return Ok(None),
        }))
    };
    built()
        .map_err(|e| Failure::from(e).into_kms("describing the key"))?
        .ok_or_else(|| unsupported(format!("this TPM lacks keys of kind {}", spec.as_str())))
}

fn scheme_of(
    spec: KeySpec,
    scheme: SignatureScheme,
) -> Result<(&'static aws_lc_rs::digest::Algorithm, Scheme), KmsError> {
    let rsa = matches!(spec, KeySpec::Rsa2048 | KeySpec::Rsa3072 | KeySpec::Rsa4096);
    let sha256 = HashScheme::new(HashingAlgorithm::Sha256);
    let sha384 = HashScheme::new(HashingAlgorithm::Sha384);
    match scheme {
        SignatureScheme::EcdsaSha256 if spec == KeySpec::EcP256 => {
            Ok((&SHA256, Scheme::EcDsa { hash_scheme: sha256 }))
        }
        SignatureScheme::EcdsaSha384 if spec == KeySpec::EcP384 => {
            Ok((&SHA384, Scheme::EcDsa { hash_scheme: sha384 }))
        }
        SignatureScheme::RsaPkcs1Sha256 if rsa => Ok((&SHA256, Scheme::RsaSsa { hash_scheme: sha256 })),
        SignatureScheme::RsaPkcs1Sha384 if rsa => Ok((&SHA384, Scheme::RsaSsa { hash_scheme: sha384 })),
        SignatureScheme::RsaPssSha256 if rsa => Ok((&SHA256, Scheme::RsaPss { hash_scheme: sha256 })),
        _ => Err(unsupported(format!("{scheme:?} with a key of kind {}", spec.as_str()))),
    }
}

fn sign(
    open: &mut Open,
    handle: u32,
    expected: &[u8],
    scheme: Scheme,
    hash: &[u8],
) -> Result<Vec<u8>, Failure> {
    let (mut object, (_, public)) = find(open, handle)?;
    if public != expected {
        return Err(not_found(format!("the key at handle {handle:#010x} is another by now")).into());
    }
    let ticket = HashcheckTicket::try_from(TPMT_TK_HASHCHECK {
        tag: TPM2_ST_HASHCHECK,
        hierarchy: TPM2_RH_NULL,
        digest: Default::default(),
    })?;
    let hash = Digest::try_from(hash)?;
    let signed = open.within(|context| context.sign(object.into(), hash, scheme, ticket));
    open.context.tr_close(&mut object)?;
    match signed? {
        Signature::EcDsa(signature) => {
            let size = signature.signature_r().value().len().max(signature.signature_s().value().len());
            let raw = [padded(signature.signature_r(), size), padded(signature.signature_s(), size)].concat();
            Ok(der::ecdsa_signature(&raw).ok_or_else(|| device("the TPM gave an empty signature"))?)
        }
        Signature::RsaSsa(signature) | Signature::RsaPss(signature) => {
            Ok(signature.signature().value().to_vec())
        }
        _ => Err(device("the TPM signed by another scheme than it was asked for").into()),
    }
}
