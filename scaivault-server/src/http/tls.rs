//! TLS in this process: 1.2 and 1.3, ECDHE with AES-GCM or ChaCha20-Poly1305 only.

use std::{path::Path, sync::Arc};

use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tokio_rustls::TlsAcceptor;

/// Why the files do not make a server certificate; names the file, never its content.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct TlsError(String);

/// An acceptor for the certificate chain and the private key of two PEM files.
///
/// # Errors
/// [`TlsError`] if a file cannot be read, holds nothing of its kind, or the two do not belong together.
pub fn acceptor(certificates: &Path, key: &Path) -> Result<TlsAcceptor, TlsError> {
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(certificates)
        .and_then(Iterator::collect)
        .map_err(|error| unreadable(certificates, &error))?;
    if chain.is_empty() {
        return Err(TlsError(format!("{} holds no PEM certificate", certificates.display())));
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| unreadable(key, &error))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let unfit = |error: rustls::Error| {
        TlsError(format!(
            "{} and {} do not make a server certificate: {error}",
            certificates.display(),
            key.display()
        ))
    };
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(unfit)?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(unfit)?;
    config.alpn_protocols = vec![H2.to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
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
