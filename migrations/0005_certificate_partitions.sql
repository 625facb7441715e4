-- The register of serial numbers: every certificate that was ever issued, until when it is valid, and whether it was
-- revoked. Narrow, and the one place that says that a serial number is taken. What a certificate holds besides
-- (pki_certificate) is written once and never changed, except for the key that wraps its stored private key.
CREATE TABLE pki_serial (
    tenant_id         TEXT COLLATE "C" NOT NULL,
    ca_id             TEXT COLLATE "C" NOT NULL,
    serial            BYTEA NOT NULL,
    certificate_id    TEXT COLLATE "C" NOT NULL,
    source            TEXT NOT NULL,
    not_after         TIMESTAMPTZ NOT NULL,
    revoked_at        TIMESTAMPTZ,
    revocation_reason TEXT,
    PRIMARY KEY (tenant_id, ca_id, serial),
    UNIQUE (tenant_id, certificate_id),
    FOREIGN KEY (tenant_id, ca_id) REFERENCES pki_ca (tenant_id, id)
);
INSERT INTO pki_serial (tenant_id, ca_id, serial, certificate_id, source, not_after, revoked_at, revocation_reason)
    SELECT tenant_id, ca_id, serial, id, source, not_after, revoked_at, revocation_reason FROM pki_certificate;
CREATE INDEX pki_serial_serial ON pki_serial (tenant_id, serial);
-- With the serial number, so that counting what a CA issued reads the index alone.
CREATE INDEX pki_serial_ca ON pki_serial (tenant_id, ca_id, certificate_id, serial);
CREATE INDEX pki_serial_expiry ON pki_serial (tenant_id, not_after);
CREATE INDEX pki_serial_revoked ON pki_serial (tenant_id, ca_id) WHERE revoked_at IS NOT NULL;

-- How many certificates a CA had issued up to the certificate `counted_until`; those after it are counted when asked.
ALTER TABLE pki_ca ADD COLUMN counted BIGINT NOT NULL DEFAULT 0;
ALTER TABLE pki_ca ADD COLUMN counted_until TEXT COLLATE "C" NOT NULL DEFAULT '';

DROP INDEX pki_certificate_serial;
DROP INDEX pki_certificate_expiry;
DROP INDEX pki_certificate_revoked;
ALTER TABLE pki_certificate DROP COLUMN revoked_at;
ALTER TABLE pki_certificate DROP COLUMN revocation_reason;
