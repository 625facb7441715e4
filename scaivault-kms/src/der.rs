//! The few DER encodings that devices do not give: public keys as `SubjectPublicKeyInfo` (RFC 5280, 4.1.2.7) and
//! ECDSA signatures as `Ecdsa-Sig-Value` (RFC 3279, 2.2.3).

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
#[cfg(feature = "pkcs11")]
const OCTET_STRING: u8 = 0x04;
const NULL: &[u8] = &[0x05, 0];
const SEQUENCE: u8 = 0x30;

const ID_EC_PUBLIC_KEY: &[u8] = b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01";
const RSA_ENCRYPTION: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01";
/// The named curve P-256 (RFC 5480, 2.1.1.1) as an object identifier.
pub(crate) const P256: &[u8] = b"\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07";
/// The named curve P-384.
pub(crate) const P384: &[u8] = b"\x06\x05\x2b\x81\x04\x00\x22";
/// Ed25519 (RFC 8410, 3).
#[cfg(feature = "pkcs11")]
pub(crate) const ED25519: &[u8] = b"\x06\x03\x2b\x65\x70";

/// The public key at `point` (uncompressed, X9.62) on the named curve `curve`.
pub(crate) fn ec_public_key(curve: &[u8], point: &[u8]) -> Vec<u8> {
    public_key(&[ID_EC_PUBLIC_KEY, curve].concat(), point)
}

/// An Ed25519 public key (RFC 8410, 4).
#[cfg(feature = "pkcs11")]
pub(crate) fn ed25519_public_key(point: &[u8]) -> Vec<u8> {
    public_key(ED25519, point)
}

/// An RSA public key from its big-endian modulus and exponent.
pub(crate) fn rsa_public_key(modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
    let key = tlv(SEQUENCE, &[integer(modulus), integer(exponent)].concat());
    public_key(&[RSA_ENCRYPTION, NULL].concat(), &key)
}

/// An ECDSA signature from r and s, each of half of `raw`, as devices give it.
pub(crate) fn ecdsa_signature(raw: &[u8]) -> Option<Vec<u8>> {
    if raw.is_empty() || !raw.len().is_multiple_of(2) {
        return None;
    }
    let (r, s) = raw.split_at(raw.len() / 2);
    Some(tlv(SEQUENCE, &[integer(r), integer(s)].concat()))
}

/// What is in an OCTET STRING that fills `bytes`.
#[cfg(feature = "pkcs11")]
pub(crate) fn octet_string(bytes: &[u8]) -> Option<&[u8]> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (len, content) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81 => rest.split_first().map(|(&len, content)| (usize::from(len), content))?,
        _ => return None,
    };
    (tag == OCTET_STRING && content.len() == len).then_some(content)
}

fn public_key(algorithm: &[u8], key: &[u8]) -> Vec<u8> {
    let bits = [&[0], key].concat();
    tlv(SEQUENCE, &[tlv(SEQUENCE, algorithm), tlv(BIT_STRING, &bits)].concat())
}

/// A non-negative INTEGER from big-endian bytes of any length.
fn integer(bytes: &[u8]) -> Vec<u8> {
    let from = bytes.iter().position(|b| *b != 0).unwrap_or(bytes.len());
    let bytes = &bytes[from..];
    let sign = bytes.first().is_none_or(|b| *b >= 0x80);
    tlv(INTEGER, &[if sign { &[0][..] } else { &[] }, bytes].concat())
}

fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    let len = content.len().to_be_bytes();
    match content.len() {
        0..0x80 => out.push(len[len.len() - 1]),
        n => {
            let used = len.len() - n.leading_zeros() as usize / 8;
            // At most eight.
            out.push(0x80 | u8::try_from(used).unwrap_or(8));
            out.extend_from_slice(&len[len.len() - used..]);
        }
    }
    out.extend_from_slice(content);
    out
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::{
        encoding::AsDer as _,
        rsa::{KeyPair, KeySize},
        signature::{ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
    };

    use super::*;

    #[test]
    fn public_keys_are_the_bytes_that_another_encoder_writes() {
        let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
        let spki: aws_lc_rs::encoding::PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
        // A key of 2048 bits ends with its modulus, an INTEGER's head of two bytes and the exponent.
        let (rest, exponent) = spki.as_ref().split_last_chunk::<3>().unwrap();
        let modulus = &rest[rest.len() - 258..rest.len() - 2];
        assert_eq!(rsa_public_key(modulus, exponent), spki.as_ref());
        let pair = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap();
        let spki: aws_lc_rs::encoding::PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
        assert_eq!(ec_public_key(P384, pair.public_key().as_ref()), spki.as_ref());
    }

    #[test]
    fn integers_are_minimal_and_never_negative() {
        assert_eq!(integer(&[0, 0, 0x7f]), [2, 1, 0x7f]);
        assert_eq!(integer(&[0x80]), [2, 2, 0, 0x80]);
        assert_eq!(integer(&[0, 0]), [2, 1, 0]);
        assert_eq!(tlv(4, &[7; 0x80])[..3], [4, 0x81, 0x80]);
        assert_eq!(tlv(4, &[7; 0x100])[..4], [4, 0x82, 1, 0]);
        assert_eq!(ecdsa_signature(&[0, 1, 0, 0x80]).unwrap(), [0x30, 7, 2, 1, 1, 2, 2, 0, 0x80]);
        assert!(ecdsa_signature(&[1]).is_none() && ecdsa_signature(&[]).is_none());
    }
}
