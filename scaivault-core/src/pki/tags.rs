//! The terms by which certificates are found, and the tags among them, which people set.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::json;

use super::{
    Pki,
    certificate::{Inventory, READ, find, not_found},
    types::Certificate,
};
use crate::{
    FieldErrors, Result, Scope, TenantId,
    audit::Action,
    limits,
    pipeline::{Act, Outcome, Permit, Write},
    storage::{Query, QueryBuilder, query},
};

/// Characters of a term.
pub(super) const TERM_CHARS: usize = 255;
/// Terms that one statement inserts.
const TERMS_AT_ONCE: usize = 500;

/// A certificate and what people noted of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TaggedCertificate {
    /// The certificate.
    #[serde(flatten)]
    pub certificate: Certificate,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
}

impl<'a> Pki<'a> {
    /// One certificate with its tags. Needs `pki:issue` or `pki:admin`.
    ///
    /// # Errors
    /// [`Code::CertificateNotFound`](crate::Code::CertificateNotFound).
    pub async fn tagged_certificate(&self, id: &str) -> Result<TaggedCertificate> {
        let act = Act::object(Action::PkiCertificateRead, READ, "pki_certificate", Some(id));
        let work = |permit: Permit<'a>| async move {
            let found = tagged(&permit, id, None).await?;
            permit.answer(found)
        };
        self.vault.door.perform(self.ctx, act, work).await
    }

    /// Replaces the tags of a certificate: at most [`limits::TAGS`], keys and values of 1 to [`limits::TAG_CHARS`]
    /// visible characters, no `=` in a key. Needs `pki:admin`.
    ///
    /// # Errors
    /// [`Code::CertificateNotFound`](crate::Code::CertificateNotFound);
    /// [`Code::ValidationError`](crate::Code::ValidationError) on `tags`.
    pub async fn tag_certificate(
        &self,
        id: &str,
        tags: BTreeMap<String, String>,
    ) -> Result<TaggedCertificate> {
        let act = Act::object(Action::PkiCertificateUpdate, &[Scope::PkiAdmin], "pki_certificate", Some(id));
        let work = |permit: Permit<'a>| async move { set_tags(permit, id, tags).await };
        self.vault.door.perform(self.ctx, act, work).await
    }
}

/// A certificate with the tags that it is about to get, or those that it has.
async fn tagged(
    permit: &Permit<'_>,
    id: &str,
    tags: Option<BTreeMap<String, String>>,
) -> Result<TaggedCertificate> {
    let (row, state, cas) = find(permit, id).await?;
    let certificate = row.into_certificate(state, &cas, permit.ctx().now(), true)?;
    let tags = match tags {
        Some(tags) => tags,
        None => {
            let found = tags_of(permit.tenant(), [id].into_iter());
            let found: Vec<(String, String)> = permit.fetch_all(found).await?;
            found.iter().filter_map(|(_, tag)| pair(tag)).collect()
        }
    };
    Ok(TaggedCertificate { certificate, tags })
}

async fn set_tags(
    permit: Permit<'_>,
    id: &str,
    tags: BTreeMap<String, String>,
) -> Result<Outcome<TaggedCertificate>> {
    check_tags(&tags)?;
    let answer = tagged(&permit, id, Some(tags)).await?;
    let terms: Vec<(&str, String)> =
        answer.tags.iter().map(|(key, value)| ("tag", term_of_tag(key, value))).collect();
    let mut tx = permit.begin().await?;
    let mut lock = QueryBuilder::new("SELECT certificate_id FROM pki_serial WHERE tenant_id = ");
    lock.arg(tx.tenant()).and("certificate_id = ", Some(id)).text(tx.lock_rows());
    if tx.fetch_optional::<(String,)>(lock.build()).await?.is_none() {
        return Err(not_found());
    }
    tx.execute(query(sql::CLEAR_TAGS).bind(tx.tenant()).bind(id)).await?;
    let rows: Vec<&(&str, String)> = terms.iter().collect();
    if !rows.is_empty() {
        tx.execute(insert(tx.tenant(), id, &rows)).await?;
    }
    tx.note("tags", json!(answer.tags));
    tx.commit(answer).await
}

pub(super) fn check_tags(tags: &BTreeMap<String, String>) -> Result<()> {
    let mut wrong = FieldErrors::default();
    if tags.len() > limits::TAGS {
        wrong.push("tags", format!("must have at most {} entries", limits::TAGS));
    }
    let fits = |text: &str| {
        let visible = text.chars().all(|c| !c.is_control());
        visible && text.trim() == text && (1..=limits::TAG_CHARS).contains(&text.chars().count())
    };
    if tags.iter().any(|(key, value)| !fits(key) || !fits(value) || key.contains('=')) {
        let most = limits::TAG_CHARS;
        let message = format!(
            "keys and values must have 1 to {most} characters, no control characters and no spaces at their ends, and \
             keys no ="
        );
        wrong.push("tags", message);
    }
    wrong.finish()
}

fn term_of_tag(key: &str, value: &str) -> String {
    format!("{key}={value}")
}

pub(super) fn pair(tag: &str) -> Option<(String, String)> {
    tag.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()))
}

/// The tags of some certificates, each as `key=value`.
pub(super) fn tags_of<'q>(tenant: &'q TenantId, ids: impl Iterator<Item = &'q str>) -> Query<'q> {
    let mut q =
        QueryBuilder::new("SELECT certificate_id, value FROM pki_term WHERE field = 'tag' AND tenant_id = ");
    q.arg(tenant).and_in("certificate_id", ids);
    q.build()
}

pub(crate) mod sql {
    pub(crate) const CLEAR_TAGS: &str =
        "DELETE FROM pki_term WHERE tenant_id = $1 AND certificate_id = $2 AND field = 'tag'";
    #[cfg(test)]
    pub(crate) const ALL: &[&str] = &[CLEAR_TAGS];
}

/// Makes a certificate that was just issued findable.
pub(super) async fn index(tx: &mut Write<'_>, about: &Inventory<'_>) -> Result<()> {
    let terms = terms(about, tx.ctx().caller().identity_id());
    let rows: Vec<&(&str, String)> = terms.iter().collect();
    for rows in rows.chunks(TERMS_AT_ONCE) {
        let insert = insert(tx.tenant(), about.id, rows);
        tx.execute(insert).await?;
    }
    Ok(())
}

fn insert<'q>(tenant: &'q TenantId, id: &'q str, rows: &[&'q (&'q str, String)]) -> Query<'q> {
    let mut q = QueryBuilder::new("INSERT INTO pki_term (tenant_id, field, value, certificate_id) VALUES ");
    for (i, (field, value)) in rows.iter().map(|row| (row.0, &row.1)).enumerate() {
        q.text(if i == 0 { "(" } else { ", (" });
        q.arg(tenant).text(", ").arg(field).text(", ").arg(value).text(", ").arg(id).text(")");
    }
    q.build()
}

fn terms(about: &Inventory<'_>, issued_to: &str) -> BTreeSet<(&'static str, String)> {
    let mut terms = BTreeSet::from([("by", cut(issued_to))]);
    terms.extend(about.role.map(|role| ("role", cut(role))));
    terms.extend(about.common_name.map(|name| ("cn", cut(&name.to_ascii_lowercase()))));
    for name in about.alt_names.iter().chain(about.ip_sans) {
        terms.extend(suffixes(&name.to_ascii_lowercase()).map(|suffix| ("san", cut(suffix))));
    }
    terms.extend(about.tags.into_iter().flatten().map(|(key, value)| ("tag", term_of_tag(key, value))));
    terms
}

/// From how many of its labels on a name is found: a URI may have hundreds, and every one is a row.
const SUFFIXES: usize = 32;

/// A name from each of its first labels on.
fn suffixes(name: &str) -> impl Iterator<Item = &str> {
    let after = name.match_indices(['.', '@', '/', ':']).filter_map(|(at, _)| name.get(at + 1..));
    std::iter::once(name).chain(after).filter(|suffix| !suffix.is_empty()).take(SUFFIXES)
}

pub(super) fn cut(text: &str) -> String {
    text.chars().take(TERM_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_from_each_label_on() {
        let found = |name| suffixes(name).collect::<Vec<_>>();
        assert_eq!(found("a.svc.test"), ["a.svc.test", "svc.test", "test"]);
        assert_eq!(found("ann@x.test"), ["ann@x.test", "x.test", "test"]);
        assert_eq!(
            found("spiffe://x.test/a"),
            ["spiffe://x.test/a", "//x.test/a", "/x.test/a", "x.test/a", "test/a", "a"]
        );
        assert_eq!(found("test."), ["test."]);
        assert_eq!(cut(&"é".repeat(300)).chars().count(), TERM_CHARS);
    }
}
