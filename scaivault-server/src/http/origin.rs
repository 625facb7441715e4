//! Where a request comes from, seen past proxies that are trusted.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use http::{HeaderMap, HeaderName};
use ipnet::IpNet;
use scaivault_core::{Code, Error, Result};

/// The proxies whose word is taken for where a request comes from. None, unless an operator names some.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct TrustedProxies(Vec<IpNet>);

/// The most ranges that can be named.
const RANGES: usize = 256;
/// The most addresses that are read from the header: what stands further left is nobody's word that counts.
const HOPS: usize = 64;

impl TrustedProxies {
    /// Reads ranges such as `10.0.0.0/8, 2001:db8::/32`, and single addresses, separated by commas: at most 256.
    ///
    /// # Errors
    /// Which part is wrong, as the end of a sentence; no part is repeated.
    pub fn parse(text: &str) -> Result<Self, String> {
        networks(text).map(Self)
    }

    /// Where a request comes from: the other end of the connection, unless that is a trusted proxy. Then it is the
    /// address in `X-Forwarded-For` that is furthest to the right and no trusted proxy, since each proxy appends whom
    /// it was called by; the leftmost if all of them are. A trusted proxy that sends no such header speaks for
    /// itself, as a health check does.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] if what is needed to tell cannot be read. It is refused, and not
    /// taken for the proxy's own address: conditions would hold by that address for everybody behind it.
    pub fn origin(&self, peer: IpAddr, headers: &HeaderMap) -> Result<IpAddr> {
        let mut origin = peer.to_canonical();
        if !self.holds(origin) {
            return Ok(origin);
        }
        let values: Vec<_> = headers.get_all(&X_FORWARDED_FOR).iter().collect();
        let mut hops = 0;
        for value in values.into_iter().rev() {
            let value = value.to_str().map_err(|_| malformed())?;
            for entry in value.rsplit(',') {
                hops += 1;
                if hops > HOPS {
                    return Err(malformed());
                }
                origin = address(entry.trim()).ok_or_else(malformed)?.to_canonical();
                if !self.holds(origin) {
                    return Ok(origin);
                }
            }
        }
        Ok(origin)
    }

    fn holds(&self, address: IpAddr) -> bool {
        self.0.iter().any(|range| range.contains(&address))
    }
}

impl fmt::Debug for TrustedProxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.iter().map(ToString::to_string)).finish()
    }
}

/// Reads networks and single addresses, separated by commas, as [`TrustedProxies::parse`] does.
pub(crate) fn networks(text: &str) -> Result<Vec<IpNet>, String> {
    let parts: Vec<&str> = text.split(',').map(str::trim).collect();
    if parts.len() > RANGES {
        return Err(format!("must name at most {RANGES} networks"));
    }
    let read = |(i, text)| range(text).map_err(|why| format!("{why}; number {} is not", i + 1));
    parts.into_iter().enumerate().map(read).collect()
}

fn range(text: &str) -> Result<IpNet, &'static str> {
    let net = match text.parse::<IpAddr>() {
        Ok(address) => Ok(IpNet::from(address.to_canonical())),
        Err(_) => text.parse::<IpNet>(),
    };
    let net = net.map_err(|_| "must be networks such as 10.0.0.0/8 or addresses, separated by commas")?;
    if net.trunc() == net { Ok(net) } else { Err("must be networks without bits beyond their prefixes") }
}

/// An address, with or without the port that some proxies add.
fn address(text: &str) -> Option<IpAddr> {
    text.parse::<IpAddr>()
        .ok()
        .or_else(|| text.parse::<SocketAddr>().ok().map(|with_port| with_port.ip()))
        .or_else(|| text.strip_prefix('[')?.strip_suffix(']')?.parse().ok())
}

fn malformed() -> Error {
    Error::new(Code::InvalidRequest, "The header X-Forwarded-For cannot be read.")
}

static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn origin(peer: &str, headers: &[&str]) -> Result<String> {
        let proxies = TrustedProxies::parse("10.0.0.0/8, 2001:db8::/32,192.0.2.1").unwrap();
        let mut map = HeaderMap::new();
        for value in headers {
            map.append(X_FORWARDED_FOR.clone(), HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        proxies.origin(peer.parse().unwrap(), &map).map(|ip| ip.to_string())
    }

    #[test]
    fn the_rightmost_address_that_is_no_proxy_of_ours_counts() {
        for (peer, headers, expected) in [
            ("198.51.100.1", &[][..], "198.51.100.1"),
            ("198.51.100.1", &["203.0.113.9"], "198.51.100.1"),
            ("198.51.100.1", &["nonsense"], "198.51.100.1"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &["203.0.113.9"], "203.0.113.9"),
            ("::ffff:10.0.0.1", &["203.0.113.9"], "203.0.113.9"),
            ("10.0.0.1", &["::ffff:203.0.113.9"], "203.0.113.9"),
            ("10.0.0.1", &["1.2.3.4, 203.0.113.9, 10.9.9.9 ,2001:db8::7"], "203.0.113.9"),
            ("10.0.0.1", &["1.2.3.4", "203.0.113.9, 10.9.9.9"], "203.0.113.9"),
            ("10.0.0.1", &["10.3.3.3, 10.2.2.2"], "10.3.3.3"),
            ("192.0.2.1", &["203.0.113.9:4711"], "203.0.113.9"),
            ("192.0.2.2", &["203.0.113.9"], "192.0.2.2"),
            ("2001:db8::1", &["[2a00::9]:4711"], "2a00::9"),
            ("10.0.0.1", &["[2a00::9]"], "2a00::9"),
            ("10.0.0.1", &["nonsense, 203.0.113.9"], "203.0.113.9"),
        ] {
            assert_eq!(origin(peer, headers).unwrap(), expected, "{peer} {headers:?}");
        }
    }

    #[test]
    fn what_a_proxy_of_ours_sends_can_be_read_or_is_refused() {
        let long = vec!["10.0.0.2"; HOPS + 1].join(",");
        for headers in [
            &[""][..],
            &["unknown"],
            &["203.0.113.9, "],
            &["203.0.113.9, 10.0.0.300"],
            &["203.0.113.9, _hidden"],
            &["203.0.113.9", ""],
            &["203.0.113.\u{e9}"],
            &["010.0.0.1"],
            &["203.0.113.9 10.0.0.2"],
            &[&long],
        ] {
            assert_eq!(origin("10.0.0.1", headers).unwrap_err().code(), Code::InvalidRequest, "{headers:?}");
        }
    }

    #[test]
    fn nobody_is_trusted_unless_named() {
        let mut map = HeaderMap::new();
        map.insert(X_FORWARDED_FOR.clone(), HeaderValue::from_static("203.0.113.9"));
        let peer: IpAddr = "127.0.0.1".parse().unwrap();
        assert_eq!(TrustedProxies::default().origin(peer, &map).unwrap(), peer);
        for bad in ["", "10.0.0.0/8,", "10.0.0.1/8", "10.0.0.0/33", "proxy.example", "*"] {
            assert!(TrustedProxies::parse(bad).is_err(), "{bad:?}");
        }
        assert!(TrustedProxies::parse(&vec!["10.0.0.0/8"; RANGES + 1].join(",")).is_err());
        assert_eq!(
            format!("{:?}", TrustedProxies::parse("10.0.0.0/8, ::1").unwrap()),
            r#"{"10.0.0.0/8", "::1/128"}"#
        );
    }
}
