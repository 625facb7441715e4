use std::sync::{Arc, LazyLock};

use serde_json::Value;
use sqlx::AssertSqlSafe;

use super::{
    AuditLog,
    chain::{ChainHash, ChainedRecord, Checkpoint, Purpose, plain},
};
use crate::{
    Result, limits,
    storage::{Query, QueryBuilder, Ts, query},
};

/// The columns of a record, without its place.
macro_rules! columns {
    () => {
        "tenant_id, id, timestamp, action, identity_type, identity_id, acting_tenant_id, resource_type, resource_id, \
         secret_path, source_ip, user_agent, success, error_code, duration_ms, request_id, extra_data"
    };
}

/// Everything but the conditions, which the filter adds.
pub(super) const SELECT: &str = concat!("SELECT ", columns!(), " FROM audit_log WHERE tenant_id = ");

pub(crate) mod sql {
    pub(crate) const INSERT_INTAKE: &str = concat!(
        "INSERT INTO audit_intake (",
        columns!(),
        ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)"
    );
    /// A few at a time: the rows, which are gone once the transaction commits.
    pub(crate) const TAKE_INTAKE: &str = concat!(
        "DELETE FROM audit_intake WHERE (tenant_id, timestamp, id) IN (SELECT tenant_id, timestamp, id \
         FROM audit_intake WHERE tenant_id = $1 ORDER BY timestamp, id LIMIT $2) RETURNING ",
        columns!()
    );
    pub(crate) const WAITING: &str = "SELECT DISTINCT tenant_id FROM audit_intake";
    pub(crate) const MAKE_HEAD: &str = "\
        INSERT INTO audit_head (tenant_id, seq, hash) VALUES ($1, 0, $2) ON CONFLICT (tenant_id) DO NOTHING";
    pub(crate) const HEAD: &str = "SELECT tenant_id, seq, hash FROM audit_head WHERE tenant_id = $1";
    /// Tenants whose chain ends elsewhere than their last checkpoint says, unless that is younger than a time.
    pub(crate) const DUE: &str = "\
        SELECT h.tenant_id FROM audit_head h \
        WHERE h.seq <> coalesce((SELECT max(c.seq) FROM audit_checkpoint c WHERE c.tenant_id = h.tenant_id), 0) \
        AND NOT EXISTS (SELECT 1 FROM (SELECT c.timestamp AS at FROM audit_checkpoint c \
        WHERE c.tenant_id = h.tenant_id ORDER BY c.seq DESC LIMIT 1) l WHERE l.at > $1) ORDER BY h.tenant_id";
    /// The head, and the highest place that is taken.
    pub(crate) const EXTENT: &str = "\
        SELECT coalesce((SELECT seq FROM audit_head WHERE tenant_id = $1), 0), \
        (SELECT hash FROM audit_head WHERE tenant_id = $1), \
        coalesce((SELECT max(seq) FROM audit_log WHERE tenant_id = $1), 0)";
    pub(crate) const CHAIN: &str = concat!(
        "SELECT ",
        columns!(),
        ", seq, prev_hash, hash FROM audit_log WHERE tenant_id = $1 AND seq >= $2 AND (seq, id) > ($2, $3) \
         AND seq <= $4 ORDER BY seq, id LIMIT $5"
    );
    pub(crate) const FIRST_SINCE: &str =
        "SELECT min(seq) FROM audit_log WHERE tenant_id = $1 AND timestamp >= $2";
    pub(crate) const LAST_BEFORE: &str =
        "SELECT max(seq) FROM audit_log WHERE tenant_id = $1 AND timestamp < $2";
    pub(crate) const INSERT_CHECKPOINT: &str = "\
        INSERT INTO audit_checkpoint (tenant_id, seq, purpose, hash, timestamp, algorithm, key_id, signature) \
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (tenant_id, seq, purpose) DO NOTHING";
    pub(crate) const CHECKPOINTS: &str = "\
        SELECT tenant_id, seq, purpose, hash, timestamp, algorithm, key_id, signature FROM audit_checkpoint \
        WHERE tenant_id = $1 AND seq > $2 AND seq <= $3 ORDER BY seq, purpose LIMIT $4";
    pub(crate) const LAST_CHECKPOINT: &str = "\
        SELECT tenant_id, seq, purpose, hash, timestamp, algorithm, key_id, signature FROM audit_checkpoint \
        WHERE tenant_id = $1 AND seq <= $2 ORDER BY seq DESC, purpose DESC LIMIT 1";
    pub(crate) const FIRST_CHECKPOINT: &str = "\
        SELECT tenant_id, seq, purpose, hash, timestamp, algorithm, key_id, signature FROM audit_checkpoint \
        WHERE tenant_id = $1 AND seq >= $2 ORDER BY seq, purpose LIMIT 1";
    pub(crate) const RETIRED: &str = "\
        SELECT tenant_id, seq, purpose, hash, timestamp, algorithm, key_id, signature FROM audit_checkpoint \
        WHERE tenant_id = $1 AND purpose = 'retention' ORDER BY seq DESC LIMIT 1";
    pub(crate) const RETIRED_UNTIL: &str = "\
        SELECT max(seq) FROM audit_checkpoint WHERE tenant_id = $1 AND purpose = 'retention'";
    pub(crate) const HASH_AT: &str = "SELECT hash FROM audit_log WHERE tenant_id = $1 AND seq = $2";
    pub(crate) const TENANTS: &str = "\
        SELECT tenant_id FROM tenant UNION SELECT tenant_id FROM audit_head UNION SELECT tenant_id FROM audit_intake \
        UNION SELECT DISTINCT tenant_id FROM audit_checkpoint ORDER BY tenant_id";
    pub(crate) const KEY_ID: &str = "SELECT id FROM audit_key ORDER BY version DESC LIMIT 1";
    pub(crate) const KEY: &str = "\
        SELECT id, spec, ciphertext, wrapped FROM audit_key ORDER BY version DESC LIMIT 1";
    pub(crate) const INSERT_KEY: &str = "\
        INSERT INTO audit_key (id, version, spec, ciphertext, wrapped, created_at) VALUES ($1, 1, $2, $3, $4, $5) \
        ON CONFLICT (version) DO NOTHING";
    /// What has outlived its time, where it ends, and a little of it at a time.
    pub(crate) const OLD_UNTIL: &str = "\
        SELECT seq, hash FROM audit_log WHERE tenant_id = $1 AND timestamp < $2 ORDER BY seq DESC LIMIT 1";
    pub(crate) const PLACE: &str = "SELECT seq, hash FROM audit_log WHERE tenant_id = $1 AND seq = $2";
    pub(crate) const KEPT_FROM: &str =
        "SELECT min(seq) FROM audit_log WHERE tenant_id = $1 AND timestamp >= $2";
    pub(crate) const DELETE_OLD: &str = "\
        DELETE FROM audit_log WHERE tenant_id = $1 AND seq IN (SELECT seq FROM audit_log WHERE tenant_id = $1 AND seq <= $2 \
        ORDER BY seq LIMIT $3)";
    #[cfg(test)]
    pub(crate) const ALL: &[&str] = &[
        INSERT_INTAKE,
        TAKE_INTAKE,
        WAITING,
        MAKE_HEAD,
        HEAD,
        DUE,
        EXTENT,
        CHAIN,
        FIRST_SINCE,
        LAST_BEFORE,
        INSERT_CHECKPOINT,
        CHECKPOINTS,
        LAST_CHECKPOINT,
        FIRST_CHECKPOINT,
        RETIRED,
        HASH_AT,
        RETIRED_UNTIL,
        TENANTS,
        KEY,
        KEY_ID,
        INSERT_KEY,
        OLD_UNTIL,
        PLACE,
        KEPT_FROM,
        DELETE_OLD,
    ];
}

const COLUMN_COUNT: usize = 17;
const PLACE_COUNT: usize = 3;

/// `INSERT` statements for 1, 2, 4, … rows, so that few texts serve every size of a group.
static INSERTS: LazyLock<Vec<Arc<str>>> = LazyLock::new(|| {
    let width = COLUMN_COUNT + PLACE_COUNT;
    let rows = |count: usize| {
        let row = |r: usize| {
            let places: Vec<String> = (1..=width).map(|c| format!("${}", r * width + c)).collect();
            format!("({})", places.join(", "))
        };
        (0..count).map(row).collect::<Vec<_>>().join(", ")
    };
    std::iter::successors(Some(1), |n| Some(n * 2))
        .take_while(|n| *n <= limits::AUDIT_BATCH)
        .map(|n| {
            let columns = columns!();
            format!("INSERT INTO audit_log ({columns}, seq, prev_hash, hash) VALUES {}", rows(n)).into()
        })
        .collect()
});

/// The statement texts, for the test that prepares every one.
#[cfg(test)]
pub(crate) fn inserts() -> Vec<Arc<str>> {
    INSERTS.clone()
}

/// Statements that insert records in their places, as few as possible.
pub(super) fn insert(records: &[ChainedRecord]) -> Vec<Query<'_>> {
    let mut rest = records;
    let mut queries = Vec::new();
    while !rest.is_empty() {
        let power = (rest.len().ilog2() as usize).min(INSERTS.len() - 1);
        let (now, later) = rest.split_at(1 << power);
        // The text is made of constants and `$n`.
        let query = Query::constant(AssertSqlSafe(INSERTS[power].clone()));
        queries.push(now.iter().fold(query, |query, record| {
            let query = bind(query, &record.log).bind(record.seq);
            query.bind(&record.prev_hash.0[..]).bind(&record.hash.0[..])
        }));
        rest = later;
    }
    queries
}

/// Lets a record wait for its place.
pub(super) fn insert_intake(log: &AuditLog) -> Query<'_> {
    bind(query(sql::INSERT_INTAKE), log)
}

fn bind<'a>(query: Query<'a>, log: &'a AuditLog) -> Query<'a> {
    query
        .bind(&log.tenant_id)
        .bind(&log.id)
        .bind(log.timestamp)
        .bind(&log.action)
        .bind(&log.identity_type)
        .bind(&log.identity_id)
        .bind(&log.acting_tenant_id)
        .bind(log.resource_type.as_deref())
        .bind(log.resource_id.as_deref())
        .bind(log.secret_path.as_deref())
        .bind(log.source_ip.as_deref())
        .bind(log.user_agent.as_deref())
        .bind(log.success)
        .bind(log.error_code.as_deref())
        .bind(log.duration_ms)
        .bind(&log.request_id)
        .bind(log.extra_data.clone())
}

/// The heads of these tenants, locked against whoever else gives places, in one order for everybody.
pub(super) fn lock_heads<'a>(tenants: impl IntoIterator<Item = &'a str>, lock: &'static str) -> Query<'a> {
    let mut q = QueryBuilder::new("SELECT tenant_id, seq, hash FROM audit_head WHERE seq >= 0");
    q.and_in("tenant_id", tenants);
    q.text(" ORDER BY tenant_id").text(lock);
    q.build()
}

/// Moves heads that exist, in one statement.
pub(super) fn move_heads<'a>(heads: impl IntoIterator<Item = (&'a str, i64, &'a ChainHash)>) -> Query<'a> {
    let mut q = QueryBuilder::new("INSERT INTO audit_head (tenant_id, seq, hash) VALUES ");
    for (n, (tenant, seq, hash)) in heads.into_iter().enumerate() {
        q.text(if n == 0 { "(" } else { ", (" });
        q.arg(tenant).text(", ").arg(seq).text(", ").arg(&hash.0[..]).text(")");
    }
    q.text(" ON CONFLICT (tenant_id) DO UPDATE SET seq = excluded.seq, hash = excluded.hash");
    q.build()
}

pub(super) fn insert_checkpoint(checkpoint: &Checkpoint) -> Query<'_> {
    query(sql::INSERT_CHECKPOINT)
        .bind(&checkpoint.tenant_id)
        .bind(checkpoint.seq)
        .bind(checkpoint.purpose.as_str())
        .bind(&checkpoint.hash.0[..])
        .bind(checkpoint.timestamp)
        .bind(&checkpoint.algorithm)
        .bind(&checkpoint.key_id)
        .bind(&checkpoint.signature)
}

#[derive(sqlx::FromRow)]
pub(super) struct Row {
    tenant_id: String,
    id: String,
    timestamp: Ts,
    action: String,
    identity_type: String,
    identity_id: String,
    acting_tenant_id: String,
    resource_type: Option<String>,
    resource_id: Option<String>,
    secret_path: Option<String>,
    source_ip: Option<String>,
    user_agent: Option<String>,
    success: bool,
    error_code: Option<String>,
    duration_ms: i64,
    request_id: String,
    extra_data: sqlx::types::Json<Value>,
}

impl From<Row> for AuditLog {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            timestamp: row.timestamp.get(),
            action: row.action,
            identity_type: row.identity_type,
            identity_id: row.identity_id,
            tenant_id: row.tenant_id,
            acting_tenant_id: row.acting_tenant_id,
            resource_type: row.resource_type,
            resource_id: row.resource_id,
            secret_path: row.secret_path,
            source_ip: row.source_ip,
            user_agent: row.user_agent,
            success: row.success,
            error_code: row.error_code,
            duration_ms: row.duration_ms,
            request_id: row.request_id,
            extra_data: plain(row.extra_data.0),
        }
    }
}

#[derive(sqlx::FromRow)]
pub(super) struct ChainRow {
    #[sqlx(flatten)]
    row: Row,
    seq: i64,
    prev_hash: Vec<u8>,
    hash: Vec<u8>,
}

impl From<ChainRow> for ChainedRecord {
    fn from(row: ChainRow) -> Self {
        Self {
            seq: row.seq,
            prev_hash: ChainHash::from_column(&row.prev_hash),
            hash: ChainHash::from_column(&row.hash),
            log: row.row.into(),
        }
    }
}

#[derive(sqlx::FromRow)]
pub(super) struct CheckpointRow {
    tenant_id: String,
    seq: i64,
    purpose: String,
    hash: Vec<u8>,
    timestamp: Ts,
    algorithm: String,
    key_id: String,
    signature: Vec<u8>,
}

impl CheckpointRow {
    pub(super) fn into_checkpoint(self) -> Result<Checkpoint> {
        Ok(Checkpoint {
            tenant_id: self.tenant_id,
            seq: self.seq,
            hash: ChainHash::from_column(&self.hash),
            timestamp: self.timestamp.get(),
            purpose: Purpose::parse(&self.purpose)?,
            algorithm: self.algorithm,
            key_id: self.key_id,
            signature: self.signature,
        })
    }
}
