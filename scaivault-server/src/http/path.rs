//! What a request path may look like.
//!
//! A path has one spelling: what could be written in two ways, or be read in two ways by us and by a proxy
//! in front of us, is refused rather than normalised.

/// What is wrong with a raw path, as the end of a sentence; `None` if it may be matched and decoded.
///
/// A percent-encoded octet must be needed: one that stands for an unreserved character (RFC 3986 section
/// 2.3), a slash, a backslash, a percent sign, a control or a non-ASCII character is refused. Hence a
/// segment that decodes to a literal of the routing table, or to `..`, cannot be written.
pub(crate) fn flaw(raw: &str) -> Option<&'static str> {
    let Some(rest) = raw.strip_prefix('/') else { return Some("does not start with a slash") };
    if rest.is_empty() {
        return None;
    }
    if rest.ends_with('/') {
        return Some("ends with a slash");
    }
    rest.split('/').find_map(segment_flaw)
}

/// The same for one segment.
pub(crate) fn segment_flaw(segment: &str) -> Option<&'static str> {
    match segment {
        "" => return Some("has an empty segment"),
        "." | ".." => return Some("has a dot segment"),
        _ => {}
    }
    let bytes = segment.as_bytes();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'\\' => return Some("has a backslash"),
            b'%' => {
                let Some(octet) = octet(bytes, at) else { return Some("has an incomplete percent-encoding") };
                if let Some(flaw) = octet_flaw(octet) {
                    return Some(flaw);
                }
                at += 2;
            }
            byte if !byte.is_ascii_graphic() => return Some("has a control or non-ASCII character"),
            _ => {}
        }
        at += 1;
    }
    None
}

fn octet_flaw(octet: u8) -> Option<&'static str> {
    match octet {
        b'/' | b'\\' => Some("has an encoded slash or backslash"),
        b'%' => Some("is percent-encoded twice"),
        b'-' | b'.' | b'_' | b'~' => Some("encodes a character that needs no encoding"),
        octet if octet.is_ascii_alphanumeric() => Some("encodes a character that needs no encoding"),
        octet if !octet.is_ascii_graphic() => Some("has a control or non-ASCII character"),
        _ => None,
    }
}

/// Decodes once what [`flaw`] or [`segment_flaw`] let pass; slashes stay what they are.
pub(crate) fn decode(raw: &str) -> String {
    let bytes = raw.as_bytes();
    let mut text = String::with_capacity(raw.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match octet(bytes, at) {
            Some(octet) if *byte == b'%' => {
                text.push(char::from(octet));
                at += 3;
            }
            _ => {
                text.push(char::from(*byte));
                at += 1;
            }
        }
    }
    text
}

/// The octet that the three bytes from `at` on encode; `None` unless two hexadecimal digits follow.
pub(crate) fn octet(bytes: &[u8], at: usize) -> Option<u8> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let (high, low) = (digit(bytes.get(at + 1)?)?, digit(bytes.get(at + 2)?)?);
    u8::try_from(high << 4 | low).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_and_plain_paths_pass() {
        for good in
            ["/", "/v1", "/v1/secrets/app/db", "/a/user:alice@x.example", "/a/user%3Aalice%40x", "/a/..b"]
        {
            assert_eq!(flaw(good), None, "{good}");
        }
    }

    #[test]
    fn decoding_happens_once_and_keeps_slashes() {
        assert_eq!(decode("a/user%3Aalice%40x"), "a/user:alice@x");
        assert_eq!(decode("a%"), "a%");
    }

    #[test]
    fn no_octet_decodes_to_what_has_a_meaning_in_a_path() {
        for octet in 0..=u8::MAX {
            let spelling = format!("%{octet:02x}");
            if segment_flaw(&spelling).is_none() {
                let text = decode(&spelling);
                assert!(!text.contains(['/', '\\', '.', '%']) && text.is_ascii(), "{spelling}");
            }
        }
    }
}
