-- Key life. A key that a newer one has replaced is *retired*: it seals nothing new, still opens, and is
-- destroyed once nothing has needed it for long enough. A tenant key is *drained* when no row was found under
-- it any more. `retired_under` is the tenant in whose audit trail the end of a partner key is recorded.

ALTER TABLE partner_key ADD COLUMN retired_at TIMESTAMPTZ;
ALTER TABLE partner_key ADD COLUMN retired_under TEXT COLLATE "C";
ALTER TABLE tenant_key ADD COLUMN retired_at TIMESTAMPTZ;
ALTER TABLE tenant_key ADD COLUMN drained_at TIMESTAMPTZ;

-- What is still under a key, for those who rotate it and for the references that keep it.
CREATE INDEX partner_key_retired ON partner_key (id) WHERE retired_at IS NOT NULL;
CREATE INDEX tenant_key_retired ON tenant_key (id) WHERE retired_at IS NOT NULL;
CREATE INDEX tenant_key_partner ON tenant_key (partner_key_id, id);
CREATE INDEX secret_version_key ON secret_version (key_id, secret_id, version);
CREATE INDEX pki_ca_key ON pki_ca (key_id, id);
CREATE INDEX pki_certificate_key ON pki_certificate (key_id, id) WHERE key_id IS NOT NULL;

-- How many wraps were made under a tenant key, counted before they are made. A key is replaced well before the
-- number that AES-GCM bears.
ALTER TABLE tenant_key ADD COLUMN wraps BIGINT NOT NULL DEFAULT 0;
