-- The key of a CA is sealed in its row, or it stays inside of a key provider: then the row has the provider's name, the
-- key in the provider's words, and the SHA-256 of its public half, by which no two CAs have one key, of whatever tenants.

ALTER TABLE pki_ca ADD COLUMN key_provider TEXT;
ALTER TABLE pki_ca ADD COLUMN key_fingerprint BYTEA;
CREATE UNIQUE INDEX pki_ca_provided_key ON pki_ca (key_fingerprint) WHERE key_fingerprint IS NOT NULL;
