-- What certificates of the inventory are found by: a row for each value of a field, names from each of their labels on, in
-- lower case. `field` is `cn`, `san`, `role`, `by` (to whom it was issued) or `tag`.
CREATE TABLE pki_term (
    tenant_id      TEXT COLLATE "C" NOT NULL,
    field          TEXT COLLATE "C" NOT NULL,
    value          TEXT COLLATE "C" NOT NULL,
    certificate_id TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (tenant_id, field, value, certificate_id),
    FOREIGN KEY (tenant_id, certificate_id) REFERENCES pki_serial (tenant_id, certificate_id) ON DELETE CASCADE
);
CREATE INDEX pki_term_certificate ON pki_term (tenant_id, certificate_id, field, value);
INSERT INTO pki_term (tenant_id, field, value, certificate_id)
    SELECT tenant_id, 'role', role, id FROM pki_certificate WHERE role IS NOT NULL
    AND EXISTS (SELECT 1 FROM pki_serial s WHERE s.tenant_id = pki_certificate.tenant_id AND s.certificate_id = pki_certificate.id);
INSERT INTO pki_term (tenant_id, field, value, certificate_id)
    SELECT tenant_id, 'by', substr(issued_to, 1, 255), id FROM pki_certificate
    WHERE EXISTS (SELECT 1 FROM pki_serial s WHERE s.tenant_id = pki_certificate.tenant_id AND s.certificate_id = pki_certificate.id);
INSERT INTO pki_term (tenant_id, field, value, certificate_id)
    SELECT tenant_id, 'cn', substr(lower(common_name), 1, 255), id FROM pki_certificate WHERE common_name IS NOT NULL
    AND EXISTS (SELECT 1 FROM pki_serial s WHERE s.tenant_id = pki_certificate.tenant_id AND s.certificate_id = pki_certificate.id);

-- By age among those that are revoked, and by expiry with a place to go on from.
CREATE INDEX pki_serial_revoked_age ON pki_serial (tenant_id, certificate_id) WHERE revoked_at IS NOT NULL;
DROP INDEX pki_serial_expiry;
CREATE INDEX pki_serial_expiry ON pki_serial (tenant_id, not_after, certificate_id);
CREATE INDEX pki_serial_held ON pki_serial (tenant_id, certificate_id) WHERE revocation_reason = 'certificate_hold';
