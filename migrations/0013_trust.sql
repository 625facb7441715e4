-- Whose tokens a tenant exchanges for its own. `document` is what was written, without the name; `issuer` is what a token's
-- `iss` has to be, or names the service that is asked instead.
CREATE TABLE trust (
    tenant_id  TEXT COLLATE "C" NOT NULL REFERENCES tenant (tenant_id),
    id         TEXT COLLATE "C" NOT NULL,
    name       TEXT NOT NULL,
    name_key   TEXT COLLATE "C" NOT NULL,
    issuer     TEXT COLLATE "C" NOT NULL,
    document   JSONB NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    created_by TEXT NOT NULL,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, name_key)
);
CREATE INDEX trust_issuer ON trust (tenant_id, issuer);

-- Proofs that may be exchanged once and were, by their hash, until they would have expired anyway.
CREATE TABLE trust_use (
    tenant_id  TEXT COLLATE "C" NOT NULL,
    trust_id   TEXT COLLATE "C" NOT NULL,
    proof      TEXT COLLATE "C" NOT NULL,
    expires_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (tenant_id, trust_id, proof),
    FOREIGN KEY (tenant_id, trust_id) REFERENCES trust (tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX trust_use_expired ON trust_use (tenant_id, expires_at);
