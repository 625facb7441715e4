-- The background work finds trust anchors whose expiry is to be told, and sees nothing else of them.

ALTER FUNCTION scaivault_fence() RENAME TO scaivault_fence_before_anchors;

CREATE FUNCTION scaivault_fence() RETURNS void LANGUAGE plpgsql AS $fence$
BEGIN
    PERFORM scaivault_fence_before_anchors();
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'scaivault_jobs') THEN
        GRANT SELECT (tenant_id, id, notify_at) ON pki_anchor TO scaivault_jobs;
        IF NOT EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = 'pki_anchor'::regclass AND p.polname = 'scaivault_jobs')
        THEN
            CREATE POLICY scaivault_jobs ON pki_anchor TO scaivault_jobs USING (TRUE) WITH CHECK (TRUE);
        END IF;
    END IF;
END
$fence$;

REVOKE ALL ON FUNCTION scaivault_fence() FROM PUBLIC;
