-- How a CA numbers what it issues: with a key that it alone has, sealed like its own, so that a serial number tells by
-- itself that it was given out. And on which lists what it revoked stands, which never changes: `shards` of them, at
-- places below `crl_url`, besides the complete one.
CREATE TABLE pki_numbering (
    tenant_id       TEXT COLLATE "C" NOT NULL,
    id              TEXT COLLATE "C" NOT NULL,
    key_ciphertext  BYTEA NOT NULL,
    key_wrapped_key BYTEA NOT NULL,
    key_id          TEXT COLLATE "C" NOT NULL REFERENCES tenant_key (id),
    shards          BIGINT NOT NULL DEFAULT 1,
    delta_crls      BOOLEAN NOT NULL DEFAULT FALSE,
    keep_expired    BOOLEAN NOT NULL DEFAULT FALSE,
    crl_url         TEXT,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, id) REFERENCES pki_ca (tenant_id, id)
);
CREATE INDEX pki_numbering_key ON pki_numbering (key_id, id);
-- A rotation of tenant keys finds CAs by their ids alone.
CREATE UNIQUE INDEX pki_numbering_ca ON pki_numbering (id);

-- The octet of a serial number that says which list it is on, without its top bit; 0 for numbers without one.
ALTER TABLE pki_serial ADD COLUMN shard BIGINT NOT NULL DEFAULT 0;
DROP INDEX pki_serial_revoked;
CREATE INDEX pki_serial_revoked ON pki_serial (tenant_id, ca_id, serial) WHERE revoked_at IS NOT NULL;
CREATE INDEX pki_serial_revoked_shard ON pki_serial (tenant_id, ca_id, shard, serial) WHERE revoked_at IS NOT NULL;

-- The current lists of a CA: the complete one is that of shard -1, and has no `crl` where there is too much for one.
-- `number` is that of the last list or delta, `base_number` that of the list which the next delta begins at.
-- `marks` counts what brought the list forward: one that was read before the last of it stays due.
CREATE TABLE pki_crl_of_shard (
    tenant_id         TEXT COLLATE "C" NOT NULL,
    ca_id             TEXT COLLATE "C" NOT NULL,
    shard             BIGINT NOT NULL,
    number            BIGINT NOT NULL,
    base_number       BIGINT NOT NULL,
    crl               BYTEA,
    this_update       TIMESTAMPTZ NOT NULL,
    next_update       TIMESTAMPTZ NOT NULL,
    due_at            TIMESTAMPTZ NOT NULL,
    claimed_until     TIMESTAMPTZ,
    marks             BIGINT NOT NULL DEFAULT 0,
    delta             BYTEA,
    delta_this_update TIMESTAMPTZ,
    delta_next_update TIMESTAMPTZ,
    delta_due_at      TIMESTAMPTZ,
    PRIMARY KEY (tenant_id, ca_id, shard),
    FOREIGN KEY (tenant_id, ca_id) REFERENCES pki_ca (tenant_id, id)
);
INSERT INTO pki_crl_of_shard (tenant_id, ca_id, shard, number, base_number, crl, this_update, next_update, due_at)
    SELECT tenant_id, ca_id, -1, number, number, crl, this_update, next_update, due_at FROM pki_crl;
DROP TABLE pki_crl;
ALTER TABLE pki_crl_of_shard RENAME TO pki_crl;
CREATE INDEX pki_crl_due ON pki_crl (due_at);
CREATE INDEX pki_crl_delta_due ON pki_crl (delta_due_at) WHERE delta_due_at IS NOT NULL;
CREATE UNIQUE INDEX pki_crl_ca ON pki_crl (ca_id, shard);
