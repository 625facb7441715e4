-- The root keys that keys are wrapped under: a provider and the name that it gives the key. Only an *active* one wraps;
-- one that is *removing* loses its wraps, one that is *removed* has none. `pending` is a recovery root that is being
-- made. What a key lies under is in its own column `wrapped`: one wrap, or several.
--
-- A recovery root (provider `recovery`) has its public key here, sealed under the other root keys, so that nobody who can
-- only write to the database can put his own in its place. The private key is nowhere: it is in shares, with people.

CREATE TABLE root_key (
    id         TEXT COLLATE "C" PRIMARY KEY,
    provider   TEXT COLLATE "C" NOT NULL,
    key_id     TEXT COLLATE "C" NOT NULL,
    state      TEXT COLLATE "C" NOT NULL,
    ciphertext BYTEA,
    wrapped    BYTEA,
    threshold  BIGINT,
    shares     BIGINT,
    added_at   TIMESTAMPTZ NOT NULL,
    removed_at TIMESTAMPTZ,
    UNIQUE (provider, key_id)
);
