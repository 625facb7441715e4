-- Who people are, as their identity provider tells: a cache that events and syncs fill. `state` holds every field with
-- the time and event it comes from, so that late, repeated and reordered news end alike; the other columns are drawn
-- from it. What was deleted stays as a tombstone.

-- One row. `epoch` rises with every change of the directory; whoever changes it locks this row first.
CREATE TABLE idp_state (
    id              BIGINT PRIMARY KEY,
    epoch           BIGINT NOT NULL,
    -- When the last complete sync began, and when the next is due.
    synced_at       TIMESTAMPTZ,
    next_sync_at    TIMESTAMPTZ,
    -- The first super admin, if he was promoted by the setting.
    bootstrapped_at TIMESTAMPTZ,
    bootstrapped    TEXT
);
INSERT INTO idp_state (id, epoch) VALUES (1, 0);

CREATE TABLE idp_partner (
    partner_id TEXT COLLATE "C" PRIMARY KEY,
    status     TEXT NOT NULL,
    status_at  TIMESTAMPTZ NOT NULL,
    name       TEXT,
    slug       TEXT,
    region     TEXT,
    state      JSONB NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL
);

CREATE TABLE idp_tenant (
    tenant_id  TEXT COLLATE "C" PRIMARY KEY,
    partner_id TEXT COLLATE "C",
    status     TEXT NOT NULL,
    status_at  TIMESTAMPTZ NOT NULL,
    name       TEXT,
    slug       TEXT,
    region     TEXT,
    -- Rises with every change of the tenant's people and groups.
    epoch      BIGINT NOT NULL,
    -- When the last sync of this tenant alone, or of its partner, began.
    synced_at  TIMESTAMPTZ,
    state      JSONB NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL
);
CREATE INDEX idp_tenant_partner ON idp_tenant (partner_id);

CREATE TABLE idp_user (
    tenant_id    TEXT COLLATE "C" NOT NULL,
    user_id      TEXT COLLATE "C" NOT NULL,
    status       TEXT NOT NULL,
    status_at    TIMESTAMPTZ NOT NULL,
    email        TEXT COLLATE "C",
    external_id  TEXT COLLATE "C",
    display_name TEXT,
    mfa_enabled  BOOLEAN NOT NULL,
    roles        JSONB NOT NULL,
    state        JSONB NOT NULL,
    updated_at   TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (tenant_id, user_id)
);
CREATE INDEX idp_user_id ON idp_user (user_id);

-- Every name that tokens may have for a user, former ones too. It only grows.
CREATE TABLE idp_user_name (
    tenant_id TEXT COLLATE "C" NOT NULL,
    name      TEXT COLLATE "C" NOT NULL,
    user_id   TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (tenant_id, name, user_id)
);

CREATE TABLE idp_group (
    tenant_id  TEXT COLLATE "C" NOT NULL,
    group_id   TEXT COLLATE "C" NOT NULL,
    status     TEXT NOT NULL,
    status_at  TIMESTAMPTZ NOT NULL,
    name       TEXT,
    slug       TEXT COLLATE "C",
    state      JSONB NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (tenant_id, group_id)
);
CREATE INDEX idp_group_id ON idp_group (group_id);

CREATE TABLE idp_membership (
    tenant_id       TEXT COLLATE "C" NOT NULL,
    group_id        TEXT COLLATE "C" NOT NULL,
    user_id         TEXT COLLATE "C" NOT NULL,
    status          TEXT NOT NULL,
    status_at       TIMESTAMPTZ NOT NULL,
    membership_type TEXT NOT NULL,
    added_at        TIMESTAMPTZ,
    state           JSONB NOT NULL,
    updated_at      TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (tenant_id, group_id, user_id)
);
CREATE INDEX idp_membership_user ON idp_membership (tenant_id, user_id);

-- Roles that were given here: to a user by his id, or to the name in a token.
CREATE TABLE idp_role (
    tenant_id   TEXT COLLATE "C" NOT NULL,
    identity_id TEXT COLLATE "C" NOT NULL,
    role        TEXT NOT NULL,
    granted_by  TEXT NOT NULL,
    granted_at  TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (tenant_id, identity_id, role)
);

-- Events that were applied.
CREATE TABLE idp_event (
    event_id    TEXT COLLATE "C" PRIMARY KEY,
    received_at TIMESTAMPTZ NOT NULL
);
CREATE INDEX idp_event_received ON idp_event (received_at);

-- Syncs: wanted, running (a replica holds it until `claimed_until`), and past.
CREATE TABLE idp_sync (
    id            TEXT COLLATE "C" PRIMARY KEY,
    status        TEXT NOT NULL,
    partner_id    TEXT COLLATE "C",
    of_tenant     TEXT COLLATE "C",
    requested_by  TEXT NOT NULL,
    started_at    TIMESTAMPTZ NOT NULL,
    completed_at  TIMESTAMPTZ,
    claimed_until TIMESTAMPTZ,
    users_synced  BIGINT NOT NULL,
    groups_synced BIGINT NOT NULL,
    errors        JSONB NOT NULL
);
CREATE INDEX idp_sync_status ON idp_sync (status);
