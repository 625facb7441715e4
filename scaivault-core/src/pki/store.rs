use scaivault_pki::{Issuer, IssuerUrls, RevocationReason, Serial, ocsp::CertStatus, pem};
use sqlx::types::Json;
use time::OffsetDateTime;

use super::{
    bulk::BulkFilter,
    issuer::Held,
    key::Provided,
    numbering::{Lists, Numbering},
    types::{Ca, CaState, CaType, Certificate, NameConstraints, Revocation, Role, RoleWrite, family},
};
use crate::{
    Error, Result, TenantId,
    envelope::Sealed,
    storage::{Query, QueryBuilder, Ts},
};

pub(crate) mod sql {
    /// What it takes to sign with a CA, and the certificates above it, the nearest first.
    pub(crate) const CHAIN: &str = "\
        WITH RECURSIVE chain (id, parent_ca_id, certificate, key_spec, key_ciphertext, key_wrapped_key, key_id, \
        key_provider, key_ref, pending, above, depth) AS ( \
        SELECT id, parent_ca_id, certificate, key_spec, key_ciphertext, key_wrapped_key, key_id, key_provider, key_ref, \
        pending, above, 0 FROM pki_ca \
        WHERE tenant_id = $1 AND id = $2 \
        UNION ALL SELECT p.id, p.parent_ca_id, p.certificate, p.key_spec, p.key_ciphertext, p.key_wrapped_key, p.key_id, \
        p.key_provider, p.key_ref, p.pending, p.above, chain.depth + 1 FROM pki_ca p JOIN chain ON p.id = chain.parent_ca_id WHERE p.tenant_id = $1 AND chain.depth < 16) \
        SELECT chain.certificate, chain.key_spec, chain.key_ciphertext, chain.key_wrapped_key, chain.key_id, \
        chain.key_provider, chain.key_ref, chain.pending, chain.above, n.key_ciphertext AS numbering_ciphertext, \
        n.key_wrapped_key AS numbering_wrapped_key, n.key_id AS numbering_key_id, n.shards, n.delta_crls, n.keep_expired, \
        n.crl_url FROM chain LEFT JOIN pki_numbering n ON n.tenant_id = $1 AND n.id = chain.id ORDER BY chain.depth";
    pub(crate) const INSERT_NUMBERING: &str = "\
        INSERT INTO pki_numbering (tenant_id, id, key_ciphertext, key_wrapped_key, key_id, shards, delta_crls, keep_expired, \
        crl_url) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING";
    pub(crate) const NUMBERED: &str = "SELECT id FROM pki_numbering WHERE tenant_id = $1 ORDER BY id";
    /// What OCSP says of the certificates of a CA that have no row.
    pub(crate) const CA_STATUS: &str = "\
        SELECT own.serial, own.revoked_at, own.revocation_reason, own.revoked_at AS ca_revoked_at, \
        own.revocation_reason AS ca_revocation_reason FROM pki_ca c JOIN pki_serial own ON own.tenant_id = c.tenant_id \
        AND own.certificate_id = c.certificate_id WHERE c.tenant_id = $1 AND c.id = $2";
    pub(crate) const COUNT_CAS: &str = "SELECT count(*) FROM pki_ca WHERE tenant_id = $1";
    pub(crate) const COUNT_ROLES: &str = "SELECT count(*) FROM pki_role WHERE tenant_id = $1";
    pub(crate) const CA_STATE: &str =
        "SELECT is_active, pending FROM pki_ca WHERE tenant_id = $1 AND id = $2";
    pub(crate) const CA_OWNER: &str = "SELECT tenant_id FROM pki_ca WHERE id = $1";
    pub(crate) const INSERT_CA: &str = "\
        INSERT INTO pki_ca (tenant_id, id, name, name_key, common_name, ca_type, parent_ca_id, key_spec, certificate, serial, \
        key_ciphertext, key_wrapped_key, key_id, key_provider, key_ref, key_fingerprint, not_before, not_after, is_active, \
        created_at, key_hash) \
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, TRUE, $19, $20) \
        ON CONFLICT DO NOTHING";
    /// Says which certificate of the inventory is the CA's own.
    pub(crate) const SET_CERTIFICATE: &str =
        "UPDATE pki_ca SET certificate_id = $3 WHERE tenant_id = $1 AND id = $2";
    /// Has who gives it its certificate wait for who gives the CA up, and the other way round.
    pub(crate) const LOCK_PENDING: &str =
        "UPDATE pki_ca SET name = name WHERE tenant_id = $1 AND id = $2 AND pending";
    pub(crate) const DELETE_NUMBERING: &str = "DELETE FROM pki_numbering WHERE tenant_id = $1 AND id = $2";
    pub(crate) const DELETE_CA: &str = "DELETE FROM pki_ca WHERE tenant_id = $1 AND id = $2 AND pending";
    /// Takes the certificate away from a CA that was just made, until it is there.
    pub(crate) const SET_PENDING: &str =
        "UPDATE pki_ca SET pending = TRUE, is_active = FALSE, csr = $3 WHERE tenant_id = $1 AND id = $2";
    pub(crate) const SET_ABOVE: &str = "UPDATE pki_ca SET above = $3 WHERE tenant_id = $1 AND id = $2";
    pub(crate) const INSTALL: &str = "\
        UPDATE pki_ca SET pending = FALSE, is_active = TRUE, common_name = $3, certificate = $4, serial = $5, above = $6, \
        not_before = $7, not_after = $8 WHERE tenant_id = $1 AND id = $2 AND pending";
    /// A CA, and the first of its name.
    pub(crate) const LINEAGE: &str = "\
        SELECT ca_type, parent_ca_id, common_name, COALESCE(family, id) AS family FROM pki_ca \
        WHERE tenant_id = $1 AND id = $2";
    pub(crate) const SET_LINEAGE: &str = "\
        UPDATE pki_ca SET replaces = $3, family = $4, generation = (SELECT max(f.generation) + 1 FROM pki_ca f \
        WHERE f.tenant_id = $1 AND COALESCE(f.family, f.id) = $4 AND f.id <> $2) WHERE tenant_id = $1 AND id = $2";
    pub(crate) const FAMILY: &str =
        "SELECT id FROM pki_ca WHERE tenant_id = $1 AND COALESCE(family, id) = $2 ORDER BY id";
    pub(crate) const ROLES_OF_FAMILY: &str = "\
        SELECT r.name FROM pki_role r JOIN pki_ca c ON c.tenant_id = r.tenant_id AND c.id = r.ca_id \
        WHERE r.tenant_id = $1 AND COALESCE(c.family, c.id) = $2 AND c.id <> $3 ORDER BY r.name";
    /// The certificates that CAs of the tenant gave to a key, but those that were revoked.
    pub(crate) const CROSS: &str = "\
        SELECT c.id, c.ca_id, c.certificate FROM pki_serial s JOIN pki_certificate c ON c.tenant_id = s.tenant_id \
        AND c.id = s.certificate_id AND c.not_after = s.not_after WHERE s.tenant_id = $1 AND s.key_hash = $2 \
        AND s.source = 'cross' AND s.revoked_at IS NULL AND EXISTS (SELECT 1 FROM pki_ca k WHERE k.tenant_id = c.tenant_id \
        AND k.id = c.ca_id AND k.is_active) ORDER BY c.id LIMIT 100";
    /// The certificates that others gave to the key of a CA, whose own is $2.
    pub(crate) const CROSS_OF: &str = "\
        SELECT x.certificate_id, x.ca_id AS issuer_id, x.serial, x.shard FROM pki_serial s \
        JOIN pki_serial x ON x.tenant_id = s.tenant_id AND x.key_hash = s.key_hash AND x.source = 'cross' \
        AND x.revoked_at IS NULL WHERE s.tenant_id = $1 AND s.certificate_id = $2 ORDER BY x.certificate_id";
    /// Has who ends the CA wait for what is made below it.
    pub(crate) const LOCK_ISSUING: &str =
        "UPDATE pki_ca SET name = name WHERE tenant_id = $1 AND id = $2 AND is_active";
    pub(crate) const CA_WITH_KEY: &str =
        "SELECT certificate_id FROM pki_serial WHERE tenant_id = $1 AND key_hash = $2 AND source = 'ca'";
    pub(crate) const CA_CSR: &str = "SELECT csr FROM pki_ca WHERE tenant_id = $1 AND id = $2";
    /// The certificate that a pending CA is to follow, if it follows one.
    pub(crate) const REPLACED: &str = "\
        SELECT o.certificate FROM pki_ca c JOIN pki_ca o ON o.tenant_id = c.tenant_id AND o.id = c.replaces \
        WHERE c.tenant_id = $1 AND c.id = $2";
    pub(crate) const CA_NAMED: &str = "SELECT id FROM pki_ca WHERE tenant_id = $1 AND name_key = $2";
    pub(crate) const DEACTIVATE_CA: &str =
        "UPDATE pki_ca SET is_active = FALSE WHERE tenant_id = $1 AND id = $2";
    /// A CA with every CA below it, and the certificates of all of them, from the top. One that was signed outside is on no
    /// list here.
    pub(crate) const WITH_THOSE_BELOW: &str = "\
        WITH RECURSIVE below (id, depth) AS ( \
        SELECT id, 0 FROM pki_ca WHERE tenant_id = $1 AND id = $2 \
        UNION ALL SELECT c.id, below.depth + 1 FROM pki_ca c JOIN below ON c.parent_ca_id = below.id \
        WHERE c.tenant_id = $1 AND below.depth < 16) \
        SELECT c.id, s.ca_id AS issuer_id, c.serial, s.certificate_id, s.shard FROM below \
        JOIN pki_ca c ON c.tenant_id = $1 AND c.id = below.id \
        JOIN pki_serial s ON s.tenant_id = c.tenant_id AND s.certificate_id = c.certificate_id \
        ORDER BY below.depth, c.id";
    /// CAs that were revoked: what they issued is revoked with them.
    pub(crate) const REVOKED_CAS: &str = "\
        SELECT c.id, s.revoked_at, s.revocation_reason FROM pki_ca c JOIN pki_serial s ON s.tenant_id = c.tenant_id \
        AND s.certificate_id = c.certificate_id \
        WHERE c.tenant_id = $1 AND NOT c.is_active AND s.revoked_at IS NOT NULL ORDER BY c.id";
    pub(crate) const BLOCKED: &str =
        "SELECT certificate_id FROM pki_blocked_key WHERE tenant_id = $1 AND key_hash = $2";
    /// Blocks the key of a certificate.
    pub(crate) const BLOCK: &str = "\
        INSERT INTO pki_blocked_key (tenant_id, key_hash, certificate_id, blocked_at) \
        SELECT tenant_id, key_hash, certificate_id, revoked_at FROM pki_serial \
        WHERE tenant_id = $1 AND certificate_id = $2 AND key_hash IS NOT NULL AND revoked_at IS NOT NULL \
        ON CONFLICT DO NOTHING";
    pub(crate) const RELEASE: &str = "\
        UPDATE pki_serial SET revoked_at = NULL, revocation_reason = NULL \
        WHERE tenant_id = $1 AND certificate_id = $2 AND revocation_reason = 'certificate_hold' \
        AND NOT EXISTS (SELECT 1 FROM pki_blocked_key b WHERE b.tenant_id = pki_serial.tenant_id \
        AND b.key_hash = pki_serial.key_hash)";
    pub(crate) const INSERT_CRL: &str = "\
        INSERT INTO pki_crl (tenant_id, ca_id, shard, number, base_number, crl, this_update, next_update, due_at) \
        VALUES ($1, $2, -1, $3, $3, $4, $5, $6, $7)";
    /// Publishes a list, unless another was published since number $4 was read; it stays due if it was
    /// marked since.
    pub(crate) const UPDATE_CRL: &str = "\
        UPDATE pki_crl SET number = $5, base_number = $5, crl = $7, this_update = $8, next_update = $9, \
        due_at = CASE WHEN marks = $6 THEN $10 ELSE due_at END, delta = $11, delta_this_update = $12, \
        delta_next_update = $13, delta_due_at = CASE WHEN marks = $6 OR delta_due_at IS NULL THEN $14 ELSE delta_due_at END, \
        entries = $15, claimed_until = NULL WHERE tenant_id = $1 AND ca_id = $2 AND shard = $3 AND number = $4";
    /// The same for a delta alone.
    pub(crate) const UPDATE_DELTA: &str = "\
        UPDATE pki_crl SET number = $5, delta = $7, delta_this_update = $8, delta_next_update = $9, \
        delta_due_at = CASE WHEN marks = $6 THEN $10 ELSE delta_due_at END, claimed_until = NULL \
        WHERE tenant_id = $1 AND ca_id = $2 AND shard = $3 AND number = $4";
    /// A list that the background work is to build first.
    pub(crate) const INSERT_SHARD: &str = "\
        INSERT INTO pki_crl (tenant_id, ca_id, shard, number, base_number, this_update, next_update, due_at, delta_due_at) \
        VALUES ($1, $2, $3, 0, 0, $4, $4, $4, $5)";
    /// A complete list that is to name its delta, which the first of a CA does not.
    pub(crate) const WITH_DELTA: &str = "\
        UPDATE pki_crl SET due_at = $3, delta_due_at = $4 WHERE tenant_id = $1 AND ca_id = $2 AND shard = -1";
    pub(crate) const SHARDS: &str = "SELECT shards FROM pki_numbering WHERE tenant_id = $1 AND id = $2";
    /// Brings forward the list for certificates with the octet $4 in their serial number, or its delta if it has one.
    pub(crate) const MARK_SHARD: &str = "\
        UPDATE pki_crl SET marks = marks + 1, \
        due_at = CASE WHEN delta_due_at IS NULL AND due_at > $3 THEN $3 ELSE due_at END, \
        delta_due_at = CASE WHEN delta_due_at > $3 THEN $3 ELSE delta_due_at END \
        WHERE tenant_id = $1 AND ca_id = $2 \
        AND shard = $4 % (SELECT n.shards FROM pki_numbering n WHERE n.tenant_id = $1 AND n.id = $2)";
    /// See [`MARK_SHARD`].
    pub(crate) const MARK_COMPLETE: &str = "\
        UPDATE pki_crl SET marks = marks + 1, \
        due_at = CASE WHEN delta_due_at IS NULL AND due_at > $3 THEN $3 ELSE due_at END, \
        delta_due_at = CASE WHEN delta_due_at > $3 THEN $3 ELSE delta_due_at END \
        WHERE tenant_id = $1 AND ca_id = $2 AND shard = -1";
    /// Gives a list back that could not be built.
    pub(crate) const UNCLAIM_CRL: &str =
        "UPDATE pki_crl SET claimed_until = $4 WHERE tenant_id = $1 AND ca_id = $2 AND shard = $3";
    pub(crate) const LIST: &str = "\
        SELECT shard, number, base_number, crl, this_update, delta, delta_this_update, marks, due_at, delta_due_at FROM pki_crl \
        WHERE tenant_id = $1 AND ca_id = $2 AND shard = $3";
    pub(crate) const LISTS: &str = "\
        SELECT shard, number, base_number, crl, this_update, delta, delta_this_update, marks, due_at, delta_due_at FROM pki_crl \
        WHERE tenant_id = $1 AND ca_id = $2 ORDER BY shard";
    pub(crate) const PUBLIC_CRL: &str =
        "SELECT crl, this_update, next_update FROM pki_crl WHERE ca_id = $1 AND shard = $2";
    pub(crate) const PUBLIC_DELTA: &str =
        "SELECT delta, delta_this_update, delta_next_update FROM pki_crl WHERE ca_id = $1 AND shard = $2";
    /// Whether a list was ever built, is there, and has deltas.
    pub(crate) const AWAITED: &str = "\
        SELECT number, crl IS NOT NULL AS built, delta_due_at FROM pki_crl \
        WHERE tenant_id = $1 AND ca_id = $2 AND shard = $3";
    /// Lists that are due and that nobody is building; a CA that has expired has no more lists.
    pub(crate) const DUE_CRLS: &str = "\
        SELECT l.tenant_id, l.ca_id, l.shard FROM pki_crl l JOIN pki_ca c ON c.tenant_id = l.tenant_id AND c.id = l.ca_id \
        WHERE (l.due_at <= $1 OR l.delta_due_at <= $1) AND (l.claimed_until IS NULL OR l.claimed_until <= $1) \
        AND c.not_after > $1 ORDER BY l.due_at, l.ca_id, l.shard LIMIT 100";
    /// Since when the list has been due that has been for the longest.
    pub(crate) const OVERDUE_CRL: &str = "\
        SELECT l.due_at FROM pki_crl l JOIN pki_ca c ON c.tenant_id = l.tenant_id AND c.id = l.ca_id \
        WHERE l.due_at <= $1 AND c.not_after > $1 ORDER BY l.due_at LIMIT 1";
    pub(crate) const OVERDUE_DELTA: &str = "\
        SELECT l.delta_due_at FROM pki_crl l JOIN pki_ca c ON c.tenant_id = l.tenant_id AND c.id = l.ca_id \
        WHERE l.delta_due_at <= $1 AND c.not_after > $1 ORDER BY l.delta_due_at LIMIT 1";
    pub(crate) const LONGEST_CRL: &str = "SELECT max(entries) FROM pki_crl";
    pub(crate) const CLAIM_CRL: &str = "\
        UPDATE pki_crl SET claimed_until = $5 WHERE tenant_id = $1 AND ca_id = $2 AND shard = $3 \
        AND (due_at <= $4 OR delta_due_at <= $4) AND (claimed_until IS NULL OR claimed_until <= $4)";
    pub(crate) const ROLE: &str = "\
        SELECT r.config, r.version, r.created_at, r.updated_at, c.is_active AS ca_is_active FROM pki_role r \
        JOIN pki_ca c ON c.tenant_id = r.tenant_id AND c.id = r.ca_id WHERE r.tenant_id = $1 AND r.name = $2";
    pub(crate) const ROLES: &str = "\
        SELECT r.config, r.version, r.created_at, r.updated_at, c.is_active AS ca_is_active FROM pki_role r \
        JOIN pki_ca c ON c.tenant_id = r.tenant_id AND c.id = r.ca_id \
        WHERE r.tenant_id = $1 AND r.name > $2 ORDER BY r.name LIMIT $3";
    pub(crate) const INSERT_ROLE: &str = "\
        INSERT INTO pki_role (tenant_id, name, ca_id, config, created_at, updated_at, name_key) \
        VALUES ($1, $2, $3, $4, $5, $5, $6) ON CONFLICT DO NOTHING";
    pub(crate) const UPDATE_ROLE: &str = "\
        UPDATE pki_role SET ca_id = $3, config = $4, updated_at = $5, version = version + 1 WHERE tenant_id = $1 AND name = $2";
    pub(crate) const LOCK_ROLE: &str = "UPDATE pki_role SET name = name WHERE tenant_id = $1 AND name = $2";
    pub(crate) const DELETE_ROLE: &str = "DELETE FROM pki_role WHERE tenant_id = $1 AND name = $2";
    pub(crate) const INSERT_SERIAL: &str = "\
        INSERT INTO pki_serial (tenant_id, ca_id, serial, certificate_id, source, not_after, key_hash, shard) \
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
    /// Of a certificate that was not kept, and is to be revoked.
    pub(crate) const INSERT_UNKEPT: &str = "\
        INSERT INTO pki_serial (tenant_id, ca_id, serial, certificate_id, source, not_after, shard) \
        VALUES ($1, $2, $3, $4, 'unkept', $5, $6) ON CONFLICT DO NOTHING";
    pub(crate) const INSERT_CERTIFICATE: &str = "\
        INSERT INTO pki_certificate (tenant_id, id, ca_id, serial, role, common_name, alt_names, ip_sans, certificate, \
        fingerprint_sha256, not_before, not_after, source, issued_to, created_at, key_ciphertext, key_wrapped_key, key_id) \
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)";
    pub(crate) const STATE: &str = "\
        SELECT certificate_id, not_after, revoked_at, revocation_reason, weak, key_hash FROM pki_serial \
        WHERE tenant_id = $1 AND certificate_id = $2";
    /// With its expiry, so that PostgreSQL looks into one partition.
    pub(crate) const CERTIFICATE: &str = "\
        SELECT id, ca_id, serial, role, common_name, alt_names, ip_sans, certificate, fingerprint_sha256, not_before, \
        not_after, source, issued_to, created_at, key_ciphertext, key_wrapped_key, key_id \
        FROM pki_certificate WHERE tenant_id = $1 AND id = $2 AND not_after = $3";
    pub(crate) const BY_SERIAL: &str = "\
        SELECT s.certificate_id AS id, s.ca_id, c.id AS of_ca, s.shard, s.revoked_at, s.revocation_reason, s.source \
        FROM pki_serial s LEFT JOIN pki_ca c ON c.tenant_id = s.tenant_id AND c.certificate_id = s.certificate_id \
        WHERE s.tenant_id = $1 AND s.serial = $2";
    /// What is on hold may be revoked for good, and of what was revoked for another reason it may turn out that its key was
    /// compromised; it is revoked since then.
    pub(crate) const REVOKE: &str = "\
        UPDATE pki_serial SET revoked_at = COALESCE(revoked_at, $3), revocation_reason = $4 \
        WHERE tenant_id = $1 AND certificate_id = $2 AND (revoked_at IS NULL \
        OR (revocation_reason <> $4 AND (revocation_reason = 'certificate_hold' OR $4 = 'key_compromise')))";
    /// Moves the count of a CA's certificates on to the certificate $3: what is older is not counted again.
    pub(crate) const COUNT_ISSUED: &str = "\
        UPDATE pki_ca SET counted = counted + (SELECT count(*) FROM pki_serial s WHERE s.tenant_id = $1 AND s.ca_id = $2 \
        AND s.certificate_id <> COALESCE(pki_ca.certificate_id, '') \
        AND s.certificate_id > pki_ca.counted_until AND s.certificate_id <= $3), \
        counted_until = $3 WHERE tenant_id = $1 AND id = $2 AND counted_until < $3";
    /// But those of a CA whose lists keep what has expired: all of them are on its lists if the CA is revoked.
    pub(crate) const DELETE_SERIALS: &str = "\
        DELETE FROM pki_serial WHERE (tenant_id, certificate_id) IN (SELECT s.tenant_id, s.certificate_id FROM pki_serial s \
        WHERE s.not_after < $1 AND NOT EXISTS (SELECT 1 FROM pki_numbering n \
        WHERE n.tenant_id = s.tenant_id AND n.id = s.ca_id AND n.keep_expired) \
        ORDER BY s.tenant_id, s.not_after LIMIT $2)";
    pub(crate) const DELETE_CERTIFICATES: &str = "\
        DELETE FROM pki_certificate WHERE (tenant_id, id) IN (SELECT tenant_id, id FROM pki_certificate \
        WHERE not_after < $1 ORDER BY tenant_id, not_after LIMIT $2)";
    #[cfg(test)]
    pub(crate) const ALL: &[&str] = &[
        CHAIN,
        COUNT_CAS,
        INSERT_NUMBERING,
        NUMBERED,
        CA_STATUS,
        COUNT_ROLES,
        CA_STATE,
        CA_OWNER,
        INSERT_CA,
        SET_CERTIFICATE,
        LOCK_PENDING,
        DELETE_NUMBERING,
        DELETE_CA,
        SET_PENDING,
        SET_ABOVE,
        INSTALL,
        LINEAGE,
        SET_LINEAGE,
        FAMILY,
        ROLES_OF_FAMILY,
        CROSS,
        CROSS_OF,
        LOCK_ISSUING,
        CA_WITH_KEY,
        CA_CSR,
        REPLACED,
        CA_NAMED,
        DEACTIVATE_CA,
        WITH_THOSE_BELOW,
        REVOKED_CAS,
        BLOCKED,
        BLOCK,
        RELEASE,
        INSERT_CRL,
        UPDATE_CRL,
        UPDATE_DELTA,
        INSERT_SHARD,
        WITH_DELTA,
        SHARDS,
        MARK_SHARD,
        MARK_COMPLETE,
        LIST,
        LISTS,
        PUBLIC_CRL,
        PUBLIC_DELTA,
        AWAITED,
        DUE_CRLS,
        OVERDUE_CRL,
        OVERDUE_DELTA,
        LONGEST_CRL,
        CLAIM_CRL,
        UNCLAIM_CRL,
        ROLE,
        ROLES,
        INSERT_ROLE,
        UPDATE_ROLE,
        LOCK_ROLE,
        DELETE_ROLE,
        INSERT_SERIAL,
        INSERT_UNKEPT,
        INSERT_CERTIFICATE,
        STATE,
        CERTIFICATE,
        BY_SERIAL,
        REVOKE,
        COUNT_ISSUED,
        DELETE_SERIALS,
        DELETE_CERTIFICATES,
    ];
}

#[derive(Debug, sqlx::FromRow)]
pub(super) struct CaRow {
    pub(super) id: String,
    pub(super) name: String,
    common_name: String,
    ca_type: String,
    parent_ca_id: Option<String>,
    key_spec: String,
    pub(super) key_provider: Option<String>,
    pub(super) key_ref: Option<String>,
    serial: Vec<u8>,
    not_before: Ts,
    not_after: Ts,
    is_active: bool,
    generation: i64,
    replaces: Option<String>,
    pending: bool,
    certificate: Vec<u8>,
    created_at: Ts,
    revoked_at: Option<Ts>,
    revocation_reason: Option<String>,
    certificates_issued: i64,
    crl_shards: i64,
    delta_crls: bool,
    keep_expired: bool,
}

impl CaRow {
    pub(super) fn into_ca(self, base_url: Option<&str>) -> Result<Ca> {
        let (key_type, key_size) = family(self.key_spec.parse()?);
        let urls = super::issuer::urls(base_url, &self.id);
        let issuer = match self.pending {
            true => None,
            false => Some(Issuer::from_certificate(&self.certificate, IssuerUrls::default())?),
        };
        let (constraints, policies) = match &issuer {
            Some(issuer) => (issuer.name_constraints()?, issuer.policies()?),
            None => (None, Vec::new()),
        };
        let serial_number = match self.pending {
            true => String::new(),
            false => Serial::from_bytes(&self.serial)?.to_string(),
        };
        Ok(Ca {
            state: match (self.pending, self.is_active) {
                (true, _) => CaState::Pending,
                (false, true) => CaState::Active,
                (false, false) => CaState::Revoked,
            },
            max_path_length: issuer.as_ref().and_then(Issuer::max_path_length),
            name_constraints: constraints.map(NameConstraints::of),
            policies,
            generation: self.generation,
            replaces: self.replaces,
            crl_url: urls.crl_url,
            ocsp_url: urls.ocsp_url,
            id: self.id,
            name: self.name,
            common_name: self.common_name,
            ca_type: CaType::parse(&self.ca_type)?,
            parent_ca_id: self.parent_ca_id,
            key_type,
            key_size,
            key_provider: self.key_provider,
            key_ref: self.key_ref,
            serial_number,
            valid_from: self.not_before.get(),
            valid_until: self.not_after.get(),
            is_active: self.is_active,
            certificates_issued: self.certificates_issued,
            crl_shards: self.crl_shards,
            delta_crls: self.delta_crls,
            keep_expired_on_crl: self.keep_expired,
            revoked_at: self.revoked_at.map(Ts::get),
            revocation_reason: self.revocation_reason,
            created_at: self.created_at.get(),
        })
    }
}

#[derive(Debug, sqlx::FromRow)]
pub(super) struct ChainRow {
    pub(super) certificate: Vec<u8>,
    pub(super) key_spec: String,
    key_ciphertext: Option<Vec<u8>>,
    key_wrapped_key: Option<Vec<u8>>,
    key_id: Option<String>,
    key_provider: Option<String>,
    key_ref: Option<String>,
    pub(super) pending: bool,
    pub(super) above: String,
    numbering_ciphertext: Option<Vec<u8>>,
    numbering_wrapped_key: Option<Vec<u8>>,
    numbering_key_id: Option<String>,
    shards: Option<i64>,
    delta_crls: Option<bool>,
    keep_expired: Option<bool>,
    crl_url: Option<String>,
}

impl ChainRow {
    /// How the CA numbers what it issues; none if it was made by an older release and has not had a list since.
    pub(super) fn numbering(&self) -> Option<Numbering> {
        let key = Sealed {
            ciphertext: self.numbering_ciphertext.clone()?,
            wrapped_key: self.numbering_wrapped_key.clone()?,
            key_id: self.numbering_key_id.clone()?,
        };
        let lists = Lists {
            shards: self.shards?,
            delta_crls: self.delta_crls?,
            keep_expired: self.keep_expired?,
            crl_url: self.crl_url.clone(),
        };
        Some(Numbering { key, lists })
    }

    /// Where the key is.
    pub(super) fn held(&self) -> Result<Held> {
        let row =
            (&self.key_ciphertext, &self.key_wrapped_key, &self.key_id, &self.key_provider, &self.key_ref);
        match row {
            (Some(ciphertext), Some(wrapped_key), Some(key_id), None, None) => Ok(Held::Sealed(Sealed {
                ciphertext: ciphertext.clone(),
                wrapped_key: wrapped_key.clone(),
                key_id: key_id.clone(),
            })),
            (None, None, None, Some(provider), Some(key_ref)) => {
                Ok(Held::Provided(Provided::new(provider.clone(), key_ref.clone())))
            }
            _ => Err(Error::internal("a CA has not exactly one key")),
        }
    }
}

#[derive(Debug, sqlx::FromRow)]
pub(super) struct RoleRow {
    pub(super) config: Json<RoleWrite>,
    /// Rises with every change.
    pub(super) version: i64,
    pub(super) created_at: Ts,
    updated_at: Ts,
    pub(super) ca_is_active: bool,
}

impl RoleRow {
    pub(super) fn into_role(self) -> Role {
        Role { config: self.config.0, created_at: self.created_at.get(), updated_at: self.updated_at.get() }
    }
}

#[derive(Debug, sqlx::FromRow)]
pub(super) struct CertificateRow {
    pub(super) id: String,
    ca_id: String,
    serial: Vec<u8>,
    role: Option<String>,
    common_name: Option<String>,
    alt_names: Json<Vec<String>>,
    ip_sans: Json<Vec<String>>,
    /// Not read for a list.
    #[sqlx(default)]
    certificate: Vec<u8>,
    fingerprint_sha256: Vec<u8>,
    not_before: Ts,
    not_after: Ts,
    source: String,
    issued_to: String,
    created_at: Ts,
    #[sqlx(default)]
    key_ciphertext: Option<Vec<u8>>,
    #[sqlx(default)]
    key_wrapped_key: Option<Vec<u8>>,
    #[sqlx(default)]
    key_id: Option<String>,
}

impl CertificateRow {
    /// The private key, if the role had it kept.
    pub(super) fn take_key(&mut self) -> Option<Sealed> {
        Some(Sealed {
            ciphertext: self.key_ciphertext.take()?,
            wrapped_key: self.key_wrapped_key.take()?,
            key_id: self.key_id.take()?,
        })
    }

    pub(super) fn into_certificate(
        self,
        state: StateRow,
        revoked_cas: &[RevokedCa],
        now: OffsetDateTime,
        with_pem: bool,
    ) -> Result<Certificate> {
        let weak = state.weak.iter().flat_map(|words| words.split(',')).map(str::to_owned).collect();
        let with_ca = revoked_cas.iter().find(|ca| ca.id == self.ca_id);
        let (revoked_at, revocation_reason) = match (state.revoked_at, with_ca) {
            (None, Some(ca)) => (Some(ca.revoked_at), Some(ca.revocation_reason.clone())),
            (own, _) => (own, state.revocation_reason),
        };
        let status = match (revoked_at, self.not_after.get() < now) {
            (Some(_), _) => "revoked",
            (None, true) => "expired",
            (None, false) => "active",
        };
        Ok(Certificate {
            certificate_pem: with_pem.then(|| pem::encode("CERTIFICATE", &self.certificate)),
            id: self.id,
            ca_id: self.ca_id,
            role: self.role,
            common_name: self.common_name,
            alt_names: self.alt_names.0,
            ip_sans: self.ip_sans.0,
            serial_number: Serial::from_bytes(&self.serial)?.to_string(),
            fingerprint_sha256: hex::encode(&self.fingerprint_sha256),
            key_hash: state.key_hash.map(hex::encode),
            not_before: self.not_before.get(),
            not_after: self.not_after.get(),
            status,
            revoked_at: revoked_at.map(Ts::get),
            revocation_reason,
            source: self.source,
            weak,
            issued_to: self.issued_to,
            created_at: self.created_at.get(),
        })
    }
}

/// What the register of serial numbers says of a certificate.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct StateRow {
    pub(super) certificate_id: String,
    pub(super) not_after: Ts,
    revoked_at: Option<Ts>,
    revocation_reason: Option<String>,
    /// Words with commas between them.
    weak: Option<String>,
    key_hash: Option<Vec<u8>>,
}

#[derive(Debug, sqlx::FromRow)]
pub(super) struct SerialRow {
    pub(super) id: String,
    /// None if it was signed outside.
    pub(super) ca_id: Option<String>,
    /// The CA whose own certificate it is.
    pub(super) of_ca: Option<String>,
    pub(super) shard: i64,
    revoked_at: Option<Ts>,
    revocation_reason: Option<String>,
    pub(super) source: String,
}

/// A CA that was revoked.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct RevokedCa {
    pub(super) id: String,
    revoked_at: Ts,
    revocation_reason: String,
}

/// A CA that is revoked with one above it, or that one itself.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct BelowRow {
    pub(super) id: String,
    #[sqlx(flatten)]
    pub(super) certificate: OfCaRow,
}

/// A certificate of a CA, on whose lists it would stand.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct OfCaRow {
    /// None if it was signed outside.
    pub(super) issuer_id: Option<String>,
    pub(super) serial: Vec<u8>,
    pub(super) certificate_id: String,
    pub(super) shard: i64,
}

impl SerialRow {
    /// Since when it is revoked.
    pub(super) fn since(&self) -> Option<OffsetDateTime> {
        self.revoked_at.map(Ts::get)
    }

    /// The revocation, if it has been revoked.
    pub(super) fn revocation(&self, serial: &Serial, ca_id: &str) -> Result<Option<Revocation>> {
        let Some(revoked_at) = self.revoked_at else { return Ok(None) };
        let reason = self.revocation_reason.clone();
        Ok(Some(Revocation {
            id: self.id.clone(),
            ca_id: ca_id.to_owned(),
            serial_number: serial.to_string(),
            revoked_at: revoked_at.get(),
            revocation_reason: reason.ok_or_else(|| Error::internal("a revocation without a reason"))?,
        }))
    }
}

/// A CA in the order they were made, after `after`.
pub(super) fn cas<'a>(tenant: &'a TenantId, after: &'a str, limit: i64) -> Query<'a> {
    let mut q = QueryBuilder::new(CA);
    q.arg(tenant).text(" AND c.id > ").arg(after).text(" ORDER BY c.id LIMIT ").arg(limit);
    q.build()
}

/// A CA, the revocation of its own certificate, and how many certificates it issued. No certificate is past the
/// upper bound: for a range with two ends PostgreSQL expects few rows and reads the index, for one with one end a third
/// of the table, all of which it then reads.
const CA: &str = "\
    SELECT c.id, c.name, c.common_name, c.ca_type, c.parent_ca_id, c.key_spec, c.key_provider, c.key_ref, c.serial, \
    c.not_before, c.not_after, c.is_active, c.generation, c.replaces, c.pending, c.certificate, c.created_at, own.revoked_at, own.revocation_reason, \
    c.counted + (SELECT count(*) FROM pki_serial i WHERE i.tenant_id = c.tenant_id AND i.ca_id = c.id \
    AND i.certificate_id > c.counted_until AND i.certificate_id < 'cert_~' \
    AND i.certificate_id <> COALESCE(c.certificate_id, '')) \
    AS certificates_issued, COALESCE(n.shards, 1) AS crl_shards, COALESCE(n.delta_crls, FALSE) AS delta_crls, \
    COALESCE(n.keep_expired, FALSE) AS keep_expired FROM pki_ca c LEFT JOIN pki_serial own ON own.tenant_id = c.tenant_id \
    AND own.certificate_id = c.certificate_id \
    LEFT JOIN pki_numbering n ON n.tenant_id = c.tenant_id AND n.id = c.id WHERE c.tenant_id = ";

pub(super) fn ca<'a>(tenant: &'a TenantId, id: &'a str) -> Query<'a> {
    let mut q = QueryBuilder::new(CA);
    q.arg(tenant).text(" AND c.id = ").arg(id);
    q.build()
}

/// What OCSP says of one certificate.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct StatusRow {
    pub(super) serial: Vec<u8>,
    revoked_at: Option<Ts>,
    revocation_reason: Option<String>,
    ca_revoked_at: Option<Ts>,
    ca_revocation_reason: Option<String>,
}

impl StatusRow {
    pub(super) fn status(&self) -> Result<CertStatus> {
        let (at, reason) = match (self.revoked_at, self.ca_revoked_at) {
            (Some(at), _) => (at, &self.revocation_reason),
            (None, Some(at)) => (at, &self.ca_revocation_reason),
            (None, None) => return Ok(CertStatus::Good),
        };
        let reason = reason.as_deref().and_then(RevocationReason::parse);
        let reason = reason.ok_or_else(|| Error::internal("a stored revocation has an unknown reason"))?;
        Ok(CertStatus::Revoked { at: at.get(), reason })
    }
}

/// The roles of those names, as far as they are there.
pub(super) fn roles_named<'a>(tenant: &'a TenantId, names: impl Iterator<Item = &'a str>) -> Query<'a> {
    let mut q = QueryBuilder::new(
        "SELECT r.config, r.version, r.created_at, r.updated_at, c.is_active AS ca_is_active FROM pki_role r \
         JOIN pki_ca c ON c.tenant_id = r.tenant_id AND c.id = r.ca_id WHERE r.tenant_id = ",
    );
    q.arg(tenant).text(" AND r.name IN (");
    for (i, name) in names.enumerate() {
        q.text(if i == 0 { "" } else { ", " }).arg(name);
    }
    q.text(")");
    q.build()
}

/// The states of these serial numbers of a CA, and whether the CA was revoked; what was never issued has no row.
pub(super) fn statuses<'a>(
    tenant: &'a TenantId,
    ca_id: &'a str,
    serials: impl Iterator<Item = &'a [u8]>,
) -> Query<'a> {
    let mut q = QueryBuilder::new(
        "SELECT s.serial, s.revoked_at, s.revocation_reason, own.revoked_at AS ca_revoked_at, \
         own.revocation_reason AS ca_revocation_reason FROM pki_serial s \
         JOIN pki_ca c ON c.tenant_id = s.tenant_id AND c.id = s.ca_id \
         LEFT JOIN pki_serial own ON own.tenant_id = c.tenant_id AND own.certificate_id = c.certificate_id \
         WHERE s.tenant_id = ",
    );
    q.arg(tenant).text(" AND s.ca_id = ").arg(ca_id).text(" AND s.serial IN (");
    for (i, serial) in serials.enumerate() {
        q.text(if i == 0 { "" } else { ", " }).arg(serial);
    }
    q.text(")");
    q.build()
}

/// The certificates of these states; nothing if there are none.
pub(super) fn certificates<'a>(tenant: &'a TenantId, states: &'a [StateRow]) -> Option<Query<'a>> {
    let ends = || states.iter().map(|state| state.not_after.get());
    let (first, last) = (ends().min()?, ends().max()?);
    let mut q = QueryBuilder::new(
        "SELECT id, ca_id, serial, role, common_name, alt_names, ip_sans, fingerprint_sha256, not_before, not_after, \
         source, issued_to, created_at FROM pki_certificate WHERE tenant_id = ",
    );
    // The bounds of the expiry say which partitions to look into.
    q.arg(tenant).and("not_after >= ", Some(first)).and("not_after <= ", Some(last));
    q.and_in("id", states.iter().map(|state| state.certificate_id.as_str()));
    Some(q.build())
}

/// Which of the tenant's certificates are to be revoked: valid, not revoked, not of a CA, and as `filter` says.
fn chosen<'a>(q: &mut QueryBuilder<'a>, tenant: &'a TenantId, filter: &'a BulkFilter, now: OffsetDateTime) {
    q.text(
        " FROM pki_serial s JOIN pki_certificate c ON c.tenant_id = s.tenant_id AND c.id = s.certificate_id \
         AND c.not_after = s.not_after WHERE s.tenant_id = ",
    );
    q.arg(tenant).text(" AND (s.revoked_at IS NULL OR s.revocation_reason = 'certificate_hold')");
    q.text(" AND s.source NOT IN ('ca', 'cross', 'ocsp') AND s.not_after >= ").arg(now);
    q.and("s.ca_id = ", filter.ca_id.as_deref()).and("c.role = ", filter.role.as_deref());
    q.and("c.issued_to = ", filter.issued_to.as_deref());
    q.and("s.key_hash = ", filter.key_hash.as_deref());
    if let Some(like) = &filter.san_like {
        q.text(" AND CAST(c.alt_names AS TEXT) LIKE ").arg(like.as_str()).text(" ESCAPE '!'");
    }
}

pub(super) fn count_chosen<'a>(
    tenant: &'a TenantId,
    filter: &'a BulkFilter,
    now: OffsetDateTime,
) -> Query<'a> {
    let mut q = QueryBuilder::new("SELECT count(*)");
    chosen(&mut q, tenant, filter, now);
    q.build()
}

pub(super) fn choose<'a>(
    tenant: &'a TenantId,
    filter: &'a BulkFilter,
    now: OffsetDateTime,
    limit: i64,
) -> Query<'a> {
    let mut q = QueryBuilder::new("SELECT s.certificate_id, s.ca_id, s.serial, s.shard");
    chosen(&mut q, tenant, filter, now);
    q.text(" ORDER BY s.certificate_id LIMIT ").arg(limit);
    q.build()
}

/// Rows of a list that are read at once.
pub(super) const REVOKED_PAGE: usize = 5000;

/// Which certificates of a CA, by the octet in their serial numbers.
#[derive(Clone, Copy, Debug)]
pub(super) enum Part {
    All,
    Octet(i64),
    /// Those of one of so many shards.
    Shard {
        shard: i64,
        of: i64,
    },
}

/// What a CA revoked and that expires after `cutoff`: the rows after one. Without the CA's own, if it is a root: nobody
/// would believe that of its own list. If the CA has ended, with all that it issued and that expired later; but not with its
/// OCSP responders, since somebody has to say so.
pub(super) fn revoked<'a>(
    tenant: &'a TenantId,
    ca_id: &'a str,
    cutoff: OffsetDateTime,
    part: Part,
    (after, ended): (&'a [u8], Option<OffsetDateTime>),
) -> Query<'a> {
    let mut q =
        QueryBuilder::new("SELECT serial, revoked_at, revocation_reason FROM pki_serial WHERE tenant_id = ");
    q.arg(tenant)
        .and("ca_id = ", Some(ca_id))
        .and("not_after > ", Some(cutoff))
        .and("serial > ", Some(after));
    match ended {
        None => q.text(" AND revoked_at IS NOT NULL"),
        Some(at) => {
            q.text(" AND (revoked_at IS NOT NULL OR (source <> 'ocsp' AND not_after > ").arg(at).text("))")
        }
    };
    match part {
        Part::All => &mut q,
        Part::Octet(octet) => q.and("shard = ", Some(octet)),
        Part::Shard { shard, of } => q.text(" AND shard % ").arg(of).text(" = ").arg(shard),
    };
    q.text(" AND certificate_id <> COALESCE((SELECT c.certificate_id FROM pki_ca c WHERE c.tenant_id = ")
        .arg(tenant);
    q.and("c.id = ", Some(ca_id)).text("), '') ORDER BY serial LIMIT ").arg(REVOKED_PAGE as i64);
    q.build()
}

/// When certificates of a CA end, and since when they are revoked.
pub(super) fn ends<'a>(
    tenant: &'a TenantId,
    ca_id: &'a str,
    serials: impl Iterator<Item = &'a [u8]>,
) -> Query<'a> {
    let mut q = QueryBuilder::new("SELECT serial, not_after, revoked_at FROM pki_serial WHERE tenant_id = ");
    q.arg(tenant).and("ca_id = ", Some(ca_id)).text(" AND serial IN (");
    for (i, serial) in serials.enumerate() {
        q.text(if i == 0 { "" } else { ", " }).arg(serial);
    }
    q.text(")");
    q.build()
}
