-- The schema of the vault, written in PostgreSQL's words. SQLite runs the same text with its own names
-- for the types (see `scaivault-core/src/storage/migrate.rs`). Identifiers are opaque text; names of keys
-- that are listed in order collate bytewise. Every row of a tenant carries `tenant_id`.

CREATE TABLE tenant (
    tenant_id     TEXT COLLATE "C" PRIMARY KEY,
    partner_id    TEXT COLLATE "C" NOT NULL,
    -- Whether the tenant's first token named the partner; if not, it is the default one.
    partner_named BOOLEAN NOT NULL,
    policy_epoch  BIGINT NOT NULL DEFAULT 0,
    created_at    TIMESTAMPTZ NOT NULL
);

-- Partner master keys, wrapped by the root key (a `WrappedKey` of scaivault-kms).
CREATE TABLE partner_key (
    id         TEXT COLLATE "C" PRIMARY KEY,
    partner_id TEXT COLLATE "C" NOT NULL,
    version    BIGINT NOT NULL,
    wrapped    BYTEA NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    UNIQUE (partner_id, version)
);

-- Tenant envelope keys, wrapped by a partner key.
CREATE TABLE tenant_key (
    id             TEXT COLLATE "C" PRIMARY KEY,
    tenant_id      TEXT COLLATE "C" NOT NULL REFERENCES tenant (tenant_id),
    version        BIGINT NOT NULL,
    partner_key_id TEXT COLLATE "C" NOT NULL REFERENCES partner_key (id),
    wrapped        BYTEA NOT NULL,
    created_at     TIMESTAMPTZ NOT NULL,
    UNIQUE (tenant_id, version)
);

CREATE TABLE secret (
    tenant_id        TEXT COLLATE "C" NOT NULL REFERENCES tenant (tenant_id),
    path             TEXT COLLATE "C" NOT NULL,
    id               TEXT COLLATE "C" NOT NULL,
    secret_type      TEXT NOT NULL,
    current_version  BIGINT NOT NULL,
    max_versions     BIGINT NOT NULL,
    metadata         JSONB NOT NULL,
    notify_before    TEXT NOT NULL,
    created_at       TIMESTAMPTZ NOT NULL,
    updated_at       TIMESTAMPTZ NOT NULL,
    expires_at       TIMESTAMPTZ,
    deleted_at       TIMESTAMPTZ,
    last_accessed_at TIMESTAMPTZ,
    PRIMARY KEY (tenant_id, path),
    UNIQUE (tenant_id, id)
);
CREATE INDEX secret_deleted ON secret (deleted_at) WHERE deleted_at IS NOT NULL;

CREATE TABLE secret_tag (
    tenant_id TEXT COLLATE "C" NOT NULL,
    secret_id TEXT COLLATE "C" NOT NULL,
    tag       TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (tenant_id, secret_id, tag),
    FOREIGN KEY (tenant_id, secret_id) REFERENCES secret (tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX secret_tag_tag ON secret_tag (tenant_id, tag, secret_id);

-- One row a version. `ciphertext` is sealed under a data key of its own; `wrapped_key` is that data key
-- under the tenant key `key_id`. A rotation of tenant keys changes the last two columns and no other.
CREATE TABLE secret_version (
    tenant_id   TEXT COLLATE "C" NOT NULL,
    secret_id   TEXT COLLATE "C" NOT NULL,
    version     BIGINT NOT NULL,
    ciphertext  BYTEA NOT NULL,
    wrapped_key BYTEA NOT NULL,
    key_id      TEXT COLLATE "C" NOT NULL REFERENCES tenant_key (id),
    created_at  TIMESTAMPTZ NOT NULL,
    created_by  TEXT NOT NULL,
    PRIMARY KEY (tenant_id, secret_id, version),
    FOREIGN KEY (tenant_id, secret_id) REFERENCES secret (tenant_id, id) ON DELETE CASCADE
);

CREATE TABLE policy (
    tenant_id   TEXT COLLATE "C" NOT NULL REFERENCES tenant (tenant_id),
    id          TEXT COLLATE "C" NOT NULL,
    name        TEXT NOT NULL,
    name_key    TEXT COLLATE "C" NOT NULL,
    description TEXT NOT NULL,
    rules       JSONB NOT NULL,
    rule_count  BIGINT NOT NULL,
    is_active   BOOLEAN NOT NULL,
    created_at  TIMESTAMPTZ NOT NULL,
    updated_at  TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, name_key)
);

CREATE TABLE policy_binding (
    tenant_id     TEXT COLLATE "C" NOT NULL,
    id            TEXT COLLATE "C" NOT NULL,
    policy_id     TEXT COLLATE "C" NOT NULL,
    identity_type TEXT NOT NULL,
    identity_id   TEXT COLLATE "C" NOT NULL,
    expires_at    TIMESTAMPTZ,
    created_at    TIMESTAMPTZ NOT NULL,
    created_by    TEXT NOT NULL,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, policy_id, identity_type, identity_id),
    FOREIGN KEY (tenant_id, policy_id) REFERENCES policy (tenant_id, id) ON DELETE CASCADE
);

-- A certificate authority. Its own certificate is also a row of pki_certificate, under its parent.
CREATE TABLE pki_ca (
    tenant_id       TEXT COLLATE "C" NOT NULL REFERENCES tenant (tenant_id),
    id              TEXT COLLATE "C" NOT NULL,
    name            TEXT NOT NULL,
    name_key        TEXT COLLATE "C" NOT NULL,
    common_name     TEXT NOT NULL,
    ca_type         TEXT NOT NULL,
    parent_ca_id    TEXT COLLATE "C",
    key_spec        TEXT NOT NULL,
    certificate     BYTEA NOT NULL,
    serial          BYTEA NOT NULL,
    key_ciphertext  BYTEA NOT NULL,
    key_wrapped_key BYTEA NOT NULL,
    key_id          TEXT COLLATE "C" NOT NULL REFERENCES tenant_key (id),
    not_before      TIMESTAMPTZ NOT NULL,
    not_after       TIMESTAMPTZ NOT NULL,
    is_active       BOOLEAN NOT NULL,
    created_at      TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, name_key),
    FOREIGN KEY (tenant_id, parent_ca_id) REFERENCES pki_ca (tenant_id, id)
);
-- Revocation lists and OCSP are asked for by the CA alone, without a token.
CREATE UNIQUE INDEX pki_ca_id ON pki_ca (id);

-- The current revocation list of a CA. `due_at` is when it is to be rebuilt; a replica takes a row by
-- moving `claimed_until` forward.
CREATE TABLE pki_crl (
    tenant_id     TEXT COLLATE "C" NOT NULL,
    ca_id         TEXT COLLATE "C" NOT NULL,
    number        BIGINT NOT NULL,
    crl           BYTEA NOT NULL,
    this_update   TIMESTAMPTZ NOT NULL,
    next_update   TIMESTAMPTZ NOT NULL,
    due_at        TIMESTAMPTZ NOT NULL,
    claimed_until TIMESTAMPTZ,
    PRIMARY KEY (tenant_id, ca_id),
    FOREIGN KEY (tenant_id, ca_id) REFERENCES pki_ca (tenant_id, id)
);
CREATE INDEX pki_crl_due ON pki_crl (due_at);
CREATE UNIQUE INDEX pki_crl_ca ON pki_crl (ca_id);

CREATE TABLE pki_role (
    tenant_id  TEXT COLLATE "C" NOT NULL REFERENCES tenant (tenant_id),
    name       TEXT COLLATE "C" NOT NULL,
    ca_id      TEXT COLLATE "C" NOT NULL,
    config     JSONB NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (tenant_id, name),
    FOREIGN KEY (tenant_id, ca_id) REFERENCES pki_ca (tenant_id, id)
);

CREATE TABLE pki_certificate (
    tenant_id          TEXT COLLATE "C" NOT NULL REFERENCES tenant (tenant_id),
    id                 TEXT COLLATE "C" NOT NULL,
    ca_id              TEXT COLLATE "C" NOT NULL,
    serial             BYTEA NOT NULL,
    role               TEXT,
    common_name        TEXT,
    alt_names          JSONB NOT NULL,
    ip_sans            JSONB NOT NULL,
    certificate        BYTEA NOT NULL,
    fingerprint_sha256 BYTEA NOT NULL,
    not_before         TIMESTAMPTZ NOT NULL,
    not_after          TIMESTAMPTZ NOT NULL,
    revoked_at         TIMESTAMPTZ,
    revocation_reason  TEXT,
    source             TEXT NOT NULL,
    issued_to          TEXT NOT NULL,
    created_at         TIMESTAMPTZ NOT NULL,
    key_ciphertext     BYTEA,
    key_wrapped_key    BYTEA,
    key_id             TEXT COLLATE "C" REFERENCES tenant_key (id),
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, ca_id, serial),
    FOREIGN KEY (tenant_id, ca_id) REFERENCES pki_ca (tenant_id, id)
);
CREATE INDEX pki_certificate_serial ON pki_certificate (tenant_id, serial);
CREATE INDEX pki_certificate_expiry ON pki_certificate (tenant_id, not_after);
CREATE INDEX pki_certificate_revoked ON pki_certificate (tenant_id, ca_id) WHERE revoked_at IS NOT NULL;

-- Append-only: nothing updates or deletes a row here but the retention of a later release.
CREATE TABLE audit_log (
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
CREATE INDEX audit_log_request ON audit_log (tenant_id, request_id);
CREATE INDEX audit_log_identity ON audit_log (tenant_id, identity_id, timestamp);
CREATE INDEX audit_log_path ON audit_log (tenant_id, secret_path, timestamp);
CREATE INDEX audit_log_action ON audit_log (tenant_id, action, timestamp);

-- What happened and is to be told to others, written with the change itself.
CREATE TABLE event_outbox (
    tenant_id   TEXT COLLATE "C" NOT NULL,
    id          TEXT COLLATE "C" NOT NULL,
    event_type  TEXT NOT NULL,
    path        TEXT,
    identity_id TEXT NOT NULL,
    request_id  TEXT NOT NULL,
    data        JSONB NOT NULL,
    created_at  TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (tenant_id, id)
);
CREATE INDEX event_outbox_created ON event_outbox (created_at);
