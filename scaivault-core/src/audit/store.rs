use std::sync::{Arc, LazyLock};

use serde_json::Value;
use sqlx::AssertSqlSafe;

use super::{AuditLog, Record};
use crate::{
    limits,
    storage::{Query, Ts},
};

const COLUMNS: &str = "tenant_id, id, timestamp, action, identity_type, identity_id, acting_tenant_id, resource_type, \
    resource_id, secret_path, source_ip, user_agent, success, error_code, duration_ms, request_id, extra_data";
const COLUMN_COUNT: usize = 17;

/// Everything but the conditions, which the filter adds.
pub(super) const SELECT: &str = "SELECT tenant_id, id, timestamp, action, identity_type, identity_id, acting_tenant_id, \
    resource_type, resource_id, secret_path, source_ip, user_agent, success, error_code, duration_ms, request_id, \
    extra_data FROM audit_log WHERE tenant_id = ";

/// `INSERT` statements for 1, 2, 4, … rows, so that few texts serve every size of a group.
static INSERTS: LazyLock<Vec<Arc<str>>> = LazyLock::new(|| {
    let rows = |count: usize| {
        let row = |r: usize| {
            let places: Vec<String> =
                (1..=COLUMN_COUNT).map(|c| format!("${}", r * COLUMN_COUNT + c)).collect();
            format!("({})", places.join(", "))
        };
        (0..count).map(row).collect::<Vec<_>>().join(", ")
    };
    std::iter::successors(Some(1), |n| Some(n * 2))
        .take_while(|n| *n <= limits::AUDIT_BATCH)
        .map(|n| format!("INSERT INTO audit_log ({COLUMNS}) VALUES {}", rows(n)).into())
        .collect()
});

/// The statement texts, for the test that prepares every one.
#[cfg(test)]
pub(crate) fn inserts() -> Vec<Arc<str>> {
    INSERTS.clone()
}

/// Statements that insert `records`, as few as possible.
pub(crate) fn insert(records: &[Record]) -> Vec<Query<'_>> {
    let mut rest = records;
    let mut queries = Vec::new();
    while !rest.is_empty() {
        let power = (rest.len().ilog2() as usize).min(INSERTS.len() - 1);
        let (now, later) = rest.split_at(1 << power);
        // The text is made of constants and `$n`.
        let query = Query::constant(AssertSqlSafe(INSERTS[power].clone()));
        queries.push(now.iter().fold(query, bind));
        rest = later;
    }
    queries
}

fn bind<'a>(query: Query<'a>, record: &'a Record) -> Query<'a> {
    query
        .bind(&record.tenant)
        .bind(&record.id)
        .bind(record.timestamp)
        .bind(record.action.as_str())
        .bind(record.identity_type)
        .bind(&record.identity_id)
        .bind(&record.acting_tenant)
        .bind(record.resource_type)
        .bind(record.resource_id.as_deref())
        .bind(record.path.as_deref())
        .bind(record.source_ip.as_deref())
        .bind(record.user_agent.as_deref())
        .bind(record.error.is_none())
        .bind(record.error.map(crate::Code::as_str))
        .bind(i64::try_from(record.duration.as_millis()).unwrap_or(i64::MAX))
        .bind(&record.request_id)
        .bind(Value::Object(record.extra.clone()))
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
            extra_data: row.extra_data.0,
        }
    }
}
