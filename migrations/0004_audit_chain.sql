-- The audit trail as a chain: every record of a tenant has a place (`seq`, from 1, without gaps) and a hash over
-- itself and the hash before it. docs/AUDIT.md says how the hash is made.

-- Renamed first: on PostgreSQL that keeps everybody else out until the migration is done.
ALTER TABLE audit_log RENAME TO audit_log_before_chain;

-- Records that have no place yet. On PostgreSQL a change writes its record here, in its own transaction; a moment
-- later the records of a group get their places together, and are moved. On SQLite nothing waits here but what
-- this migration brings.
CREATE TABLE audit_intake (
    tenant_id        TEXT COLLATE "C" NOT NULL,
    id               TEXT COLLATE "C" NOT NULL,
    timestamp        TIMESTAMPTZ NOT NULL,
    action           TEXT NOT NULL,
    identity_type    TEXT NOT NULL,
    identity_id      TEXT COLLATE "C" NOT NULL,
    acting_tenant_id TEXT COLLATE "C" NOT NULL,
    resource_type    TEXT,
    resource_id      TEXT,
    secret_path      TEXT COLLATE "C",
    source_ip        TEXT,
    user_agent       TEXT,
    success          BOOLEAN NOT NULL,
    error_code       TEXT,
    duration_ms      BIGINT NOT NULL,
    request_id       TEXT COLLATE "C" NOT NULL,
    extra_data       JSONB NOT NULL,
    PRIMARY KEY (tenant_id, timestamp, id)
);

INSERT INTO audit_intake (tenant_id, id, timestamp, action, identity_type, identity_id, acting_tenant_id,
    resource_type, resource_id, secret_path, source_ip, user_agent, success, error_code, duration_ms, request_id,
    extra_data)
SELECT tenant_id, id, timestamp, action, identity_type, identity_id, acting_tenant_id, resource_type, resource_id,
    secret_path, source_ip, user_agent, success, error_code, duration_ms, request_id, extra_data
FROM audit_log_before_chain;
DROP TABLE audit_log_before_chain;

-- Append-only: triggers refuse UPDATE and DELETE. On PostgreSQL one partition a month.
CREATE TABLE audit_log (
    tenant_id        TEXT COLLATE "C" NOT NULL,
    seq              BIGINT NOT NULL,
    prev_hash        BYTEA NOT NULL,
    hash             BYTEA NOT NULL,
    id               TEXT COLLATE "C" NOT NULL,
    timestamp        TIMESTAMPTZ NOT NULL,
    action           TEXT NOT NULL,
    identity_type    TEXT NOT NULL,
    identity_id      TEXT COLLATE "C" NOT NULL,
    acting_tenant_id TEXT COLLATE "C" NOT NULL,
    resource_type    TEXT,
    resource_id      TEXT,
    secret_path      TEXT COLLATE "C",
    source_ip        TEXT,
    user_agent       TEXT,
    success          BOOLEAN NOT NULL,
    error_code       TEXT,
    duration_ms      BIGINT NOT NULL,
    request_id       TEXT COLLATE "C" NOT NULL,
    extra_data       JSONB NOT NULL,
    PRIMARY KEY (tenant_id, timestamp, id)
) PARTITION BY RANGE (timestamp);
CREATE UNIQUE INDEX audit_log_seq ON audit_log (tenant_id, seq, timestamp);
CREATE INDEX audit_log_request ON audit_log (tenant_id, request_id);
-- One a filter, each in the order in which pages are given.
CREATE INDEX audit_log_identity ON audit_log (tenant_id, identity_id, timestamp, id);
CREATE INDEX audit_log_path ON audit_log (tenant_id, secret_path, timestamp, id);
CREATE INDEX audit_log_action ON audit_log (tenant_id, action, timestamp, id);
CREATE INDEX audit_log_source ON audit_log (tenant_id, source_ip, timestamp, id);
CREATE INDEX audit_log_failed ON audit_log (tenant_id, timestamp, id) WHERE NOT success;

-- The last place of each tenant. Whoever gives places holds its row.
CREATE TABLE audit_head (
    tenant_id TEXT COLLATE "C" PRIMARY KEY,
    seq       BIGINT NOT NULL,
    hash      BYTEA NOT NULL
);

-- Signed: at `timestamp` the chain of the tenant had this hash at this place. `purpose` is `head`, or `retention`
-- where the records up to this place have outlived their time and may be gone.
CREATE TABLE audit_checkpoint (
    tenant_id TEXT COLLATE "C" NOT NULL,
    seq       BIGINT NOT NULL,
    purpose   TEXT COLLATE "C" NOT NULL,
    hash      BYTEA NOT NULL,
    timestamp TIMESTAMPTZ NOT NULL,
    algorithm TEXT NOT NULL,
    key_id    TEXT COLLATE "C" NOT NULL,
    signature BYTEA NOT NULL,
    PRIMARY KEY (tenant_id, seq, purpose)
);

-- The key that signs checkpoints, of the whole vault: PKCS #8 under a data key, and that under the root key.
CREATE TABLE audit_key (
    id         TEXT COLLATE "C" PRIMARY KEY,
    version    BIGINT NOT NULL UNIQUE,
    spec       TEXT NOT NULL,
    ciphertext BYTEA NOT NULL,
    wrapped    BYTEA NOT NULL,
    created_at TIMESTAMPTZ NOT NULL
);
