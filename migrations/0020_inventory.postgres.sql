INSERT INTO pki_term (tenant_id, field, value, certificate_id)
WITH RECURSIVE suffix (tenant_id, certificate_id, rest) AS (
    SELECT c.tenant_id, c.id, lower(n.name) FROM pki_certificate c
        CROSS JOIN LATERAL jsonb_array_elements_text(c.alt_names || c.ip_sans) AS n (name)
    UNION
    SELECT tenant_id, certificate_id, regexp_replace(rest, '^[^.@/:]*[.@/:]', '') FROM suffix WHERE rest ~ '[.@/:]'
)
SELECT DISTINCT tenant_id, 'san', substr(rest, 1, 255), certificate_id FROM suffix
WHERE EXISTS (SELECT 1 FROM pki_serial s WHERE s.tenant_id = suffix.tenant_id AND s.certificate_id = suffix.certificate_id) AND rest <> '';
