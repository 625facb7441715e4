-- Which certificate of the inventory is a CA's own; none while it waits for one.
ALTER TABLE pki_ca ADD COLUMN certificate_id TEXT COLLATE "C";
UPDATE pki_ca SET certificate_id = (SELECT s.certificate_id FROM pki_serial s WHERE s.tenant_id = pki_ca.tenant_id
    AND s.ca_id = COALESCE(pki_ca.parent_ca_id, pki_ca.id) AND s.serial = pki_ca.serial) WHERE NOT pending;
CREATE UNIQUE INDEX pki_ca_certificate ON pki_ca (tenant_id, certificate_id);

-- The SHA-256 of a CA's public key, by which no two CAs of a tenant have one key. Of those that have one already, the first
-- is named.
ALTER TABLE pki_ca ADD COLUMN key_hash BYTEA;
UPDATE pki_ca SET key_hash = (SELECT s.key_hash FROM pki_serial s WHERE s.tenant_id = pki_ca.tenant_id
    AND s.certificate_id = pki_ca.certificate_id) WHERE NOT pending;
UPDATE pki_ca SET key_hash = NULL WHERE EXISTS (SELECT 1 FROM pki_ca o WHERE o.tenant_id = pki_ca.tenant_id
    AND o.key_hash = pki_ca.key_hash AND o.id < pki_ca.id);
CREATE UNIQUE INDEX pki_ca_own_key ON pki_ca (tenant_id, key_hash);
