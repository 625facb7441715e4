//! A service that keeps its secrets in a vault of its own: a policy for one service account, a secret that
//! the account may read and another that it may not, and the audit trail of both.
//!
//! `cargo run -p scaivault-core --example embed_secrets`
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::{error::Error, sync::Arc};

use scaivault_core::{
    AuditFilter, Caller, Code, Database, IdentityType, Role, Scope, TenantId, Vault,
    policy::{BindingWrite, PolicyDocument, PolicyWrite, RuleWrite},
    secrets::{Expectation, SecretData, SecretPath, SecretWrite},
};
use scaivault_kms::local::{KeyFile, LocalProvider};
use serde_json::json;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // In production the database is a file or PostgreSQL, and the root key lives where nobody can read it.
    let root_key = Arc::new(LocalProvider::new(KeyFile::generate()?));
    let vault = Vault::builder(Database::in_memory(), root_key).open().await?;
    let tenant = TenantId::parse("tnt_acme")?;

    let admin = Caller::user("user:alice@acme.example", tenant.clone())?
        .with_roles([Role::TenantAdmin])
        .with_scopes([Scope::Admin]);
    let admin = vault.ctx(admin)?;
    put(&vault, &admin, "billing/db", json!({"user": "billing", "password": "s3cret"})).await?;
    put(&vault, &admin, "payroll/db", json!({"user": "payroll", "password": "0ther"})).await?;

    // A service account that may read what is under billing/, and nothing else.
    let document = PolicyDocument::parse(PolicyWrite {
        name: "read-billing".into(),
        description: None,
        rules: vec![RuleWrite {
            path_pattern: "billing/**".into(),
            permissions: vec!["read".into()],
            conditions: None,
        }],
    })?;
    let policy = vault.policies(&admin).create(document).await?;
    let binding = BindingWrite {
        tenant_id: None,
        identity_type: IdentityType::ServiceAccount,
        identity_id: "sa:billing".into(),
        expires_at: None,
    };
    vault.policies(&admin).bind(&policy.id, binding).await?;

    let billing = Caller::service_account("sa:billing", tenant)?.with_scopes([Scope::SecretsRead]);
    let billing = vault.ctx(billing)?;
    let secret = vault.secrets(&billing).get(&SecretPath::parse("billing/db")?, None).await?;
    let value: serde_json::Value = secret.data.decode()?;
    println!("sa:billing reads billing/db, version {}: user {}", secret.item.version, value["user"]);

    let refused = vault.secrets(&billing).get(&SecretPath::parse("payroll/db")?, None).await;
    match refused {
        Err(error) if error.code() == Code::AccessDenied => {
            println!("sa:billing is refused payroll/db: {error}")
        }
        other => return Err(format!("expected a refusal, got {other:?}").into()),
    }

    // Nobody overwrites what he has not seen.
    let stale = SecretWrite {
        expect: Expectation::Version(7),
        ..SecretWrite::new(SecretData::from_value(&json!({"password": "lost"}))?)
    };
    let conflict = vault.secrets(&admin).put(&SecretPath::parse("billing/db")?, stale).await;
    println!("a stale write is refused: {}", conflict.err().ok_or("a stale write was accepted")?);

    println!("\nthe audit trail, newest first:");
    for log in vault.audit(&admin).query(AuditFilter::default()).await?.items {
        let about = log.secret_path.or(log.resource_id).unwrap_or_default();
        let outcome = log.error_code.as_deref().unwrap_or("ok");
        println!(
            "  {:24} {:12} {:12} {outcome}",
            log.identity_id,
            log.action,
            about.chars().take(12).collect::<String>()
        );
    }
    vault.close().await;
    Ok(())
}

async fn put(
    vault: &Vault,
    ctx: &scaivault_core::Ctx,
    path: &str,
    value: serde_json::Value,
) -> scaivault_core::Result<()> {
    let write = SecretWrite::new(SecretData::from_value(&value)?);
    vault.secrets(ctx).put(&SecretPath::parse(path)?, write).await.map(drop)
}
