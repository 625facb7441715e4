//! TLS in this process: 1.2 and 1.3, ECDHE with AES-GCM or ChaCha20-Poly1305 only; client certificates where asked for.

use std::{path::Path, sync::Arc};

use rustls::{
    RootCertStore,
    crypto::CryptoProvider,
    server::{NoServerSessionStorage, WebPkiClientVerifier, danger::ClientCertVerifier},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tokio_rustls::TlsAcceptor;

/// Why the files do not make a server certificate; names the file, never its content.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct TlsError(String);

/// An acceptor for the certificate chain and the private key of two PEM files. With `client_authorities`, the PEM file
/// of certificates that clients' may be signed by, nobody gets past the handshake without a certificate for client
/// authentication under one of them that holds now.
///
/// # Errors
/// [`TlsError`] if a file cannot be read, holds nothing of its kind, or the first two do not belong together.
pub fn acceptor(
    certificates: &Path,
    key: &Path,
    client_authorities: Option<&Path>,
) -> Result<TlsAcceptor, TlsError> {
    let chain = read_certificates(certificates)?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| unreadable(key, &error))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let unfit = |error: rustls::Error| {
        TlsError(format!(
            "{} and {} do not make a server certificate: {error}",
            certificates.display(),
            key.display()
        ))
    };
    let clients = client_authorities.map(|file| client_verifier(file, Arc::clone(&provider))).transpose()?;
    let builder = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(unfit)?;
    let mut config = match clients {
        None => builder.with_no_client_auth().with_single_cert(chain, private).map_err(unfit)?,
        Some(clients) => {
            let builder = builder.with_client_cert_verifier(clients);
            let mut config = builder.with_single_cert(chain, private).map_err(unfit)?;
            // A session that is resumed shows no certificate: one that expired meanwhile would still get in.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
            config
        }
    };
    config.alpn_protocols = vec![H2.to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn client_verifier(
    file: &Path,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    for authority in read_certificates(file)? {
        roots.add(authority).map_err(|error| {
            TlsError(format!("{} holds a certificate that cannot be used: {error}", file.display()))
        })?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().map_err(|error| {
        TlsError(format!("{} cannot vouch for client certificates: {error}", file.display()))
    })
}

fn read_certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let all: Vec<_> = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect)
        .map_err(|error| unreadable(file, &error))?;
    if all.is_empty() {
        return Err(TlsError(format!("{} holds no PEM certificate", file.display())));
    }
    Ok(all)
}

/// The protocol name of HTTP/2 (RFC 9113 section 3.1).
pub(crate) const H2: &[u8] = b"h2";

fn unreadable(path: &Path, error: &rustls_pki_types::pem::Error) -> TlsError {
    use rustls_pki_types::pem::Error as E;
    let reason = match error {
        E::Io(error) => error.to_string(),
        E::NoItemsFound => "it holds no such PEM section".to_owned(),
        _ => "it is not valid PEM".to_owned(),
    };
    TlsError(format!("cannot read {}: {reason}", path.display()))
}
