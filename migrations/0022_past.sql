-- What a CA that was made elsewhere had issued before can be registered with it: of the others everything is on record.
ALTER TABLE pki_ca ADD COLUMN imported BOOLEAN NOT NULL DEFAULT FALSE;
-- Why nobody should rely on a certificate that was issued elsewhere: words with commas between them.
ALTER TABLE pki_serial ADD COLUMN weak TEXT;
CREATE INDEX pki_serial_weak ON pki_serial (tenant_id, certificate_id) WHERE weak IS NOT NULL;

-- How long the list was when it was built last.
ALTER TABLE pki_crl ADD COLUMN entries BIGINT NOT NULL DEFAULT 0;
CREATE INDEX pki_crl_entries ON pki_crl (entries);
