//! Every bound there is, in one place.

use std::time::Duration;

/// Segments of a secret path.
pub const PATH_SEGMENTS: usize = 10;
/// Characters of a secret path, and of a path pattern.
pub const PATH_CHARS: usize = 512;
/// `**` segments of a path pattern.
pub const PATTERN_DOUBLE_STARS: usize = 4;
/// Policies of one tenant.
pub const POLICIES: i64 = 1000;
/// Bindings of one policy.
pub const BINDINGS: i64 = 10_000;
/// Certificate authorities of one tenant.
pub const CAS: i64 = 1000;
/// PKI roles of one tenant.
pub const ROLES: i64 = 10_000;
/// Trust anchors of one tenant.
pub const TRUST_ANCHORS: i64 = 500;
/// Before its end a trust anchor is said to expire soon, and it is told at these times.
pub const TRUST_ANCHOR_NOTICES: &str = "30d,7d,1d";
/// See [`TRUST_ANCHOR_NOTICES`].
pub const TRUST_ANCHOR_SOON: Duration = Duration::from_secs(30 * 86_400);
/// Certificates of one question whether a certificate is good.
pub const VALIDATE_CERTIFICATES: usize = 32;
/// Revocation lists, and OCSP answers, of such a question.
pub const VALIDATE_EVIDENCE: usize = 16;
/// Pairs of a certificate and a CA of the tenant that the register is asked about for it.
pub const VALIDATE_REGISTER: usize = 256;
/// Certificates that a search counts; of more it is said that there are more.
pub const COUNTED_CERTIFICATES: i64 = 10_000;
/// Active certificates that a summary of the inventory is made of; of more, those that end first.
pub const SUMMARIZED_CERTIFICATES: i64 = 20_000;
/// Keys of more than one certificate that a summary names.
pub const SHARED_KEYS: i64 = 100;
/// Rules of one policy.
pub const POLICY_RULES: usize = 1000;
/// Ranges of source addresses in one rule.
pub const CONDITION_RANGES: usize = 256;
/// How long ago a second factor may have been shown, unless configured or said by the rule.
pub const MFA_WINDOW: Duration = Duration::from_secs(15 * 60);
/// Groups of a caller that the audit record of a decision names; how many more there are is said.
pub const AUDIT_GROUPS: usize = 32;
/// Rules that an explanation names; how many more there are is said.
pub const EXPLAINED_RULES: usize = 1000;
/// Days of the audit trail that a draft of a policy can be held against.
pub const DIFF_DAYS: u32 = 30;
/// The same, unless the caller says otherwise.
pub const DIFF_DAYS_DEFAULT: u32 = 7;
/// Groups of an identity that is imagined.
pub const ASKED_GROUPS: usize = 1024;
/// Characters of a name (policy, CA, role).
pub const NAME_CHARS: usize = 128;
/// Characters of a description.
pub const DESCRIPTION_CHARS: usize = 2048;
/// Bytes of an opaque identifier.
pub const ID_BYTES: usize = 128;
/// Bytes of a secret's `data` object, as JSON.
pub const SECRET_DATA_BYTES: usize = 1 << 20;
/// Bytes of a secret's `metadata` object, as JSON.
pub const SECRET_METADATA_BYTES: usize = 16 << 10;
/// Tags of a secret.
pub const TAGS: usize = 64;
/// Characters of a tag.
pub const TAG_CHARS: usize = 128;
/// Versions kept of a secret, unless it says otherwise.
pub const MAX_VERSIONS_DEFAULT: i64 = 10;
/// The most versions that a secret may keep.
pub const MAX_VERSIONS: i64 = 100;
/// Rows of a page, unless the caller says otherwise, and the most that he gets.
pub const PAGE_DEFAULT: u32 = 100;
/// See [`PAGE_DEFAULT`].
pub const PAGE_MAX: u32 = 1000;
/// Rows that one page of a list may look at to find those that the caller may see.
pub const LIST_SCAN: usize = 10_000;
/// Bytes of a bearer token.
pub const TOKEN_BYTES: usize = 16 << 10;
/// Path patterns that a token may be narrowed to.
pub const ALLOWED_PATHS: usize = 64;
/// Client certificates that may stand for a service account.
pub const CLIENT_IDENTITIES: usize = 10_000;
/// Trust configurations of one tenant.
pub const TRUSTS: i64 = 100;
/// Claims that a trust configuration may bind.
pub const BOUND_CLAIMS: usize = 32;
/// Values of one claim, audiences, accounts and ARNs that a trust configuration may name.
pub const BOUND_VALUES: usize = 64;
/// Bytes of one of them.
pub const BOUND_VALUE: usize = 512;
/// Bytes of a key set in a trust configuration.
pub const TRUST_JWKS_BYTES: usize = 32 << 10;
/// Bytes of an issuer's discovery document.
pub const DISCOVERY_BYTES: usize = 64 << 10;
/// Bytes of an answer of AWS's Security Token Service.
pub const STS_BYTES: usize = 16 << 10;
/// How long a token that is given out for another may last.
pub const EXCHANGED_LIFE: Duration = Duration::from_secs(3600);
/// The shortest time that a trust configuration may ask for.
pub const EXCHANGED_LIFE_MIN: Duration = Duration::from_secs(60);
/// How long a proof that was exchanged is remembered after it has expired: clocks of replicas may be as far apart.
pub const PROOF_KEPT: Duration = Duration::from_secs(3600);
/// How long a token may last from its issue on that is to be exchanged.
pub const SUBJECT_LIFE: Duration = Duration::from_secs(24 * 3600);
/// Bytes of a key set that an issuer serves.
pub const JWKS_BYTES: usize = 256 << 10;
/// Groups, scopes and roles taken from one token.
pub const CLAIM_ENTRIES: usize = 1024;
/// Clock difference allowed between the issuer of a token and us.
pub const TOKEN_LEEWAY: Duration = Duration::from_secs(30);
/// How long a token that was good is believed without checking its signature again.
pub const TOKEN_KNOWN: Duration = Duration::from_secs(60);
/// The same of a token that its issuer does not vouch for.
pub const TOKEN_UNKNOWN: Duration = Duration::from_secs(10);
/// Bytes of an opaque token, its prefix included.
pub const OPAQUE_TOKEN_BYTES: std::ops::RangeInclusive<usize> = 12..=512;
/// Opaque tokens that are looked up at one time; more wait.
pub const INTROSPECTIONS: usize = 32;
/// Bytes of what an issuer says of one.
pub const INTROSPECTION_BYTES: usize = 64 << 10;
/// How long an issuer that could not be asked about one is left alone.
pub const INTROSPECTION_RETRY: Duration = Duration::from_secs(1);
/// How old a key set may be before it is fetched again.
pub const JWKS_TTL: Duration = Duration::from_secs(300);
/// How often an unknown key id may cause a fetch.
pub const JWKS_FORCED_REFRESH: Duration = Duration::from_secs(30);
/// How long the last good key set is used while its issuer does not answer.
pub const JWKS_STALE: Duration = Duration::from_secs(24 * 3600);
/// How long one attempt to fetch a key set may take.
pub const JWKS_FETCH: Duration = Duration::from_secs(10);
/// How long an issuer that did not answer is left alone.
pub const JWKS_RETRY: Duration = Duration::from_secs(5);
/// Time for one whole request that we make, unless it says otherwise.
pub const EGRESS_TIME: Duration = Duration::from_secs(5);
/// Time for a connection of it, its name resolved and TLS agreed.
pub const EGRESS_CONNECT: Duration = Duration::from_secs(3);
/// Bytes of the body of an answer to it, unless it says otherwise.
pub const EGRESS_BODY_BYTES: usize = 1 << 20;
/// Bytes of the header of an answer to it.
pub const EGRESS_HEADER_BYTES: usize = 32 << 10;
/// Fields of the header of an answer to it.
pub const EGRESS_HEADERS: usize = 100;
/// How old a compiled policy set or role may be before its epoch is looked at again: the bound on how
/// long a change made on another replica may go unnoticed.
pub const EPOCH_CHECK: Duration = Duration::from_secs(1);
/// Root keys that a vault may be configured with.
pub const ROOTS: usize = 8;
/// How long one root key is waited for while another may do the same.
pub const ROOT_PATIENCE: Duration = Duration::from_secs(3);
/// How long after its failure a root key is asked again by the background work; twice as long each time, at most
/// [`ROOT_PROBE_MAX`].
pub const ROOT_PROBE: Duration = Duration::from_secs(2);
/// See [`ROOT_PROBE`].
pub const ROOT_PROBE_MAX: Duration = Duration::from_secs(10);
/// How long what a check of all root keys found is told to whoever asks next: nobody makes calls by asking often.
pub const ROOT_CHECK_SHARED: Duration = Duration::from_secs(3);
/// Shares that the key of a recovery root may be split into.
pub const RECOVERY_SHARES: u8 = 16;
/// How long unwrapped keys stay in memory, unless configured.
pub const KEY_CACHE_TTL: Duration = Duration::from_secs(60);
/// What the longest request takes, as far as keys go: a retired key outlives the last cache by this much.
pub const KEY_IN_FLIGHT: Duration = Duration::from_secs(30);
/// Rows wrapped anew by one transaction.
pub const REWRAP_BATCH: usize = 256;
/// Rows wrapped anew by one round of the background job, so that other jobs get their turn.
pub const REWRAP_ROUND: u64 = 20_000;
/// Wraps that a process takes from the count of a tenant key at once; it keeps half of it for those under way.
pub const WRAPS_STEP: i64 = 1 << 16;
/// Wraps after which a tenant key is replaced by the background work.
pub const WRAPS_WORN: i64 = 1 << 31;
/// Wraps after which a tenant key seals nothing more: well before 2³², which AES-GCM with random nonces bears.
pub const WRAPS_MAX: i64 = (1 << 32) - (1 << 28);
/// Wraps that do not open, named one by one by a check of the keys; more are counted.
pub const BROKEN_NAMED: usize = 1000;
/// How long a deleted secret can be restored, unless configured.
pub const SOFT_DELETE_RETENTION: Duration = Duration::from_secs(30 * 24 * 3600);
/// How often a secret's `last_accessed_at` is written at most.
pub const LAST_ACCESSED_EVERY: Duration = Duration::from_secs(60);
/// How often a revocation list is rebuilt.
pub const CRL_EVERY: Duration = Duration::from_secs(3600);
/// How often the delta of one is rebuilt, if it has deltas.
pub const DELTA_EVERY: Duration = Duration::from_secs(600);
/// How long a delta is valid.
pub const DELTA_VALIDITY: Duration = Duration::from_secs(24 * 3600);
/// Entries of the complete list of a CA that has several besides; with more there is none.
pub const COMPLETE_CRL: usize = 10_000;
/// Entries of a list from which on the log says at each rebuild that it is long: some four megabytes.
pub const LONG_CRL: usize = 100_000;
/// How long a revocation list is valid: it survives a day and a half of missed rebuilds.
pub const CRL_VALIDITY: Duration = Duration::from_secs(72 * 3600);
/// How long an OCSP answer is valid.
pub const OCSP_VALIDITY: Duration = Duration::from_secs(3600);
/// Audit records that are written by one statement.
pub const AUDIT_BATCH: usize = 64;
/// Audit records that may wait for the database before callers are told to come back.
pub const AUDIT_QUEUE: usize = 4096;
/// Requests that may wait for a connection to PostgreSQL before callers are told to come back.
pub const DATABASE_QUEUE: usize = 1024;
/// Audit records of one tenant that a group takes from its intake.
pub const AUDIT_INTAKE: i64 = 512;
/// How old the last checkpoint of a chain may be while the chain goes on.
pub const AUDIT_CHECKPOINT_EVERY: Duration = Duration::from_secs(300);
/// How long audit records are kept, unless configured: seven years.
pub const AUDIT_RETENTION: Duration = Duration::from_secs(2557 * 86_400);
/// The shortest time that audit records may be kept.
pub const AUDIT_RETENTION_MIN: Duration = Duration::from_secs(90 * 86_400);
/// Months ahead that have a partition.
pub const PARTITIONS_AHEAD: u32 = 3;
/// Records that retention deletes in one transaction, where it deletes.
pub const AUDIT_DELETE: i64 = 500;
/// The longest range that a summary of the audit trail may be asked for, and the one that it has unless asked.
pub const AUDIT_SUMMARY: Duration = Duration::from_secs(31 * 86_400);
/// The most identities and the most secrets that a summary names.
pub const AUDIT_TOP: i64 = 10;
/// Certificates that one call registers which were issued elsewhere.
pub const REGISTERED_CERTIFICATES: usize = 500;
/// Certificates that one call revokes where many are revoked at once.
pub const BULK_REVOKE: i64 = 500;
/// Serial numbers that the answer to such a call names.
pub const BULK_NAMED: usize = 100;
/// Certificates that retention deletes in one transaction, where it deletes.
pub const CERTIFICATE_DELETE: i64 = 500;
/// Bytes of an idempotency key.
pub const IDEMPOTENCY_KEY_BYTES: usize = 255;
/// How long the answer to a request with an idempotency key is remembered.
pub const IDEMPOTENCY_KEPT: Duration = Duration::from_secs(24 * 3600);
/// Idempotency keys that are removed in one transaction.
pub const IDEMPOTENCY_DELETE: i64 = 500;
/// Certificate requests of one tenant that may wait for a decision or their signature.
pub const OPEN_CSRS: i64 = 10_000;
/// The longest retention of deleted secrets: a thousand years, so that sums with times stay in range.
pub const RETENTION_MAX: Duration = Duration::from_secs(1000 * 366 * 86_400);
/// How long an event waits in the outbox before it is dropped.
pub const OUTBOX_RETENTION: Duration = Duration::from_secs(30 * 24 * 3600);
/// How long a statement may take on PostgreSQL, and how long it may wait for a lock.
pub const STATEMENT_TIME: Duration = Duration::from_secs(10);
/// See [`STATEMENT_TIME`].
pub const LOCK_TIME: Duration = Duration::from_secs(5);
/// How long the certificate of an OCSP responder is valid; it is replaced after half of that.
pub const RESPONDER_LIFE: Duration = Duration::from_secs(7 * 86_400);
/// How long an OCSP answer without a nonce is given to others who ask the same.
pub const OCSP_KEPT: Duration = Duration::from_secs(600);
/// OCSP answers that a CA's key in a provider signs in a minute, while the CA cannot delegate.
pub const OCSP_SIGNED: u32 = 600;
/// Certificates that one OCSP request may ask about.
pub const OCSP_CERTIFICATES: usize = 16;
/// Characters of a user agent that the audit trail keeps.
pub const USER_AGENT_CHARS: usize = 256;
/// How old, or how far ahead, an event of the identity provider may be when it arrives.
pub const WEBHOOK_AGE: Duration = Duration::from_secs(300);
/// Bytes of an event of the identity provider.
pub const WEBHOOK_BYTES: usize = 256 << 10;
/// How long the ids of events are remembered.
pub const EVENTS_KEPT: Duration = Duration::from_secs(30 * 86_400);
/// How often the directory is synced, unless configured.
pub const IDENTITY_SYNC_EVERY: Duration = Duration::from_secs(15 * 60);
/// So many times the interval of syncs after the last complete one, the directory gives no roles and groups any more.
pub const DIRECTORY_SYNCS_MISSED: u32 = 4;
/// How far the clock of the identity provider may be from ours, and how long its lists may lag behind its events.
pub const DIRECTORY_SKEW: Duration = Duration::from_secs(300);
/// Characters of a text of the directory.
pub const DIRECTORY_TEXT: usize = 256;
/// Records that a sync takes.
pub const DIRECTORY_RECORDS: usize = 1_000_000;
/// How long a sync may fetch.
pub const SYNC_TIME: Duration = Duration::from_secs(600);
/// After how long a sync that a replica has taken may be taken by another.
pub const SYNC_CLAIM: Duration = Duration::from_secs(1800);
/// How long syncs are told of.
pub const SYNCS_KEPT: Duration = Duration::from_secs(90 * 86_400);
/// What went wrong in a sync, one by one.
pub const SYNC_ERRORS: usize = 100;
/// Rows of a page of the directory, unless the caller says otherwise.
pub const IDENTITY_PAGE_DEFAULT: u32 = 50;
/// The most rows of a page of the directory.
pub const IDENTITY_PAGE_MAX: u32 = 200;

/// RSA keys that are made ahead, unless configured.
pub const RSA_POOL: u32 = 8;
/// The most RSA keys that are made ahead.
pub const RSA_POOL_MAX: u32 = 64;
