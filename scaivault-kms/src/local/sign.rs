use async_trait::async_trait;
use aws_lc_rs::{
    encoding::{AsDer as _, Pkcs8V1Der},
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_P521_SHA512_ASN1_SIGNING,
        EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _, ML_DSA_44_SIGNING,
        ML_DSA_65_SIGNING, ML_DSA_87_SIGNING, PqdsaKeyPair, PqdsaSigningAlgorithm, RSA_PKCS1_SHA256,
        RSA_PKCS1_SHA384, RSA_PSS_SHA256, RsaKeyPair,
    },
};

use super::PROVIDER;
use crate::{KeySpec, KmsError, Secret, SignatureScheme, SigningKey};

/// A signing key held in this process, from PKCS #8. The caller keeps it sealed at rest.
pub struct SoftwareKey {
    spec: KeySpec,
    public: Vec<u8>,
    pair: Pair,
}

enum Pair {
    Ec(EcdsaKeyPair),
    Rsa(RsaKeyPair),
    Ed25519(Ed25519KeyPair),
    MlDsa(PqdsaKeyPair),
}

impl SoftwareKey {
    /// A fresh key and its PKCS #8 encoding (RFC 5958), which is the only way to have it again. That of an ML-DSA key
    /// holds the seed alone (RFC 9881, 6).
    ///
    /// # Errors
    /// [`KmsError::Device`] if key generation fails.
    pub fn generate(spec: KeySpec) -> Result<(Self, Secret), KmsError> {
        let pkcs8 = match spec {
            KeySpec::EcP256 => ec_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING)?,
            KeySpec::EcP384 => ec_pkcs8(&ECDSA_P384_SHA384_ASN1_SIGNING)?,
            KeySpec::EcP521 => ec_pkcs8(&ECDSA_P521_SHA512_ASN1_SIGNING)?,
            KeySpec::Rsa2048 => rsa_pkcs8(KeySize::Rsa2048)?,
            KeySpec::Rsa3072 => rsa_pkcs8(KeySize::Rsa3072)?,
            KeySpec::Rsa4096 => rsa_pkcs8(KeySize::Rsa4096)?,
            KeySpec::Ed25519 => ed25519_pkcs8()?,
            KeySpec::MlDsa44 => ml_dsa_pkcs8(&ML_DSA_44_SIGNING)?,
            KeySpec::MlDsa65 => ml_dsa_pkcs8(&ML_DSA_65_SIGNING)?,
            KeySpec::MlDsa87 => ml_dsa_pkcs8(&ML_DSA_87_SIGNING)?,
        };
        Ok((Self::from_pkcs8(spec, &pkcs8)?, pkcs8))
    }

    /// Reads a key that [`generate`](Self::generate) made, or any PKCS #8 key of that kind.
    ///
    /// # Errors
    /// [`KmsError::Invalid`] if it is not a valid private key of kind `spec`.
    pub fn from_pkcs8(spec: KeySpec, pkcs8: &Secret) -> Result<Self, KmsError> {
        let invalid = || KmsError::Invalid {
            provider: PROVIDER,
            message: format!("not a PKCS #8 private key of kind {}", spec.as_str()),
        };
        let ec = |algorithm| EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.expose()).map_err(|_| invalid());
        let ml_dsa = |algorithm| PqdsaKeyPair::from_pkcs8(algorithm, pkcs8.expose()).map_err(|_| invalid());
        let pair = match spec {
            KeySpec::EcP256 => Pair::Ec(ec(&ECDSA_P256_SHA256_ASN1_SIGNING)?),
            KeySpec::EcP384 => Pair::Ec(ec(&ECDSA_P384_SHA384_ASN1_SIGNING)?),
            KeySpec::EcP521 => Pair::Ec(ec(&ECDSA_P521_SHA512_ASN1_SIGNING)?),
            KeySpec::MlDsa44 => Pair::MlDsa(ml_dsa(&ML_DSA_44_SIGNING)?),
            KeySpec::MlDsa65 => Pair::MlDsa(ml_dsa(&ML_DSA_65_SIGNING)?),
            KeySpec::MlDsa87 => Pair::MlDsa(ml_dsa(&ML_DSA_87_SIGNING)?),
            KeySpec::Rsa2048 | KeySpec::Rsa3072 | KeySpec::Rsa4096 => {
                let pair = RsaKeyPair::from_pkcs8(pkcs8.expose()).map_err(|_| invalid())?;
                if pair.public_modulus_len() * 8 != rsa_bits(spec) {
                    return Err(invalid());
                }
                Pair::Rsa(pair)
            }
            KeySpec::Ed25519 => {
                Pair::Ed25519(Ed25519KeyPair::from_pkcs8(pkcs8.expose()).map_err(|_| invalid())?)
            }
        };
        let public = match &pair {
            Pair::Ec(pair) => pair.public_key().as_der().map(|der| der.as_ref().to_vec()),
            Pair::Rsa(pair) => pair.public_key().as_der().map(|der| der.as_ref().to_vec()),
            Pair::Ed25519(pair) => pair.public_key().as_der().map(|der| der.as_ref().to_vec()),
            Pair::MlDsa(pair) => pair.public_key().as_der().map(|der| der.as_ref().to_vec()),
        };
        Ok(Self { spec, public: public.map_err(|_| device("encoding the public key failed"))?, pair })
    }
}

impl std::fmt::Debug for SoftwareKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SoftwareKey").field("spec", &self.spec).finish_non_exhaustive()
    }
}

#[async_trait]
impl SigningKey for SoftwareKey {
    fn spec(&self) -> KeySpec {
        self.spec
    }

    fn public_key_der(&self) -> &[u8] {
        &self.public
    }

    async fn sign(&self, scheme: SignatureScheme, message: &[u8]) -> Result<Vec<u8>, KmsError> {
        if !self.spec.signs_by(scheme) {
            return Err(mismatch(self.spec, scheme));
        }
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Ec(pair) => {
                let signature = pair.sign(&random, message).map_err(|_| device("signing failed"))?;
                Ok(signature.as_ref().to_vec())
            }
            Pair::Rsa(pair) => {
                let padding: &'static dyn aws_lc_rs::signature::RsaEncoding = match scheme {
                    SignatureScheme::RsaPkcs1Sha256 => &RSA_PKCS1_SHA256,
                    SignatureScheme::RsaPkcs1Sha384 => &RSA_PKCS1_SHA384,
                    SignatureScheme::RsaPssSha256 => &RSA_PSS_SHA256,
                    _ => return Err(mismatch(self.spec, scheme)),
                };
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(padding, &random, message, &mut signature).map_err(|_| device("signing failed"))?;
                Ok(signature)
            }
            Pair::Ed25519(pair) => Ok(pair.sign(message).as_ref().to_vec()),
            Pair::MlDsa(pair) => {
                let mut signature = vec![0; pair.algorithm().signature_len()];
                let length = pair.sign(message, &mut signature).map_err(|_| device("signing failed"))?;
                signature.truncate(length);
                Ok(signature)
            }
        }
    }
}

fn ec_pkcs8(algorithm: &'static EcdsaSigningAlgorithm) -> Result<Secret, KmsError> {
    let pair = EcdsaKeyPair::generate(algorithm).map_err(|_| device("key generation failed"))?;
    let der = pair.to_pkcs8v1().map_err(|_| device("encoding the key failed"))?;
    Ok(Secret::new(der.as_ref().to_vec()))
}

fn ed25519_pkcs8() -> Result<Secret, KmsError> {
    let pair = Ed25519KeyPair::generate().map_err(|_| device("key generation failed"))?;
    let der = pair.to_pkcs8v1().map_err(|_| device("encoding the key failed"))?;
    Ok(Secret::new(der.as_ref().to_vec()))
}

fn ml_dsa_pkcs8(algorithm: &'static PqdsaSigningAlgorithm) -> Result<Secret, KmsError> {
    let pair = PqdsaKeyPair::generate(algorithm).map_err(|_| device("key generation failed"))?;
    let der = pair.to_pkcs8v1().map_err(|_| device("encoding the key failed"))?;
    Ok(Secret::new(der.as_ref().to_vec()))
}

fn rsa_pkcs8(size: KeySize) -> Result<Secret, KmsError> {
    let pair = RsaKeyPair::generate(size).map_err(|_| device("key generation failed"))?;
    let der: Pkcs8V1Der<'_> = pair.as_der().map_err(|_| device("encoding the key failed"))?;
    Ok(Secret::new(der.as_ref().to_vec()))
}

fn rsa_bits(spec: KeySpec) -> usize {
    match spec {
        KeySpec::Rsa2048 => 2048,
        KeySpec::Rsa3072 => 3072,
        KeySpec::Rsa4096 => 4096,
        _ => 0,
    }
}

fn device(message: &str) -> KmsError {
    KmsError::Device { provider: PROVIDER, message: message.to_owned(), source: None }
}

fn mismatch(spec: KeySpec, scheme: SignatureScheme) -> KmsError {
    KmsError::Unsupported {
        provider: PROVIDER,
        message: format!("{scheme:?} with a key of kind {}", spec.as_str()),
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{
        ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, ECDSA_P521_SHA512_ASN1, ED25519, ML_DSA_44,
        ML_DSA_65, ML_DSA_87, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, VerificationAlgorithm,
    };

    use super::*;

    #[tokio::test]
    async fn every_kind_signs_so_that_another_reader_of_its_public_key_agrees() {
        for &spec in KeySpec::ALL.iter().filter(|spec| **spec != KeySpec::Rsa4096) {
            let (key, pkcs8) = SoftwareKey::generate(spec).unwrap();
            let again = SoftwareKey::from_pkcs8(spec, &pkcs8).unwrap();
            assert_eq!(key.public_key_der(), again.public_key_der());
            let verifier: &'static dyn VerificationAlgorithm = match spec {
                KeySpec::EcP256 => &ECDSA_P256_SHA256_ASN1,
                KeySpec::EcP384 => &ECDSA_P384_SHA384_ASN1,
                KeySpec::EcP521 => &ECDSA_P521_SHA512_ASN1,
                KeySpec::Ed25519 => &ED25519,
                KeySpec::MlDsa44 => &ML_DSA_44,
                KeySpec::MlDsa65 => &ML_DSA_65,
                KeySpec::MlDsa87 => &ML_DSA_87,
                _ => &RSA_PKCS1_2048_8192_SHA256,
            };
            let signature = again.sign(spec.default_scheme(), b"message").await.unwrap();
            let public = ParsedPublicKey::new(verifier, key.public_key_der()).unwrap();
            public.verify_sig(b"message", &signature).unwrap();
            assert!(public.verify_sig(b"massage", &signature).is_err());
        }
    }

    #[test]
    fn an_ml_dsa_key_is_kept_as_its_seed() {
        for spec in [KeySpec::MlDsa44, KeySpec::MlDsa65, KeySpec::MlDsa87] {
            let (_, pkcs8) = SoftwareKey::generate(spec).unwrap();
            // RFC 9881, 6: PrivateKeyInfo { 0, { oid }, OCTET STRING { [0] seed (32 octets) } }.
            let head = [0x30, 0x34, 2, 1, 0, 0x30, 0x0b, 6, 9];
            assert_eq!(pkcs8.expose().len(), 54);
            assert_eq!(pkcs8.expose()[..9], head);
            assert_eq!(pkcs8.expose()[18..22], [4, 34, 0x80, 32]);
        }
    }

    #[tokio::test]
    async fn a_key_of_another_kind_or_scheme_is_refused_without_its_bytes() {
        let (key, pkcs8) = SoftwareKey::generate(KeySpec::EcP256).unwrap();
        assert!(matches!(SoftwareKey::from_pkcs8(KeySpec::EcP384, &pkcs8), Err(KmsError::Invalid { .. })));
        assert!(matches!(SoftwareKey::from_pkcs8(KeySpec::Rsa2048, &pkcs8), Err(KmsError::Invalid { .. })));
        let (_, rsa) = SoftwareKey::generate(KeySpec::Rsa2048).unwrap();
        assert!(matches!(SoftwareKey::from_pkcs8(KeySpec::Rsa3072, &rsa), Err(KmsError::Invalid { .. })));
        let (_, ml_dsa) = SoftwareKey::generate(KeySpec::MlDsa65).unwrap();
        assert!(matches!(SoftwareKey::from_pkcs8(KeySpec::MlDsa44, &ml_dsa), Err(KmsError::Invalid { .. })));
        let error = key.sign(SignatureScheme::RsaPkcs1Sha256, b"m").await.unwrap_err();
        assert!(matches!(error, KmsError::Unsupported { .. }));
    }
}
