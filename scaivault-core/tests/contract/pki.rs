//! Certificates.

use scaivault_core::{
    Ctx, Vault,
    pki::{
        Ca, CaCreate, CaType, KeyType, RevocationReason, RevokeWrite, RolePatch, RoleWrite, SubjectFields,
    },
};

pub(crate) fn root_write(name: &str) -> CaCreate {
    CaCreate {
        name: name.to_owned(),
        common_name: format!("{name} CN"),
        ca_type: CaType::Root,
        parent_ca_id: None,
        key_type: Some(KeyType::Ec),
        key_size: None,
        validity_days: None,
        subject: SubjectFields::default(),
        max_path_length: None,
    }
}

pub(crate) async fn root(vault: &Vault, ctx: &Ctx, name: &str) -> Ca {
    vault.pki(ctx).create_ca(root_write(name)).await.unwrap()
}

pub(crate) fn below(parent: &Ca, name: &str) -> CaCreate {
    CaCreate { ca_type: CaType::Intermediate, parent_ca_id: Some(parent.id.clone()), ..root_write(name) }
}

pub(crate) fn role_write(name: &str, ca_id: &str) -> RoleWrite {
    let settings = RolePatch {
        allowed_domains: Some(vec!["*.svc.test".to_owned()]),
        allow_ip_sans: Some(true),
        ..RolePatch::default()
    };
    RoleWrite::new(name, ca_id, settings)
}

pub(crate) async fn role(vault: &Vault, ctx: &Ctx, name: &str, ca_id: &str) {
    vault.pki(ctx).create_role(role_write(name, ca_id)).await.unwrap();
}

pub(crate) fn revocation(serial: &str) -> RevokeWrite {
    RevokeWrite { serial_number: serial.to_owned(), ca_id: None, reason: RevocationReason::KeyCompromise }
}
