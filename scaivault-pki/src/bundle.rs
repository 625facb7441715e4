//! Certificates as people hand them over: PEM, DER in Base64, or a PKCS #7 message that holds nothing else.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

use crate::{
    Certificate, PkiError,
    pem::{self, MAX_CERTIFICATES, MAX_TEXT},
    read::asn1::{INTEGER, Malformed, OID, Reader, Result, SEQUENCE, SET, constructed},
};

/// The content of `OBJECT IDENTIFIER` 1.2.840.113549.1.7.2, `signedData` (RFC 5652, 5.1).
const SIGNED_DATA: [u8; 9] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];
/// The same of 1.2.840.113549.1.7.1, `data`.
const DATA: [u8; 9] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01];

/// Reads the certificates of a text, in order: blocks of PEM (`CERTIFICATE`, `PKCS7`, `CMS`; RFC 7468), or the Base64 of one
/// certificate in DER or of one PKCS #7 message (RFC 5652) that is signed by nobody and only carries certificates.
///
/// `field` is what an error names.
///
/// # Errors
/// [`PkiError::Invalid`] if there is none, more than 64 or more than 1 MiB of text; for anything else in it; for a
/// certificate that cannot be read.
pub fn parse_bundle(field: &'static str, text: &str) -> std::result::Result<Vec<Certificate>, PkiError> {
    if text.len() > MAX_TEXT {
        return Err(PkiError::invalid(field, "must have at most 1 MiB"));
    }
    let mut found = Vec::new();
    if text.contains("-----BEGIN ") {
        for (label, der) in pem::blocks(field, text.as_bytes(), MAX_CERTIFICATES)? {
            match label.as_str() {
                "CERTIFICATE" | "X509 CERTIFICATE" | "X.509 CERTIFICATE" => found.push(der.to_vec()),
                "PKCS7" | "CMS" => found.extend(message(field, &der)?),
                _ => return Err(PkiError::invalid(field, "holds something that is not a certificate")),
            }
        }
    } else {
        let body: String = text.split_ascii_whitespace().collect();
        let der = STANDARD
            .decode(body)
            .map_err(|_| PkiError::invalid(field, "must be PEM text or Base64 of DER"))?;
        match is_message(&der) {
            true => found.extend(message(field, &der)?),
            false => found.push(der),
        }
    }
    if found.is_empty() {
        return Err(PkiError::invalid(field, "holds no certificate"));
    }
    if found.len() > MAX_CERTIFICATES {
        return Err(PkiError::invalid(field, format!("must have at most {MAX_CERTIFICATES} certificates")));
    }
    found.iter().map(|der| Certificate::from_der(der).map_err(|error| named(field, error))).collect()
}

/// Reads the revocation lists of a PEM text (`X509 CRL`), or the Base64 of one in DER; gives DER that nobody has looked at.
///
/// `field` is what an error names.
///
/// # Errors
/// [`PkiError::Invalid`] if there is none, more than 64, or something else.
pub fn parse_crls(field: &'static str, text: &str) -> std::result::Result<Vec<Vec<u8>>, PkiError> {
    if !text.contains("-----BEGIN ") {
        let body: String = text.split_ascii_whitespace().collect();
        let der = STANDARD.decode(body).ok().filter(|der| !der.is_empty());
        return der
            .map(|der| vec![der])
            .ok_or_else(|| PkiError::invalid(field, "must be PEM text or Base64 of DER"));
    }
    let lists = pem::blocks(field, text.as_bytes(), MAX_CERTIFICATES)?.into_iter();
    lists
        .map(|(label, der): (String, Zeroizing<Vec<u8>>)| match label.as_str() {
            "X509 CRL" | "CRL" => Ok(der.to_vec()),
            _ => Err(PkiError::invalid(field, "holds something that is not a revocation list")),
        })
        .collect()
}

fn named(field: &'static str, error: PkiError) -> PkiError {
    match error {
        PkiError::Invalid { message, .. } => PkiError::invalid(field, message),
        other => other,
    }
}

fn message(field: &'static str, der: &[u8]) -> std::result::Result<Vec<Vec<u8>>, PkiError> {
    read_message(der).map_err(|Malformed(why)| {
        PkiError::invalid(field, format!("is not a PKCS #7 message of certificates in DER: {why}"))
    })
}

/// Whether DER begins as a `ContentInfo`: with an object identifier.
fn is_message(der: &[u8]) -> bool {
    Reader::only(der, SEQUENCE).is_ok_and(|content| Reader::new(content).peek() == Some(OID))
}

/// The certificates of a `ContentInfo` that holds a `SignedData` without content and without signers.
fn read_message(der: &[u8]) -> Result<Vec<Vec<u8>>> {
    let mut info = Reader::new(Reader::only(der, SEQUENCE)?);
    if info.expect(OID)? != SIGNED_DATA {
        return Err(Malformed("it is of another type than signed data"));
    }
    let mut signed = Reader::new(Reader::only(info.expect(constructed(0))?, SEQUENCE)?);
    info.end()?;
    signed.expect(INTEGER)?;
    signed.expect(SET)?;
    let mut content = signed.sequence()?;
    if content.expect(OID)? != DATA || !content.is_empty() {
        return Err(Malformed("it carries content"));
    }
    let mut certificates = Reader::new(signed.optional(constructed(0))?.unwrap_or_default());
    // Revocation lists are not what was asked for.
    signed.optional(constructed(1))?;
    if !signed.expect(SET)?.is_empty() {
        return Err(Malformed("it has signers"));
    }
    signed.end()?;
    let mut found = Vec::new();
    while !certificates.is_empty() {
        let element = certificates.next()?;
        if element.tag != SEQUENCE {
            return Err(Malformed("a certificate of another kind than X.509"));
        }
        if found.len() == MAX_CERTIFICATES {
            return Err(Malformed("more than 64 certificates"));
        }
        found.push(element.raw.to_vec());
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    fn certificate(name: &str) -> Vec<u8> {
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    fn wrap(tag: u8, content: &[u8]) -> Vec<u8> {
        let length = content.len();
        let head = match u8::try_from(length) {
            Ok(short) if short < 0x80 => vec![tag, short],
            Ok(short) => vec![tag, 0x81, short],
            Err(_) => [&[tag, 0x82][..], &u16::try_from(length).unwrap().to_be_bytes()].concat(),
        };
        [head, content.to_vec()].concat()
    }

    /// A PKCS #7 message; `signers` and `content` are what it should not have.
    fn p7(certificates: &[Vec<u8>], content: &[u8], signers: &[u8]) -> Vec<u8> {
        let signed = [
            wrap(INTEGER, &[1]),
            wrap(SET, &[]),
            wrap(SEQUENCE, &[wrap(OID, &DATA), content.to_vec()].concat()),
            wrap(constructed(0), &certificates.concat()),
            wrap(SET, signers),
        ];
        let signed = wrap(constructed(0), &wrap(SEQUENCE, &signed.concat()));
        wrap(SEQUENCE, &[wrap(OID, &SIGNED_DATA), signed].concat())
    }

    fn ders(text: &str) -> Vec<Vec<u8>> {
        parse_bundle("bundle", text).unwrap().iter().map(|certificate| certificate.der().to_vec()).collect()
    }

    #[test]
    fn every_form_gives_the_same_certificates() {
        let (one, two) = (certificate("a.test"), certificate("b.test"));
        let both = vec![one.clone(), two.clone()];
        let message = p7(&both, &[], &[]);
        let pems = [pem::encode("CERTIFICATE", &one), pem::encode("X509 CERTIFICATE", &two)].concat();
        assert_eq!(ders(&pems), both);
        assert_eq!(ders(&pem::encode("PKCS7", &message)), both);
        assert_eq!(ders(&pem::encode("CMS", &message)), both);
        assert_eq!(ders(&STANDARD.encode(&message)), both);
        let lines = pem::encode("CERTIFICATE", &one);
        let lines: Vec<&str> = lines.lines().filter(|line| !line.starts_with('-')).collect();
        assert_eq!(ders(&lines.join("\r\n")), [one]);
    }

    #[test]
    fn what_is_more_or_less_than_certificates_is_refused() {
        let one = certificate("a.test");
        let refused = |text: &str, part: &str| match parse_bundle("bundle", text) {
            Err(PkiError::Invalid { field: "bundle", message }) => {
                assert!(message.contains(part), "{message}")
            }
            other => panic!("{other:?}, not {part}"),
        };
        let message = |content: &[u8], signers: &[u8]| {
            pem::encode("PKCS7", &p7(std::slice::from_ref(&one), content, signers))
        };
        refused(&message(&wrap(constructed(0), &[4, 1, 1]), &[]), "content");
        refused(&message(&[], &wrap(SEQUENCE, &[])), "signers");
        refused(&pem::encode("PKCS7", &p7(&[], &[], &[])), "no certificate");
        refused(&pem::encode("PKCS7", &p7(&vec![one.clone(); 65], &[], &[])), "64");
        refused(&pem::encode("PKCS7", &p7(&[wrap(constructed(1), &[])], &[], &[])), "another kind");
        refused(&pem::encode("PRIVATE KEY", &one), "not a certificate");
        refused(&pem::encode("CERTIFICATE", &one[..one.len() - 1]), "not a certificate in DER");
        refused("no base64!", "PEM text");
        refused("", "not a certificate in DER");
        let mut indefinite = p7(std::slice::from_ref(&one), &[], &[]);
        indefinite[1] = 0x80;
        refused(&pem::encode("PKCS7", &indefinite), "indefinite");
        let twice = pem::encode("PKCS7", &p7(&vec![one.clone(); 40], &[], &[])).repeat(2);
        refused(&twice, "at most 64");
    }

    #[test]
    fn lists_are_taken_as_they_are() {
        assert_eq!(parse_crls("crl_pem", &pem::encode("X509 CRL", &[1, 2])).unwrap(), [[1, 2]]);
        assert_eq!(parse_crls("crl_pem", "AQI=").unwrap(), [[1, 2]]);
        for bad in ["", "x", &pem::encode("CERTIFICATE", &[1])] {
            assert!(parse_crls("crl_pem", bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_message_is_read_or_refused(at in 0_usize..900, bit in 0_u32..8) {
            let mut der = p7(&[certificate("a.test")], &[], &[]);
            let at = at % der.len();
            der[at] ^= 1_u8 << bit;
            let _ = parse_bundle("bundle", &STANDARD.encode(der));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[ -~\n]{0,200}") {
            let _ = parse_bundle("bundle", &text);
        }
    }
}
