//! The built-in identity issuer of development mode.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use async_trait::async_trait;
use jsonwebtoken::{
    Algorithm, EncodingKey, Header,
    jwk::{Jwk, JwkSet, PublicKeyUse, ThumbprintHash},
};
use rustls_pki_types::{PrivatePkcs8KeyDer, pem::PemObject as _};
use scaivault_core::{
    Clock as _, Error, SystemClock,
    pki::PrivateKeyPem,
    policy::PathPattern,
    trust::{MintRequest, Minted, TokenMinter},
};
use scaivault_kms::{KeySpec, KmsError, local::SoftwareKey};
use serde::Serialize;

/// Signs tokens with a key of its own, and serves the public half as a key set. A vault verifies its tokens
/// by the same code as those of a real provider.
pub struct DevIssuer {
    key: EncodingKey,
    kid: String,
    jwks: String,
}

/// What a development token says.
#[derive(Clone, Debug)]
pub struct Claims {
    /// Who: `sa:billing` is a service account, anything else a user.
    pub identity: String,
    /// For which tenant.
    pub tenant: String,
    /// Whose that tenant is.
    pub partner: String,
    /// Separated by spaces.
    pub scopes: String,
    /// Groups, such as `group:sre`.
    pub groups: Vec<String>,
    /// Roles, such as `tenant_admin`.
    pub roles: Vec<String>,
    /// How long it is good for.
    pub ttl: Duration,
}

/// Why there is no issuer, or no token.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IssuerError {
    /// The key file cannot be read or written.
    #[error("the issuer's key {path}: {source}")]
    File {
        /// Where it is.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Others may use the key file.
    #[error("the issuer's key {0} may be used by others; chmod 0600 it")]
    Exposed(PathBuf),
    /// The key file holds no such key.
    #[error("the issuer's key {0} is not a P-256 private key in PEM")]
    Key(PathBuf),
    /// A key could not be made.
    #[error(transparent)]
    Generate(#[from] KmsError),
    /// A token could not be signed.
    #[error("the token cannot be signed: {0}")]
    Sign(#[from] jsonwebtoken::errors::Error),
}

impl DevIssuer {
    /// What `iss` says. It does not depend on the port, so that tokens can be made without a server.
    pub const ISSUER: &'static str = "urn:scaivault:dev";
    /// What `aud` says.
    pub const AUDIENCE: &'static str = "scaivault";

    /// Opens the key in `dir`, made on first use with mode 0600.
    ///
    /// # Errors
    /// [`IssuerError`] if the file cannot be used or may be used by others.
    pub fn open(dir: &Path) -> Result<Self, IssuerError> {
        let path = dir.join("issuer.key");
        match read_private(&path) {
            Err(IssuerError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                create(&path)?
            }
            Err(error) => return Err(error),
            Ok(_) => {}
        }
        let pem = read_private(&path)?;
        let der = PrivatePkcs8KeyDer::from_pem_slice(&pem).map_err(|_| IssuerError::Key(path.clone()))?;
        let key = EncodingKey::from_ec_der(der.secret_pkcs8_der());
        let mut jwk =
            Jwk::from_encoding_key(&key, Algorithm::ES256).map_err(|_| IssuerError::Key(path.clone()))?;
        let kid = jwk.thumbprint(ThumbprintHash::SHA256)?;
        jwk.common.key_id = Some(kid.clone());
        jwk.common.public_key_use = Some(PublicKeyUse::Signature);
        let jwks = serde_json::to_string(&JwkSet { keys: vec![jwk] }).map_err(|_| IssuerError::Key(path))?;
        Ok(Self { key, kid, jwks })
    }

    /// The public key set (RFC 7517).
    #[must_use]
    pub fn jwks(&self) -> &str {
        &self.jwks
    }

    /// Signs a token.
    ///
    /// # Errors
    /// [`IssuerError::Sign`].
    pub fn token(&self, claims: &Claims) -> Result<String, IssuerError> {
        self.sign(claims, None)
    }

    /// Signs a token that is narrowed to paths; no pattern is no path.
    fn sign(&self, claims: &Claims, allowed_paths: Option<&[PathPattern]>) -> Result<String, IssuerError> {
        let now = SystemClock.now().unix_timestamp();
        let is_service = claims.identity.starts_with("sa:");
        let ttl = i64::try_from(claims.ttl.as_secs()).unwrap_or(i64::MAX);
        let body = Body {
            iss: Self::ISSUER,
            aud: Self::AUDIENCE,
            sub: &claims.identity,
            client_id: is_service.then_some(&claims.identity),
            token_type: is_service.then_some("client_credentials"),
            tenant_id: &claims.tenant,
            partner_id: &claims.partner,
            scope: &claims.scopes,
            groups: &claims.groups,
            roles: &claims.roles,
            allowed_paths,
            iat: now,
            nbf: now,
            exp: now.saturating_add(ttl),
        };
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(self.kid.clone());
        Ok(jsonwebtoken::encode(&header, &body, &self.key)?)
    }
}

#[async_trait]
impl TokenMinter for DevIssuer {
    async fn mint(&self, wanted: &MintRequest<'_>) -> scaivault_core::Result<Minted> {
        let scopes: Vec<&str> = wanted.scopes.iter().map(|scope| scope.as_str()).collect();
        let claims = Claims {
            identity: wanted.service_account.to_owned(),
            tenant: wanted.tenant.as_str().to_owned(),
            partner: wanted.partner.as_str().to_owned(),
            scopes: scopes.join(" "),
            groups: Vec::new(),
            roles: Vec::new(),
            ttl: wanted.ttl,
        };
        let token = self.sign(&claims, Some(wanted.allowed_paths)).map_err(Error::internal)?;
        Ok(Minted { token: token.into(), ttl: wanted.ttl })
    }
}

impl std::fmt::Debug for DevIssuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DevIssuer").field("kid", &self.kid).finish_non_exhaustive()
    }
}

#[derive(Serialize)]
struct Body<'a> {
    iss: &'static str,
    aud: &'static str,
    sub: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<&'a String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_type: Option<&'static str>,
    tenant_id: &'a str,
    partner_id: &'a str,
    scope: &'a str,
    groups: &'a [String],
    roles: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    allowed_paths: Option<&'a [PathPattern]>,
    iat: i64,
    nbf: i64,
    exp: i64,
}

fn create(path: &Path) -> Result<(), IssuerError> {
    let (_, pkcs8) = SoftwareKey::generate(KeySpec::EcP256)?;
    let pem = PrivateKeyPem::from_pkcs8(&pkcs8);
    let file = |source| IssuerError::File { path: path.to_owned(), source };
    let mut to = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(file)?;
    to.write_all(pem.expose().as_bytes()).and_then(|()| to.sync_all()).map_err(file)
}

fn read_private(path: &Path) -> Result<zeroize::Zeroizing<Vec<u8>>, IssuerError> {
    let file = |source| IssuerError::File { path: path.to_owned(), source };
    if fs::metadata(path).map_err(file)?.mode() & 0o077 != 0 {
        return Err(IssuerError::Exposed(path.to_owned()));
    }
    fs::read(path).map(zeroize::Zeroizing::new).map_err(file)
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::PermissionsExt as _, sync::Arc};

    use scaivault_core::{IdentityType, Scope, StaticJwks, TokenSettings, TokenVerifier};

    use super::*;

    fn claims(identity: &str) -> Claims {
        Claims {
            identity: identity.into(),
            tenant: "tnt_dev".into(),
            partner: crate::dev::PARTNER.to_owned(),
            scopes: "pki:issue secrets:read".into(),
            groups: vec!["group:sre".into()],
            roles: vec!["tenant_admin".into()],
            ttl: Duration::from_secs(60),
        }
    }

    fn verifier(issuer: &DevIssuer) -> TokenVerifier {
        let settings = TokenSettings {
            issuers: vec![DevIssuer::ISSUER.into()],
            audiences: vec![DevIssuer::AUDIENCE.into()],
            default_partner: None,
        };
        TokenVerifier::new(Arc::new(StaticJwks::new(issuer.jwks())), settings, Arc::new(SystemClock)).unwrap()
    }

    #[tokio::test]
    async fn its_tokens_are_believed_by_the_verifier_of_real_ones_and_another_issuers_are_not() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let issuer = DevIssuer::open(one.path()).unwrap();
        let verifier = verifier(&issuer);
        let caller = verifier.verify(&issuer.token(&claims("sa:billing")).unwrap()).await.unwrap();
        assert_eq!(caller.identity_id(), "sa:billing");
        assert_eq!(caller.identity_type(), IdentityType::ServiceAccount);
        assert!(caller.has_scope(Scope::PkiIssue) && !caller.has_scope(Scope::PkiAdmin));
        let caller =
            verifier.verify(&issuer.token(&claims("user:alice@acme.example")).unwrap()).await.unwrap();
        assert_eq!(caller.identity_type(), IdentityType::User);

        // The same folder is the same issuer; another folder is another.
        let again = DevIssuer::open(one.path()).unwrap();
        verifier.verify(&again.token(&claims("sa:billing")).unwrap()).await.unwrap();
        let other = DevIssuer::open(two.path()).unwrap();
        assert!(verifier.verify(&other.token(&claims("sa:billing")).unwrap()).await.is_err());
    }

    #[test]
    fn a_key_that_others_may_use_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        DevIssuer::open(dir.path()).unwrap();
        let path = dir.path().join("issuer.key");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(DevIssuer::open(dir.path()), Err(IssuerError::Exposed(_))));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "canary").unwrap();
        let error = DevIssuer::open(dir.path()).unwrap_err();
        assert!(matches!(error, IssuerError::Key(_)) && !format!("{error:?}").contains("canary"));
    }
}
