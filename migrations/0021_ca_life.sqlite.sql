-- The certificate of a CA that was signed outside is nobody's here: somebody else numbered it, and no CA of the vault answers
-- for it. It has no `ca_id` in the register, so that the key of a row is the certificate itself. SQLite takes neither NOT NULL
-- nor a key off a table: it gets a successor. The terms, which would go with the rows that they are of, are kept aside.
CREATE TABLE pki_serial_successor (
    tenant_id         TEXT COLLATE "C" NOT NULL,
    ca_id             TEXT COLLATE "C",
    serial            BYTEA NOT NULL,
    certificate_id    TEXT COLLATE "C" NOT NULL,
    source            TEXT NOT NULL,
    not_after         TIMESTAMPTZ NOT NULL,
    revoked_at        TIMESTAMPTZ,
    revocation_reason TEXT,
    key_hash          BYTEA,
    shard             BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant_id, certificate_id),
    FOREIGN KEY (tenant_id, ca_id) REFERENCES pki_ca (tenant_id, id)
);
INSERT INTO pki_serial_successor (tenant_id, ca_id, serial, certificate_id, source, not_after, revoked_at, revocation_reason,
    key_hash, shard)
SELECT s.tenant_id, CASE WHEN c.id IS NULL THEN s.ca_id END, s.serial, s.certificate_id, s.source, s.not_after, s.revoked_at,
    s.revocation_reason, s.key_hash, s.shard FROM pki_serial s
LEFT JOIN pki_ca c ON c.tenant_id = s.tenant_id AND c.certificate_id = s.certificate_id AND c.ca_type = 'intermediate'
    AND c.parent_ca_id IS NULL;
CREATE TABLE pki_term_kept AS SELECT tenant_id, field, value, certificate_id FROM pki_term;
DROP TABLE pki_term;
DROP TABLE pki_serial;
ALTER TABLE pki_serial_successor RENAME TO pki_serial;
CREATE UNIQUE INDEX pki_serial_number ON pki_serial (tenant_id, ca_id, serial);
CREATE INDEX pki_serial_serial ON pki_serial (tenant_id, serial);
CREATE INDEX pki_serial_ca ON pki_serial (tenant_id, ca_id, certificate_id, serial);
CREATE INDEX pki_serial_revoked ON pki_serial (tenant_id, ca_id, serial) WHERE revoked_at IS NOT NULL;
CREATE INDEX pki_serial_revoked_shard ON pki_serial (tenant_id, ca_id, shard, serial) WHERE revoked_at IS NOT NULL;
CREATE INDEX pki_serial_key ON pki_serial (tenant_id, key_hash) WHERE key_hash IS NOT NULL;
CREATE INDEX pki_serial_revoked_age ON pki_serial (tenant_id, certificate_id) WHERE revoked_at IS NOT NULL;
CREATE INDEX pki_serial_expiry ON pki_serial (tenant_id, not_after, certificate_id);
CREATE INDEX pki_serial_held ON pki_serial (tenant_id, certificate_id) WHERE revocation_reason = 'certificate_hold';
CREATE TABLE pki_term (
    tenant_id      TEXT COLLATE "C" NOT NULL,
    field          TEXT COLLATE "C" NOT NULL,
    value          TEXT COLLATE "C" NOT NULL,
    certificate_id TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (tenant_id, field, value, certificate_id),
    FOREIGN KEY (tenant_id, certificate_id) REFERENCES pki_serial (tenant_id, certificate_id) ON DELETE CASCADE
);
INSERT INTO pki_term (tenant_id, field, value, certificate_id)
    SELECT tenant_id, field, value, certificate_id FROM pki_term_kept;
DROP TABLE pki_term_kept;
CREATE INDEX pki_term_certificate ON pki_term (tenant_id, certificate_id, field, value);
