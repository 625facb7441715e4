use reqwest::Url;

/// The address of a service that is believed or sent credentials: `https`, or `http` on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceUrl(String);

impl ServiceUrl {
    /// Takes an absolute URL without credentials, query, fragment or trailing slash.
    ///
    /// # Errors
    /// What is wrong, as the end of a sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        let url = web(text)?;
        if !is_protected(&url) {
            return Err(
                "must be https: whoever sits on the way could sign tokens (http is for loopback only)".into(),
            );
        }
        if url.query().is_some() || url.fragment().is_some() || text.ends_with('/') {
            return Err("must have no query, fragment or trailing slash".into());
        }
        Ok(Self(text.to_owned()))
    }

    /// The text, as it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether what is said there cannot be changed on the way, not even on this machine.
    pub(crate) fn is_https(&self) -> bool {
        Url::parse(&self.0).is_ok_and(|url| url.scheme() == "https")
    }
}

/// An absolute http or https URL without a user name or password.
pub(super) fn web(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    let Some(url) = url else { return Err("must be an absolute http or https URL".into()) };
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must have no user name or password in it".into());
    }
    Ok(url)
}

/// Whether nobody on a network can read or change what is said there.
pub(super) fn is_protected(url: &Url) -> bool {
    url.scheme() == "https"
        || match literal(url) {
            Some(address) => address.is_loopback(),
            None => url.host_str() == Some("localhost"),
        }
}

/// The address, where the host is one and no name. The parser has made one spelling of the many.
pub(super) fn literal(url: &Url) -> Option<std::net::IpAddr> {
    let host = url.host_str()?;
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}
