-- SQLite cannot take NOT NULL off a column: each gets a successor of its name.
DROP INDEX pki_ca_key;
ALTER TABLE pki_ca ADD COLUMN successor BYTEA;
UPDATE pki_ca SET successor = key_ciphertext;
ALTER TABLE pki_ca DROP COLUMN key_ciphertext;
ALTER TABLE pki_ca RENAME COLUMN successor TO key_ciphertext;
ALTER TABLE pki_ca ADD COLUMN successor BYTEA;
UPDATE pki_ca SET successor = key_wrapped_key;
ALTER TABLE pki_ca DROP COLUMN key_wrapped_key;
ALTER TABLE pki_ca RENAME COLUMN successor TO key_wrapped_key;
ALTER TABLE pki_ca ADD COLUMN successor TEXT COLLATE "C" REFERENCES tenant_key (id);
UPDATE pki_ca SET successor = key_id;
ALTER TABLE pki_ca DROP COLUMN key_id;
ALTER TABLE pki_ca RENAME COLUMN successor TO key_id;
CREATE INDEX pki_ca_key ON pki_ca (key_id, id);
ALTER TABLE pki_ca ADD COLUMN key_ref TEXT CHECK (
    (key_ciphertext IS NULL) = (key_ref IS NOT NULL) AND (key_wrapped_key IS NULL) = (key_ref IS NOT NULL)
    AND (key_id IS NULL) = (key_ref IS NOT NULL) AND (key_provider IS NULL) = (key_ref IS NULL)
    AND (key_fingerprint IS NULL) = (key_ref IS NULL));
