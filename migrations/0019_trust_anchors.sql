-- CA certificates of others that a tenant trusts, each for a purpose. `notify_at` is when the next thing about its expiry is
-- to be told.
CREATE TABLE pki_anchor (
    tenant_id          TEXT COLLATE "C" NOT NULL REFERENCES tenant (tenant_id),
    id                 TEXT COLLATE "C" NOT NULL,
    name               TEXT NOT NULL,
    name_key           TEXT COLLATE "C" NOT NULL,
    description        TEXT NOT NULL,
    purpose            TEXT COLLATE "C" NOT NULL,
    certificate        BYTEA NOT NULL,
    fingerprint_sha256 BYTEA NOT NULL,
    not_after          TIMESTAMPTZ NOT NULL,
    notify_at          TIMESTAMPTZ,
    created_at         TIMESTAMPTZ NOT NULL,
    created_by         TEXT NOT NULL,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, name_key),
    UNIQUE (tenant_id, purpose, fingerprint_sha256)
);
CREATE INDEX pki_anchor_notify ON pki_anchor (notify_at) WHERE notify_at IS NOT NULL;
