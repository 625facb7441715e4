//! Secret paths: exactly what the rules say is accepted, and no accepted path has a second spelling.
#![no_main]

use libfuzzer_sys::fuzz_target;
use scaivault_core::{Code, policy::PathPattern, secrets::SecretPath};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match SecretPath::parse(text) {
        Ok(path) => {
            assert!(is_path(text), "{text:?} breaks a rule");
            assert_eq!(path.as_str(), text);
            assert_eq!(path.to_string(), text);
            only_spelling(text);
            // What is authorized is what is stored.
            let pattern = PathPattern::parse(text).expect("a path is a pattern of itself");
            assert!(pattern.matches(text));
        }
        Err(error) => {
            assert!(!is_path(text), "{text:?} breaks no rule");
            assert_eq!(error.code(), Code::InvalidPath);
        }
    }
});

/// The rules, once more.
fn is_path(text: &str) -> bool {
    let bytes = text.as_bytes();
    let segments: Vec<&[u8]> = bytes.split(|byte| *byte == b'/').collect();
    let (first, last) = (segments[0], segments[segments.len() - 1]);
    let virtual_ = match segments.as_slice() {
        [b"pki", b"issue" | b"sign", ..] => segments.len() > 2,
        [b"dynamic", ..] => segments.len() > 1,
        _ => false,
    };
    bytes.len() <= 512
        && segments.len() <= 10
        && segments.iter().all(|segment| !segment.is_empty())
        && bytes.iter().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'/'))
        && !matches!(first, b"batch" | b"expiring")
        && !matches!(last, b"metadata" | b"versions" | b"restore" | b"rotate")
        && !virtual_
}

/// Writes the path in every way that some other program could take for the same, at every place.
fn only_spelling(path: &str) {
    let refused = |spelling: String| {
        assert!(
            spelling == path || SecretPath::parse(&spelling).is_err(),
            "{spelling:?} stands for {path:?}"
        );
    };
    refused(path.to_ascii_uppercase());
    for around in ["/", "./", "../", " ", "\t", "\0", "\u{feff}", "%20", "//", "\\"] {
        refused(format!("{around}{path}"));
    }
    for around in ["/", "/.", "/..", ".", "..", " ", "\n", "\0", "%00", "?", "#", ";", "//", "\u{200b}", "*"]
    {
        refused(format!("{path}{around}"));
    }
    for (at, c) in path.char_indices() {
        let with = |other: &str| refused(format!("{}{other}{}", &path[..at], &path[at + 1..]));
        with(&c.to_ascii_uppercase().to_string());
        with(&format!("%{:02x}", u32::from(c)));
        with(&format!("%{:02X}", u32::from(c)));
        with(&format!("%25{:02x}", u32::from(c)));
        // The full-width form of each.
        with(&char::from_u32(u32::from(c) + 0xfee0).expect("a character").to_string());
        with(&format!("{c}\u{301}"));
        if c == '/' {
            for other in ["//", "/./", "/../", "/x/../", "\\", "\u{2044}", "\u{2215}", "%2f", "%5c"] {
                with(other);
            }
        }
    }
}
