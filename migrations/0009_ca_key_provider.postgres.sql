ALTER TABLE pki_ca ADD COLUMN key_ref TEXT;
ALTER TABLE pki_ca ALTER COLUMN key_ciphertext DROP NOT NULL;
ALTER TABLE pki_ca ALTER COLUMN key_wrapped_key DROP NOT NULL;
ALTER TABLE pki_ca ALTER COLUMN key_id DROP NOT NULL;
ALTER TABLE pki_ca ADD CONSTRAINT pki_ca_one_key CHECK (
    (key_ciphertext IS NULL) = (key_ref IS NOT NULL) AND (key_wrapped_key IS NULL) = (key_ref IS NOT NULL)
    AND (key_id IS NULL) = (key_ref IS NOT NULL) AND (key_provider IS NULL) = (key_ref IS NULL)
    AND (key_fingerprint IS NULL) = (key_ref IS NULL));
