use std::{collections::BTreeMap, fmt};

use scaivault_kms::Secret;
use scaivault_pki::pem;
use serde::Serialize;
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::SubjectFields;
use crate::{DurationText, IdempotencyKey};

/// A certificate to be issued.
#[derive(Clone, Debug, Default, Serialize)]
pub struct IssueWrite {
    /// A DNS name, an IP address or an e-mail address.
    pub common_name: Option<String>,
    /// More DNS names.
    pub alt_names: Vec<String>,
    /// IP addresses.
    pub ip_sans: Vec<String>,
    /// E-mail addresses.
    pub email_sans: Vec<String>,
    /// URIs.
    pub uri_sans: Vec<String>,
    /// The rest of the subject, as far as the role leaves it to the request.
    pub subject: SubjectFields,
    /// How long it lives; the role's default unless given.
    pub ttl: Option<DurationText>,
    /// Its tags in the inventory, within the bounds of [`Pki::tag_certificate`](crate::pki::Pki::tag_certificate).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// What the caller names this request by, so that sending it again issues nothing more.
    #[serde(skip)]
    pub idempotency_key: Option<IdempotencyKey>,
}

/// A certificate to be issued for a key of the caller's.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SignWrite {
    /// The certificate request, PEM.
    pub csr_pem: String,
    /// Names that take the place of those in the request.
    pub names: Option<SignNames>,
    /// How long it lives; the role's default unless given.
    pub ttl: Option<DurationText>,
    /// Its tags in the inventory, within the bounds of [`Pki::tag_certificate`](crate::pki::Pki::tag_certificate).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// See [`IssueWrite::idempotency_key`].
    #[serde(skip)]
    pub idempotency_key: Option<IdempotencyKey>,
}

/// The alternative names of a certificate, whatever its request says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the fields of `IssueWrite`")]
pub struct SignNames {
    pub alt_names: Vec<String>,
    pub ip_sans: Vec<String>,
    pub email_sans: Vec<String>,
    pub uri_sans: Vec<String>,
}

/// A private key as PEM (PKCS #8), zeroized on drop and redacted in `Debug`.
pub struct PrivateKeyPem(pub(in crate::pki) Zeroizing<String>);

impl PrivateKeyPem {
    /// Takes the text of a key over; it is zeroized on drop.
    #[must_use]
    pub fn new(text: Zeroizing<String>) -> Self {
        Self(text)
    }

    /// Encodes a PKCS #8 key.
    #[must_use]
    pub fn from_pkcs8(pkcs8: &Secret) -> Self {
        Self(pem::encode_private_key(pkcs8))
    }

    /// The text. Whoever calls this answers for where it goes.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PrivateKeyPem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKeyPem(..)")
    }
}

/// A certificate that was just issued, with its key if that was made here, which is not shown again.
#[derive(Debug)]
#[expect(missing_docs, reason = "the fields of the API contract")]
pub struct IssuedCertificate {
    pub id: String,
    pub certificate: String,
    /// None where the caller has the key, or got it before.
    pub private_key: Option<PrivateKeyPem>,
    /// Whether the key was given with the first answer to this request, and is not given again.
    pub private_key_withheld: bool,
    /// The issuer first, the root last.
    pub ca_chain: Vec<String>,
    pub serial_number: String,
    pub not_before: OffsetDateTime,
    pub not_after: OffsetDateTime,
    /// When to ask for the next one: after two thirds of what was left of its life when it was issued.
    pub next_renewal_after: OffsetDateTime,
    /// What the caller may not expect of it, in sentences for people.
    pub warnings: Vec<String>,
}
