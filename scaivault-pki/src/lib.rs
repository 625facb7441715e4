//! An X.509 engine: values in, bytes out.
//!
//! What it does **not** do: it keeps no state, asks no clock (every verb takes `now`), draws no random numbers
//! (serials are made of bytes that the caller drew), reads no environment and no file, and knows neither tenants
//! nor databases. It holds no private key: a [`SigningKey`](scaivault_kms::SigningKey) signs, wherever it lives.
//! And it signs nothing that it has not linted: what was built is read again with parsers of another family and
//! compared with what was planned, field by field, before the key sees it.
//!
//! * A [`RoleConfig`] compiles to a [`Role`], which admits an [`IssueRequest`] as a [`Plan`], or names every
//!   rule that it breaks ([`Refused`]).
//! * A [`Csr`] is a request of somebody else, whose signature was verified; [`Role::admit_csr`] judges it.
//! * [`issue_root`], [`issue_intermediate`] and [`issue_leaf`] consume a plan and give an [`Issued`] certificate.
//! * [`build_crl`] and [`ocsp::respond`] say what was revoked.
//! * [`adopt()`] takes a CA that others made, [`PastList`] and [`PastCertificate`] what it did before.
//! * [`validate()`] judges certificates of others: their paths, names, purposes and revocation.
//!
//! The profile is that of RFC 5280: version 3, critical basic constraints and key usage, subject and authority
//! key identifiers, names in the subject alternative name, both ends of a validity included.
//!
//! ```
//! # use std::time::Duration;
//! use scaivault_kms::{KeySpec, SigningKey as _, local::SoftwareKey};
//! use scaivault_pki::*;
//! use time::macros::datetime;
//!
//! # async fn demo() -> Result<(), Box<dyn std::error::Error>> {
//! let now = datetime!(2026-10-05 12:00:00 UTC);
//! let named = |name: &str| Subject { common_name: name.into(), ..Subject::default() };
//!
//! // A root, and a CA below it.
//! let (root_key, _) = SoftwareKey::generate(KeySpec::EcP384)?;
//! let plan = CaPlan::root(named("Example Root"), KeySpec::EcP384, 3650, None, now)?;
//! let root = issue_root(plan, Serial::from_random([1; 16]), &root_key).await?;
//! let root = Issuer::from_certificate(&root.der, IssuerUrls::default())?;
//!
//! let (key, _) = SoftwareKey::generate(KeySpec::EcP256)?;
//! let plan = CaPlan::intermediate(named("Example CA"), KeySpec::EcP256, 1825, Some(0), &root, now)?;
//! let serial = Serial::from_random([2; 16]);
//! let issued = issue_intermediate(plan, serial, key.public_key_der(), &root, &root_key).await?;
//! let crl_url = Some("http://pki.example/crl".to_owned());
//! let issuer = Issuer::from_certificate(&issued.der, IssuerUrls { crl_url, ocsp_url: None })?;
//!
//! // A role, and a leaf that it admits.
//! let role = RoleConfig {
//!     name: "services".into(),
//!     allowed_domains: vec!["*.svc.example".into()],
//!     max_ttl: Duration::from_secs(30 * 86_400),
//!     key: KeyRule::Kind(KeyKind::EcP256),
//!     ..RoleConfig::default()
//! }
//! .compile()?;
//! let request = |name: &str| IssueRequest { common_name: Some(name.into()), ..IssueRequest::default() };
//! let refused = role.admit(&request("billing.example"), &issuer, now).unwrap_err();
//! assert_eq!(refused.violations[0].rule, "allowed_domains");
//!
//! let plan = role.admit(&request("billing.svc.example"), &issuer, now)?;
//! let (leaf_key, _) = SoftwareKey::generate(KeySpec::EcP256)?;
//! let serial = Serial::from_random([3; 16]);
//! let leaf = issue_leaf(plan, serial, leaf_key.public_key_der(), &issuer, &key).await?;
//! assert_eq!(leaf.not_after, datetime!(2026-10-12 11:59:59 UTC));
//!
//! // Later the leaf is revoked, and the next list says so.
//! let later = now + time::Duration::hours(1);
//! let entry = CrlEntry { serial: leaf.serial, revoked_at: later, reason: RevocationReason::Superseded };
//! let crl = build_crl(&issuer, &key, 1, later, later + time::Duration::days(1), [entry].into_iter()).await?;
//! assert!(pem::encode("X509 CRL", &crl).starts_with("-----BEGIN X509 CRL-----\n"));
//! # Ok(()) }
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(demo()).unwrap();
//! ```

mod adopt;
mod bundle;
mod ca;
mod chain;
mod constraints;
mod crl;
mod csr;
mod error;
mod issue;
mod key;
mod lint;
mod name;
pub mod ocsp;
mod past;
mod peer;
pub mod pem;
mod read;
mod request;
mod revoke;
mod role;
mod sans;
mod serial;
mod sign;
mod tbs;
mod time;
mod trust;
pub mod validate;

pub use adopt::{Adopted, adopt, private_key};
pub use bundle::{parse_bundle, parse_crls};
pub use ca::{CaPlan, Issuer, IssuerUrls, issue_intermediate, issue_root};
pub use constraints::{NameConstraints, NameSubtrees};
pub use crl::{CrlEntry, CrlScope, PublishedCrl, build_crl, build_crl_of};
pub use csr::{Csr, CsrName};
pub use error::{Match, PkiError, Refused, Violation};
pub use issue::{Issued, issue_leaf};
pub use key::KeyKind;
pub use lint::{Finding, Severity};
pub use name::{DnsName, Subject, SubjectParts};
pub use past::{PastCertificate, PastList, Weak};
pub use peer::PeerNames;
pub use read::{certificate::Certificate, oid::Oid};
pub use request::{request_ca, request_ca_named};
pub use revoke::RevocationReason;
pub use role::{CsrOverride, IssueRequest, KeyRule, PastIssuerEnd, Plan, Role, RoleConfig, Verdict};
pub use serial::{Serial, SerialKey};
pub use trust::TrustAnchor;
pub use validate::{Validation, validate};
