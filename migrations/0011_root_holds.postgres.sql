-- Who takes a root key away sees how many CAs have their key in a provider of its name; and a key of the vault itself is
-- stored by who can hold the root key that has wrapped it.

ALTER FUNCTION scaivault_fence() RENAME TO scaivault_fence_of_root_keys;

CREATE FUNCTION scaivault_fence() RETURNS void LANGUAGE plpgsql AS $fence$
BEGIN
    PERFORM scaivault_fence_of_root_keys();
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'scaivault_keys') THEN
        GRANT SELECT (key_provider) ON pki_ca TO scaivault_keys;
        GRANT INSERT ON audit_key TO scaivault_keys;
    END IF;
END
$fence$;

REVOKE ALL ON FUNCTION scaivault_fence() FROM PUBLIC;
