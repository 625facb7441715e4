//! The inventory: every certificate that was issued and kept, found by what it says and whose it is.
//!
//! What is asked for most is one row of an index: a certificate has a *term* for each value of a field that it is found by
//! (`pki_term`), and a name has one for each of its labels on, so that `svc.example` is found in `a.svc.example` without a
//! look at every name.

use std::collections::{BTreeMap, HashMap};

use scaivault_pki::Serial;
use serde::Serialize;
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::{
    Pki,
    certificate::READ,
    store::{self, CertificateRow, RevokedCa, StateRow},
    tags::{TERM_CHARS, TaggedCertificate, cut, pair, tags_of},
    types::{Certificate, CertificateFilter},
};
use crate::{
    DurationText, Error, FieldErrors, Result, TenantId,
    audit::Action,
    limits,
    pipeline::{Act, Outcome, Permit},
    storage::{Query, QueryBuilder, query},
    wire::{self, Page},
};

/// Which certificates to show; what is `None` does not filter.
#[derive(Clone, Debug, Default)]
pub struct CertificateSearch {
    /// With this common name, in whatever case; with `*` at its end, with one that begins so.
    pub common_name: Option<String>,
    /// With an alternative name that holds this from the beginning of a label on, in whatever case: `svc` and
    /// `svc.example` are in `a.svc.example`, `vc` is not. At least three characters.
    pub san: Option<String>,
    /// Issued by this CA.
    pub ca_id: Option<String>,
    /// Issued by this role.
    pub role: Option<String>,
    /// With this public key: the SHA-256 of its `SubjectPublicKeyInfo`, in hexadecimal digits.
    pub key_hash: Option<String>,
    /// With this serial number, in hexadecimal with or without colons.
    pub serial_number: Option<String>,
    /// Issued to this identity.
    pub requested_by: Option<String>,
    /// With this tag: `key=value`, or `key` with any value.
    pub tag: Option<String>,
    /// Whether there is a reason not to rely on it; see [`Certificate::weak`].
    pub weak: Option<bool>,
    /// In this state; without it, all that are not revoked.
    pub status: Option<StatusFilter>,
    /// Also those that were revoked; with `status` it says nothing.
    pub include_revoked: bool,
    /// Ending at this time or later.
    pub expires_after: Option<OffsetDateTime>,
    /// Ending before this time.
    pub expires_before: Option<OffsetDateTime>,
    /// Valid now, and ending within this time.
    pub expiring_within: Option<DurationText>,
    /// The order.
    pub sort: Sort,
    /// Whether to count all that fit, up to [`limits::COUNTED_CERTIFICATES`].
    pub count: bool,
    /// Certificates a page: 100 unless given, 1000 at most.
    pub limit: Option<u32>,
    /// Where the previous page ended.
    pub cursor: Option<String>,
}

impl From<CertificateFilter> for CertificateSearch {
    fn from(filter: CertificateFilter) -> Self {
        let CertificateFilter { ca_id, expiring_within, include_revoked, limit, cursor } = filter;
        Self { ca_id, expiring_within, include_revoked, limit, cursor, ..Self::default() }
    }
}

/// A state that certificates are looked for in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StatusFilter {
    /// Not revoked, and not at its end.
    Active,
    /// Not revoked, and past its end.
    Expired,
    /// Revoked, on hold included, by itself or with its CA.
    Revoked,
    /// On hold.
    OnHold,
}

impl StatusFilter {
    const ALL: [(&'static str, Self); 4] = [
        ("active", Self::Active),
        ("expired", Self::Expired),
        ("revoked", Self::Revoked),
        ("on_hold", Self::OnHold),
    ];

    /// The state of that name.
    ///
    /// # Errors
    /// [`Code::ValidationError`](crate::Code::ValidationError) on `status`.
    pub fn parse(text: &str) -> Result<Self> {
        let known = Self::ALL.iter().find(|(name, _)| *name == text).map(|(_, status)| *status);
        known.ok_or_else(|| Error::field("status", "must be one of active, expired, revoked, on_hold"))
    }
}

/// The order of a list of certificates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Sort {
    /// The newest first.
    #[default]
    Age,
    /// The one that ends first, first.
    Expiry,
}

impl Sort {
    /// The order of that name.
    ///
    /// # Errors
    /// [`Code::ValidationError`](crate::Code::ValidationError) on `sort`.
    pub fn parse(text: &str) -> Result<Self> {
        match text {
            "age" => Ok(Self::Age),
            "expiry" => Ok(Self::Expiry),
            _ => Err(Error::field("sort", "must be one of age, expiry")),
        }
    }
}

/// A page of the inventory.
#[derive(Clone, Debug, PartialEq)]
pub struct CertificatePage {
    /// The certificates.
    pub page: Page<TaggedCertificate>,
    /// How many fit, if that was asked for.
    pub count: Option<Count>,
}

/// How many there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Count {
    /// So many, at most [`limits::COUNTED_CERTIFICATES`], or what else is said.
    pub count: i64,
    /// Whether there are not more.
    pub count_is_exact: bool,
}

impl Count {
    /// Of so many, if it was looked for one more than `most`.
    pub(super) fn up_to(most: i64, found: i64) -> Self {
        Self { count: found.min(most), count_is_exact: found <= most }
    }
}

impl Pki<'_> {
    /// The tenant's certificates, newest first. Needs `pki:issue` or `pki:admin`.
    ///
    /// # Errors
    /// [`Code::InvalidCursor`](crate::Code::InvalidCursor).
    pub async fn certificates(&self, filter: CertificateFilter) -> Result<Page<Certificate>> {
        let Page { items, cursor } = self.search_certificates(filter.into()).await?.page;
        Ok(Page { items: items.into_iter().map(|tagged| tagged.certificate).collect(), cursor })
    }

    /// Those of the tenant's certificates that fit. Needs `pki:issue` or `pki:admin`.
    ///
    /// # Errors
    /// [`Code::InvalidCursor`](crate::Code::InvalidCursor); [`Code::ValidationError`](crate::Code::ValidationError) for what
    /// means nothing.
    pub async fn search_certificates(&self, search: CertificateSearch) -> Result<CertificatePage> {
        let act = Act::object(Action::PkiCertificateRead, READ, "pki_certificate", None);
        self.vault.door.perform(self.ctx, act, |permit| async move { list(permit, &search).await }).await
    }
}

/// What a term has to be.
#[derive(Debug)]
enum Term {
    Is(String),
    /// From the first on, before the second.
    Within(String, String),
}

impl Term {
    /// What begins so.
    fn prefix(text: &str) -> Self {
        Self::Within(text.to_owned(), format!("{text}{}", char::MAX))
    }
}

/// A search that means something.
#[derive(Debug)]
struct Wanted<'s> {
    said: &'s CertificateSearch,
    terms: Vec<(&'static str, Term)>,
    key_hash: Option<Vec<u8>>,
    serial: Option<Serial>,
    from: Option<OffsetDateTime>,
    before: Option<OffsetDateTime>,
}

impl<'s> Wanted<'s> {
    fn parse(said: &'s CertificateSearch, now: OffsetDateTime) -> Result<Self> {
        let mut wrong = FieldErrors::default();
        let mut terms = Vec::new();
        if let Some(name) = &said.common_name {
            let name = cut(&name.to_ascii_lowercase());
            terms.push(match name.strip_suffix('*').filter(|rest| !rest.ends_with('*')) {
                Some(prefix) => ("cn", Term::prefix(prefix)),
                None => ("cn", Term::Is(name)),
            });
        }
        if let Some(name) = &said.san {
            if !(3..=TERM_CHARS).contains(&name.len()) || !name.is_ascii() {
                wrong.push("san", format!("must have 3 to {TERM_CHARS} ASCII characters"));
            }
            terms.push(("san", Term::prefix(&name.to_ascii_lowercase())));
        }
        terms.extend(said.role.as_deref().map(|role| ("role", Term::Is(cut(role)))));
        terms.extend(said.requested_by.as_deref().map(|who| ("by", Term::Is(cut(who)))));
        if let Some(tag) = &said.tag {
            let whole = tag.contains('=');
            terms.push(("tag", if whole { Term::Is(tag.clone()) } else { Term::prefix(&format!("{tag}=")) }));
        }
        let key_hash = said.key_hash.as_deref().map(|text| {
            let hash = hex::decode(text).ok().filter(|hash| hash.len() == 32);
            hash.unwrap_or_else(|| {
                wrong.push("key_hash", "must be 64 hexadecimal digits");
                Vec::new()
            })
        });
        if said.expiring_within.is_some() && (said.expires_after.is_some() || said.expires_before.is_some()) {
            wrong.push("expiring_within", "must not be given with expires_after or expires_before");
        }
        wrong.finish()?;
        let serial = said.serial_number.as_deref().map(Serial::parse).transpose()?;
        let (from, before) = match &said.expiring_within {
            // Its end counts, and ends are whole seconds.
            Some(window) => (Some(now), Some(now + window.get() + time::Duration::seconds(1))),
            None => (said.expires_after, said.expires_before),
        };
        Ok(Self { said, terms, key_hash, serial, from, before })
    }

    /// What a cursor is bound to.
    fn bound(&self) -> Value {
        let said = self.said;
        json!([
            [said.common_name, said.san, said.ca_id, said.role, said.key_hash, said.serial_number],
            [
                said.requested_by,
                said.tag,
                said.expires_after.map(wire::rfc3339),
                said.expires_before.map(wire::rfc3339)
            ],
            [said.expiring_within.as_ref().map(|window| window.get().as_secs())],
            [json!(said.status), json!(said.include_revoked), json!(said.sort), json!(said.weak)],
        ])
    }

    /// Appends the tables and the conditions.
    fn matching<'q>(
        &'q self,
        q: &mut QueryBuilder<'q>,
        tenant: &'q TenantId,
        cas: &'q [RevokedCa],
        now: OffsetDateTime,
    ) {
        q.text(" FROM pki_serial s WHERE s.tenant_id = ").arg(tenant);
        for (field, term) in &self.terms {
            q.text(" AND s.certificate_id IN (SELECT t.certificate_id FROM pki_term t WHERE t.tenant_id = ");
            q.arg(tenant).and("t.field = ", Some(*field));
            match term {
                Term::Is(value) => q.and("t.value = ", Some(value)),
                Term::Within(from, before) => {
                    q.and("t.value >= ", Some(from)).and("t.value < ", Some(before))
                }
            };
            q.text(")");
        }
        q.and("s.ca_id = ", self.said.ca_id.as_deref());
        q.and("s.key_hash = ", self.key_hash.as_deref());
        q.and("s.serial = ", self.serial.as_ref().map(Serial::as_bytes));
        q.and("s.not_after >= ", self.from).and("s.not_after < ", self.before);
        if let Some(weak) = self.said.weak {
            q.text(if weak { " AND s.weak IS NOT NULL" } else { " AND s.weak IS NULL" });
        }
        match self.said.status {
            None if self.said.include_revoked => {}
            None => not_revoked(q, cas),
            Some(StatusFilter::Active) => {
                not_revoked(q, cas);
                q.and("s.not_after >= ", Some(now));
            }
            Some(StatusFilter::Expired) => {
                not_revoked(q, cas);
                q.and("s.not_after < ", Some(now));
            }
            Some(StatusFilter::OnHold) => {
                q.text(" AND s.revoked_at IS NOT NULL AND s.revocation_reason = 'certificate_hold'");
            }
            Some(StatusFilter::Revoked) => {
                q.text(" AND (s.revoked_at IS NOT NULL");
                for ca in cas {
                    q.text(" OR s.ca_id = ").arg(ca.id.as_str());
                }
                q.text(")");
            }
        }
    }

    fn page<'q>(
        &'q self,
        (tenant, cas): (&'q TenantId, &'q [RevokedCa]),
        now: OffsetDateTime,
        after: Option<&'q Place>,
        limit: i64,
    ) -> Query<'q> {
        let mut q = QueryBuilder::new(
            "SELECT s.certificate_id, s.not_after, s.revoked_at, s.revocation_reason, s.weak",
        );
        self.matching(&mut q, tenant, cas, now);
        match (self.said.sort, after) {
            (Sort::Age, after) => {
                q.and("s.certificate_id < ", after.map(|place| place.id.as_str()));
                q.text(" ORDER BY s.certificate_id DESC LIMIT ").arg(limit);
            }
            (Sort::Expiry, after) => {
                if let Some(place) = after {
                    q.text(" AND (s.not_after, s.certificate_id) > (").arg(place.not_after);
                    q.text(", ").arg(place.id.as_str()).text(")");
                }
                q.text(" ORDER BY s.not_after, s.certificate_id LIMIT ").arg(limit);
            }
        }
        q.build()
    }

    /// How many fit, one more than are counted at the most; those that nothing is kept of but their number are none.
    fn count<'q>(&'q self, tenant: &'q TenantId, cas: &'q [RevokedCa], now: OffsetDateTime) -> Query<'q> {
        let mut q = QueryBuilder::new("SELECT count(*) FROM (SELECT 1 AS one");
        self.matching(&mut q, tenant, cas, now);
        q.text(
            " AND EXISTS (SELECT 1 FROM pki_certificate c WHERE c.tenant_id = s.tenant_id AND c.id = s.certificate_id \
             AND c.not_after = s.not_after)",
        );
        q.text(" LIMIT ").arg(limits::COUNTED_CERTIFICATES + 1).text(") AS counted");
        q.build()
    }

    async fn counted(&self, permit: &Permit<'_>, cas: &[RevokedCa]) -> Result<Count> {
        let count = self.count(permit.tenant(), cas, permit.ctx().now());
        let found: Vec<(i64,)> = permit.fetch_all_lagging(count).await?;
        Ok(Count::up_to(limits::COUNTED_CERTIFICATES, found.first().map_or(0, |(found,)| *found)))
    }
}

/// How many are in that state.
pub(super) async fn count(permit: &Permit<'_>, status: StatusFilter, cas: &[RevokedCa]) -> Result<Count> {
    let search = CertificateSearch { status: Some(status), ..CertificateSearch::default() };
    Wanted::parse(&search, permit.ctx().now())?.counted(permit, cas).await
}

fn not_revoked<'q>(q: &mut QueryBuilder<'q>, cas: &'q [RevokedCa]) {
    q.text(" AND s.revoked_at IS NULL");
    for ca in cas {
        // What was signed outside is of no CA here.
        q.and("COALESCE(s.ca_id, '') <> ", Some(ca.id.as_str()));
    }
}

/// Where a page ended.
#[derive(Clone, Debug, Serialize, serde::Deserialize)]
struct Place {
    id: String,
    #[serde(with = "time::serde::rfc3339")]
    not_after: OffsetDateTime,
}

async fn list(permit: Permit<'_>, search: &CertificateSearch) -> Result<Outcome<CertificatePage>> {
    let now = permit.ctx().now();
    let wanted = Wanted::parse(search, now)?;
    let keys = permit.keys().await?;
    let bound = wanted.bound();
    let open = |cursor: &String| wire::open_cursor::<Place>(&keys, "certificates", &bound, cursor);
    let after = search.cursor.as_ref().map(open).transpose()?;
    let rows = wire::page_size(search.limit);
    let revoked = query(store::sql::REVOKED_CAS).bind(permit.tenant());
    let cas: Vec<RevokedCa> = permit.fetch_all_lagging(revoked).await?;
    let page = wanted.page((permit.tenant(), &cas), now, after.as_ref(), rows as i64 + 1);
    let states: Vec<StateRow> = permit.fetch_all_lagging(page).await?;
    let last = |last: &StateRow| Place { id: last.certificate_id.clone(), not_after: last.not_after.get() };
    let page = wire::cut(states, rows, (&keys, "certificates", &bound), last)?;
    let count = match search.count {
        true => Some(wanted.counted(&permit, &cas).await?),
        false => None,
    };
    let rows: Vec<CertificateRow> = match store::certificates(permit.tenant(), &page.items) {
        Some(query) => permit.fetch_all_lagging(query).await?,
        None => Vec::new(),
    };
    let mut rows: HashMap<String, CertificateRow> =
        rows.into_iter().map(|row| (row.id.clone(), row)).collect();
    // One that retention took away in between is not there any more, and of some only the number was kept.
    let tags: Vec<(String, String)> = match page.items.is_empty() {
        true => Vec::new(),
        false => {
            let ids = page.items.iter().map(|state| state.certificate_id.as_str());
            permit.fetch_all_lagging(tags_of(permit.tenant(), ids)).await?
        }
    };
    let mut tagged: HashMap<String, BTreeMap<String, String>> = HashMap::new();
    for (id, tag) in tags {
        tagged.entry(id).or_default().extend(pair(&tag));
    }
    let found = page.items.into_iter().filter_map(|state| {
        let row = rows.remove(&state.certificate_id)?;
        let tags = tagged.remove(&state.certificate_id).unwrap_or_default();
        let certificate = row.into_certificate(state, &cas, now, false);
        Some(certificate.map(|certificate| TaggedCertificate { certificate, tags }))
    });
    let items = found.collect::<Result<_>>()?;
    permit.answer(CertificatePage { page: Page { items, cursor: page.cursor }, count })
}

/// Shows the statements of a page and a count for each filter, by the filter's name.
#[cfg(test)]
pub(crate) fn each_statement(look: &mut dyn FnMut(&str, Query<'_>)) {
    let now = OffsetDateTime::UNIX_EPOCH;
    let tenant = TenantId::stored("tnt_x".to_owned()).unwrap();
    let text = |text: &str| Some(text.to_owned());
    let none = CertificateSearch { include_revoked: true, ..CertificateSearch::default() };
    let in_state = |status| CertificateSearch { status: Some(status), ..CertificateSearch::default() };
    for (name, search) in [
        ("all", none.clone()),
        ("common_name", CertificateSearch { common_name: text("a.test"), ..none.clone() }),
        ("common_name*", CertificateSearch { common_name: text("a.*"), ..none.clone() }),
        ("san", CertificateSearch { san: text("svc"), ..none.clone() }),
        ("ca_id", CertificateSearch { ca_id: text("ca_x"), ..none.clone() }),
        ("role", CertificateSearch { role: text("web"), ..none.clone() }),
        ("key_hash", CertificateSearch { key_hash: Some("00".repeat(32)), ..none.clone() }),
        ("serial_number", CertificateSearch { serial_number: text("01"), ..none.clone() }),
        ("tag", CertificateSearch { tag: text("env=prod"), ..none.clone() }),
        ("tag*", CertificateSearch { tag: text("env"), ..none.clone() }),
        ("requested_by", CertificateSearch { requested_by: text("user:x"), ..none.clone() }),
        ("expires_after", CertificateSearch { expires_after: Some(now), ..none.clone() }),
        ("expires_before", CertificateSearch { expires_before: Some(now), ..none.clone() }),
        ("expiring_within", CertificateSearch { expiring_within: "1d".parse().ok(), ..none.clone() }),
        ("weak", CertificateSearch { weak: Some(true), ..none.clone() }),
        ("active", in_state(StatusFilter::Active)),
        ("expired", in_state(StatusFilter::Expired)),
        ("revoked", in_state(StatusFilter::Revoked)),
        ("on_hold", in_state(StatusFilter::OnHold)),
    ] {
        for sort in [Sort::Age, Sort::Expiry] {
            let search = CertificateSearch { sort, ..search.clone() };
            let wanted = Wanted::parse(&search, now).unwrap();
            let place = Place { id: "cert_x".to_owned(), not_after: now };
            look(name, wanted.page((&tenant, &[]), now, None, 101));
            look(name, wanted.page((&tenant, &[]), now, Some(&place), 101));
            look(name, wanted.count(&tenant, &[], now));
        }
    }
    for sql in super::summary::sql::ALL {
        let bound = (0..if sql.contains("$6") { 6 } else { if sql.contains("$4") { 4 } else { 3 } })
            .fold(query(sql), |q, _| q.bind(0_i64));
        look("summary", bound);
    }
}
