//! Whether a certificate is good, by the tenant's trust anchors and its own roots, and what is known of its revocation.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use scaivault_pki::{
    Certificate, PkiError, RevocationReason, Serial, TrustAnchor, Validation, parse_bundle, parse_crls,
    validate::{
        CertificateRevocation, Evidence, Failure, OcspEvidence, ReferenceName, Registered, RejectedPath,
        RevocationMode, Rules, Verdict,
    },
};
use serde::Serialize;
use serde_json::json;
use time::OffsetDateTime;

use super::{AnchorPurpose, Pki, anchors, ca::issuer, numbering::is_unkept};
use crate::{
    Error, Result, TenantId,
    audit::Action,
    limits,
    pipeline::{Act, Outcome, Permit},
    storage::{Query, QueryBuilder, Ts, query},
    vault::Inner,
    wire,
};

pub(crate) mod sql {
    /// Every CA of a tenant that has a certificate, and since when that is revoked.
    pub(crate) const OWN_CAS: &str = "\
        SELECT c.id, c.ca_type, c.certificate, c.above, own.revoked_at, own.revocation_reason FROM pki_ca c \
        LEFT JOIN pki_serial own ON own.tenant_id = c.tenant_id AND own.certificate_id = c.certificate_id \
        WHERE c.tenant_id = $1 AND NOT c.pending ORDER BY c.id";
    #[cfg(test)]
    pub(crate) const ALL: &[&str] = &[OWN_CAS];
}

/// A certificate to be judged.
#[derive(Clone, Debug, Default)]
pub struct ValidateWrite {
    /// The certificate, PEM or DER in Base64; what follows it in the text counts as `chain_pem`.
    pub certificate_pem: String,
    /// Certificates that may be on the way to an anchor, in any order; with the one in question at most
    /// [`limits::VALIDATE_CERTIFICATES`]. The tenant's own CAs need not be among them.
    pub chain_pem: Vec<String>,
    /// A host that the certificate has to be for, or an IP address.
    pub hostname: Option<String>,
    /// An IP address that it has to be for.
    pub ip: Option<String>,
    /// A mailbox that it has to be for.
    pub email: Option<String>,
    /// What it has to be good for; the anchors that count are those of this purpose and those of any.
    pub purpose: AnchorPurpose,
    /// The time of the question, now unless given.
    pub at: Option<OffsetDateTime>,
    /// What is demanded of revocation.
    pub revocation: RevocationCheck,
    /// Revocation lists, each PEM or DER in Base64; at most [`limits::VALIDATE_EVIDENCE`].
    pub crl_pem: Vec<String>,
    /// OCSP answers, each DER in Base64; at most [`limits::VALIDATE_EVIDENCE`].
    pub ocsp_base64: Vec<String>,
}

/// What is demanded of revocation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RevocationCheck {
    /// Nothing, and nothing is looked at.
    None,
    /// What is known to be revoked is refused, and what a CA does not know that should.
    #[default]
    Prefer,
    /// Everything but the anchor has to be known to be good.
    Require,
}

/// The verdict on a certificate.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ValidationReport {
    /// Whether there is a path on which everything holds.
    pub valid: bool,
    /// What is wrong with `chain`; empty exactly if it is valid.
    pub errors: Vec<PathError>,
    /// The trust anchor at the end of `chain`, or the CA of the tenant that is.
    pub trust_anchor_id: Option<String>,
    /// The certificate first, the anchor last; if it is not valid, the path that came furthest.
    pub chain: Vec<ChainCertificate>,
    /// `revoked` if one of the chain is, `good` if all but the anchor are known to be good, else `unknown`.
    pub revocation_status: &'static str,
    /// Paths that were tried and left; at most 16.
    pub candidates: Vec<CandidatePath>,
}

/// One thing that is wrong with a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PathError {
    /// A stable name, as `docs/VALIDATION.md` has them.
    pub code: &'static str,
    /// With which certificate of the chain; `None` if with the path as a whole.
    pub certificate: Option<usize>,
    /// For people.
    pub message: String,
}

/// A certificate of a chain.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the fields of the API contract")]
pub struct ChainCertificate {
    pub subject: String,
    pub issuer: String,
    pub serial_number: String,
    #[serde(serialize_with = "wire::seconds")]
    pub not_before: OffsetDateTime,
    #[serde(serialize_with = "wire::seconds")]
    pub not_after: OffsetDateTime,
    pub fingerprint_sha256: String,
    /// `None` for anchors, and where it was not looked at.
    pub revocation: Option<RevocationFinding>,
}

/// What is known of the revocation of one certificate.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RevocationFinding {
    /// `good`, `revoked` or `unknown`.
    pub status: &'static str,
    /// Who says so: `ocsp`, `crl`, `delta`, `register` (this vault issued it), or `none`.
    pub source: &'static str,
    /// Since when.
    #[serde(serialize_with = "wire::seconds_opt")]
    pub revoked_at: Option<OffsetDateTime>,
    /// Why.
    pub reason: Option<&'static str>,
    /// Evidence that was of no use, and why.
    pub notes: Vec<String>,
}

/// A path that was tried and left.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CandidatePath {
    /// The certificate in question first.
    pub chain: Vec<ChainCertificate>,
    /// Why, never empty.
    pub errors: Vec<PathError>,
}

impl Pki<'_> {
    /// Judges a certificate: path, names, purpose, revocation. Whoever has a token of the tenant may ask. Of certificates
    /// that the tenant's own CAs issued, the register says whether they are revoked.
    ///
    /// # Errors
    /// [`Code::ValidationError`](crate::Code::ValidationError) for what cannot be read, or is too much.
    pub async fn validate_certificate(&self, write: ValidateWrite) -> Result<ValidationReport> {
        let act = Act::object(Action::PkiValidate, &[], "pki_certificate", None);
        let vault = self.vault;
        vault.door.perform(self.ctx, act, |permit| async move { judge(vault, permit, &write).await }).await
    }
}

/// A question as the engine takes it.
#[derive(Clone)]
struct Question {
    leaf: Certificate,
    bag: Vec<Certificate>,
    evidence: Evidence,
    rules: Rules,
}

impl Question {
    fn parse(write: &ValidateWrite, now: OffsetDateTime) -> Result<Self> {
        let mut given = parse_bundle("certificate_pem", &write.certificate_pem)?.into_iter();
        let leaf = given.next().ok_or_else(|| Error::internal("a bundle without a certificate"))?;
        let mut bag: Vec<Certificate> = given.collect();
        let most = limits::VALIDATE_CERTIFICATES;
        for (at, text) in write.chain_pem.iter().enumerate() {
            if at == most || bag.len() + 1 > most {
                break;
            }
            bag.extend(parse_bundle("chain_pem", text).map_err(|error| of_item("chain_pem", at, error))?);
        }
        if write.chain_pem.len() > most || bag.len() + 1 > most {
            return Err(Error::field("chain_pem", format!("must have at most {} certificates", most - 1)));
        }
        let mut names = Vec::new();
        names.extend(write.hostname.as_deref().map(ReferenceName::dns).transpose()?);
        names.extend(write.ip.as_deref().map(ReferenceName::ip).transpose()?);
        names.extend(write.email.as_deref().map(ReferenceName::email).transpose()?);
        let rules = Rules {
            names,
            purposes: write.purpose.oid()?.into_iter().collect(),
            revocation: match write.revocation {
                RevocationCheck::None => RevocationMode::None,
                RevocationCheck::Prefer => RevocationMode::Prefer,
                RevocationCheck::Require => RevocationMode::Require,
            },
            ..Rules::at(write.at.unwrap_or(now))
        };
        Ok(Self { leaf, bag, evidence: evidence(write)?, rules })
    }
}

fn of_item(field: &str, at: usize, error: PkiError) -> Error {
    match error {
        PkiError::Invalid { message, .. } => Error::field(format!("{field}[{at}]"), message),
        other => other.into(),
    }
}

fn evidence(write: &ValidateWrite) -> Result<Evidence> {
    let most = limits::VALIDATE_EVIDENCE;
    let too_many = |field: &str| Error::field(field, format!("must have at most {most} entries"));
    if write.crl_pem.len() > most {
        return Err(too_many("crl_pem"));
    }
    if write.ocsp_base64.len() > most {
        return Err(too_many("ocsp_base64"));
    }
    let mut evidence = Evidence::default();
    for (at, text) in write.crl_pem.iter().enumerate() {
        let lists = parse_crls("crl_pem", text).map_err(|error| of_item("crl_pem", at, error))?;
        evidence.crls.extend(lists);
        if evidence.crls.len() > most {
            return Err(too_many("crl_pem"));
        }
    }
    for (at, text) in write.ocsp_base64.iter().enumerate() {
        let body: String = text.split_ascii_whitespace().collect();
        let der = STANDARD
            .decode(body)
            .map_err(|_| Error::field(format!("ocsp_base64[{at}]"), "must be Base64 of DER"))?;
        evidence.ocsp.push(OcspEvidence { der, nonce: None });
    }
    Ok(evidence)
}

#[derive(Debug, sqlx::FromRow)]
struct OwnCaRow {
    id: String,
    ca_type: String,
    certificate: Vec<u8>,
    above: String,
    revoked_at: Option<Ts>,
    revocation_reason: Option<String>,
}

/// A CA of the tenant.
struct OwnCa {
    id: String,
    is_root: bool,
    certificate: Certificate,
    /// Those above it that are nobody's here.
    above: Vec<Certificate>,
    revoked: Option<Verdict>,
}

impl OwnCa {
    fn read(row: OwnCaRow) -> Result<Self> {
        Ok(Self {
            revoked: revoked(row.revoked_at, row.revocation_reason.as_deref())?,
            id: row.id,
            is_root: row.ca_type == super::CaType::Root.as_str(),
            certificate: Certificate::from_der(&row.certificate)?,
            above: match row.above.as_str() {
                "" => Vec::new(),
                above => parse_bundle("above", above)?,
            },
        })
    }
}

fn revoked(at: Option<Ts>, reason: Option<&str>) -> Result<Option<Verdict>> {
    let Some(at) = at else { return Ok(None) };
    let reason = reason.and_then(RevocationReason::parse);
    let reason = reason.ok_or_else(|| Error::internal("a stored revocation has an unknown reason"))?;
    Ok(Some(Verdict::Revoked { at: at.get(), reason }))
}

async fn judge(
    vault: &Inner,
    mut permit: Permit<'_>,
    write: &ValidateWrite,
) -> Result<Outcome<ValidationReport>> {
    let now = permit.ctx().now();
    let mut question = Question::parse(write, now)?;
    let at = question.rules.now;
    let trusted = anchors::of_purpose(&permit, write.purpose).await?;
    let own = permit.fetch_all::<OwnCaRow>(query(sql::OWN_CAS).bind(permit.tenant())).await?;
    let own: Vec<OwnCa> = own.into_iter().map(OwnCa::read).collect::<Result<_>>()?;

    let mut anchors: Vec<(String, TrustAnchor)> = Vec::with_capacity(trusted.len());
    for row in trusted {
        anchors.push((row.id, TrustAnchor::from_der(&row.certificate)?));
    }
    for ca in own.iter().filter(|ca| ca.is_root && !is_revoked_at(ca.revoked, at)) {
        anchors.push((ca.id.clone(), TrustAnchor { certificate: ca.certificate.clone(), enforce: true }));
    }
    let reached = reach(&mut question, &own);
    if question.rules.revocation != RevocationMode::None {
        question.evidence.register = register(vault, &permit, &own, &reached, at).await?;
    }
    let fingerprint = hex::encode(question.leaf.fingerprint_sha256());
    let (ids, anchors): (Vec<String>, Vec<TrustAnchor>) = anchors.into_iter().unzip();
    // What a certificate of somebody else costs is bounded, and not to be waited for by other requests.
    let verdict = tokio::task::spawn_blocking(move || {
        let Question { leaf, bag, evidence, rules } = question;
        scaivault_pki::validate(&leaf, &bag, &anchors, &evidence, &rules)
    });
    let report = report(&verdict.await.map_err(Error::internal)?, &ids);
    let codes: Vec<&str> = report.errors.iter().map(|error| error.code).collect();
    permit.note("valid", report.valid);
    permit.note("fingerprint_sha256", fingerprint);
    permit.note("errors", json!(codes));
    permit.answer(report)
}

/// The certificates that can be on a path by their names. Those of own CAs that can join the bag.
fn reach(question: &mut Question, own: &[OwnCa]) -> Vec<Certificate> {
    let mut waiting: Vec<Certificate> = question.bag.clone();
    let between = own.iter().filter(|ca| !ca.is_root);
    let between = between.flat_map(|ca| std::iter::once(&ca.certificate).chain(&ca.above)).cloned();
    let own: Vec<Certificate> = between.filter(|certificate| !waiting.contains(certificate)).collect();
    waiting.extend(own.iter().cloned());
    let mut reached = vec![question.leaf.clone()];
    let mut next = 0;
    while let Some(below) = reached.get(next).cloned() {
        next += 1;
        let (found, rest) =
            waiting.into_iter().partition::<Vec<_>, _>(|certificate| below.names_as_issuer(certificate));
        waiting = rest;
        reached.extend(found);
    }
    question.bag.extend(own.into_iter().filter(|certificate| reached.contains(certificate)));
    reached
}

#[derive(Debug, sqlx::FromRow)]
struct RegisterRow {
    ca_id: String,
    serial: Vec<u8>,
    revoked_at: Option<Ts>,
    revocation_reason: Option<String>,
}

fn serials<'q>(tenant: &'q TenantId, serials: &'q [Serial]) -> Query<'q> {
    let mut q = QueryBuilder::new(
        "SELECT ca_id, serial, revoked_at, revocation_reason FROM pki_serial \
         WHERE ca_id IS NOT NULL AND tenant_id = ",
    );
    q.arg(tenant).text(" AND serial IN (");
    for (i, serial) in serials.iter().enumerate() {
        q.text(if i == 0 { "" } else { ", " }).arg(serial.as_bytes());
    }
    q.text(")");
    q.build()
}

/// What the register says, as of `at`, of the certificates that bear the names of the tenant's CAs as issuers.
async fn register(
    vault: &Inner,
    permit: &Permit<'_>,
    own: &[OwnCa],
    reached: &[Certificate],
    at: OffsetDateTime,
) -> Result<Vec<Registered>> {
    let now = permit.ctx().now();
    let mut asked: Vec<(&OwnCa, &Certificate, Serial)> = Vec::new();
    for certificate in reached {
        let Ok(serial) = Serial::from_bytes(certificate.serial_octets()) else { continue };
        for ca in own.iter().filter(|ca| certificate.names_as_issuer(&ca.certificate)) {
            asked.push((ca, certificate, serial.clone()));
        }
    }
    asked.truncate(limits::VALIDATE_REGISTER);
    let numbers: Vec<Serial> = asked.iter().map(|(.., serial)| serial.clone()).collect();
    if numbers.is_empty() {
        return Ok(Vec::new());
    }
    let rows: Vec<RegisterRow> = permit.fetch_all(serials(permit.tenant(), &numbers)).await?;
    let mut register = Vec::with_capacity(asked.len());
    for (ca, certificate, serial) in &asked {
        let row = rows.iter().find(|row| row.ca_id == ca.id && row.serial == serial.as_bytes());
        let own = match row {
            Some(row) => revoked(row.revoked_at, row.revocation_reason.as_deref())?,
            // Of what ended long ago nothing is kept.
            None if certificate.not_after() < now => continue,
            // Without a row it was not kept, and not revoked.
            None if is_unkept(serial)
                && issuer(vault, permit, &ca.id).await?.gave_out(permit, serial).await? =>
            {
                None
            }
            None => Some(Verdict::Unknown),
        };
        let verdict = match (own, ca.revoked) {
            (Some(verdict), _) if verdict == Verdict::Unknown || is_revoked_at(Some(verdict), at) => verdict,
            // What a revoked CA issued is revoked with it.
            (_, ended) if is_revoked_at(ended, at) => ended.unwrap_or(Verdict::Unknown),
            // Nobody knows what will be revoked.
            _ if at > now => continue,
            _ => Verdict::Good,
        };
        register.push(Registered {
            issuer_key_sha256: ca.certificate.key_sha256(),
            serial: certificate.serial_octets().to_vec(),
            verdict,
        });
    }
    // Of two CAs with one key, the one that issued it speaks.
    register.sort_by_key(|known: &Registered| known.verdict == Verdict::Unknown);
    Ok(register)
}

fn is_revoked_at(verdict: Option<Verdict>, at: OffsetDateTime) -> bool {
    matches!(verdict, Some(Verdict::Revoked { at: since, .. }) if since <= at)
}

fn report(verdict: &Validation, ids: &[String]) -> ValidationReport {
    let chain = shown(&verdict.chain, &verdict.revocation);
    let all: Vec<&Verdict> = verdict.revocation.iter().map(|known| &known.verdict).collect();
    let below = match verdict.anchor {
        Some(_) => verdict.chain.len().saturating_sub(1),
        None => verdict.chain.len(),
    };
    let revocation_status = if all.iter().any(|verdict| matches!(verdict, Verdict::Revoked { .. })) {
        "revoked"
    } else if !all.is_empty() && all.len() >= below && all.iter().all(|verdict| **verdict == Verdict::Good) {
        "good"
    } else {
        "unknown"
    };
    ValidationReport {
        valid: verdict.valid,
        errors: verdict.errors.iter().map(error).collect(),
        trust_anchor_id: verdict.anchor.and_then(|at| ids.get(at).cloned()),
        chain,
        revocation_status,
        candidates: verdict.rejected.iter().map(candidate).collect(),
    }
}

fn shown(chain: &[Certificate], revocation: &[CertificateRevocation]) -> Vec<ChainCertificate> {
    let known = revocation.iter().map(|known| Some(finding(known))).chain(std::iter::repeat(None));
    let shown = |(certificate, revocation): (&Certificate, Option<RevocationFinding>)| ChainCertificate {
        subject: certificate.subject(),
        issuer: certificate.issuer(),
        serial_number: certificate.serial_number(),
        not_before: certificate.not_before(),
        not_after: certificate.not_after(),
        fingerprint_sha256: hex::encode(certificate.fingerprint_sha256()),
        revocation,
    };
    chain.iter().zip(known).map(shown).collect()
}

fn finding(known: &CertificateRevocation) -> RevocationFinding {
    let (status, revoked_at, reason) = match known.verdict {
        Verdict::Good => ("good", None, None),
        Verdict::Revoked { at, reason } => ("revoked", Some(at), Some(reason.as_str())),
        Verdict::Unknown => ("unknown", None, None),
    };
    RevocationFinding { status, source: known.source.name(), revoked_at, reason, notes: known.notes.clone() }
}

fn error(failure: &Failure) -> PathError {
    let Failure { reason, certificate, detail } = failure;
    PathError { code: reason.name(), certificate: *certificate, message: detail.clone() }
}

fn candidate(path: &RejectedPath) -> CandidatePath {
    CandidatePath { chain: shown(&path.chain, &[]), errors: path.failures.iter().map(error).collect() }
}
