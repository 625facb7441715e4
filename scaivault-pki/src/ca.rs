//! Certificate authorities: what one is allowed to issue, and how new ones come to be.

use std::time::Duration;

use const_oid::{ObjectIdentifier, db::rfc5280::ANY_EXTENDED_KEY_USAGE};
use der::{Decode as _, Encode as _, asn1::OctetString};
use scaivault_kms::{KeySpec, SigningKey};
use time::OffsetDateTime;
use x509_cert::name::Name;
use x509_parser::{
    oid_registry::OID_X509_EXT_SUBJECT_KEY_IDENTIFIER,
    prelude::{FromDer, X509Certificate, X509Version},
};

use crate::{
    Certificate, Issued, Oid, PkiError, Refused, Serial, Subject,
    constraints::{self, Limits},
    error::Violations,
    issue::finish,
    key::PublicKey,
    read::{dn::Dn, general::NameConstraints},
    tbs::{Draft, Usage},
    time::{begin, from_x509, last_second, whole_second},
    validate::constraints::{Name as Judged, judge},
};

/// The longest certificate that is read.
const MAX_CERTIFICATE: usize = 64 * 1024;
/// The longest URL that is written into a certificate.
const MAX_URL: usize = 1024;
/// The longest life of a CA: a hundred years.
const MAX_DAYS: u32 = 36_525;

/// Where what a CA issues can be checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IssuerUrls {
    /// The revocation list in DER (RFC 5280, 4.2.1.13).
    pub crl_url: Option<String>,
    /// The OCSP responder (RFC 5280, 4.2.2.1).
    pub ocsp_url: Option<String>,
}

/// A CA as an issuer, read from its certificate. Its name and key are kept byte for byte, since that is
/// what chains are built by.
#[derive(Clone, Debug)]
pub struct Issuer {
    der: Vec<u8>,
    name: Vec<u8>,
    public_key: PublicKey,
    spec: KeySpec,
    key_id: Vec<u8>,
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
    max_path_length: Option<u32>,
    signs_crls: bool,
    urls: IssuerUrls,
    /// Its own name constraints, then those of the CAs above it that are known.
    constraints: Vec<NameConstraints>,
    /// The purposes that it and those of the CAs above it that are known leave; `None` for any.
    purposes: Option<Vec<Oid>>,
}

impl Issuer {
    /// Reads a CA certificate, one made here or another's.
    ///
    /// # Errors
    /// [`PkiError::Invalid`] if it is not one X.509 v3 certificate in DER of at most 64 KiB with a subject,
    /// the CA flag and, if it states key usages, `keyCertSign`; if its subject key identifier is empty or
    /// malformed; if its key is of a kind that does not sign here; if a URL is not plain `http://` or
    /// `https://` in ASCII.
    pub fn from_certificate(der: &[u8], urls: IssuerUrls) -> Result<Self, PkiError> {
        let bad = |message: &str| PkiError::invalid("certificate", message);
        if der.len() > MAX_CERTIFICATE {
            return Err(bad("must have at most 64 KiB"));
        }
        check_url("crl_url", urls.crl_url.as_deref())?;
        check_url("ocsp_url", urls.ocsp_url.as_deref())?;
        let (rest, certificate) = <X509Certificate<'_> as FromDer<'_, _>>::from_der(der)
            .map_err(|_| bad("is not an X.509 certificate"))?;
        if !rest.is_empty() {
            return Err(bad("has octets after its end"));
        }
        let tbs = &certificate.tbs_certificate;
        // `x509-parser` takes times with an offset, and leaves the offset out.
        let strict = Certificate::from_der(der).ok();
        let due = (from_x509(tbs.validity.not_before), from_x509(tbs.validity.not_after));
        if strict.is_none_or(|strict| (strict.not_before(), strict.not_after()) != due) {
            return Err(bad("is not in DER"));
        }
        if tbs.version != X509Version::V3 {
            return Err(bad("is not of version 3"));
        }
        let constraints = tbs.basic_constraints().map_err(|_| bad("has malformed basic constraints"))?;
        let Some(constraints) = constraints.filter(|found| found.value.ca) else {
            return Err(bad("is not that of a CA"));
        };
        let usage = tbs.key_usage().map_err(|_| bad("has malformed key usages"))?;
        if usage.as_ref().is_some_and(|usage| !usage.value.key_cert_sign()) {
            return Err(bad("is not for signing certificates"));
        }
        let subject = tbs.subject.as_raw();
        let name = Name::from_der(subject).ok().filter(|name| name.to_der().is_ok_and(|der| der == subject));
        if name.is_none_or(|name| name.is_empty()) {
            return Err(bad("has a subject that is empty or not in DER"));
        }
        let public_key = PublicKey::parse("certificate", tbs.subject_pki.raw)?;
        let spec = public_key.kind.spec();
        let spec = spec.ok_or_else(|| bad("has an RSA key of another size than 2048, 3072 or 4096 bits"))?;
        let strict = Certificate::from_der(der)?;
        let mut issuer = Self {
            constraints: constraints::of_certificate(&strict)?.into_iter().collect(),
            purposes: None,
            der: der.to_vec(),
            name: subject.to_vec(),
            key_id: subject_key_id(&certificate)?.unwrap_or_else(|| public_key.key_id().to_vec()),
            public_key,
            spec,
            not_before: from_x509(tbs.validity.not_before),
            not_after: from_x509(tbs.validity.not_after),
            max_path_length: constraints.value.path_len_constraint,
            signs_crls: usage.is_none_or(|usage| usage.value.crl_sign()),
            urls,
        };
        issuer.limit_purposes(&strict);
        Ok(issuer)
    }

    /// With the name constraints, purposes and path lengths of the CAs above it, the nearest first: what it issues is held
    /// against them, too.
    ///
    /// # Errors
    /// [`PkiError::Invalid`] if one of these certificates, in DER, cannot be read, has malformed name constraints, or
    /// allows no CA where this one stands.
    pub fn below<'c>(mut self, above: impl IntoIterator<Item = &'c [u8]>) -> Result<Self, PkiError> {
        for (between, der) in above.into_iter().enumerate() {
            let certificate = Certificate::from_der(der)?;
            self.constraints.extend(constraints::of_certificate(&certificate)?);
            self.limit_purposes(&certificate);
            let basic = certificate.parts().extensions.basic;
            if let Some(most) = basic.and_then(|basic| basic.max_path_length) {
                let below = u32::try_from(between).ok().and_then(|between| most.checked_sub(between + 1));
                let left = below.ok_or_else(|| {
                    PkiError::invalid("certificate", "stands below a CA whose path length does not allow it")
                })?;
                self.max_path_length = Some(self.max_path_length.map_or(left, |own| own.min(left)));
            }
        }
        Ok(self)
    }

    /// Takes away the purposes that a CA certificate does not have; one without such a list, or with any purpose, has all.
    fn limit_purposes(&mut self, certificate: &Certificate) {
        let Some(own) = &certificate.parts().extensions.purposes else { return };
        if own.iter().any(|oid| oid.is(ANY_EXTENDED_KEY_USAGE)) {
            return;
        }
        match &mut self.purposes {
            Some(left) => left.retain(|oid| own.contains(oid)),
            none => *none = Some(own.clone()),
        }
    }

    /// Whether it, and every CA above it that is known, may issue for a purpose (RFC 5280, 4.2.1.12, along the chain as
    /// verifiers do).
    pub(crate) fn is_for(&self, purpose: ObjectIdentifier) -> bool {
        self.purposes.as_ref().is_none_or(|left| left.iter().any(|oid| oid.is(purpose)))
    }

    /// Its own name constraints, as its certificate has them; `None` if it has none.
    ///
    /// # Errors
    /// [`PkiError::Invalid`] if the certificate cannot be read any more, which it was once.
    pub fn name_constraints(&self) -> Result<Option<crate::NameConstraints>, PkiError> {
        let own = constraints::of_certificate(&Certificate::from_der(&self.der)?)?;
        Ok(own.as_ref().map(crate::NameConstraints::of))
    }

    /// Its certificate policies, as dotted numbers.
    ///
    /// # Errors
    /// [`PkiError::Invalid`] if the certificate cannot be read any more, which it was once.
    pub fn policies(&self) -> Result<Vec<String>, PkiError> {
        let certificate = Certificate::from_der(&self.der)?;
        let policies = certificate.parts().extensions.policies.as_deref().unwrap_or_default();
        Ok(policies.iter().map(ToString::to_string).collect())
    }

    /// Why it may not issue for a name, if a constraint of it or of a CA above it forbids that.
    pub(crate) fn forbids(&self, name: &Judged<'_>) -> Option<String> {
        let judged = self.constraints.iter().find_map(|rules| judge(rules, name, || Ok(())).err());
        let (_, why) = judged?;
        Some(format!("{why} by the name constraints of the issuer or of a CA above it"))
    }

    /// The certificate as it was read.
    #[must_use]
    pub fn certificate_der(&self) -> &[u8] {
        &self.der
    }

    /// The kind of its key.
    #[must_use]
    pub fn spec(&self) -> KeySpec {
        self.spec
    }

    /// The first second at which it is valid.
    #[must_use]
    pub fn not_before(&self) -> OffsetDateTime {
        self.not_before
    }

    /// The last second at which it is valid.
    #[must_use]
    pub fn not_after(&self) -> OffsetDateTime {
        self.not_after
    }

    /// How many CAs may follow below it in a chain (RFC 5280, 4.2.1.9); `None` if any number.
    #[must_use]
    pub fn max_path_length(&self) -> Option<u32> {
        self.max_path_length
    }

    /// Where what it issues can be checked.
    #[must_use]
    pub fn urls(&self) -> &IssuerUrls {
        &self.urls
    }

    /// The same issuer with another revocation list: that of a part of what it issues.
    ///
    /// # Errors
    /// [`PkiError::Invalid`] if the URL is not plain `http://` or `https://` in ASCII.
    pub fn with_crl_url(&self, crl_url: String) -> Result<Self, PkiError> {
        check_url("crl_url", Some(&crl_url))?;
        let urls = IssuerUrls { crl_url: Some(crl_url), ocsp_url: self.urls.ocsp_url.clone() };
        Ok(Self { urls, ..self.clone() })
    }

    /// Its subject, a DER `Name`, byte for byte.
    #[must_use]
    pub fn name_der(&self) -> &[u8] {
        &self.name
    }

    /// Its subject key identifier; where its certificate has none, the one it would have here.
    #[must_use]
    pub fn key_id(&self) -> &[u8] {
        &self.key_id
    }

    /// Whether its certificate lets it sign revocation lists.
    pub(crate) fn signs_crls(&self) -> bool {
        self.signs_crls
    }

    pub(crate) fn public_key(&self) -> &PublicKey {
        &self.public_key
    }
}

/// The subject key identifier, if there is one. It is read with `der`: `x509-parser` takes any tag for an OCTET STRING,
/// and what is written into certificates below has to be what other verifiers read here.
fn subject_key_id(certificate: &X509Certificate<'_>) -> Result<Option<Vec<u8>>, PkiError> {
    let bad = || PkiError::invalid("certificate", "has a malformed subject key identifier");
    let extension = certificate.tbs_certificate.get_extension_unique(&OID_X509_EXT_SUBJECT_KEY_IDENTIFIER);
    let Some(extension) = extension.map_err(|_| bad())? else { return Ok(None) };
    let id = OctetString::from_der(extension.value).map_err(|_| bad())?;
    if id.as_bytes().is_empty() {
        return Err(bad());
    }
    Ok(Some(id.into_bytes().into()))
}

pub(crate) fn check_url(field: &'static str, url: Option<&str>) -> Result<(), PkiError> {
    let Some(url) = url else { return Ok(()) };
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    let host = rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'));
    if host && url.len() <= MAX_URL && url.bytes().all(|b| b.is_ascii_graphic()) {
        Ok(())
    } else {
        Err(PkiError::invalid(field, "must be an http:// or https:// URL of at most 1024 ASCII characters"))
    }
}

/// What the certificate of a new CA is going to say.
#[derive(Clone, Debug)]
pub struct CaPlan {
    subject: Vec<u8>,
    spec: KeySpec,
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
    max_path_length: Option<u8>,
    limits: Option<Limits>,
    policies: Vec<ObjectIdentifier>,
    /// The constraints of the CAs above it.
    above: Vec<NameConstraints>,
    /// The parent whose limits were applied, by its certificate; `None` for a root.
    parent: Option<Vec<u8>>,
}

impl CaPlan {
    /// Plans a self-signed CA that is valid for `days` days (1 to 36525) from `now`, five minutes back.
    ///
    /// # Errors
    /// Every field that breaks a rule.
    pub fn root(
        subject: Subject,
        spec: KeySpec,
        days: u32,
        max_path_length: Option<u8>,
        now: OffsetDateTime,
    ) -> Result<Self, Refused> {
        let mut found = Violations::default();
        subject.check(&mut found);
        Self::plan(|| name(&subject), (spec, days, max_path_length), None, now, found)
    }

    /// Plans a CA below `parent`. It does not outlive its parent: `days` is cut to the parent's end. Where the
    /// parent limits the length of chains, the new CA gets one less, unless `max_path_length` asks for less yet.
    ///
    /// # Errors
    /// Every field that breaks a rule; the parent's own limits are reported on `parent_ca_id`.
    pub fn intermediate(
        subject: Subject,
        spec: KeySpec,
        days: u32,
        max_path_length: Option<u8>,
        parent: &Issuer,
        now: OffsetDateTime,
    ) -> Result<Self, Refused> {
        let mut found = Violations::default();
        subject.check(&mut found);
        let distinct = || match name(&subject)? {
            name if name == parent.name => {
                let message = "must differ from the name of the parent";
                Err(Refused::one("common_name", "distinct_from_parent", message))
            }
            name => Ok(name),
        };
        Self::plan(distinct, (spec, days, max_path_length), Some(parent), now, found)
    }

    /// Plans a certificate for a name that a CA has already, a DER `Name`, byte for byte: one more for the same key by
    /// another parent (a cross certificate), or one for a new key. Without a parent it is self-signed. The limits are those
    /// of [`root`](Self::root) and [`intermediate`](Self::intermediate), but that the parent may have the same name.
    ///
    /// # Errors
    /// Every field that breaks a rule.
    pub fn named(
        name: &[u8],
        spec: KeySpec,
        days: u32,
        max_path_length: Option<u8>,
        parent: Option<&Issuer>,
        now: OffsetDateTime,
    ) -> Result<Self, Refused> {
        let read = || match Dn::parse(name) {
            Ok(read) if !read.is_empty() => Ok(name.to_vec()),
            _ => Err(Refused::one("subject", "encoding", "is no name, or an empty one")),
        };
        Self::plan(read, (spec, days, max_path_length), parent, now, Violations::default())
    }

    fn plan(
        subject: impl FnOnce() -> Result<Vec<u8>, Refused>,
        (spec, days, asked): (KeySpec, u32, Option<u8>),
        parent: Option<&Issuer>,
        now: OffsetDateTime,
        mut found: Violations,
    ) -> Result<Self, Refused> {
        let now = whole_second(now);
        let mut not_after = life(days, now, &mut found);
        let mut max_path_length = asked;
        if let Some(parent) = parent {
            not_after = not_after.min(parent.not_after);
            if now < parent.not_before || now > parent.not_after {
                found.add("parent_ca_id", "issuer_validity", "is not valid at this time");
            }
            max_path_length = path_length(asked, parent.max_path_length, &mut found);
        }
        found.into_result()?;
        let subject = subject()?;
        let read =
            Dn::parse(&subject).map_err(|_| Refused::one("subject", "encoding", "cannot be written"))?;
        if let Some(why) = parent.and_then(|parent| parent.forbids(&Judged::Directory(&read))) {
            return Err(Refused::one("subject", "name_constraints", why));
        }
        Ok(Self {
            subject,
            spec,
            not_before: begin(now, parent.map(|parent| parent.not_before)),
            not_after,
            max_path_length,
            limits: None,
            policies: Vec::new(),
            above: parent.map(|parent| parent.constraints.clone()).unwrap_or_default(),
            parent: parent.map(|parent| parent.der.clone()),
        })
    }

    /// With name constraints, critical, and certificate policies (RFC 5280, 4.2.1.4), as dotted numbers. Names that are
    /// permitted must be permitted by every CA above, too.
    ///
    /// # Errors
    /// Every entry that breaks a rule, by its place: `name_constraints.permitted.dns[0]`, `policies[1]`.
    pub fn limited(
        mut self,
        names: Option<&crate::NameConstraints>,
        policies: &[String],
    ) -> Result<Self, Refused> {
        let mut found = Violations::default();
        self.limits = names.map(|names| Limits::parse(names, &self.above, &mut found));
        self.policies = constraints::policies(policies, &mut found);
        found.into_result()?;
        Ok(self)
    }

    /// The kind of key that the CA is going to have.
    #[must_use]
    pub fn spec(&self) -> KeySpec {
        self.spec
    }

    /// The first second of its life.
    #[must_use]
    pub fn not_before(&self) -> OffsetDateTime {
        self.not_before
    }

    /// The last second of its life.
    #[must_use]
    pub fn not_after(&self) -> OffsetDateTime {
        self.not_after
    }

    /// How many CAs may follow below it; `None` if any number.
    #[must_use]
    pub fn max_path_length(&self) -> Option<u8> {
        self.max_path_length
    }
}

/// The last second of a life of `days`; `now` itself if that is refused.
fn life(days: u32, now: OffsetDateTime, found: &mut Violations) -> OffsetDateTime {
    let lifetime = Duration::from_secs(u64::from(days) * 86_400);
    match last_second(now, lifetime).filter(|_| days <= MAX_DAYS) {
        Some(end) => end,
        None => {
            found.add(
                "validity_days",
                "range",
                format!("must be 1 to {MAX_DAYS}, and end before the year 10000"),
            );
            now
        }
    }
}

fn path_length(asked: Option<u8>, parent: Option<u32>, found: &mut Violations) -> Option<u8> {
    let Some(limit) = parent else { return asked };
    let Some(most) = limit.checked_sub(1) else {
        found.add("parent_ca_id", "path_length", "may not issue CA certificates (its path length is 0)");
        return asked;
    };
    if asked.is_some_and(|asked| u32::from(asked) > most) {
        found.add(
            "max_path_length",
            "path_length",
            format!("must be at most {most}, one less than the parent's"),
        );
    }
    Some(asked.unwrap_or(u8::try_from(most).unwrap_or(u8::MAX)))
}

fn name(subject: &Subject) -> Result<Vec<u8>, Refused> {
    subject.to_name().map_err(|error| Refused::one("subject", "encoding", error.to_string()))
}

/// Makes the self-signed certificate of a new CA.
///
/// # Errors
/// [`PkiError::Invalid`] if `key` is not of the planned kind or the plan is not for a root;
/// [`PkiError::Kms`] if it cannot sign.
pub async fn issue_root(plan: CaPlan, serial: Serial, key: &dyn SigningKey) -> Result<Issued, PkiError> {
    if plan.parent.is_some() {
        return Err(PkiError::invalid("plan", "is for a CA below another"));
    }
    let public_key = planned_key("key", &plan, key.public_key_der())?;
    finish(ca_draft(&plan, &serial, key.public_key_der(), &public_key, None), key).await
}

/// Makes the certificate of a CA whose key is `subject_key_spki` (DER `SubjectPublicKeyInfo`), signed by its parent.
///
/// # Errors
/// [`PkiError::Invalid`] if the key is not of the planned kind or is the parent's own, if the plan was made
/// for another parent, or `parent_key` is not the key of `parent`; [`PkiError::Kms`] if that cannot sign.
pub async fn issue_intermediate(
    plan: CaPlan,
    serial: Serial,
    subject_key_spki: &[u8],
    parent: &Issuer,
    parent_key: &dyn SigningKey,
) -> Result<Issued, PkiError> {
    if plan.parent.as_deref() != Some(parent.certificate_der()) {
        return Err(PkiError::invalid("plan", "is not for a CA below this parent"));
    }
    let public_key = planned_key("subject_key_spki", &plan, subject_key_spki)?;
    if public_key == parent.public_key {
        return Err(PkiError::invalid("subject_key_spki", "is the parent's own key"));
    }
    finish(ca_draft(&plan, &serial, subject_key_spki, &public_key, Some(parent)), parent_key).await
}

fn planned_key(field: &'static str, plan: &CaPlan, spki: &[u8]) -> Result<PublicKey, PkiError> {
    let key = PublicKey::parse(field, spki)?;
    if key.kind.spec() != Some(plan.spec) {
        return Err(PkiError::invalid(
            field,
            format!("is {}, but {} was planned", key.kind, plan.spec.as_str()),
        ));
    }
    Ok(key)
}

fn ca_draft<'a>(
    plan: &'a CaPlan,
    serial: &'a Serial,
    spki: &'a [u8],
    public_key: &'a PublicKey,
    authority: Option<&'a Issuer>,
) -> Draft<'a> {
    Draft {
        serial,
        subject: &plan.subject,
        not_before: plan.not_before,
        not_after: plan.not_after,
        spki,
        public_key,
        usage: Usage::Ca {
            max_path_length: plan.max_path_length,
            limits: plan.limits.as_ref(),
            policies: &plan.policies,
        },
        authority,
    }
}
