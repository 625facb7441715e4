//! Certificates, lists and OCSP answers of any shape, right or wrong: what the engine itself would never make.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::allow_attributes,
    clippy::unwrap_used,
    reason = "each test file uses its part"
)]

pub mod evidence;
pub mod weak;

use std::{
    rc::Rc,
    sync::atomic::{AtomicU16, Ordering},
};

use aws_lc_rs::{
    rand::SystemRandom,
    rsa::{KeyPair as RsaKeyPair, KeySize},
    signature::{
        self as sig, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, PqdsaKeyPair, RSA_PKCS1_SHA256,
        RSA_PSS_SHA256,
    },
};
use time::{Duration, OffsetDateTime, macros::datetime};

pub const NOW: OffsetDateTime = datetime!(2026-10-05 12:00:00 UTC);
pub const DAY: Duration = Duration::DAY;

/// One element.
pub fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let octets = u32::try_from(length).unwrap().to_be_bytes();
    let skip = octets.iter().take_while(|byte| **byte == 0).count();
    let mut der = vec![tag];
    if length < 0x80 {
        der.push(u8::try_from(length).unwrap());
    } else {
        der.push(0x80 | u8::try_from(4 - skip).unwrap());
        der.extend(&octets[skip..]);
    }
    parts.iter().for_each(|part| der.extend(*part));
    der
}

pub fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    tlv(0x30, parts)
}

pub fn oid(text: &str) -> Vec<u8> {
    const_oid::ObjectIdentifier::new_unwrap(text).as_bytes().to_vec()
}

pub fn oid_der(text: &str) -> Vec<u8> {
    tlv(6, &[&oid(text)])
}

/// A name of one common name, as UTF8String.
pub fn name(text: &str) -> Vec<u8> {
    name_as(0x0c, text.as_bytes())
}

pub fn name_as(tag: u8, text: &[u8]) -> Vec<u8> {
    sequence(&[&rdn(tag, text)])
}

pub fn rdn(tag: u8, text: &[u8]) -> Vec<u8> {
    tlv(0x31, &[&sequence(&[&oid_der("2.5.4.3"), &tlv(tag, &[text])])])
}

pub fn generalized(at: OffsetDateTime) -> Vec<u8> {
    let (date, time) = (at.date(), at.time());
    let text = format!(
        "{:04}{:02}{:02}{:02}{:02}{:02}Z",
        date.year(),
        u8::from(date.month()),
        date.day(),
        time.hour(),
        time.minute(),
        time.second()
    );
    tlv(0x18, &[text.as_bytes()])
}

/// A key that signs.
pub enum Key {
    P256(EcdsaKeyPair),
    P384(EcdsaKeyPair),
    P521(EcdsaKeyPair),
    Rsa(RsaKeyPair),
    /// RSA that signs by PSS.
    Pss(RsaKeyPair),
    Ed25519(Ed25519KeyPair),
    MlDsa(PqdsaKeyPair, &'static str),
}

impl Key {
    pub fn p256() -> Rc<Self> {
        Rc::new(Self::P256(EcdsaKeyPair::generate(&sig::ECDSA_P256_SHA256_ASN1_SIGNING).unwrap()))
    }

    /// One of each kind.
    pub fn zoo() -> Vec<Self> {
        let rsa = |size| RsaKeyPair::generate(size).unwrap();
        vec![
            Self::P384(EcdsaKeyPair::generate(&sig::ECDSA_P384_SHA384_ASN1_SIGNING).unwrap()),
            Self::P521(EcdsaKeyPair::generate(&sig::ECDSA_P521_SHA512_ASN1_SIGNING).unwrap()),
            Self::Rsa(rsa(KeySize::Rsa2048)),
            Self::Pss(rsa(KeySize::Rsa2048)),
            Self::Ed25519(Ed25519KeyPair::generate().unwrap()),
            Self::MlDsa(PqdsaKeyPair::generate(&sig::ML_DSA_44_SIGNING).unwrap(), "2.16.840.1.101.3.4.3.17"),
            Self::MlDsa(PqdsaKeyPair::generate(&sig::ML_DSA_65_SIGNING).unwrap(), "2.16.840.1.101.3.4.3.18"),
            Self::MlDsa(PqdsaKeyPair::generate(&sig::ML_DSA_87_SIGNING).unwrap(), "2.16.840.1.101.3.4.3.19"),
        ]
    }

    pub fn bits(&self) -> Vec<u8> {
        match self {
            Self::P256(key) | Self::P384(key) | Self::P521(key) => key.public_key().as_ref().to_vec(),
            Self::Rsa(key) | Self::Pss(key) => key.public_key().as_ref().to_vec(),
            Self::Ed25519(key) => key.public_key().as_ref().to_vec(),
            Self::MlDsa(key, _) => key.public_key().as_ref().to_vec(),
        }
    }

    pub fn spki(&self) -> Vec<u8> {
        let ec = |curve| sequence(&[&oid_der("1.2.840.10045.2.1"), &oid_der(curve)]);
        let algorithm = match self {
            Self::P256(_) => ec("1.2.840.10045.3.1.7"),
            Self::P384(_) => ec("1.3.132.0.34"),
            Self::P521(_) => ec("1.3.132.0.35"),
            Self::Rsa(_) | Self::Pss(_) => sequence(&[&oid_der("1.2.840.113549.1.1.1"), &[5, 0]]),
            Self::Ed25519(_) => self.algorithm(),
            Self::MlDsa(..) => self.algorithm(),
        };
        spki(&algorithm, &self.bits())
    }

    pub fn algorithm(&self) -> Vec<u8> {
        match self {
            Self::P256(_) => sequence(&[&oid_der("1.2.840.10045.4.3.2")]),
            Self::P384(_) => sequence(&[&oid_der("1.2.840.10045.4.3.3")]),
            Self::P521(_) => sequence(&[&oid_der("1.2.840.10045.4.3.4")]),
            Self::Rsa(_) => sequence(&[&oid_der("1.2.840.113549.1.1.11"), &[5, 0]]),
            Self::Pss(_) => pss(32),
            Self::Ed25519(_) => sequence(&[&oid_der("1.3.101.112")]),
            Self::MlDsa(_, oid) => sequence(&[&oid_der(oid)]),
        }
    }

    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        let rsa = |key: &RsaKeyPair, padding: &'static dyn sig::RsaEncoding| {
            let mut signature = vec![0; key.public_modulus_len()];
            key.sign(padding, &random, message, &mut signature).unwrap();
            signature
        };
        match self {
            Self::P256(key) | Self::P384(key) | Self::P521(key) => {
                key.sign(&random, message).unwrap().as_ref().to_vec()
            }
            Self::Rsa(key) => rsa(key, &RSA_PKCS1_SHA256),
            Self::Pss(key) => rsa(key, &RSA_PSS_SHA256),
            Self::Ed25519(key) => key.sign(message).as_ref().to_vec(),
            Self::MlDsa(key, _) => {
                let mut signature = vec![0; key.algorithm().signature_len()];
                let length = key.sign(message, &mut signature).unwrap();
                signature.truncate(length);
                signature
            }
        }
    }

    /// The frame of X.509 around what is signed; `after` follows the signature.
    pub fn frame(&self, tbs: &[u8], after: &[u8]) -> Vec<u8> {
        self.frame_as(&self.algorithm(), tbs, after)
    }

    pub fn frame_as(&self, algorithm: &[u8], tbs: &[u8], after: &[u8]) -> Vec<u8> {
        sequence(&[tbs, algorithm, &tlv(3, &[&[0], &self.sign(tbs)]), after])
    }
}

pub fn spki(algorithm: &[u8], bits: &[u8]) -> Vec<u8> {
    sequence(&[algorithm, &tlv(3, &[&[0], bits])])
}

/// RSA-PSS with SHA-256 and a salt of so many octets.
pub fn pss(salt: u8) -> Vec<u8> {
    let hash = sequence(&[&oid_der("2.16.840.1.101.3.4.2.1"), &[5, 0]]);
    let mask = sequence(&[&oid_der("1.2.840.113549.1.1.8"), &hash]);
    let salt = tlv(2, &[&[salt]]);
    let parameters = sequence(&[&tlv(0xa0, &[&hash]), &tlv(0xa1, &[&mask]), &tlv(0xa2, &[&salt])]);
    sequence(&[&oid_der("1.2.840.113549.1.1.10"), &parameters])
}

/// What a certificate is going to say.
#[derive(Clone)]
pub struct Draft {
    pub version: u8,
    pub serial: Vec<u8>,
    pub subject: Vec<u8>,
    pub issuer: Vec<u8>,
    pub not_before: OffsetDateTime,
    pub not_after: OffsetDateTime,
    pub spki: Vec<u8>,
    pub key: Rc<Key>,
    pub extensions: Vec<Vec<u8>>,
    /// Instead of the algorithm that the issuer's key signs by.
    pub algorithm: Option<Vec<u8>>,
}

/// A certificate and its key.
#[derive(Clone)]
pub struct Made {
    pub der: Vec<u8>,
    pub name: Vec<u8>,
    pub serial: Vec<u8>,
    pub key: Rc<Key>,
}

impl Draft {
    pub fn new(subject: &[u8], issuer: &[u8], key: Rc<Key>) -> Self {
        static SERIAL: AtomicU16 = AtomicU16::new(0x0101);
        Self {
            version: 2,
            serial: SERIAL.fetch_add(1, Ordering::Relaxed).to_be_bytes().to_vec(),
            subject: subject.to_vec(),
            issuer: issuer.to_vec(),
            not_before: NOW - DAY * 30,
            not_after: NOW + DAY * 30,
            spki: key.spki(),
            key,
            extensions: Vec::new(),
            algorithm: None,
        }
    }

    pub fn with(mut self, extension: Vec<u8>) -> Self {
        self.extensions.push(extension);
        self
    }

    pub fn sign(self, key: &Key) -> Made {
        let algorithm = self.algorithm.unwrap_or_else(|| key.algorithm());
        let version = tlv(0xa0, &[&[2, 1, self.version]]);
        let list = sequence(&self.extensions.iter().map(Vec::as_slice).collect::<Vec<_>>());
        let validity = sequence(&[&generalized(self.not_before), &generalized(self.not_after)]);
        let tbs = sequence(&[
            if self.version == 0 { &[] } else { &version },
            &tlv(2, &[&self.serial]),
            &algorithm,
            &self.issuer,
            &validity,
            &self.subject,
            &self.spki,
            &if self.extensions.is_empty() { Vec::new() } else { tlv(0xa3, &[&list]) },
        ]);
        Made {
            der: key.frame_as(&algorithm, &tbs, &[]),
            name: self.subject,
            serial: self.serial,
            key: self.key,
        }
    }
}

impl Made {
    /// A root with a key of its own, basic constraints and a key usage.
    pub fn root(subject: &str) -> Self {
        let key = Key::p256();
        Draft::new(&name(subject), &name(subject), Rc::clone(&key)).with(ca(None)).with(signs()).sign(&key)
    }

    pub fn draft(&self, subject: &str) -> Draft {
        Draft::new(&name(subject), &self.name, Key::p256())
    }

    pub fn ca_draft(&self, subject: &str) -> Draft {
        self.draft(subject).with(ca(None)).with(signs())
    }

    pub fn ca(&self, subject: &str) -> Self {
        self.ca_draft(subject).sign(&self.key)
    }

    /// A certificate for `a.test`.
    pub fn leaf(&self) -> Self {
        self.draft("leaf").with(dns(&["a.test"])).sign(&self.key)
    }
}

pub fn extension(id: &str, critical: bool, value: &[u8]) -> Vec<u8> {
    sequence(&[&oid_der(id), if critical { &[1, 1, 0xff] } else { &[] }, &tlv(4, &[value])])
}

/// Basic constraints of a CA.
pub fn ca(most: Option<u8>) -> Vec<u8> {
    let most = most.map(|most| tlv(2, &[&[most]])).unwrap_or_default();
    extension("2.5.29.19", true, &sequence(&[&[1, 1, 0xff], &most]))
}

/// A key usage for certificates and lists.
pub fn signs() -> Vec<u8> {
    key_usage(0b0000_0110)
}

/// A key usage of the first eight bits, the first one highest.
pub fn key_usage(bits: u8) -> Vec<u8> {
    let unused = u8::try_from(bits.trailing_zeros().min(7)).unwrap();
    extension("2.5.29.15", true, &tlv(3, &[&[unused, bits]]))
}

pub fn dns(hosts: &[&str]) -> Vec<u8> {
    let hosts: Vec<_> = hosts.iter().map(|host| tlv(0x82, &[host.as_bytes()])).collect();
    names(&hosts)
}

pub fn names(names: &[Vec<u8>]) -> Vec<u8> {
    extension("2.5.29.17", false, &sequence(&names.iter().map(Vec::as_slice).collect::<Vec<_>>()))
}

pub fn purposes(ids: &[&str]) -> Vec<u8> {
    let ids: Vec<_> = ids.iter().map(|id| oid_der(id)).collect();
    extension("2.5.29.37", false, &sequence(&ids.iter().map(Vec::as_slice).collect::<Vec<_>>()))
}

/// Name constraints, from general names.
pub fn constraints(permitted: &[Vec<u8>], excluded: &[Vec<u8>]) -> Vec<u8> {
    let list = |tag, names: &[Vec<u8>]| {
        let subtrees: Vec<_> = names.iter().map(|name| sequence(&[name])).collect();
        let subtrees: Vec<_> = subtrees.iter().map(Vec::as_slice).collect();
        if names.is_empty() { Vec::new() } else { tlv(tag, &[&subtrees.concat()]) }
    };
    extension("2.5.29.30", true, &sequence(&[&list(0xa0, permitted), &list(0xa1, excluded)]))
}

pub fn policies(ids: &[&str]) -> Vec<u8> {
    let list: Vec<_> = ids.iter().map(|id| sequence(&[&oid_der(id)])).collect();
    extension("2.5.29.32", false, &sequence(&list.iter().map(Vec::as_slice).collect::<Vec<_>>()))
}

pub fn mappings(pairs: &[(&str, &str)]) -> Vec<u8> {
    let list: Vec<_> = pairs.iter().map(|(from, to)| sequence(&[&oid_der(from), &oid_der(to)])).collect();
    extension("2.5.29.33", true, &sequence(&list.iter().map(Vec::as_slice).collect::<Vec<_>>()))
}

pub fn policy_constraints(explicit: Option<u8>, mapping: Option<u8>) -> Vec<u8> {
    let number = |tag, value: Option<u8>| value.map(|value| tlv(tag, &[&[value]])).unwrap_or_default();
    extension("2.5.29.36", true, &sequence(&[&number(0x80, explicit), &number(0x81, mapping)]))
}

pub fn inhibit_any(after: u8) -> Vec<u8> {
    extension("2.5.29.54", true, &tlv(2, &[&[after]]))
}
