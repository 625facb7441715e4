INSERT INTO pki_term (tenant_id, field, value, certificate_id)
WITH RECURSIVE suffix (tenant_id, certificate_id, rest) AS (
    SELECT c.tenant_id, c.id, lower(n.value) FROM pki_certificate c, json_each(c.alt_names) AS n
    UNION
    SELECT c.tenant_id, c.id, lower(n.value) FROM pki_certificate c, json_each(c.ip_sans) AS n
    UNION
    SELECT tenant_id, certificate_id,
        substr(rest, instr(replace(replace(replace(rest, '@', '.'), '/', '.'), ':', '.'), '.') + 1)
    FROM suffix WHERE instr(replace(replace(replace(rest, '@', '.'), '/', '.'), ':', '.'), '.') > 0
)
SELECT DISTINCT tenant_id, 'san', substr(rest, 1, 255), certificate_id FROM suffix
WHERE EXISTS (SELECT 1 FROM pki_serial s WHERE s.tenant_id = suffix.tenant_id AND s.certificate_id = suffix.certificate_id) AND rest <> '';
