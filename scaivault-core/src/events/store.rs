use super::Event;
use crate::storage::{Query, query};

pub(crate) mod sql {
    pub(crate) const INSERT: &str = "\
        INSERT INTO event_outbox (tenant_id, id, event_type, path, identity_id, request_id, data, created_at) \
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
    pub(crate) const DELETE_OLD: &str = "DELETE FROM event_outbox WHERE created_at < $1";
    #[cfg(test)]
    pub(crate) const ALL: &[&str] = &[INSERT, DELETE_OLD];
}

pub(crate) fn insert(event: &Event) -> Query<'_> {
    query(sql::INSERT)
        .bind(&event.tenant)
        .bind(&event.id)
        .bind(event.event_type.as_str())
        .bind(event.path.as_deref())
        .bind(&event.identity_id)
        .bind(&event.request_id)
        .bind(event.data.clone())
        .bind(event.created_at)
}
