-- Root keys are nobody's in particular: no fence of rows, and one role that reaches them.

ALTER FUNCTION scaivault_fence() RENAME TO scaivault_fence_of_tenants;

CREATE FUNCTION scaivault_fence() RETURNS void LANGUAGE plpgsql AS $fence$
BEGIN
    PERFORM scaivault_fence_of_tenants();
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'scaivault_keys') THEN
        GRANT SELECT, INSERT, UPDATE ON root_key TO scaivault_keys;
    END IF;
END
$fence$;

REVOKE ALL ON FUNCTION scaivault_fence() FROM PUBLIC;
