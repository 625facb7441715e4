-- The background work deletes idempotency keys that have expired, of every tenant. It sees none of the answers.

ALTER FUNCTION scaivault_fence() RENAME TO scaivault_fence_before_issuing;

CREATE FUNCTION scaivault_fence() RETURNS void LANGUAGE plpgsql AS $fence$
BEGIN
    PERFORM scaivault_fence_before_issuing();
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'scaivault_jobs') THEN
        GRANT SELECT (tenant_id, identity, route, idempotency_key, expires_at), DELETE ON idempotency TO scaivault_jobs;
        IF NOT EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = 'idempotency'::regclass AND p.polname = 'scaivault_jobs')
        THEN
            CREATE POLICY scaivault_jobs ON idempotency TO scaivault_jobs USING (TRUE) WITH CHECK (TRUE);
        END IF;
    END IF;
END
$fence$;

REVOKE ALL ON FUNCTION scaivault_fence() FROM PUBLIC;
