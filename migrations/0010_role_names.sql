-- Two roles of a tenant may not differ by case alone: the name stands in policy paths. Of those that do already, the
-- first keeps the folded name; the others keep theirs, under a key that no new role can have, since no name holds a '/'.
ALTER TABLE pki_role ADD COLUMN name_key TEXT COLLATE "C" NOT NULL DEFAULT '';
UPDATE pki_role SET name_key = CASE WHEN EXISTS (SELECT 1 FROM pki_role o WHERE o.tenant_id = pki_role.tenant_id
    AND lower(o.name) = lower(pki_role.name) AND o.name < pki_role.name)
    THEN lower(name) || '/' || name ELSE lower(name) END;
CREATE UNIQUE INDEX pki_role_name_key ON pki_role (tenant_id, name_key);
