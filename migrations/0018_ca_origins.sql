-- CAs that others signed or made. Such a CA waits (`pending`) with its request until its certificate is there: until then
-- `certificate` and `serial` are empty. `above` are the certificates above one that has no parent here, PEM, the nearest
-- first.
ALTER TABLE pki_ca ADD COLUMN pending BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE pki_ca ADD COLUMN csr BYTEA;
ALTER TABLE pki_ca ADD COLUMN above TEXT NOT NULL DEFAULT '';
-- Keys of a CA that follow each other under one name: `family` is the first of them (none: the CA itself), `replaces` the one
-- before.
ALTER TABLE pki_ca ADD COLUMN family TEXT COLLATE "C";
ALTER TABLE pki_ca ADD COLUMN replaces TEXT COLLATE "C";
ALTER TABLE pki_ca ADD COLUMN generation BIGINT NOT NULL DEFAULT 1;
CREATE UNIQUE INDEX pki_ca_generation ON pki_ca (tenant_id, family, generation) WHERE family IS NOT NULL;
