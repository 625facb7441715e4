//! What a vault wants to know of certificates of others besides whether they are good.

use aws_lc_rs::digest::{SHA256, digest};

use super::{certificate::Certificate, extensions::PointName, general::GeneralName};

impl Certificate {
    /// SHA-256 of its whole `SubjectPublicKeyInfo`.
    #[must_use]
    pub fn key_sha256(&self) -> [u8; 32] {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, &self.parts().spki).as_ref());
        hash
    }

    /// Its serial number as an unsigned big-endian integer without leading zeros; of a negative one, the octets.
    #[must_use]
    pub fn serial_octets(&self) -> &[u8] {
        match self.parts().serial.as_slice() {
            [0, rest @ ..] if !rest.is_empty() => rest,
            octets => octets,
        }
    }

    /// Whether its issuer has the name of `other`, as RFC 5280, 7.1 compares names. Its signature is another matter.
    #[must_use]
    pub fn names_as_issuer(&self, other: &Self) -> bool {
        self.parts().issuer == other.parts().subject
    }

    /// Whether its subject is that of `other`, as RFC 5280, 7.1 compares names.
    #[must_use]
    pub fn has_name_of(&self, other: &Self) -> bool {
        self.parts().subject == other.parts().subject
    }

    /// The addresses where lists that may name it are published (RFC 5280, 4.2.1.13), in its own words.
    #[must_use]
    pub fn crl_addresses(&self) -> Vec<&str> {
        let mut found = Vec::new();
        for point in &self.parts().extensions.distribution_points {
            if let Some(PointName::Full(names)) = &point.name {
                found.extend(names.iter().filter_map(|name| match name {
                    GeneralName::Uri(uri) => Some(uri.as_str()),
                    _ => None,
                }));
            }
        }
        found
    }
}
