-- A role's version is part of what is approved with a certificate request: it rises with every change.
ALTER TABLE pki_role ADD COLUMN version BIGINT NOT NULL DEFAULT 1;

-- Certificate requests that wait for somebody's approval. `approval` is a hash over the request, the role as it was, and
-- who asked; it binds what is signed to what was looked at.
CREATE TABLE pki_csr (
    tenant_id        TEXT COLLATE "C" NOT NULL REFERENCES tenant (tenant_id),
    id               TEXT COLLATE "C" NOT NULL,
    role             TEXT COLLATE "C" NOT NULL,
    csr              BYTEA NOT NULL,
    common_name      TEXT,
    alt_names        JSONB NOT NULL,
    key_kind         TEXT NOT NULL,
    ttl              TEXT,
    description      TEXT NOT NULL,
    status           TEXT NOT NULL,
    requested_by     TEXT COLLATE "C" NOT NULL,
    requested_from   TEXT COLLATE "C" NOT NULL,
    created_at       TIMESTAMPTZ NOT NULL,
    approval         BYTEA,
    decided_by       TEXT COLLATE "C",
    decided_at       TIMESTAMPTZ,
    rejection_reason TEXT,
    certificate_id   TEXT COLLATE "C",
    PRIMARY KEY (tenant_id, id)
);
CREATE INDEX pki_csr_status ON pki_csr (tenant_id, status, id);

-- What was answered to a request with an idempotency key, for a day. Never a private key.
CREATE TABLE idempotency (
    tenant_id       TEXT COLLATE "C" NOT NULL REFERENCES tenant (tenant_id),
    identity        TEXT COLLATE "C" NOT NULL,
    route           TEXT COLLATE "C" NOT NULL,
    idempotency_key TEXT COLLATE "C" NOT NULL,
    request_hash    BYTEA NOT NULL,
    answer          JSONB NOT NULL,
    expires_at      TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (tenant_id, identity, route, idempotency_key)
);
CREATE INDEX idempotency_expiry ON idempotency (expires_at);
