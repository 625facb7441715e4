-- What a partner shares stands in rows of a tenant that stands for him: `partner ` and his name. A connection that names
-- one of his tenants sees the secrets among them, and may do nothing else to them; whoever may change them names the
-- partner.

ALTER FUNCTION scaivault_fence() RENAME TO scaivault_fence_without_shared;

CREATE FUNCTION scaivault_fence() RETURNS void LANGUAGE plpgsql AS $fence$
DECLARE
    t name;
BEGIN
    PERFORM scaivault_fence_without_shared();
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'scaivault_app') THEN
        FOREACH t IN ARRAY ARRAY['secret', 'secret_tag', 'secret_version']::name[] LOOP
            IF NOT EXISTS (SELECT FROM pg_policy p WHERE p.polname = 'scaivault_shared'
                AND p.polrelid = to_regclass(quote_ident(current_schema()) || '.' || quote_ident(t))) THEN
                EXECUTE format('CREATE POLICY scaivault_shared ON %I FOR SELECT TO scaivault_app USING (tenant_id = '
                    '''partner '' || (SELECT o.partner_id FROM tenant o WHERE o.tenant_id = current_setting(''scaivault.tenant'', true)))', t);
            END IF;
        END LOOP;
    END IF;
END
$fence$;

REVOKE ALL ON FUNCTION scaivault_fence() FROM PUBLIC;
