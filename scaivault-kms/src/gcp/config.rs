use std::{path::PathBuf, time::Duration};

use reqwest::Url;

use super::{PROVIDER, error::invalid};
use crate::{KmsError, rest};

/// Where the root key is and who we are there.
#[derive(Clone, Debug)]
pub struct GcpConfig {
    /// The root key: `projects/P/locations/L/keyRings/R/cryptoKeys/K`, without a version.
    pub key_name: String,
    /// Where tokens come from.
    pub auth: GcpAuth,
    /// The service; `https://cloudkms.googleapis.com` by default. Another one is a private endpoint. Plain HTTP is
    /// accepted to a loopback address only: a token is sent with every request.
    pub endpoint: String,
    /// What protects the keys that are made here.
    pub protection: Protection,
    /// The certificates (PEM) that may have signed the service's; without them the system's roots.
    pub ca_pem: Option<Vec<u8>>,
    /// For each request, and for a new token. 5 s by default.
    pub timeout: Duration,
}

/// Where tokens come from. They are kept until shortly before they expire.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum GcpAuth {
    /// Google's application default credentials: the file that `GOOGLE_APPLICATION_CREDENTIALS` names, else what
    /// `gcloud` left for applications, else the metadata server, else `gcloud` itself.
    #[default]
    Default,
    /// The key file (JSON) of a service account.
    ServiceAccount(PathBuf),
    /// The account of the machine, pod or function that we run in.
    MetadataServer,
}

/// Where the keys that are made here live.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Protection {
    /// In the service's software.
    #[default]
    Software,
    /// In an HSM of the service, which not every location has.
    Hsm,
}

impl Protection {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Software => "SOFTWARE",
            Self::Hsm => "HSM",
        }
    }
}

impl GcpConfig {
    /// The root key `key_name`, everything else by default.
    #[must_use]
    pub fn new(key_name: impl Into<String>) -> Self {
        Self {
            key_name: key_name.into(),
            auth: GcpAuth::default(),
            endpoint: "https://cloudkms.googleapis.com".into(),
            protection: Protection::default(),
            ca_pem: None,
            timeout: Duration::from_secs(5),
        }
    }

    /// The endpoint with the version of the API, or why it is none.
    pub(super) fn base(&self) -> Result<Url, KmsError> {
        let mut url = rest::address(PROVIDER, "the endpoint", &self.endpoint)?;
        let path = format!("{}/v1/", url.path().trim_end_matches('/'));
        url.set_path(&path);
        Ok(url)
    }
}

const LABELS: [&str; 4] = ["projects", "locations", "keyRings", "cryptoKeys"];

/// The key ring of a key that is named in full and without a version.
pub(super) fn ring_of(key_name: &str) -> Result<&str, KmsError> {
    let parts: Vec<&str> = key_name.split('/').collect();
    if parts.get(8).is_some_and(|label| *label == "cryptoKeyVersions") {
        return Err(invalid("the key name ends in a version: name the key itself"));
    }
    let fits = parts.len() == 8
        && LABELS.iter().zip(parts.iter().step_by(2)).all(|(label, part)| label == part)
        && is_project(parts[1])
        && parts[3..].iter().step_by(2).all(|part| check_name(part).is_ok());
    if !fits {
        return Err(invalid(
            "the key name is not projects/PROJECT/locations/LOCATION/keyRings/RING/cryptoKeys/KEY",
        ));
    }
    Ok(key_name.rsplit_once("/cryptoKeys/").map_or("", |(ring, _)| ring))
}

/// The version that a reference to a signing key means: a version's full name, a key's full name, or a key's name in
/// `ring`, with `@VERSION` or for version 1.
pub(super) fn version_name(ring: &str, reference: &str) -> Result<String, KmsError> {
    let number = |text: &str| match text.parse::<u32>() {
        Ok(version) if version > 0 && !text.starts_with(['0', '+']) => Ok(version),
        _ => Err(invalid("a key version is a number from 1")),
    };
    if let Some((key, version)) = reference.rsplit_once("/cryptoKeyVersions/") {
        ring_of(key)?;
        return Ok(format!("{key}/cryptoKeyVersions/{}", number(version)?));
    }
    let (key, version) = reference.split_once('@').unwrap_or((reference, "1"));
    let version = number(version)?;
    if key.contains('/') {
        ring_of(key)?;
        return Ok(format!("{key}/cryptoKeyVersions/{version}"));
    }
    check_name(key)?;
    Ok(format!("{ring}/cryptoKeys/{key}/cryptoKeyVersions/{version}"))
}

/// The name of a key or a key ring, as the service has it.
pub(super) fn check_name(name: &str) -> Result<(), KmsError> {
    let fit = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if name.is_empty() || name.len() > 63 || !name.chars().all(fit) {
        return Err(invalid("a name is up to 63 letters, digits, '_' and '-'"));
    }
    Ok(())
}

/// Older projects have a domain before them: `example.com:project`.
fn is_project(name: &str) -> bool {
    let fit = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | ':');
    !name.is_empty() && name.len() <= 128 && name.chars().all(fit) && !name.starts_with('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    const RING: &str = "projects/p-1/locations/europe-west4/keyRings/scai";

    #[test]
    fn key_names_are_read_in_full_or_refused() {
        assert_eq!(ring_of(&format!("{RING}/cryptoKeys/root")).unwrap(), RING);
        assert!(ring_of("projects/example.com:p/locations/global/keyRings/r/cryptoKeys/k").is_ok());
        for odd in [
            "",
            "root",
            RING,
            "projects/p/locations/l/keyRings/r/cryptoKeys/",
            "projects/p/locations/l/keyRings/r/cryptoKeys/k/",
            "projects/p/locations/l/keyRings/../cryptoKeys/k",
            "projects/p/locations/l/keyRings/r/cryptoKeys/k:encrypt",
            "projects/p/locations/l/keyRings/r/cryptoKeys/k?x",
            "projects/../locations/l/keyRings/r/cryptoKeys/k",
            "Projects/p/locations/l/keyRings/r/cryptoKeys/k",
        ] {
            assert!(matches!(ring_of(odd), Err(KmsError::Invalid { .. })), "{odd:?}");
        }
        let error = ring_of(&format!("{RING}/cryptoKeys/root/cryptoKeyVersions/1")).unwrap_err();
        assert!(error.to_string().contains("name the key itself"), "{error}");
    }

    #[test]
    fn references_to_signing_keys_name_one_version() {
        let expected = format!("{RING}/cryptoKeys/ca/cryptoKeyVersions/");
        for (reference, version) in [
            ("ca".to_owned(), 1),
            ("ca@7".to_owned(), 7),
            (format!("{RING}/cryptoKeys/ca"), 1),
            (format!("{RING}/cryptoKeys/ca@3"), 3),
            (format!("{expected}12"), 12),
        ] {
            assert_eq!(
                version_name(RING, &reference).unwrap(),
                format!("{expected}{version}"),
                "{reference}"
            );
        }
        for odd in ["", "ca@", "ca@0", "ca@-1", "ca@01", "c a", "a/b", "ca@x", &format!("{expected}latest")] {
            assert!(matches!(version_name(RING, odd), Err(KmsError::Invalid { .. })), "{odd:?}");
        }
    }

    #[test]
    fn an_endpoint_that_would_get_tokens_in_the_clear_is_refused() {
        let base = |endpoint: &str| {
            let mut config = GcpConfig::new("");
            config.endpoint = endpoint.to_owned();
            config.base()
        };
        assert_eq!(base("https://kms.example/p/").unwrap().as_str(), "https://kms.example/p/v1/");
        assert!(base("http://127.0.0.1:9").is_ok());
        for odd in ["http://kms.example", "kms.example", "https://u:p@kms.example", "https://kms.example?x"] {
            assert!(matches!(base(odd), Err(KmsError::Invalid { .. })), "{odd}");
        }
    }
}
