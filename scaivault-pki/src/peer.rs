use x509_parser::{
    certificate::X509Certificate,
    extensions::{GeneralName, ParsedExtension},
    prelude::FromDer as _,
};

/// The names in a certificate that the other end of a connection showed, as it spells them.
///
/// Nothing is checked here: whoever calls has a certificate whose chain and possession of the key were verified.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerNames {
    /// Alternative names of type dNSName (RFC 5280 section 4.2.1.6).
    pub dns: Vec<String>,
    /// Alternative names of type uniformResourceIdentifier, such as SPIFFE IDs.
    pub uris: Vec<String>,
}

impl PeerNames {
    /// Reads the alternative names; the subject's common name is none. `None` if it is no certificate, or has
    /// alternative names that cannot be read, or twice.
    #[must_use]
    pub fn read(certificate: &[u8]) -> Option<Self> {
        let (rest, certificate) = X509Certificate::from_der(certificate).ok()?;
        if !rest.is_empty() {
            return None;
        }
        let Some(extension) = certificate.subject_alternative_name().ok()? else {
            return Some(Self::default());
        };
        let mut names = Self::default();
        for name in &extension.value.general_names {
            match name {
                GeneralName::DNSName(text) => names.dns.push((*text).to_owned()),
                GeneralName::URI(text) => names.uris.push((*text).to_owned()),
                GeneralName::Invalid(..) => return None,
                _ => {}
            }
        }
        let unread = |parsed: &ParsedExtension<'_>| matches!(parsed, ParsedExtension::ParseError { .. });
        let good = !certificate.extensions().iter().any(|extension| unread(extension.parsed_extension()));
        good.then_some(names)
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;

    fn certificate(names: Vec<SanType>) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names;
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn names_are_read_as_they_are_spelt_and_the_common_name_is_none() {
        let der = certificate(vec![
            SanType::DnsName("Billing.Acme.example".try_into().unwrap()),
            SanType::URI("spiffe://acme.example/billing".try_into().unwrap()),
            SanType::Rfc822Name("ops@acme.example".try_into().unwrap()),
            SanType::IpAddress([10, 0, 0, 1].into()),
        ]);
        let names = PeerNames::read(&der).unwrap();
        assert_eq!(names.dns, ["Billing.Acme.example"]);
        assert_eq!(names.uris, ["spiffe://acme.example/billing"]);
        assert_eq!(PeerNames::read(&certificate(Vec::new())).unwrap(), PeerNames::default());
    }

    #[test]
    fn what_is_no_certificate_has_no_names() {
        let der = certificate(vec![SanType::DnsName("a.example".try_into().unwrap())]);
        assert!(PeerNames::read(&[der.as_slice(), &[0]].concat()).is_none());
        assert!(PeerNames::read(&der[..der.len() - 1]).is_none());
        assert!(PeerNames::read(b"").is_none());
    }
}
