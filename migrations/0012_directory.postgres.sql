-- The directory belongs to no tenant as a whole: one narrow role keeps it. A tenant may see its own rows, and changes none.

ALTER FUNCTION scaivault_fence() RENAME TO scaivault_fence_of_root_holds;

CREATE FUNCTION scaivault_fence() RETURNS void LANGUAGE plpgsql AS $fence$
DECLARE
    t text;
BEGIN
    PERFORM scaivault_fence_of_root_holds();
    FOREACH t IN ARRAY ARRAY['idp_tenant', 'idp_user', 'idp_user_name', 'idp_group', 'idp_membership', 'idp_role'] LOOP
        IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'scaivault_app') THEN
            EXECUTE format('REVOKE INSERT, UPDATE, DELETE ON %I FROM scaivault_app', t);
        END IF;
    END LOOP;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'scaivault_directory') THEN
        RETURN;
    END IF;
    IF has_schema_privilege(current_schema(), 'USAGE WITH GRANT OPTION') THEN
        EXECUTE format('GRANT USAGE ON SCHEMA %I TO scaivault_directory', current_schema());
    END IF;
    FOREACH t IN ARRAY ARRAY['idp_tenant', 'idp_user', 'idp_user_name', 'idp_group', 'idp_membership', 'idp_role',
        'audit_intake', 'event_outbox'] LOOP
        IF NOT EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = to_regclass(quote_ident(t)) AND p.polname = 'scaivault_directory') THEN
            EXECUTE format('CREATE POLICY scaivault_directory ON %I TO scaivault_directory USING (TRUE) WITH CHECK (TRUE)', t);
        END IF;
    END LOOP;
    GRANT INSERT ON audit_intake, event_outbox TO scaivault_directory;
    GRANT SELECT, INSERT, UPDATE ON idp_tenant, idp_user, idp_group, idp_membership, idp_partner, idp_sync TO scaivault_directory;
    GRANT DELETE ON idp_sync TO scaivault_directory;
    GRANT SELECT, INSERT ON idp_user_name TO scaivault_directory;
    GRANT SELECT, INSERT, DELETE ON idp_role, idp_event TO scaivault_directory;
    GRANT SELECT, UPDATE ON idp_state TO scaivault_directory;
END
$fence$;

REVOKE ALL ON FUNCTION scaivault_fence() FROM PUBLIC;
