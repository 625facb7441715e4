//! Which variables are ours.

use super::table;

/// Variables of the product that this build does not support: whoever sets one counts on what it does.
const LATER: &[&str] = &[
    "OBJECT_STORE_PROVIDER",
    "OBJECT_STORE_BUCKET",
    "OBJECT_STORE_REGION",
    "OBJECT_STORE_ENDPOINT",
    "OBJECT_STORE_ACCESS_KEY_ID",
    "OBJECT_STORE_SECRET_ACCESS_KEY",
    "METRICS_BIND_ADDRESS",
    "WEBHOOK_ALLOWED_CIDRS",
    "HTTP_CHALLENGE_BIND",
];

/// Prefixes under which a name that we do not know is a mistake rather than somebody else's.
const PREFIXES: &[&str] = &[
    "DATABASE_",
    "DB_POOL_",
    "KMS_",
    "KEY_CACHE_",
    "SCAIKEY_",
    "EGRESS_",
    "TLS_",
    "JWT_",
    "LOG_",
    "RATE_LIMIT_",
    "REDIS_",
    "VAULT_",
    "PKCS11_",
    "TPM_",
    "OBJECT_STORE_",
    "AUDIT_",
    "METRICS_",
    "SCAIVAULT_",
    "WEBHOOK_",
    "IDENTITY_",
    "BOOTSTRAP_",
    "SOFT_DELETE_",
    "TENANT_ADMIN_",
    "HTTP_CHALLENGE_",
    "PKI_HTTP_",
];

/// Variables of the clients of this product, which may share a shell with it.
const CLIENTS: &[&str] = &[
    "SCAIVAULT_URL",
    "SCAIVAULT_TOKEN",
    "SCAIVAULT_TOKEN_FILE",
    "SCAIVAULT_PARTNER_ID",
    "SCAIVAULT_TENANT_ID",
    "SCAIVAULT_DEBUG",
    "SCAIVAULT_READ_ONLY",
    "SCAIVAULT_MASK_VALUES",
    "SCAIVAULT_ALLOWED_PATHS",
    "SCAIVAULT_DENIED_PATHS",
];

/// The variable that is switched off by emptying it, as the product's manual says.
pub(super) const MAY_BE_EMPTY: &str = "BOOTSTRAP_SUPER_ADMIN";

/// Whether a variable is read by us.
pub(super) fn is_read(name: &str) -> bool {
    table::find(name).is_some()
}

/// Whether a variable is read by us, or looks as if it were meant to be.
pub(super) fn is_ours(name: &str) -> bool {
    is_read(name) || objection(name).is_some()
}

/// Why a variable must not be set; `None` if we read it or if it is none of our business.
pub(super) fn objection(name: &str) -> Option<String> {
    if is_read(name) || CLIENTS.contains(&name) || is_service_link(name) {
        return None;
    }
    if LATER.contains(&name) || name.starts_with("RATE_LIMIT_") {
        return Some(format!("{name} is set, but this build does not support it; unset it."));
    }
    PREFIXES.iter().any(|prefix| name.starts_with(prefix)).then(|| {
        let known = name.strip_suffix("_FILE").filter(|base| is_read(base));
        match known {
            Some(base) => format!("{name} is not a setting: {base} cannot be read from a file."),
            None => format!("{name} is not a setting of this server; check its spelling or unset it."),
        }
    })
}

/// Whether Kubernetes sets such a variable for a service that happens to be named `vault`, `redis` and so on
/// (`REDIS_SERVICE_HOST`, `REDIS_PORT`, `REDIS_PORT_6379_TCP_ADDR`).
fn is_service_link(name: &str) -> bool {
    if name.ends_with("_SERVICE_HOST") || name.ends_with("_SERVICE_PORT") || name.contains("_SERVICE_PORT_") {
        return true;
    }
    let Some((_, rest)) = name.split_once("_PORT") else { return false };
    let mut parts = rest.strip_prefix('_').unwrap_or(rest).split('_');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(""), None, ..) => true,
        (Some(port), Some("TCP" | "UDP" | "SCTP"), part, None) => {
            let known = part.is_none_or(|part| matches!(part, "PROTO" | "PORT" | "ADDR"));
            known && port.bytes().all(|b| b.is_ascii_digit())
        }
        _ => false,
    }
}
