-- A queue, and rows that change with every group: kept small.
ALTER TABLE audit_intake SET (autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 2000);
ALTER TABLE audit_head SET (fillfactor = 50);

CREATE FUNCTION scaivault_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
END $$;

CREATE TRIGGER audit_log_append_only BEFORE UPDATE OR DELETE ON audit_log
    FOR EACH ROW EXECUTE FUNCTION scaivault_append_only();
CREATE TRIGGER audit_log_no_truncate BEFORE TRUNCATE ON audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION scaivault_append_only();
CREATE TRIGGER audit_checkpoint_append_only BEFORE UPDATE OR DELETE ON audit_checkpoint
    FOR EACH ROW EXECUTE FUNCTION scaivault_append_only();
CREATE TRIGGER audit_checkpoint_no_truncate BEFORE TRUNCATE ON audit_checkpoint
    FOR EACH STATEMENT EXECUTE FUNCTION scaivault_append_only();

-- The two functions below run as the owner of the schema, so that a role that owns nothing can make partitions
-- ahead and let go of old ones, and can do nothing else with them. Months are months in UTC.

-- The name of the partition of a month if the table has one, or nothing.
CREATE FUNCTION scaivault_partition(parent TEXT, month DATE) RETURNS TEXT LANGUAGE sql STABLE AS $$
    SELECT c.relname::text
    FROM pg_catalog.pg_inherits i
    JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
    JOIN pg_catalog.pg_class p ON p.oid = i.inhparent
    WHERE p.oid = pg_catalog.to_regclass(parent)
      AND c.relname = parent || pg_catalog.to_char(month, '"_p"YYYY"_"MM')
$$;

-- Makes the partition of a month; says whether it was not there yet. It is made as a table of its own and then
-- attached, which keeps no reader and no writer of the parent waiting.
CREATE FUNCTION scaivault_make_partition(parent TEXT, month DATE) RETURNS BOOLEAN
LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    part TEXT := parent || to_char(month, '"_p"YYYY"_"MM');
    low  TEXT := to_char(month, 'YYYY-MM') || '-01 00:00:00+00';
    high TEXT := to_char(date_trunc('month', month::timestamp) + interval '1 month', 'YYYY-MM') || '-01 00:00:00+00';
    fenced BOOLEAN;
BEGIN
    IF parent NOT IN ('audit_log', 'pki_certificate') THEN
        RAISE EXCEPTION 'no partitions are made of %', parent USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF month < DATE '1970-01-01' OR month > DATE '9998-12-31' THEN
        RAISE EXCEPTION 'no partition is made of that month' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    -- One at a time, on whichever replica.
    PERFORM pg_advisory_xact_lock(hashtextextended('scaivault partitions ' || parent, 0));
    IF scaivault_partition(parent, month) IS NOT NULL THEN
        RETURN FALSE;
    END IF;
    SELECT relrowsecurity INTO fenced FROM pg_class WHERE oid = to_regclass(parent);
    EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL)', part, parent);
    IF parent = 'audit_log' THEN
        EXECUTE format('CREATE TRIGGER audit_log_no_truncate BEFORE TRUNCATE ON %I FOR EACH STATEMENT EXECUTE FUNCTION scaivault_append_only()', part);
    END IF;
    IF fenced THEN
        -- Through the parent its policies decide; past it, nobody sees anything.
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', part);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', part);
    END IF;
    EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', parent, part, low, high);
    RETURN TRUE;
END $$;

-- Takes the partition of a month out of its table; says whether there was one. It stays in the schema as
-- `<name>_detached` for whoever archives and drops it. Refused for what is not old, whoever asks.
CREATE FUNCTION scaivault_detach_partition(parent TEXT, month DATE) RETURNS BOOLEAN
LANGUAGE plpgsql SECURITY DEFINER SET lock_timeout = '2s' AS $$
DECLARE
    part TEXT := scaivault_partition(parent, month);
    kept TEXT;
    bond TEXT;
    count INTEGER := 1;
BEGIN
    IF parent NOT IN ('audit_log', 'pki_certificate') THEN
        RAISE EXCEPTION 'no partitions are detached from %', parent USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF month + interval '2 months' > now() THEN
        RAISE EXCEPTION 'the partition is not old enough' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended('scaivault partitions ' || parent, 0));
    part := scaivault_partition(parent, month);
    IF part IS NULL THEN
        RETURN FALSE;
    END IF;
    EXECUTE format('ALTER TABLE %I DETACH PARTITION %I', parent, part);
    -- What is archived holds nothing back: no key and no CA has to stay for it.
    FOR bond IN SELECT c.conname FROM pg_catalog.pg_constraint c
        WHERE c.conrelid = to_regclass(quote_ident(part)) AND c.contype = 'f' LOOP
        EXECUTE format('ALTER TABLE %I DROP CONSTRAINT %I', part, bond);
    END LOOP;
    kept := part || '_detached';
    WHILE to_regclass(quote_ident(kept)) IS NOT NULL LOOP
        count := count + 1;
        kept := part || '_detached_' || count;
    END LOOP;
    EXECUTE format('ALTER TABLE %I RENAME TO %I', part, kept);
    RETURN TRUE;
END $$;

-- What the functions find by name is found in PostgreSQL's own schema or this one, never in one that a caller made.
DO $$
BEGIN
    EXECUTE format('ALTER FUNCTION scaivault_append_only() SET search_path = %I, pg_temp', current_schema());
    EXECUTE format('ALTER FUNCTION scaivault_partition(text, date) SET search_path = %I, pg_temp', current_schema());
    EXECUTE format('ALTER FUNCTION scaivault_make_partition(text, date) SET search_path = %I, pg_temp', current_schema());
    EXECUTE format('ALTER FUNCTION scaivault_detach_partition(text, date) SET search_path = %I, pg_temp', current_schema());
END $$;
-- Whoever is to run them is told so by name.
REVOKE ALL ON FUNCTION scaivault_make_partition(text, date) FROM PUBLIC;
REVOKE ALL ON FUNCTION scaivault_detach_partition(text, date) FROM PUBLIC;
