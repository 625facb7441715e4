//! PEM texts (RFC 7468).

use base64::{Engine as _, engine::general_purpose::STANDARD};
use der::pem;
use scaivault_kms::Secret;
use zeroize::Zeroizing;

use crate::PkiError;

/// The most bytes of PEM text that are looked at.
pub(crate) const MAX_TEXT: usize = 1024 * 1024;
/// The most certificates in one text.
pub(crate) const MAX_CERTIFICATES: usize = 64;
/// The characters of a full line.
const LINE: usize = 64;

/// Reads every certificate of a PEM text (RFC 7468), in order; returns DER. Text between the blocks is
/// skipped, as RFC 7468 has it.
///
/// # Errors
/// [`PkiError::Invalid`] if there is none, more than 64 or more than 1 MiB of text, a block that is not a
/// certificate, or one that is malformed.
pub fn parse_certificates(text: impl AsRef<[u8]>) -> Result<Vec<Vec<u8>>, PkiError> {
    let blocks = blocks("certificate_pem", text.as_ref(), MAX_CERTIFICATES)?;
    blocks
        .into_iter()
        .map(|(label, der)| match label.as_str() {
            "CERTIFICATE" | "X509 CERTIFICATE" | "X.509 CERTIFICATE" => Ok(der.to_vec()),
            _ => Err(PkiError::invalid("certificate_pem", "holds something that is not a certificate")),
        })
        .collect()
}

/// Writes DER as one PEM block (RFC 7468): lines of 64 characters, a line feed at the end. `label` is a
/// constant of the caller, as `CERTIFICATE` or `X509 CRL`.
#[must_use]
pub fn encode(label: &'static str, der: &[u8]) -> String {
    // Zeroized, since the bytes may be those of a key; with room enough, so that nothing is moved.
    let body = Zeroizing::new(STANDARD.encode(der));
    let mut text = String::with_capacity(body.len() + body.len() / LINE + 2 * label.len() + 48);
    text.push_str("-----BEGIN ");
    text.push_str(label);
    text.push_str("-----\n");
    let mut rest = body.as_str();
    while !rest.is_empty() {
        let (line, next) = rest.split_at(rest.len().min(LINE));
        text.push_str(line);
        text.push('\n');
        rest = next;
    }
    text.push_str("-----END ");
    text.push_str(label);
    text.push_str("-----\n");
    text
}

/// Writes a PKCS #8 key (RFC 5958) as a `PRIVATE KEY` block, into memory that is zeroized on drop.
#[must_use]
pub fn encode_private_key(pkcs8: &Secret) -> Zeroizing<String> {
    Zeroizing::new(encode("PRIVATE KEY", pkcs8.expose()))
}

/// The one block of a text, which must have one of `labels`.
pub(crate) fn parse_one(field: &'static str, text: &[u8], labels: &[&str]) -> Result<Vec<u8>, PkiError> {
    match blocks(field, text, 1)?.pop() {
        Some((label, der)) if labels.contains(&label.as_str()) => Ok(der.to_vec()),
        _ => {
            Err(PkiError::invalid(field, format!("must be a PEM block {:?}", labels.first().unwrap_or(&""))))
        }
    }
}

/// A label, and what stood under it.
pub(crate) type Block = (String, Zeroizing<Vec<u8>>);

pub(crate) fn blocks(field: &'static str, text: &[u8], most: usize) -> Result<Vec<Block>, PkiError> {
    if text.len() > MAX_TEXT {
        return Err(PkiError::invalid(field, "must have at most 1 MiB"));
    }
    let text = std::str::from_utf8(text).map_err(|_| PkiError::invalid(field, "must be PEM text"))?;
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find("-----BEGIN ") {
        let block = &rest[start..];
        let end =
            block.find("-----END ").ok_or_else(|| PkiError::invalid(field, "has a PEM block without end"))?;
        let tail = &block[end + "-----END ".len()..];
        let close =
            tail.find("-----").ok_or_else(|| PkiError::invalid(field, "has a PEM block without end"))?;
        let length = end + "-----END ".len() + close + "-----".len();
        if found.len() == most {
            return Err(PkiError::invalid(field, format!("must have at most {most} PEM block(s)")));
        }
        let (label, der) = pem::decode_vec(&block.as_bytes()[..length])
            .map_err(|_| PkiError::invalid(field, "has a malformed PEM block"))?;
        found.push((label.to_owned(), Zeroizing::new(der)));
        rest = &block[length..];
    }
    if found.is_empty() {
        return Err(PkiError::invalid(field, "must be PEM text with a \"-----BEGIN\" line"));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn blocks_come_back_in_order_whatever_stands_between_them() {
        let one = encode("CERTIFICATE", &[1; 100]);
        let two = encode("CERTIFICATE", &[2; 3]);
        assert!(one.lines().all(|line| line.len() <= 64) && one.ends_with("-----\n"));
        let text = format!("subject=CN=x\n{one}\r\n# next\r\n{}trailing", two.replace('\n', "\r\n"));
        assert_eq!(parse_certificates(&text).unwrap(), [vec![1; 100], vec![2; 3]]);
    }

    #[test]
    fn other_texts_are_refused() {
        let one = encode("CERTIFICATE", &[1; 10]);
        let key = encode_private_key(&Secret::new(vec![1; 10]));
        assert!(key.starts_with("-----BEGIN PRIVATE KEY-----\n"));
        let cut = one.replace("-----END CERTIFICATE-----", "");
        let other_end = one.replace("END CERTIFICATE", "END X509 CRL");
        for text in
            ["", "MIIB", &*key, &format!("{one}{}", &*key), &cut, &other_end, "-----BEGIN -----END -----"]
        {
            assert!(matches!(parse_certificates(text), Err(PkiError::Invalid { .. })), "{text}");
        }
        assert!(parse_certificates(one.repeat(MAX_CERTIFICATES)).is_ok());
        assert!(parse_certificates(one.repeat(MAX_CERTIFICATES + 1)).is_err());
        assert!(parse_certificates(vec![b'-'; MAX_TEXT + 1]).is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(parts in prop::collection::vec("(-----BEGIN |-----END |CERTIFICATE|-----|\n|[ -~]{0,9}|é)", 0..12)) {
            let _ = parse_certificates(parts.concat());
        }

        #[test]
        fn what_is_written_is_read(der in prop::collection::vec(any::<u8>(), 1..300)) {
            prop_assert_eq!(parse_certificates(encode("CERTIFICATE", &der)).unwrap(), vec![der]);
        }
    }
}
