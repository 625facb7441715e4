-- Two tenants may not differ by case alone. Of those that do already, the first keeps the folded name; the others keep
-- theirs, under a key that no new tenant can have, since no name holds a space. What stands for a partner has none.
ALTER TABLE tenant ADD COLUMN name_key TEXT COLLATE "C";
UPDATE tenant SET name_key = CASE WHEN EXISTS (SELECT 1 FROM tenant o WHERE lower(o.tenant_id) = lower(tenant.tenant_id)
    AND o.tenant_id < tenant.tenant_id) THEN lower(tenant_id) || ' ' || tenant_id ELSE lower(tenant_id) END;
CREATE UNIQUE INDEX tenant_name_key ON tenant (name_key);

-- A binding says whose identity it names: what a partner gives to his tenants is bound to identities of each of them.
CREATE TABLE policy_binding_of (
    tenant_id     TEXT COLLATE "C" NOT NULL,
    id            TEXT COLLATE "C" NOT NULL,
    policy_id     TEXT COLLATE "C" NOT NULL,
    of_tenant     TEXT COLLATE "C" NOT NULL,
    identity_type TEXT NOT NULL,
    identity_id   TEXT COLLATE "C" NOT NULL,
    expires_at    TIMESTAMPTZ,
    created_at    TIMESTAMPTZ NOT NULL,
    created_by    TEXT NOT NULL,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, policy_id, of_tenant, identity_type, identity_id),
    FOREIGN KEY (tenant_id, policy_id) REFERENCES policy (tenant_id, id) ON DELETE CASCADE
);
INSERT INTO policy_binding_of (tenant_id, id, policy_id, of_tenant, identity_type, identity_id, expires_at, created_at,
    created_by) SELECT tenant_id, id, policy_id, tenant_id, identity_type, identity_id, expires_at, created_at, created_by
    FROM policy_binding;
DROP TABLE policy_binding;
ALTER TABLE policy_binding_of RENAME TO policy_binding;
