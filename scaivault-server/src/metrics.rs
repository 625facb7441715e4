//! Numbers for whoever watches the server, in the OpenMetrics text format. Names are those of the API contract.
//!
//! Labels take their values from small sets of ours: no path, identity or tenant becomes a label.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64},
    },
    time::Duration,
};

use http::{Method, StatusCode};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric as _, NoLabelSet, text},
    metrics::{
        MetricType,
        counter::{ConstCounter, Counter},
        family::Family,
        gauge::Gauge,
        histogram::Histogram,
    },
    registry::Registry,
};
use scaivault_core::{Error, Result, Statistics};
use scaivault_kms::guard::{BUCKETS, Latencies, Latency, Operation};

/// The media type of [`Metrics::encode`].
pub const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What is counted while the server runs.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: Family<Answered, Counter>,
    durations: Family<Kind, Histogram, fn() -> Histogram>,
    active: Family<Category, Gauge>,
    ocsp: Family<Cause, Counter>,
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

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Cause {
    cause: &'static str,
}

/// The root keys by name, and what was counted of each.
#[derive(Debug)]
struct RootKeys(Vec<(String, Arc<Latencies>)>);

/// What the vault says of itself when it is asked.
#[derive(Debug, Default)]
struct VaultGauges {
    pool_size: Gauge<i64, AtomicI64>,
    pool_available: Gauge<i64, AtomicI64>,
    audit_waiting: Gauge<i64, AtomicI64>,
    rewrap_remaining: Gauge<i64, AtomicI64>,
    root_wraps_missing: Gauge<i64, AtomicI64>,
    crls_refused: Counter<u64, AtomicU64>,
    crl_overdue: Gauge<f64, AtomicU64>,
    crl_longest: Gauge<f64, AtomicU64>,
    kms_calls: Counter<u64, AtomicU64>,
    db_round_trips: Counter<u64, AtomicU64>,
    db_handovers: Counter<u64, AtomicU64>,
    identity_sync_age: Gauge<f64, AtomicU64>,
    rsa_keys_ready: Gauge<i64, AtomicI64>,
    rsa_keys_taken: Counter<u64, AtomicU64>,
    rsa_keys_missed: Counter<u64, AtomicU64>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("scaivault");
        let requests = Family::default();
        let durations: Family<Kind, Histogram, fn() -> Histogram> = Family::new_with_constructor(buckets);
        let active = Family::default();
        let ocsp = Family::default();
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
        registry.register(
            "root_wraps_missing",
            "Wraps under an active root key that keys lack, as the background work last found them",
            vault.root_wraps_missing.clone(),
        );
        registry.register(
            "ocsp",
            "Certificates that OCSP was asked about and requests it refused, by what it said; and how many answers were \
             signed, or given again",
            ocsp.clone(),
        );
        registry.register(
            "crls_refused",
            "Revocation lists that were not published, since something was wrong with them",
            vault.crls_refused.clone(),
        );
        registry.register(
            "crl_overdue_seconds",
            "For how long a revocation list has been due without being published; NaN if the database does not say",
            vault.crl_overdue.clone(),
        );
        registry.register(
            "crl_longest_entries",
            "Entries of the longest revocation list; NaN if the database does not say",
            vault.crl_longest.clone(),
        );
        registry.register("kms_calls", "Calls of the provider of the root key", vault.kms_calls.clone());
        registry.register("db_round_trips", "Round trips to PostgreSQL", vault.db_round_trips.clone());
        registry.register(
            "db_handovers",
            "Round trips that only changed the tenant or role of a connection",
            vault.db_handovers.clone(),
        );
        registry.register(
            "identity_sync_age_seconds",
            "Since the last complete sync of the directory began; NaN if there was none",
            vault.identity_sync_age.clone(),
        );
        registry.register("rsa_keys_ready", "RSA keys that were made ahead", vault.rsa_keys_ready.clone());
        registry.register(
            "rsa_keys_taken",
            "Certificates with an RSA key that was made ahead",
            vault.rsa_keys_taken.clone(),
        );
        registry.register(
            "rsa_keys_missed",
            "Certificates whose RSA key had to be waited for",
            vault.rsa_keys_missed.clone(),
        );
        Self { registry, requests, durations, active, ocsp, vault }
    }
}

impl Metrics {
    /// With the latencies of these root keys.
    #[must_use]
    pub fn new(roots: impl IntoIterator<Item = (String, Arc<Latencies>)>) -> Self {
        let mut metrics = Self::default();
        metrics.registry.register_collector(Box::new(RootKeys(roots.into_iter().collect())));
        metrics
    }

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
        self.vault.root_wraps_missing.set(i64::try_from(vault.root_wraps_missing).unwrap_or(i64::MAX));
        self.vault.rsa_keys_ready.set(i64::try_from(vault.rsa_keys_ready).unwrap_or(i64::MAX));
        let age = vault.identity_sync_age.map_or(f64::NAN, |age| age.as_secs_f64());
        self.vault.identity_sync_age.set(age);
        self.vault.crl_overdue.set(vault.crl_overdue.map_or(f64::NAN, |overdue| overdue.as_secs_f64()));
        let longest = vault
            .crl_longest
            .map_or(f64::NAN, |entries| f64::from(u32::try_from(entries).unwrap_or(u32::MAX)));
        self.vault.crl_longest.set(longest);
        let counters = [
            (&self.vault.crls_refused, vault.crls_refused),
            (&self.vault.kms_calls, vault.provider_calls),
            (&self.vault.db_round_trips, vault.database_round_trips),
            (&self.vault.db_handovers, vault.database_handovers),
            (&self.vault.rsa_keys_taken, vault.rsa_keys_taken),
            (&self.vault.rsa_keys_missed, vault.rsa_keys_missed),
        ];
        for (counter, now) in counters {
            counter.inc_by(now.saturating_sub(counter.get()));
        }
        for (cause, now) in &vault.ocsp {
            let counter = self.ocsp.get_or_create(&Cause { cause });
            counter.inc_by(now.saturating_sub(counter.get()));
        }
        let mut out = String::new();
        text::encode(&mut out, &self.registry).map_err(Error::internal)?;
        Ok(out)
    }
}

impl Collector for RootKeys {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let known: Vec<(&str, Latency)> = self
            .0
            .iter()
            .flat_map(|(root, latencies)| {
                latencies.snapshot().into_iter().map(move |latency| (root.as_str(), latency))
            })
            .collect();
        let help = "Operations of the providers of root keys, with their retries";
        let mut family =
            encoder.encode_descriptor("kms_latency_seconds", help, None, MetricType::Histogram)?;
        for (root, latency) in &known {
            let labels = [("operation", operation(latency.operation)), ("root", root)];
            let bounds = BUCKETS.into_iter().chain([f64::INFINITY]);
            let buckets: Vec<_> = bounds.zip(latency.buckets).collect();
            family.encode_family(&labels)?.encode_histogram::<NoLabelSet>(
                latency.sum,
                latency.count,
                &buckets,
                None,
            )?;
        }
        let help = "Operations of the providers of root keys that failed";
        let mut family = encoder.encode_descriptor("kms_errors", help, None, MetricType::Counter)?;
        for (root, latency) in &known {
            for (kind, count) in [("refused", latency.refused), ("unavailable", latency.unavailable)] {
                let labels = [("kind", kind), ("operation", operation(latency.operation)), ("root", root)];
                ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
            }
        }
        let help = "Attempts that providers of root keys were asked for again";
        let mut family = encoder.encode_descriptor("kms_retries", help, None, MetricType::Counter)?;
        for (root, latencies) in &self.0 {
            ConstCounter::new(latencies.retries())
                .encode(family.encode_family(&[("root", root.as_str())])?)?;
        }
        let help = "How often a provider of a root key was no longer asked because it failed";
        let mut family = encoder.encode_descriptor("kms_circuit_opened", help, None, MetricType::Counter)?;
        for (root, latencies) in &self.0 {
            ConstCounter::new(latencies.opened())
                .encode(family.encode_family(&[("root", root.as_str())])?)?;
        }
        Ok(())
    }
}

/// An operation in the words of the API contract.
fn operation(operation: Operation) -> &'static str {
    match operation {
        Operation::Wrap => "encrypt",
        Operation::Unwrap => "decrypt",
        other => other.as_str(),
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
    ["audit", "auth", "health", "identity", "metrics", "partner", "pki", "policies", "secrets", "version"]
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
        let vault = Statistics {
            connections: 4,
            connections_free: 3,
            provider_calls: 7,
            ocsp: vec![("good", 3)],
            crl_overdue: Some(Duration::from_secs(90)),
            crl_longest: Some(1234),
            rsa_keys_ready: 8,
            rsa_keys_taken: 5,
            rsa_keys_missed: 1,
            ..Statistics::default()
        };
        let text = metrics.encode(&vault).unwrap();
        for line in [
            r#"scaivault_requests_total{method="GET",path_category="secrets",status="200"} 1"#,
            r#"scaivault_requests_total{method="other",path_category="other",status="404"} 1"#,
            r#"scaivault_request_duration_seconds_count{method="GET",path_category="secrets"} 1"#,
            r#"scaivault_active_requests{path_category="secrets"} 1"#,
            "scaivault_db_pool_size 4",
            "scaivault_db_pool_available 3",
            "scaivault_kms_calls_total 7",
            r#"scaivault_ocsp_total{cause="good"} 3"#,
            "scaivault_crl_overdue_seconds 90.0",
            "scaivault_crl_longest_entries 1234.0",
            "scaivault_rsa_keys_ready 8",
            "scaivault_rsa_keys_taken_total 5",
            "scaivault_rsa_keys_missed_total 1",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
        drop(running);
        let text = metrics.encode(&vault).unwrap();
        assert!(text.contains(r#"scaivault_active_requests{path_category="secrets"} 0"#));
        assert!(text.contains("scaivault_kms_calls_total 7"));
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn operations_of_root_keys_are_counted_by_root_and_in_buckets() {
        use scaivault_kms::guard::{Observer as _, Outcome};
        let (first, second) = (Arc::new(Latencies::new()), Arc::new(Latencies::new()));
        let metrics =
            Metrics::new([("aws".to_owned(), first.clone()), ("backup".to_owned(), second.clone())]);
        for (millis, outcome) in [(2, Outcome::Done), (3, Outcome::Refused), (9_000, Outcome::Unavailable)] {
            first.finished("aws", Operation::Wrap, Duration::from_millis(millis), outcome);
        }
        second.finished("transit", Operation::Sign, Duration::from_millis(1), Outcome::Done);
        second.retried("transit", Operation::Wrap);
        second.circuit("transit", true);
        let text = metrics.encode(&Statistics::default()).unwrap();
        for line in [
            "# TYPE scaivault_kms_latency_seconds histogram",
            r#"scaivault_kms_latency_seconds_count{operation="encrypt",root="aws"} 3"#,
            r#"scaivault_kms_latency_seconds_sum{operation="encrypt",root="aws"} 9.005"#,
            r#"scaivault_kms_latency_seconds_bucket{le="0.0025",operation="encrypt",root="aws"} 1"#,
            r#"scaivault_kms_latency_seconds_bucket{le="0.005",operation="encrypt",root="aws"} 2"#,
            r#"scaivault_kms_latency_seconds_bucket{le="+Inf",operation="encrypt",root="aws"} 3"#,
            r#"scaivault_kms_latency_seconds_count{operation="sign",root="backup"} 1"#,
            r#"scaivault_kms_errors_total{kind="refused",operation="encrypt",root="aws"} 1"#,
            r#"scaivault_kms_errors_total{kind="unavailable",operation="encrypt",root="aws"} 1"#,
            r#"scaivault_kms_errors_total{kind="unavailable",operation="sign",root="backup"} 0"#,
            r#"scaivault_kms_retries_total{root="backup"} 1"#,
            r#"scaivault_kms_circuit_opened_total{root="backup"} 1"#,
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
    }
}
