pub(super) mod ca;
pub(super) mod certificates;
pub(super) mod csr;
pub(super) mod issue;
pub(super) mod ocsp;
pub(super) mod revoke;
pub(super) mod roles;
