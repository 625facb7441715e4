//! Mutual TLS between two tasks of one process, with certificates from a vault in the same process: a CA,
//! a role, a certificate for each side, a real handshake, then a revocation that the server sees.
//!
//! `cargo run -p scaivault-core --example embed_mtls`
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::{error::Error, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    pki_types::{
        CertificateDer, CertificateRevocationListDer, PrivateKeyDer, ServerName, pem::PemObject as _,
    },
    server::WebPkiClientVerifier,
};
use scaivault_core::{
    Caller, Ctx, Database, DurationText, Role, Scope, TenantId, Vault,
    pki::{
        CaCreate, CaType, IssueWrite, IssuedCertificate, KeyType, RevocationReason, RevokeWrite, RolePatch,
        RoleWrite,
    },
};
use scaivault_kms::local::{KeyFile, LocalProvider};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::{TlsAcceptor, TlsConnector};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> Outcome<()> {
    let root_key = Arc::new(LocalProvider::new(KeyFile::generate()?));
    let vault =
        Vault::builder(Database::in_memory(), root_key).base_url("http://vault.internal").open().await?;
    let admin = Caller::user("user:alice@acme.example", TenantId::parse("tnt_acme")?)?
        .with_roles([Role::TenantAdmin])
        .with_scopes([Scope::PkiAdmin, Scope::PkiIssue]);
    let ctx = vault.ctx(admin)?;

    let ca = vault
        .pki(&ctx)
        .create_ca(CaCreate {
            name: "mesh".into(),
            common_name: "Acme Mesh Root".into(),
            ca_type: CaType::Root,
            parent_ca_id: None,
            key_type: Some(KeyType::Ec),
            key_size: Some(256),
            validity_days: Some(365),
            subject: Default::default(),
            max_path_length: None,
            key_provider: None,
            key_ref: None,
            name_constraints: None,
            policies: Vec::new(),
            external: false,
            crl_shards: None,
            delta_crls: false,
            keep_expired_on_crl: false,
        })
        .await?;
    let settings = RolePatch {
        allowed_domains: Some(vec!["*.mesh.internal".into()]),
        max_ttl: Some("24h".parse::<DurationText>()?),
        ..RolePatch::default()
    };
    vault.pki(&ctx).create_role(RoleWrite::new("mesh", &ca.id, settings)).await?;
    let server = issue(&vault, &ctx, "billing.mesh.internal").await?;
    let client = issue(&vault, &ctx, "reporting.mesh.internal").await?;
    println!("issued {} and {}", server.serial_number, client.serial_number);

    let greeting = handshake(&vault, &ca.id, &server, &client).await?;
    println!("the server greets: {greeting}");

    let revoke = RevokeWrite {
        serial_number: client.serial_number.clone(),
        ca_id: None,
        reason: RevocationReason::KeyCompromise,
    };
    vault.pki(&ctx).revoke(revoke).await?;
    vault.pki(&ctx).build_crl(&ca.id).await?;
    match handshake(&vault, &ca.id, &server, &client).await {
        Err(error) => println!("after the revocation the server refuses: {error}"),
        Ok(_) => return Err("a revoked client was let in".into()),
    }
    vault.close().await;
    Ok(())
}

async fn issue(vault: &Vault, ctx: &Ctx, name: &str) -> Outcome<IssuedCertificate> {
    let request = IssueWrite { common_name: Some(name.into()), ..IssueWrite::default() };
    Ok(vault.pki(ctx).issue("mesh", request).await?)
}

/// One connection between two tasks; both sides show a certificate, and the server looks at the current
/// revocation list.
async fn handshake(
    vault: &Vault,
    ca_id: &str,
    server: &IssuedCertificate,
    client: &IssuedCertificate,
) -> Outcome<String> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(server.ca_chain[0].as_bytes())?)?;
    let roots = Arc::new(roots);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());

    let crl = CertificateRevocationListDer::from(vault.public_pki().crl(ca_id).await?.der);
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
        .with_crls([crl])
        .build()?;
    let (chain, key) = identity(server)?;
    let config = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)?;
    let acceptor = TlsAcceptor::from(Arc::new(config));

    let (chain, key) = identity(client)?;
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)?;
    let connector = TlsConnector::from(Arc::new(config));

    let (near, far) = tokio::io::duplex(16 << 10);
    let serving = tokio::spawn(async move {
        let mut stream = acceptor.accept(far).await?;
        stream.write_all(b"hello, I know who you are").await?;
        stream.shutdown().await
    });
    let calling = tokio::spawn(async move {
        let mut stream = connector.connect(ServerName::try_from("billing.mesh.internal")?, near).await?;
        let mut greeting = String::new();
        stream.read_to_string(&mut greeting).await?;
        Outcome::Ok(greeting)
    });
    serving.await??;
    calling.await?
}

fn identity(issued: &IssuedCertificate) -> Outcome<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let certificate = CertificateDer::from_pem_slice(issued.certificate.as_bytes())?;
    let key = PrivateKeyDer::from_pem_slice(
        issued.private_key.as_ref().ok_or("a key was made")?.expose().as_bytes(),
    )?;
    Ok((vec![certificate], key))
}
