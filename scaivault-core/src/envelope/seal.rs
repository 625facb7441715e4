use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hkdf,
};
use scaivault_kms::{Secret, SecretKey};
use zeroize::Zeroizing;

use crate::{Error, Random, Result, TenantId};

/// The first byte of every ciphertext and wrap: AES-256-GCM, a random nonce of 12 bytes, then the sealed
/// bytes and a tag of 16.
const FORMAT: u8 = 1;

/// A value and its data key, as they are stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sealed {
    /// The value under the data key.
    pub(crate) ciphertext: Vec<u8>,
    /// The data key under the tenant key.
    pub(crate) wrapped_key: Vec<u8>,
    /// Which tenant key that is.
    pub(crate) key_id: String,
}

/// The one place where a ciphertext may stand.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot<'a> {
    pub(crate) tenant: &'a TenantId,
    pub(crate) table: &'static str,
    /// What identifies the row in its table; for a secret, its path as well, so that it cannot be moved.
    pub(crate) row: &'a [&'a str],
    pub(crate) column: &'static str,
    pub(crate) version: i64,
}

impl Slot<'_> {
    /// The additional data: a label, then each part behind its length as four big-endian bytes.
    fn aad(&self, purpose: &str) -> Vec<u8> {
        let version = self.version.to_be_bytes();
        let mut out = b"scaivault/envelope/1".to_vec();
        let mut push = |part: &[u8]| {
            // Parts are names and paths of at most a few hundred bytes.
            out.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
            out.extend_from_slice(part);
        };
        for part in [purpose, self.tenant.as_str(), self.table, self.column] {
            push(part.as_bytes());
        }
        push(&version);
        for part in self.row {
            push(part.as_bytes());
        }
        out
    }
}

/// A 256-bit key that seals and opens.
pub(super) struct Aead {
    key: SecretKey,
    cipher: LessSafeKey,
}

impl Aead {
    pub(super) fn new(key: SecretKey) -> Result<Self> {
        let cipher = UnboundKey::new(&AES_256_GCM, key.expose())
            .map_err(|_| Error::internal("AES-256 refused a key"))?;
        Ok(Self { key, cipher: LessSafeKey::new(cipher) })
    }

    pub(super) fn seal(&self, aad: &[u8], plaintext: &[u8], random: &dyn Random) -> Result<Vec<u8>> {
        let mut nonce = [0; NONCE_LEN];
        random.fill(&mut nonce)?;
        let mut buffer = Zeroizing::new(Vec::with_capacity(plaintext.len() + AES_256_GCM.tag_len()));
        buffer.extend_from_slice(plaintext);
        self.cipher
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad), &mut *buffer)
            .map_err(|_| Error::internal("sealing failed"))?;
        let mut out = Vec::with_capacity(1 + NONCE_LEN + buffer.len());
        out.push(FORMAT);
        out.extend_from_slice(&nonce);
        out.extend_from_slice(&buffer);
        Ok(out)
    }

    /// `None` if the bytes are not what [`seal`](Self::seal) made under the same key and additional data.
    pub(super) fn open(&self, aad: &[u8], sealed: &[u8]) -> Option<Secret> {
        let (format, rest) = sealed.split_first()?;
        let (nonce, rest) = rest.split_first_chunk::<NONCE_LEN>()?;
        if *format != FORMAT {
            return None;
        }
        let mut buffer = Zeroizing::new(rest.to_vec());
        let len = self.cipher.open_in_place(Nonce::from(nonce), Aad::from(aad), &mut buffer).ok()?.len();
        buffer.truncate(len);
        Some(Secret::new(std::mem::take(&mut *buffer)))
    }

    /// A key for another purpose, by HKDF-SHA-256. Salts of one purpose are of one length.
    pub(super) fn derive(&self, purpose: &str, salt: &[u8]) -> Result<Self> {
        let mut okm = Zeroizing::new([0; SecretKey::LEN]);
        let prk =
            hkdf::Salt::new(hkdf::HKDF_SHA256, b"scaivault/envelope/derive/1").extract(self.key.expose());
        prk.expand(&[salt, purpose.as_bytes()], &AES_256_GCM)
            .and_then(|okm_from| okm_from.fill(&mut okm[..]))
            .map_err(|_| Error::internal("key derivation failed"))?;
        Self::new(SecretKey::from_slice(&*okm).ok_or_else(|| Error::internal("key derivation failed"))?)
    }
}

impl std::fmt::Debug for Aead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Aead(..)")
    }
}

/// Seals a value under a fresh data key, and that under `tenant_key`.
pub(super) fn seal(
    slot: &Slot<'_>,
    (key_id, tenant_key): (&str, &Aead),
    plaintext: &[u8],
    random: &dyn Random,
) -> Result<Sealed> {
    let mut bytes = Zeroizing::new([0; SecretKey::LEN]);
    random.fill(&mut *bytes)?;
    let data_key = SecretKey::from_slice(&*bytes).ok_or_else(|| Error::internal("a key has 32 bytes"))?;
    let wrapped_key = tenant_key.seal(&wrap_aad(slot, key_id), data_key.expose(), random)?;
    let ciphertext = Aead::new(data_key)?.seal(&slot.aad("value"), plaintext, random)?;
    Ok(Sealed { ciphertext, wrapped_key, key_id: key_id.to_owned() })
}

/// Opens what [`seal`] made in the same slot.
pub(super) fn open(slot: &Slot<'_>, tenant_key: &Aead, sealed: &Sealed) -> Result<Secret> {
    let data_key = open_wrap(slot, (&sealed.key_id, tenant_key), &sealed.wrapped_key)
        .ok_or_else(|| broken(slot, "data key"))?;
    Aead::new(data_key)?
        .open(&slot.aad("value"), &sealed.ciphertext)
        .ok_or_else(|| broken(slot, "ciphertext"))
}

/// The wrap of the same data key under another tenant key; the ciphertext stays as it is.
pub(super) fn rewrap(
    slot: &Slot<'_>,
    (old_id, old): (&str, &Aead),
    (new_id, new): (&str, &Aead),
    wrapped_key: &[u8],
    random: &dyn Random,
) -> Result<Vec<u8>> {
    let data_key = open_wrap(slot, (old_id, old), wrapped_key).ok_or_else(|| broken(slot, "data key"))?;
    new.seal(&wrap_aad(slot, new_id), data_key.expose(), random)
}

/// The data key of a slot, if this is a wrap of it.
pub(super) fn open_wrap(
    slot: &Slot<'_>,
    (key_id, tenant_key): (&str, &Aead),
    wrapped_key: &[u8],
) -> Option<SecretKey> {
    let key = tenant_key.open(&wrap_aad(slot, key_id), wrapped_key)?;
    SecretKey::from_slice(key.expose())
}

/// The wrap is bound to the key that made it as well; the ciphertext is not, so that re-wrapping leaves it.
fn wrap_aad(slot: &Slot<'_>, key_id: &str) -> Vec<u8> {
    let mut aad = slot.aad("data-key");
    aad.extend_from_slice(key_id.as_bytes());
    aad
}

fn broken(slot: &Slot<'_>, what: &str) -> Error {
    Error::internal(format!(
        "{} of {} {:?} does not open: it was changed or moved",
        what, slot.table, slot.row
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SystemRandom;

    fn aead(byte: u8) -> Aead {
        Aead::new(SecretKey::from_slice(&[byte; 32]).unwrap()).unwrap()
    }

    /// A ciphertext that is moved to another tenant, table, row, column or version does not open.
    #[test]
    fn sec_c5_a_moved_row_does_not_open() {
        let (a, b) = (TenantId::parse("tnt_a").unwrap(), TenantId::parse("tnt_b").unwrap());
        let home = Slot {
            tenant: &a,
            table: "secret_version",
            row: &["sec_1", "app/db"],
            column: "ciphertext",
            version: 1,
        };
        let key = aead(1);
        let sealed = seal(&home, ("tk_1", &key), b"hunter2", &SystemRandom).unwrap();
        assert_eq!(open(&home, &key, &sealed).unwrap().expose(), b"hunter2");
        let elsewhere = [
            Slot { tenant: &b, ..home },
            Slot { table: "pki_ca", ..home },
            Slot { row: &["sec_2", "app/db"], ..home },
            Slot { row: &["sec_1", "app/dc"], ..home },
            Slot { row: &["sec_1app/db"], ..home },
            Slot { column: "key", ..home },
            Slot { version: 2, ..home },
        ];
        for slot in elsewhere {
            assert!(open(&slot, &key, &sealed).is_err(), "{slot:?}");
        }
        assert!(open(&home, &aead(2), &sealed).is_err(), "another tenant key");
        assert!(open(&home, &key, &Sealed { key_id: "tk_2".into(), ..sealed }).is_err(), "relabelled");
    }

    #[test]
    fn every_changed_or_missing_byte_is_noticed_and_no_error_shows_the_value() {
        let tenant = TenantId::parse("tnt_a").unwrap();
        let slot = Slot { tenant: &tenant, table: "t", row: &["r"], column: "c", version: 1 };
        let key = aead(1);
        let sealed = seal(&slot, ("k", &key), b"canary", &SystemRandom).unwrap();
        for i in 0..sealed.ciphertext.len() {
            let mut changed = sealed.clone();
            changed.ciphertext[i] ^= 1;
            let error = open(&slot, &key, &changed).unwrap_err();
            assert!(!format!("{error:?}").contains("canary"));
            changed.ciphertext.truncate(i);
            assert!(open(&slot, &key, &changed).is_err());
        }
        for i in 0..sealed.wrapped_key.len() {
            let mut changed = sealed.clone();
            changed.wrapped_key[i] ^= 1;
            assert!(open(&slot, &key, &changed).is_err());
        }
    }

    #[test]
    fn sealing_twice_repeats_no_byte_string_and_empty_values_are_values() {
        let tenant = TenantId::parse("tnt_a").unwrap();
        let slot = Slot { tenant: &tenant, table: "t", row: &["r"], column: "c", version: 1 };
        let key = aead(1);
        let (one, two) =
            (seal(&slot, ("k", &key), b"", &SystemRandom), seal(&slot, ("k", &key), b"", &SystemRandom));
        let (one, two) = (one.unwrap(), two.unwrap());
        assert_ne!(one.ciphertext, two.ciphertext);
        assert_ne!(one.wrapped_key, two.wrapped_key);
        assert!(open(&slot, &key, &one).unwrap().is_empty());
    }

    #[test]
    fn derived_keys_differ_by_purpose_and_salt() {
        let key = aead(1);
        let sealed = key.derive("cursor", b"1").unwrap().seal(b"", b"x", &SystemRandom).unwrap();
        assert!(key.derive("cursor", b"1").unwrap().open(b"", &sealed).is_some());
        assert!(key.derive("cursor", b"2").unwrap().open(b"", &sealed).is_none());
        assert!(key.derive("other", b"1").unwrap().open(b"", &sealed).is_none());
        assert!(key.open(b"", &sealed).is_none());
    }
}
