//! Numbers for whoever watches the server, in the OpenMetrics text format. Names are those of the API contract.
//!
//! Labels take their values from small sets of ours: no path, identity or tenant becomes a label.

use std::{
    sync::atomic::{AtomicI64, AtomicU64},
    time::Duration,
};

use http::{Method, StatusCode};
use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use scaivault_core::{Error, Result, Statistics};

/// The media type of [`Metrics::encode`].
pub const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What is counted while the server runs.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: Family<Answered, Counter>,
    durations: Family<Kind, Histogram, fn() -> Histogram>,
    active: Family<Category, Gauge>,
    vault: VaultGauges,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    method: &'static str,
    path_category: &'static str,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    method: &'static str,
    path_category: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Category {
    path_category: &'static str,
}

/// What the vault says of itself when it is asked.
#[derive(Debug, Default)]
struct VaultGauges {
    pool_size: Gauge<i64, AtomicI64>,
    pool_available: Gauge<i64, AtomicI64>,
    audit_waiting: Gauge<i64, AtomicI64>,
    rewrap_remaining: Gauge<i64, AtomicI64>,
    kms_calls: Counter<u64, AtomicU64>,
    db_round_trips: Counter<u64, AtomicU64>,
    db_handovers: Counter<u64, AtomicU64>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("scaivault");
        let requests = Family::default();
        let durations: Family<Kind, Histogram, fn() -> Histogram> = Family::new_with_constructor(buckets);
        let active = Family::default();
        let vault = VaultGauges::default();
        registry.register("requests", "Requests that were answered", requests.clone());
        registry.register("request_duration_seconds", "From the head to the answer", durations.clone());
        registry.register("active_requests", "Requests that are being worked on", active.clone());
        registry.register("db_pool_size", "Connections to the database", vault.pool_size.clone());
        registry.register(
            "db_pool_available",
            "Connections to the database that are free",
            vault.pool_available.clone(),
        );
        registry.register(
            "audit_queue_depth",
            "Audit records that wait to be written",
            vault.audit_waiting.clone(),
        );
        registry.register(
            "key_rewrap_remaining",
            "Data keys under retired tenant keys, as the background work last found them",
            vault.rewrap_remaining.clone(),
        );
        registry.register("kms_calls", "Calls of the provider of the root key", vault.kms_calls.clone());
        registry.register("db_round_trips", "Round trips to PostgreSQL", vault.db_round_trips.clone());
        registry.register(
            "db_handovers",
            "Round trips that only changed the tenant or role of a connection",
            vault.db_handovers.clone(),
        );
        Self { registry, requests, durations, active, vault }
    }
}

impl Metrics {
    /// Counts a request as being worked on, until what is given back is told how it ended or dropped.
    #[must_use]
    pub fn begin(&self, method: &Method, template: &str) -> Running<'_> {
        let kind = Kind { method: known(method), path_category: category(template) };
        self.active.get_or_create(&Category { path_category: kind.path_category }).inc();
        Running { metrics: self, kind }
    }

    /// Everything as text, with what the vault says of itself now.
    ///
    /// # Errors
    /// [`scaivault_core::Code::InternalError`] if it cannot be written.
    pub fn encode(&self, vault: &Statistics) -> Result<String> {
        let number = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
        self.vault.pool_size.set(number(vault.connections));
        self.vault.pool_available.set(number(vault.connections_free));
        self.vault.audit_waiting.set(number(vault.audit_waiting));
        self.vault.rewrap_remaining.set(i64::try_from(vault.rewrap_remaining).unwrap_or(i64::MAX));
        let counters = [
            (&self.vault.kms_calls, vault.provider_calls),
            (&self.vault.db_round_trips, vault.database_round_trips),
            (&self.vault.db_handovers, vault.database_handovers),
        ];
        for (counter, now) in counters {
            counter.inc_by(now.saturating_sub(counter.get()));
        }
        let mut out = String::new();
        text::encode(&mut out, &self.registry).map_err(Error::internal)?;
        Ok(out)
    }
}

/// A request that is being worked on.
#[derive(Debug)]
pub struct Running<'m> {
    metrics: &'m Metrics,
    kind: Kind,
}

impl Running<'_> {
    /// It was answered.
    pub fn end(self, status: StatusCode, took: Duration) {
        let Kind { method, path_category } = self.kind;
        let answered = Answered { method, path_category, status: status.as_u16() };
        self.metrics.requests.get_or_create(&answered).inc();
        self.metrics.durations.get_or_create(&self.kind).observe(took.as_secs_f64());
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.metrics.active.get_or_create(&Category { path_category: self.kind.path_category }).dec();
    }
}

/// From half a millisecond to eight seconds.
fn buckets() -> Histogram {
    Histogram::new(prometheus_client::metrics::histogram::exponential_buckets(0.0005, 2.0, 15))
}

/// The method, if it is one of those that some row has.
fn known(method: &Method) -> &'static str {
    ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
        .into_iter()
        .find(|name| *name == method.as_str())
        .unwrap_or("other")
}

/// The word after `/v1/` of a row's template.
fn category(template: &str) -> &'static str {
    let word = template.strip_prefix("/v1/").and_then(|rest| rest.split('/').next()).unwrap_or_default();
    ["audit", "auth", "health", "metrics", "pki", "policies", "secrets", "version"]
        .into_iter()
        .find(|name| *name == word)
        .unwrap_or("other")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_what_they_are_and_not_by_what_they_name() {
        let metrics = Metrics::default();
        let template = "/v1/secrets/{*path}";
        metrics.begin(&Method::GET, template).end(StatusCode::OK, Duration::from_millis(3));
        metrics
            .begin(&Method::from_bytes(b"BREW").unwrap(), "")
            .end(StatusCode::NOT_FOUND, Duration::from_millis(1));
        let running = metrics.begin(&Method::PUT, template);
        let vault =
            Statistics { connections: 4, connections_free: 3, provider_calls: 7, ..Statistics::default() };
        let text = metrics.encode(&vault).unwrap();
        for line in [
            r#"scaivault_requests_total{method="GET",path_category="secrets",status="200"} 1"#,
            r#"scaivault_requests_total{method="other",path_category="other",status="404"} 1"#,
            r#"scaivault_request_duration_seconds_count{method="GET",path_category="secrets"} 1"#,
            r#"scaivault_active_requests{path_category="secrets"} 1"#,
            "scaivault_db_pool_size 4",
            "scaivault_db_pool_available 3",
            "scaivault_kms_calls_total 7",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
        drop(running);
        let text = metrics.encode(&vault).unwrap();
        assert!(text.contains(r#"scaivault_active_requests{path_category="secrets"} 0"#));
        assert!(text.contains("scaivault_kms_calls_total 7"));
        assert!(text.ends_with("# EOF\n"));
    }
}
