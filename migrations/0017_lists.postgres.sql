-- Relying parties read lists by their shards, jobs find those that are due, and a rotation of keys finds what is under one.

ALTER FUNCTION scaivault_fence() RENAME TO scaivault_fence_before_lists;

CREATE FUNCTION scaivault_fence() RETURNS void LANGUAGE plpgsql AS $fence$
BEGIN
    PERFORM scaivault_fence_before_lists();
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'scaivault_public') THEN
        GRANT SELECT (shard, delta, delta_this_update, delta_next_update) ON pki_crl TO scaivault_public;
    END IF;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'scaivault_jobs') THEN
        GRANT SELECT (shard, delta_due_at) ON pki_crl TO scaivault_jobs;
        GRANT SELECT (ca_id, revoked_at) ON pki_serial TO scaivault_jobs;
        GRANT SELECT (tenant_id, id, keep_expired) ON pki_numbering TO scaivault_jobs;
        IF NOT EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = 'pki_numbering'::regclass AND p.polname = 'scaivault_jobs')
        THEN
            CREATE POLICY scaivault_jobs ON pki_numbering TO scaivault_jobs USING (TRUE) WITH CHECK (TRUE);
        END IF;
    END IF;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'scaivault_keys') THEN
        GRANT SELECT (tenant_id, id, key_id) ON pki_numbering TO scaivault_keys;
        IF NOT EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = 'pki_numbering'::regclass AND p.polname = 'scaivault_keys')
        THEN
            CREATE POLICY scaivault_keys ON pki_numbering TO scaivault_keys USING (TRUE) WITH CHECK (TRUE);
        END IF;
    END IF;
END
$fence$;

REVOKE ALL ON FUNCTION scaivault_fence() FROM PUBLIC;
