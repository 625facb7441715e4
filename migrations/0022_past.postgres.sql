-- Whoever watches the vault sees how long the longest list is.

ALTER FUNCTION scaivault_fence() RENAME TO scaivault_fence_before_past;

CREATE FUNCTION scaivault_fence() RETURNS void LANGUAGE plpgsql AS $fence$
BEGIN
    PERFORM scaivault_fence_before_past();
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'scaivault_jobs') THEN
        GRANT SELECT (entries) ON pki_crl TO scaivault_jobs;
    END IF;
END
$fence$;

REVOKE ALL ON FUNCTION scaivault_fence() FROM PUBLIC;
