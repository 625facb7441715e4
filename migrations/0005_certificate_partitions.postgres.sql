-- One partition for each month in which certificates expire, so that old ones leave by detaching a table.
ALTER TABLE pki_certificate RENAME TO pki_certificate_unpartitioned;
CREATE TABLE pki_certificate (
    tenant_id          TEXT COLLATE "C" NOT NULL REFERENCES tenant (tenant_id),
    id                 TEXT COLLATE "C" NOT NULL,
    ca_id              TEXT COLLATE "C" NOT NULL,
    serial             BYTEA NOT NULL,
    role               TEXT,
    common_name        TEXT,
    alt_names          JSONB NOT NULL,
    ip_sans            JSONB NOT NULL,
    certificate        BYTEA NOT NULL,
    fingerprint_sha256 BYTEA NOT NULL,
    not_before         TIMESTAMPTZ NOT NULL,
    not_after          TIMESTAMPTZ NOT NULL,
    source             TEXT NOT NULL,
    issued_to          TEXT NOT NULL,
    created_at         TIMESTAMPTZ NOT NULL,
    key_ciphertext     BYTEA,
    key_wrapped_key    BYTEA,
    key_id             TEXT COLLATE "C" REFERENCES tenant_key (id),
    PRIMARY KEY (tenant_id, id, not_after),
    FOREIGN KEY (tenant_id, ca_id) REFERENCES pki_ca (tenant_id, id)
) PARTITION BY RANGE (not_after);
DO $$
DECLARE
    month DATE;
BEGIN
    FOR month IN SELECT DISTINCT date_trunc('month', not_after AT TIME ZONE 'UTC')::date FROM pki_certificate_unpartitioned LOOP
        PERFORM scaivault_make_partition('pki_certificate', month);
    END LOOP;
END $$;
INSERT INTO pki_certificate (tenant_id, id, ca_id, serial, role, common_name, alt_names, ip_sans, certificate,
    fingerprint_sha256, not_before, not_after, source, issued_to, created_at, key_ciphertext, key_wrapped_key, key_id)
SELECT tenant_id, id, ca_id, serial, role, common_name, alt_names, ip_sans, certificate,
    fingerprint_sha256, not_before, not_after, source, issued_to, created_at, key_ciphertext, key_wrapped_key, key_id
FROM pki_certificate_unpartitioned;
DROP TABLE pki_certificate_unpartitioned;
-- A rotation of tenant keys looks for what is under one.
CREATE INDEX pki_certificate_key ON pki_certificate (key_id, id) WHERE key_id IS NOT NULL;
