-- The fence between tenants. `migrations/README.md` describes it.
--
-- scaivault_fence() is run by the owner at the end of every `migrate`. It looks for tables instead of naming
-- them, so that none can be forgotten, and may be run any number of times.

CREATE FUNCTION scaivault_fence() RETURNS void LANGUAGE plpgsql AS $fence$
DECLARE
    app CONSTANT name := 'scaivault_app';
    -- What a table shows to a tenant, where that is not `tenant_id`.
    partner CONSTANT text :=
        'partner_id = (SELECT t.partner_id FROM tenant t WHERE t.tenant_id = current_setting(''scaivault.tenant'', true))';
    own CONSTANT text := 'tenant_id = current_setting(''scaivault.tenant'', true)';
    -- Only the owner of a table has a policy that looks at this; no tenant has such a name.
    everything CONSTANT text := 'current_setting(''scaivault.tenant'', true) = ''all tenants''';
    -- The owner of the tables may not be the owner of the schema; `--create-roles` has granted this then.
    may_grant CONSTANT boolean := has_schema_privilege(current_schema(), 'USAGE WITH GRANT OPTION');
    shown text;
    allowed text;
    t record;
    n record;
BEGIN
    -- Two that change one row of the catalogue at once make one of them fail.
    PERFORM pg_advisory_xact_lock(hashtextextended('scaivault_fence', 0));

    FOR t IN
        SELECT c.oid, c.relname, c.relispartition, c.relrowsecurity AND c.relforcerowsecurity AS forced,
            pg_get_userbyid(c.relowner) AS owner
        FROM pg_class c
        WHERE c.relnamespace = to_regnamespace(quote_ident(current_schema())) AND c.relkind IN ('r', 'p')
            AND (c.relname = 'partner_key' OR EXISTS (
                SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'tenant_id' AND NOT a.attisdropped))
        ORDER BY c.relname
    LOOP
        IF NOT t.forced THEN
            EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', t.relname);
        END IF;
        IF NOT EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = t.oid AND p.polname = 'scaivault_tenant') THEN
            shown := CASE t.relname WHEN 'partner_key' THEN partner ELSE own END;
            EXECUTE format('CREATE POLICY scaivault_tenant ON %I USING (%s) WITH CHECK (%s)', t.relname, shown, shown);
        END IF;
        IF NOT EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = t.oid AND p.polname = 'scaivault_owner') THEN
            EXECUTE format('CREATE POLICY scaivault_owner ON %I TO %I USING (%s) WITH CHECK (%s)',
                t.relname, t.owner, everything, everything);
        END IF;
        -- A partition is reached through its table alone.
        IF NOT t.relispartition AND EXISTS (SELECT FROM pg_roles WHERE rolname = app) THEN
            allowed := CASE
                -- Places in the chain are given by the recorder alone.
                WHEN t.relname IN ('audit_log', 'audit_head', 'audit_checkpoint') THEN 'SELECT'
                WHEN t.relname IN ('audit_intake', 'partner_key') THEN 'SELECT, INSERT'
                WHEN t.relname = 'tenant' THEN 'SELECT, INSERT, UPDATE'
                ELSE 'SELECT, INSERT, UPDATE, DELETE'
            END;
            EXECUTE format('GRANT %s ON %I TO %I', allowed, t.relname, app);
        END IF;
    END LOOP;

    IF EXISTS (SELECT FROM pg_roles WHERE rolname = app) THEN
        IF may_grant THEN
            EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', current_schema(), app);
        END IF;
        IF to_regclass('scaivault_migrations') IS NOT NULL THEN
            EXECUTE format('GRANT SELECT ON scaivault_migrations TO %I', app);
        END IF;
    END IF;

    -- What looks across tenants: a role, what it may do, to which table, and to which of its columns (all if
    -- NULL). A role has a policy for all rows of these tables, and these rights and no others. Tables and columns
    -- that a later migration makes may be named here before they are there.
    FOR n IN
        SELECT g.role, g.may, c.oid, c.relname, g.columns IS NULL AS whole,
            (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) FROM pg_attribute a
             WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attname = ANY (g.columns)) AS columns
        FROM (VALUES
            -- Jobs find what is due; the work itself is done as the tenant.
            ('scaivault_jobs', 'SELECT', 'secret', ARRAY['tenant_id', 'path', 'id', 'deleted_at', 'notify_at']::name[]),
            ('scaivault_jobs', 'SELECT', 'pki_ca', ARRAY['tenant_id', 'id', 'not_after']::name[]),
            ('scaivault_jobs', 'SELECT', 'pki_crl', ARRAY['tenant_id', 'ca_id', 'due_at', 'claimed_until']::name[]),
            ('scaivault_jobs', 'SELECT', 'event_outbox', ARRAY['tenant_id', 'id', 'created_at']::name[]),
            ('scaivault_jobs', 'DELETE', 'event_outbox', NULL),
            ('scaivault_jobs', 'SELECT', 'pki_serial', ARRAY['tenant_id', 'certificate_id', 'not_after']::name[]),
            ('scaivault_jobs', 'DELETE', 'pki_serial', NULL),
            -- The records and events of several tenants are written by one statement.
            ('scaivault_recorder', 'SELECT', 'audit_log', ARRAY['tenant_id', 'seq', 'hash', 'timestamp']::name[]),
            ('scaivault_recorder', 'INSERT', 'audit_log', NULL),
            ('scaivault_recorder', 'SELECT, INSERT, DELETE', 'audit_intake', NULL),
            ('scaivault_recorder', 'SELECT, INSERT, UPDATE', 'audit_head', NULL),
            ('scaivault_recorder', 'SELECT, INSERT', 'audit_checkpoint', NULL),
            ('scaivault_recorder', 'INSERT', 'event_outbox', NULL),
            -- What an anchor says of the database besides the ends of its chains.
            ('scaivault_recorder', 'SELECT', 'tenant', ARRAY['tenant_id']::name[]),
            ('scaivault_recorder', 'SELECT', 'pki_crl', ARRAY['ca_id', 'number']::name[]),
            ('scaivault_recorder', 'SELECT', 'partner_key', ARRAY['partner_id', 'version']::name[]),
            ('scaivault_recorder', 'SELECT', 'tenant_key', ARRAY['tenant_id', 'version']::name[]),
            -- Wrapped keys, and what is under which: for rotation. None of it opens without the root key.
            ('scaivault_keys', 'SELECT, INSERT, UPDATE, DELETE', 'partner_key', NULL),
            ('scaivault_keys', 'SELECT, INSERT, UPDATE, DELETE', 'tenant_key', NULL),
            ('scaivault_keys', 'SELECT', 'tenant', ARRAY['tenant_id', 'partner_id', 'partner_named']::name[]),
            ('scaivault_keys', 'SELECT', 'secret_version', ARRAY['tenant_id', 'secret_id', 'version', 'key_id']::name[]),
            ('scaivault_keys', 'SELECT', 'pki_ca', ARRAY['tenant_id', 'id', 'key_id']::name[]),
            ('scaivault_keys', 'SELECT', 'pki_certificate', ARRAY['tenant_id', 'id', 'key_id']::name[]),
            ('scaivault_keys', 'INSERT', 'audit_intake', NULL),
            ('scaivault_keys', 'INSERT', 'event_outbox', NULL),
            -- Relying parties know a CA and no tenant.
            ('scaivault_public', 'SELECT', 'pki_ca', ARRAY['tenant_id', 'id']::name[]),
            ('scaivault_public', 'SELECT', 'pki_crl', ARRAY['ca_id', 'crl', 'this_update', 'next_update']::name[])
        ) AS g (role, may, relation, columns)
        JOIN pg_roles r ON r.rolname = g.role
        JOIN pg_class c ON c.oid = to_regclass(quote_ident(current_schema()) || '.' || quote_ident(g.relation))
    LOOP
        IF may_grant THEN
            EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', current_schema(), n.role);
        END IF;
        IF n.whole THEN
            EXECUTE format('GRANT %s ON %I TO %I', n.may, n.relname, n.role);
        ELSIF n.columns IS NOT NULL THEN
            EXECUTE format('GRANT %s (%s) ON %I TO %I', n.may, n.columns, n.relname, n.role);
        END IF;
        IF NOT EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = n.oid AND p.polname = n.role) THEN
            EXECUTE format('CREATE POLICY %I ON %I TO %I USING (TRUE) WITH CHECK (TRUE)', n.role, n.relname, n.role);
        END IF;
    END LOOP;

    -- What is nobody's in particular has no rows to fence: who needs it is told so by name.
    IF to_regclass('audit_key') IS NOT NULL AND EXISTS (SELECT FROM pg_roles WHERE rolname = 'scaivault_recorder') THEN
        GRANT SELECT, INSERT ON audit_key TO scaivault_recorder;
    END IF;
    IF to_regclass('audit_key') IS NOT NULL AND EXISTS (SELECT FROM pg_roles WHERE rolname = 'scaivault_keys') THEN
        GRANT SELECT, UPDATE ON audit_key TO scaivault_keys;
    END IF;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'scaivault_jobs') THEN
        GRANT EXECUTE ON FUNCTION scaivault_make_partition(text, date) TO scaivault_jobs;
        GRANT EXECUTE ON FUNCTION scaivault_detach_partition(text, date) TO scaivault_jobs;
    END IF;
END
$fence$;

REVOKE ALL ON FUNCTION scaivault_fence() FROM PUBLIC;
