//! The routing table, and the handlers whose tree is the tree of the URLs.
//!
//! A handler decodes, calls one verb of the vault, and encodes. It decides nothing.

mod audit;
mod auth;
mod health;
mod identity;
mod metrics;
mod openapi;
mod pki;
mod policies;
mod secrets;
mod version;
mod wire;

use http::Method;
use scaivault_core::{Action, Scope};

use crate::{
    app::Service,
    http::router::{Route, Router, TableError, public, route},
};

/// Every route there is.
///
/// # Errors
/// [`TableError`] if the table contradicts itself.
pub fn router() -> Result<Router<Service>, TableError> {
    let mut rows = open();
    rows.extend(audit_rows());
    rows.extend(identity_rows());
    rows.extend(secret_rows());
    rows.extend(partner_rows());
    rows.extend(policy_rows());
    rows.extend(pki_rows());
    rows.extend(anchor_rows());
    rows.extend(revocation_rows());
    Router::new(rows)
}

/// What relying parties fetch, and nothing else: for the plain listener of `PKI_HTTP_BIND`.
///
/// # Errors
/// As [`router`].
pub fn revocation_router() -> Result<Router<Service>, TableError> {
    Router::new(revocation_rows())
}

/// Any one of these.
type Scopes = &'static [Scope];

const GET: Method = Method::GET;
const POST: Method = Method::POST;
const PUT: Method = Method::PUT;
const PATCH: Method = Method::PATCH;
const DELETE: Method = Method::DELETE;

/// What needs no token or no scope.
fn open() -> Vec<Route<Service>> {
    vec![
        public(GET, "/v1/health", health::live).action("health"),
        public(GET, "/v1/health/ready", health::ready).action("health"),
        public(GET, "/v1/version", version::version).action("version"),
        public(GET, "/v1/openapi.json", openapi::document).action("openapi"),
        route(GET, "/v1/auth/whoami", auth::whoami).action(Action::Whoami.as_str()),
        row(POST, "/v1/auth/introspect", auth::introspect, Action::AuthIntrospect, &[Scope::Admin]),
        public(POST, "/v1/auth/exchange", auth::exchange::exchange).action("auth_exchange"),
        row(GET, "/v1/auth/trust", auth::trust::list, Action::TrustRead, &[Scope::Admin]),
        row(POST, "/v1/auth/trust", auth::trust::create, Action::TrustCreate, &[Scope::Admin]),
        row(GET, "/v1/auth/trust/{id}", auth::trust::read, Action::TrustRead, &[Scope::Admin]),
        row(DELETE, "/v1/auth/trust/{id}", auth::trust::delete, Action::TrustDelete, &[Scope::Admin]),
        row(GET, "/v1/metrics", metrics::metrics, Action::MetricsRead, &[Scope::Admin]),
    ]
}

fn audit_rows() -> Vec<Route<Service>> {
    let (query, read): (Action, Scopes) = (Action::AuditQuery, &[Scope::AuditRead]);
    vec![
        row(GET, "/v1/audit/logs", audit::logs, query, read),
        row(GET, "/v1/audit/secrets/{*path}", audit::secret, query, read),
        row(GET, "/v1/audit/identities/{identity_id}", audit::identity, query, read),
        row(GET, "/v1/audit/summary", audit::summary, query, read),
    ]
}

fn identity_rows() -> Vec<Route<Service>> {
    let (look, read): (Action, Scopes) = (Action::IdentityRead, &[Scope::IdentityRead]);
    let admin: Scopes = &[Scope::IdentityAdmin];
    vec![
        public(POST, "/v1/identity/webhooks/scaikey", identity::webhook).action("identity_event"),
        row(GET, "/v1/identity/partners", identity::partners, look, read),
        row(GET, "/v1/identity/tenants", identity::tenants, look, read),
        row(GET, "/v1/identity/tenants/{tenant_id}/users", identity::users, look, read),
        row(GET, "/v1/identity/tenants/{tenant_id}/groups", identity::groups, look, read),
        row(GET, "/v1/identity/groups/{group_id}/members", identity::members, look, read),
        row(GET, "/v1/identity/resolve/{identity_type}/{identity_id}", identity::resolve, look, read),
        row(POST, "/v1/identity/sync", identity::sync, Action::IdentitySync, admin),
        row(GET, "/v1/identity/sync/history", identity::syncs, look, read),
        route(GET, "/v1/identity/roles", identity::roles).action(look.as_str()),
        row(GET, "/v1/identity/users/{user_id}/roles", identity::user_roles, look, read),
        row(PUT, "/v1/identity/users/{user_id}/roles", identity::set_user_roles, Action::RoleAssign, admin),
    ]
}

fn secret_rows() -> Vec<Route<Service>> {
    vec![
        row(GET, "/v1/secrets", secrets::list, Action::List, &[Scope::SecretsList]),
        row(GET, "/v1/secrets/expiring", secrets::expiring, Action::List, &[Scope::SecretsList]),
        row(GET, "/v1/secrets/{*path}", secrets::read, Action::Read, &[Scope::SecretsRead]),
        row(PUT, "/v1/secrets/{*path}", secrets::put, Action::Write, &[Scope::SecretsWrite]),
        row(PATCH, "/v1/secrets/{*path}", secrets::patch, Action::Write, &[Scope::SecretsWrite]),
        row(DELETE, "/v1/secrets/{*path}", secrets::delete, Action::Delete, &[Scope::SecretsDelete]),
        row(POST, "/v1/secrets/{*path}/restore", secrets::restore, Action::Restore, &[Scope::SecretsWrite]),
        row(GET, "/v1/secrets/{*path}/metadata", secrets::metadata, Action::List, &[Scope::SecretsList]),
        row(GET, "/v1/secrets/{*path}/versions", secrets::versions, Action::List, &[Scope::SecretsList]),
    ]
}

/// The same on what the partner of the tenant shares.
fn partner_rows() -> Vec<Route<Service>> {
    vec![
        row(GET, "/v1/partner/secrets", secrets::list, Action::List, &[Scope::SecretsList]),
        row(GET, "/v1/partner/secrets/expiring", secrets::expiring, Action::List, &[Scope::SecretsList]),
        row(GET, "/v1/partner/secrets/{*path}", secrets::read, Action::Read, &[Scope::SecretsRead]),
        row(PUT, "/v1/partner/secrets/{*path}", secrets::put, Action::Write, &[Scope::SecretsWrite]),
        row(PATCH, "/v1/partner/secrets/{*path}", secrets::patch, Action::Write, &[Scope::SecretsWrite]),
        row(DELETE, "/v1/partner/secrets/{*path}", secrets::delete, Action::Delete, &[Scope::SecretsDelete]),
        row(
            POST,
            "/v1/partner/secrets/{*path}/restore",
            secrets::restore,
            Action::Restore,
            &[Scope::SecretsWrite],
        ),
        row(
            GET,
            "/v1/partner/secrets/{*path}/metadata",
            secrets::metadata,
            Action::List,
            &[Scope::SecretsList],
        ),
        row(
            GET,
            "/v1/partner/secrets/{*path}/versions",
            secrets::versions,
            Action::List,
            &[Scope::SecretsList],
        ),
    ]
}

fn policy_rows() -> Vec<Route<Service>> {
    let (read, write): (Scopes, Scopes) = (&[Scope::PoliciesRead], &[Scope::PoliciesWrite]);
    vec![
        row(GET, "/v1/policies", policies::list, Action::PolicyRead, read),
        row(POST, "/v1/policies", policies::create, Action::PolicyCreate, write),
        row(POST, "/v1/policies/test", policies::look::test, Action::PolicyTest, read),
        row(POST, "/v1/policies/explain", policies::look::explain, Action::PolicyRead, read),
        row(POST, "/v1/policies/diff", policies::look::diff, Action::AuditQuery, read),
        row(GET, "/v1/policies/who-can", policies::look::who_can, Action::PolicyRead, read),
        row(GET, "/v1/policies/{id}", policies::read, Action::PolicyRead, read),
        row(PUT, "/v1/policies/{id}", policies::replace, Action::PolicyUpdate, write),
        row(PATCH, "/v1/policies/{id}", policies::patch, Action::PolicyUpdate, write),
        row(DELETE, "/v1/policies/{id}", policies::delete, Action::PolicyDelete, write),
        row(GET, "/v1/policies/{id}/bindings", policies::bindings, Action::PolicyRead, read),
        row(POST, "/v1/policies/{id}/bindings", policies::bind, Action::PolicyBind, write),
        row(DELETE, "/v1/policies/{id}/bindings/{binding_id}", policies::unbind, Action::PolicyUnbind, write),
    ]
}

/// What relying parties ask, who have no token.
fn revocation_rows() -> Vec<Route<Service>> {
    vec![
        public(GET, "/v1/pki/ca/{id}/crl", pki::ca::crl).action("pki_crl"),
        public(GET, "/v1/pki/ca/{id}/crl/{shard}", pki::ca::crl_of_shard).action("pki_crl"),
        public(GET, "/v1/pki/ca/{id}/crl/{shard}/delta", pki::ca::delta_of_shard).action("pki_crl"),
        public(POST, "/v1/pki/ocsp/{ca_id}", pki::ocsp::post).action("pki_ocsp"),
        public(GET, "/v1/pki/ocsp/{ca_id}/{*request}", pki::ocsp::get).action("pki_ocsp").raw_tail(),
    ]
}

fn pki_rows() -> Vec<Route<Service>> {
    let (admin, issue): (Scopes, Scopes) = (&[Scope::PkiAdmin], &[Scope::PkiIssue]);
    let either: Scopes = &[Scope::PkiIssue, Scope::PkiAdmin];
    vec![
        row(GET, "/v1/pki/ca", pki::ca::list, Action::PkiCaRead, admin),
        row(POST, "/v1/pki/ca", pki::ca::create, Action::PkiCaCreate, admin),
        row(GET, "/v1/pki/ca/{id}", pki::ca::read, Action::PkiCaRead, either),
        row(DELETE, "/v1/pki/ca/{id}", pki::ca::delete, Action::PkiCaDelete, admin),
        route(GET, "/v1/pki/ca/{id}/certificate", pki::ca::certificate).action(Action::PkiCaRead.as_str()),
        row(POST, "/v1/pki/ca/{id}/certificate", pki::ca::install, Action::PkiCaInstall, admin),
        row(GET, "/v1/pki/ca/{id}/csr", pki::ca::csr, Action::PkiCaRead, admin),
        row(POST, "/v1/pki/ca/import", pki::ca::import, Action::PkiCaImport, admin),
        row(POST, "/v1/pki/ca/{id}/certificates", pki::ca::register, Action::PkiCertificateRegister, admin),
        row(POST, "/v1/pki/ca/{id}/cross-sign", pki::ca::cross_sign, Action::PkiCaCrossSign, admin),
        row(POST, "/v1/pki/ca/{id}/rekey", pki::ca::rekey, Action::PkiCaRekey, admin),
        row(POST, "/v1/pki/ca/{id}/default", pki::ca::make_default, Action::PkiCaDefault, admin),
        row(POST, "/v1/pki/ca/{id}/crl", pki::ca::build_crl, Action::PkiCrlBuild, admin),
        row(GET, "/v1/pki/roles", pki::roles::list, Action::PkiRoleRead, admin),
        row(POST, "/v1/pki/roles", pki::roles::create, Action::PkiRoleCreate, admin),
        row(GET, "/v1/pki/roles/{name}", pki::roles::read, Action::PkiRoleRead, admin),
        row(PATCH, "/v1/pki/roles/{name}", pki::roles::patch, Action::PkiRoleUpdate, admin),
        row(DELETE, "/v1/pki/roles/{name}", pki::roles::delete, Action::PkiRoleDelete, admin),
        row(POST, "/v1/pki/issue/{role}", pki::issue::issue, Action::PkiIssue, issue),
        row(POST, "/v1/pki/roles/{name}/test", pki::roles::test, Action::PkiRoleRead, admin),
        row(POST, "/v1/pki/sign/{role}", pki::issue::sign, Action::PkiSign, issue),
        row(GET, "/v1/pki/csr", pki::csr::list, Action::CsrRead, either),
        row(POST, "/v1/pki/csr", pki::csr::submit, Action::CsrSubmit, issue),
        row(GET, "/v1/pki/csr/{id}", pki::csr::read, Action::CsrRead, either),
        row(POST, "/v1/pki/csr/{id}/approve", pki::csr::approve, Action::CsrApprove, admin),
        row(POST, "/v1/pki/csr/{id}/reject", pki::csr::reject, Action::CsrReject, admin),
        row(POST, "/v1/pki/csr/{id}/sign", pki::csr::sign, Action::PkiSign, either),
        row(POST, "/v1/pki/ca/{id}/revoke", pki::revoke::ca, Action::PkiCaRevoke, admin),
        row(POST, "/v1/pki/revoke", pki::revoke::revoke, Action::PkiRevoke, admin),
        row(POST, "/v1/pki/revoke/bulk", pki::revoke::bulk, Action::PkiRevoke, admin),
        row(POST, "/v1/pki/release", pki::revoke::release, Action::PkiRelease, admin),
        route(POST, "/v1/pki/certificates/validate", pki::validate::validate)
            .action(Action::PkiValidate.as_str()),
        row(GET, "/v1/pki/certificates", pki::certificates::list, Action::PkiCertificateRead, either),
        row(
            GET,
            "/v1/pki/certificates/summary",
            pki::certificates::summary,
            Action::PkiCertificateRead,
            either,
        ),
        row(GET, "/v1/pki/certificates/{id}", pki::certificates::read, Action::PkiCertificateRead, either),
        row(
            PATCH,
            "/v1/pki/certificates/{id}",
            pki::certificates::patch,
            Action::PkiCertificateUpdate,
            admin,
        ),
        row(GET, "/v1/pki/certificates/{id}/pem", pki::certificates::pem, Action::PkiCertificateRead, either),
    ]
}

/// What a tenant trusts: read by everybody in it, as it is judged by.
fn anchor_rows() -> Vec<Route<Service>> {
    let (admin, read): (Scopes, &str) = (&[Scope::PkiAdmin], Action::PkiAnchorRead.as_str());
    vec![
        route(GET, "/v1/pki/trust-anchors", pki::anchors::list).action(read),
        row(POST, "/v1/pki/trust-anchors", pki::anchors::create, Action::PkiAnchorCreate, admin),
        route(GET, "/v1/pki/trust-anchors/bundle", pki::anchors::bundle).action(read),
        route(GET, "/v1/pki/trust-anchors/{id}", pki::anchors::read).action(read),
        row(DELETE, "/v1/pki/trust-anchors/{id}", pki::anchors::delete, Action::PkiAnchorDelete, admin),
    ]
}

/// A row for callers who are known, with the action that the audit trail names and the scopes of which it takes one.
fn row<F, Fut>(
    method: Method,
    template: &'static str,
    handler: F,
    action: Action,
    scopes: Scopes,
) -> Route<Service>
where
    F: Fn(Request, Caller) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = scaivault_core::Result<Reply>> + Send + 'static,
{
    route(method, template, handler).action(action.as_str()).scopes(scopes)
}

use crate::http::Reply;

/// A request to this application.
type Request = crate::http::Request<Service>;
/// Who sent it.
type Caller = std::sync::Arc<scaivault_core::Ctx>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_does_not_contradict_itself_and_names_known_actions() {
        let router = router().unwrap();
        for row in router.rows() {
            let known = Action::parse(row.audit_action()).is_some();
            assert!(known || row.access() == crate::http::router::Access::Public, "{row:?}");
        }
    }
}
