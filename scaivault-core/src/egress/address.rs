use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// Which addresses may be reached on the word of somebody who is no operator.
#[derive(Clone, Debug, Default)]
pub(super) struct Reachable {
    /// Besides those of the public internet.
    pub(super) allowed: Vec<IpNet>,
}

impl Reachable {
    /// What kind of address it is that may not be reached.
    ///
    /// # Errors
    /// The kind, as it goes into a sentence.
    pub(super) fn check(&self, address: IpAddr) -> Result<(), &'static str> {
        let address = address.to_canonical();
        let inner = embedded(address).map(IpAddr::V4);
        let allowed = |address: &IpAddr| self.allowed.iter().any(|net| net.contains(address));
        if allowed(&address) || inner.as_ref().is_some_and(allowed) {
            return Ok(());
        }
        match (address, inner) {
            (_, Some(IpAddr::V4(inner))) | (IpAddr::V4(inner), _) => special_v4(inner),
            (IpAddr::V6(address), _) => special_v6(address),
        }
        .map_or(Ok(()), Err)
    }
}

/// The IPv4 address that a translator or a relay would send this to (RFC 6052 section 2.1, RFC 3056 section 2).
fn embedded(address: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(address) = address else { return None };
    let [a, b, c, d, e, f, g, h] = address.segments();
    let two = |high: u16, low: u16| Ipv4Addr::from(u32::from(high) << 16 | u32::from(low));
    match (a, b, [c, d, e, f]) {
        (0x64, 0xff9b, [0, 0, 0, 0]) => Some(two(g, h)),
        (0x2002, high, [low, ..]) => Some(two(high, low)),
        _ => None,
    }
}

/// What is not of the public internet (IANA IPv4 Special-Purpose Address Registry, RFC 6890), and what clouds answer
/// their machines at.
fn special_v4(address: Ipv4Addr) -> Option<&'static str> {
    let [a, b, c, d] = address.octets();
    Some(match (a, b, c, d) {
        (169, 254, 169, 254) | (100, 100, 100, 200) | (168, 63, 129, 16) | (192, 0, 0, 192) => "metadata",
        (0, ..) => "unspecified",
        (127, ..) => "loopback",
        (10, ..) | (172, 16..=31, ..) | (192, 168, ..) => "private",
        (169, 254, ..) => "link-local",
        (100, 64..=127, ..) => "shared by subscribers of a carrier",
        (192, 0, 2, _) | (198, 51, 100, _) | (203, 0, 113, _) => "for documentation",
        (198, 18..=19, ..) => "for benchmarks",
        (192, 0, 0, _) | (192, 88, 99, _) => "reserved for protocols",
        (224..=239, ..) => "multicast",
        (255, 255, 255, 255) => "broadcast",
        (240..=255, ..) => "reserved",
        _ => return None,
    })
}

/// The same of IPv6, where the public internet is 2000::/3 without what is reserved in it (RFC 6890, RFC 9637).
fn special_v6(address: Ipv6Addr) -> Option<&'static str> {
    let [a, b, ..] = address.segments();
    Some(match (a, b) {
        _ if address == Ipv6Addr::UNSPECIFIED => "unspecified",
        _ if address == Ipv6Addr::LOCALHOST => "loopback",
        _ if address == METADATA => "metadata",
        (0xfc00..=0xfdff, _) => "private",
        (0xfe80..=0xfebf, _) => "link-local",
        (0xfec0..=0xfeff, _) => "site-local",
        (0xff00..=0xffff, _) => "multicast",
        (0x2001, 0xdb8) | (0x3fff, 0x0000..=0x0fff) => "for documentation",
        (0x2001, 0x2) => "for benchmarks",
        (0x2001, 0x0000..=0x01ff) => "reserved for protocols",
        (0x2000..=0x3fff, _) => return None,
        _ => "reserved",
    })
}

/// Where Amazon answers its machines.
const METADATA: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(address: &str) -> Option<&'static str> {
        Reachable::default().check(address.parse().unwrap()).err()
    }

    #[test]
    fn sec_h1_only_the_public_internet_is_reachable() {
        for (address, expected) in [
            ("0.0.0.0", "unspecified"),
            ("0.255.255.255", "unspecified"),
            ("10.0.0.0", "private"),
            ("10.255.255.255", "private"),
            ("100.64.0.0", "shared by subscribers of a carrier"),
            ("100.127.255.255", "shared by subscribers of a carrier"),
            ("100.100.100.200", "metadata"),
            ("127.0.0.1", "loopback"),
            ("127.255.255.255", "loopback"),
            ("168.63.129.16", "metadata"),
            ("169.254.0.0", "link-local"),
            ("169.254.169.254", "metadata"),
            ("172.16.0.0", "private"),
            ("172.31.255.255", "private"),
            ("192.0.0.1", "reserved for protocols"),
            ("192.0.0.192", "metadata"),
            ("192.0.2.1", "for documentation"),
            ("192.88.99.1", "reserved for protocols"),
            ("192.168.0.0", "private"),
            ("192.168.255.255", "private"),
            ("198.18.0.0", "for benchmarks"),
            ("198.19.255.255", "for benchmarks"),
            ("198.51.100.1", "for documentation"),
            ("203.0.113.255", "for documentation"),
            ("224.0.0.1", "multicast"),
            ("239.255.255.255", "multicast"),
            ("240.0.0.1", "reserved"),
            ("255.255.255.255", "broadcast"),
            ("::", "unspecified"),
            ("::1", "loopback"),
            ("::7f00:1", "reserved"),
            ("::ffff:127.0.0.1", "loopback"),
            ("::ffff:169.254.169.254", "metadata"),
            ("::ffff:0:10.0.0.1", "reserved"),
            ("64:ff9b::a9fe:a9fe", "metadata"),
            ("64:ff9b::a00:1", "private"),
            ("64:ff9b:1::1", "reserved"),
            ("100::1", "reserved"),
            ("2001::1", "reserved for protocols"),
            ("2001:2::1", "for benchmarks"),
            ("2001:1ff::1", "reserved for protocols"),
            ("2001:db8::1", "for documentation"),
            ("2002:7f00:1::1", "loopback"),
            ("2002:a9fe:a9fe::", "metadata"),
            ("2002:c0a8:1::1", "private"),
            ("3fff::1", "for documentation"),
            ("4000::1", "reserved"),
            ("5f00::1", "reserved"),
            ("fc00::1", "private"),
            ("fd00:ec2::254", "metadata"),
            ("fdff::1", "private"),
            ("fe80::1", "link-local"),
            ("fec0::1", "site-local"),
            ("ff02::1", "multicast"),
        ] {
            assert_eq!(kind(address), Some(expected), "{address}");
        }
        for public in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.1",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "::ffff:1.1.1.1",
            "64:ff9b::101:101",
            "2001:200::1",
            "2002:101:101::1",
            "2606:4700::1111",
            "2a00::1",
            "3fff:1000::1",
        ] {
            assert_eq!(kind(public), None, "{public}");
        }
    }

    #[test]
    fn sec_h1_an_allowed_network_is_allowed_in_every_spelling_and_nothing_beside_it() {
        let allowed = ["10.1.0.0/16", "fd12::/16", "169.254.169.254/32"];
        let reachable = Reachable { allowed: allowed.map(|net| net.parse().unwrap()).to_vec() };
        let check = |address: &str| reachable.check(address.parse().unwrap()).is_ok();
        for good in [
            "10.1.2.3",
            "::ffff:10.1.2.3",
            "64:ff9b::a01:203",
            "2002:a01:203::1",
            "fd12:1::1",
            "169.254.169.254",
            "1.1.1.1",
        ] {
            assert!(check(good), "{good}");
        }
        for bad in
            ["10.2.0.1", "::ffff:10.2.0.1", "64:ff9b::a02:1", "fd13::1", "169.254.169.253", "::a01:203"]
        {
            assert!(!check(bad), "{bad}");
        }
    }
}
