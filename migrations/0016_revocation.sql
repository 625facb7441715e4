-- The SHA-256 of the public key (its SubjectPublicKeyInfo) of what was issued from now on, by which every certificate of a
-- key is found.
ALTER TABLE pki_serial ADD COLUMN key_hash BYTEA;
CREATE INDEX pki_serial_key ON pki_serial (tenant_id, key_hash) WHERE key_hash IS NOT NULL;

-- Keys that were compromised, by the same hash: nothing is issued for one again, whoever asks. Only ever inserted.
CREATE TABLE pki_blocked_key (
    tenant_id      TEXT COLLATE "C" NOT NULL REFERENCES tenant (tenant_id),
    key_hash       BYTEA NOT NULL,
    certificate_id TEXT COLLATE "C" NOT NULL,
    blocked_at     TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (tenant_id, key_hash)
);
