-- The certificate of a CA that was signed outside is nobody's here: somebody else numbered it, and no CA of the vault answers
-- for it. It has no `ca_id` in the register, so that the key of a row is the certificate itself.
ALTER TABLE pki_serial DROP CONSTRAINT pki_serial_pkey;
ALTER TABLE pki_serial ALTER COLUMN ca_id DROP NOT NULL;
CREATE UNIQUE INDEX pki_serial_number ON pki_serial (tenant_id, ca_id, serial);
ALTER TABLE pki_serial REPLICA IDENTITY USING INDEX pki_serial_tenant_id_certificate_id_key;
UPDATE pki_serial SET ca_id = NULL FROM pki_ca c WHERE c.tenant_id = pki_serial.tenant_id
    AND c.certificate_id = pki_serial.certificate_id AND c.ca_type = 'intermediate' AND c.parent_ca_id IS NULL;
