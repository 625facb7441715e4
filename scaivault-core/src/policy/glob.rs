use std::fmt;

use serde::{Serialize, Serializer};

use crate::{Code, Error, Result, limits};

/// A pattern that paths are held against, anchored at both ends.
///
/// - `*` alone in a segment stands for exactly one segment; beside other characters, for any number of
///   characters of that segment, none included.
/// - `?` stands for one character, never for `/`.
/// - `**`, alone in its segment only, stands for any number of segments, none included: `app/**` matches
///   `app`. A *leading* `**/` needs at least one segment: `**/ssl/*` does not match `ssl/cert`.
/// - `**` alone matches every path.
///
/// Case counts. A pattern may hold capitals and dots although a secret path may not: PKI roles and
/// dynamic engines, which patterns match too, have names of their own.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PathPattern {
    text: String,
    segments: Vec<Segment>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Segment {
    /// `**`
    Many,
    /// `*`
    One,
    /// Without wildcards.
    Exact(Box<str>),
    /// With wildcards.
    Like(Box<str>),
}

impl PathPattern {
    /// Reads a pattern of `A-Z a-z 0-9 - _ .`, `/` between segments, and `* ?`: at most
    /// [`limits::PATH_CHARS`] characters, [`limits::PATH_SEGMENTS`] segments and
    /// [`limits::PATTERN_DOUBLE_STARS`] `**`.
    ///
    /// # Errors
    /// [`Code::InvalidGlob`] with the reason, for these bounds and for what no path could ever match: an
    /// empty pattern or segment, a leading or trailing `/`, `.` or `..` as a segment, or `**` beside
    /// other characters.
    pub fn parse(text: &str) -> Result<Self> {
        check(text).map_err(|reason| Error::new(Code::InvalidGlob, format!("The pattern {reason}.")))?;
        let mut segments: Vec<_> = text.split('/').map(Segment::read).collect();
        if segments.len() > 1 && segments[0] == Segment::Many {
            segments.insert(0, Segment::One);
        }
        segments.dedup_by(|a, b| *a == Segment::Many && *b == Segment::Many);
        Ok(Self { text: text.to_owned(), segments })
    }

    /// Whether `path` matches. The empty path has no segments; one with an empty segment (a leading or
    /// trailing `/`, or `//`) matches nothing.
    ///
    /// Takes at most one step per pair of a character of the pattern and one of the path.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        self.walk(path, &mut || {})
    }

    /// Whether every path that `narrower` matches is one that this pattern matches. A `false` may be wrong where a
    /// segment holds characters beside its wildcards; a `true` never is.
    #[must_use]
    pub fn covers(&self, narrower: &Self) -> bool {
        covers(&self.segments, &narrower.segments)
    }

    /// The pattern as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub(super) fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Matches greedily. When a segment does not fit, only the last `**` seen takes one more segment: had
    /// an earlier one to, the part between the two would have been found further left.
    fn walk(&self, path: &str, tick: &mut impl FnMut()) -> bool {
        if path.starts_with('/') || path.ends_with('/') || path.contains("//") {
            return false;
        }
        let mut rest = (!path.is_empty()).then_some(path);
        let mut at = 0;
        let mut retry = None;
        loop {
            match (self.segments.get(at), rest) {
                (Some(Segment::Many), _) => {
                    at += 1;
                    retry = rest.map(|rest| (at, rest));
                    continue;
                }
                (None, None) => return true,
                (Some(segment), Some(path)) => {
                    let (first, tail) = cut(path);
                    if segment.matches(first, tick) {
                        (at, rest) = (at + 1, tail);
                        continue;
                    }
                }
                (Some(_), None) => return false,
                (None, Some(_)) => {}
            }
            let Some((after, from)) = retry else { return false };
            let (_, tail) = cut(from);
            (at, rest) = (after, tail);
            retry = tail.map(|tail| (after, tail));
        }
    }
}

/// At most [`limits::PATTERN_DOUBLE_STARS`] segments of `wide` leave a choice, and each as many as `narrow` has segments.
fn covers(wide: &[Segment], narrow: &[Segment]) -> bool {
    match (wide.split_first(), narrow.split_first()) {
        (None, None) => true,
        (Some((Segment::Many, wide_rest)), _) => {
            covers(wide_rest, narrow) || narrow.split_first().is_some_and(|(_, rest)| covers(wide, rest))
        }
        (Some((one, wide_rest)), Some((other, rest))) => one.covers(other) && covers(wide_rest, rest),
        (None, Some(_)) | (Some(_), None) => false,
    }
}

fn cut(path: &str) -> (&str, Option<&str>) {
    path.split_once('/').map_or((path, None), |(first, tail)| (first, Some(tail)))
}

fn check(text: &str) -> Result<(), String> {
    if !(1..=limits::PATH_CHARS).contains(&text.len()) {
        return Err(format!("must have 1 to {} characters", limits::PATH_CHARS));
    }
    if let Some(bad) = text.chars().find(|c| !is_allowed(*c)) {
        return Err(format!("must not hold {bad:?}: only A-Z a-z 0-9 - _ . / * ?"));
    }
    if text.starts_with('/') {
        return Err("must not begin with /".into());
    }
    if text.split('/').count() > limits::PATH_SEGMENTS {
        return Err(format!("must have at most {} segments", limits::PATH_SEGMENTS));
    }
    for segment in text.split('/') {
        if matches!(segment, "" | "." | "..") {
            return Err("must not have an empty segment, nor . or ..".into());
        }
        if segment.contains("**") && segment != "**" {
            return Err("must have ** only as a whole segment".into());
        }
    }
    if text.split('/').filter(|segment| *segment == "**").count() > limits::PATTERN_DOUBLE_STARS {
        return Err(format!("must have at most {} **", limits::PATTERN_DOUBLE_STARS));
    }
    Ok(())
}

fn is_allowed(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/' | '*' | '?')
}

impl Segment {
    fn read(text: &str) -> Self {
        match text {
            "**" => Self::Many,
            "*" => Self::One,
            _ if text.contains(['*', '?']) => Self::Like(text.into()),
            _ => Self::Exact(text.into()),
        }
    }

    /// Whether it matches every segment that `narrower` matches. A wildcard of `narrower` is read as a character here:
    /// what a `*` of ours takes it for, it takes whatever stands in its place, but a `?` takes no `*`.
    fn covers(&self, narrower: &Self) -> bool {
        match (self, narrower) {
            (_, Self::Many) => false,
            (Self::Many | Self::One, _) => true,
            (Self::Exact(exact), Self::Exact(other)) => exact == other,
            (Self::Like(like), Self::Exact(other)) => is_like(like.as_bytes(), other, &mut || {}),
            (Self::Like(like), Self::Like(other)) => {
                like == other || (!like.contains('?') && is_like(like.as_bytes(), other, &mut || {}))
            }
            (Self::Exact(_) | Self::Like(_), Self::One) | (Self::Exact(_), Self::Like(_)) => false,
        }
    }

    fn matches(&self, text: &str, tick: &mut impl FnMut()) -> bool {
        tick();
        match self {
            Self::Many | Self::One => true,
            Self::Exact(exact) => **exact == *text,
            Self::Like(like) => is_like(like.as_bytes(), text, tick),
        }
    }
}

/// The same greedy walk over characters, with `*` in the place of `**`.
pub(super) fn is_like(pattern: &[u8], text: &str, tick: &mut impl FnMut()) -> bool {
    let mut rest = text.chars();
    let mut at = 0;
    let mut retry = None;
    loop {
        tick();
        if pattern.get(at) == Some(&b'*') {
            at += 1;
            retry = Some((at, rest.clone()));
            continue;
        }
        let mut tail = rest.clone();
        match (pattern.get(at), tail.next()) {
            (None, None) => return true,
            (Some(_), None) => return false,
            (Some(wanted), Some(c)) if *wanted == b'?' || char::from(*wanted) == c => {
                (at, rest) = (at + 1, tail);
                continue;
            }
            _ => {}
        }
        let Some((after, from)) = &mut retry else { return false };
        from.next();
        (at, rest) = (*after, from.clone());
    }
}

impl fmt::Debug for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.text)
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for PathPattern {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(pattern: &str, path: &str) -> bool {
        PathPattern::parse(pattern).unwrap().matches(path)
    }

    #[test]
    fn the_documented_table_holds() {
        for (pattern, yes, no) in [
            ("app/db", &["app/db"][..], &["app", "app/db/x", "app/dbx", "x/app/db", "App/db"][..]),
            ("app/db/*", &["app/db/x"], &["app/db", "app/db/x/y"]),
            ("app/**", &["app", "app/db", "app/db/x/y"], &["apps", "application/db", "x/app", ""]),
            ("**/ssl/*", &["app/ssl/cert", "a/b/ssl/c", "ssl/ssl/c"], &["ssl/cert", "ssl/ssl", "a/ssl/c/d"]),
            ("**", &["", "a", "a/b/c"], &[]),
            ("*", &["a", "pki"], &["", "a/b"]),
            ("secrets/*.key", &["secrets/a.key", "secrets/.key"], &["secrets/a.pem", "secrets/a/b.key"]),
            ("a?c", &["abc", "a-c"], &["ac", "a/c", "abbc"]),
            ("a/**/z", &["a/z", "a/b/z", "a/b/c/z", "a/z/z"], &["a", "z", "a/zz", "a/b/z/y"]),
            ("a/*/**", &["a/b", "a/b/c"], &["a"]),
            ("**/**", &["a", "a/b"], &[""]),
            ("**/a", &["b/a", "a/a"], &["a", "b/a/c"]),
            ("*a", &["a", "ba", "aa"], &["ab", ""]),
            (
                "pki/issue/svc-*",
                &["pki/issue/svc-", "pki/issue/svc-mtls"],
                &["pki/issue/svc", "pki/sign/svc-a"],
            ),
            ("a/**/b/*/**/c?", &["a/b/x/c1", "a/q/b/b/b/c1/c2"], &["a/b/c1", "a/b/x/c"]),
        ] {
            for path in yes {
                assert!(matches(pattern, path), "{pattern} should match {path:?}");
            }
            for path in no {
                assert!(!matches(pattern, path), "{pattern} should not match {path:?}");
            }
        }
    }

    #[test]
    fn sec_a1_a_path_that_is_not_canonical_matches_nothing() {
        for path in ["/a", "a/", "a//b", "/", "//", "a/b/", "/a/b"] {
            for pattern in ["**", "*", "a/**", "**/b", "*/*", "*/b"] {
                assert!(!matches(pattern, path), "{pattern} {path}");
            }
        }
        for path in ["A/b", "a/b.", "a\\b", "a%2fb", "a/./b", "a/../a/b", "a\u{ff0f}b", "a/b\0"] {
            assert!(!matches("a/b", path), "{path}");
        }
    }

    #[test]
    fn what_means_nothing_is_refused_with_a_reason() {
        let long = "a".repeat(limits::PATH_CHARS + 1);
        let deep = ["a"; limits::PATH_SEGMENTS + 1].join("/");
        for (bad, reason) in [
            ("", "1 to 512"),
            (long.as_str(), "1 to 512"),
            (deep.as_str(), "10 segments"),
            ("/a", "begin with /"),
            ("a/", "empty segment"),
            ("a//b", "empty segment"),
            ("a/./b", "."),
            ("../a", ".."),
            ("a**", "whole segment"),
            ("***", "whole segment"),
            ("a/**b/c", "whole segment"),
            ("**/a/**/b/**/c/**/d/**", "at most 4 **"),
            ("a b", "' '"),
            ("a\\b", "'\\\\'"),
            ("{a,b}", "'{'"),
            ("[ab]", "'['"),
            ("!a", "'!'"),
            ("é", "'é'"),
            ("a%2f", "'%'"),
            ("a\n", "'\\n'"),
        ] {
            let error = PathPattern::parse(bad).unwrap_err();
            assert_eq!(error.code(), Code::InvalidGlob, "{bad}");
            assert!(error.message().contains(reason), "{bad}: {}", error.message());
        }
        assert!(PathPattern::parse(&"a".repeat(limits::PATH_CHARS)).is_ok());
        assert_eq!(PathPattern::parse("a/**/**/b").unwrap().as_str(), "a/**/**/b");
    }

    /// The definition, written down without any regard for speed.
    fn reference(pattern: &str, path: &str) -> bool {
        fn segments(pattern: &[&str], path: &[&str]) -> bool {
            match pattern.split_first() {
                None => path.is_empty(),
                Some((&"**", tail)) => (0..=path.len()).any(|skip| segments(tail, &path[skip..])),
                Some((head, tail)) => path.split_first().is_some_and(|(first, rest)| {
                    !first.is_empty() && chars(head.as_bytes(), first.as_bytes()) && segments(tail, rest)
                }),
            }
        }
        fn chars(pattern: &[u8], text: &[u8]) -> bool {
            match pattern.split_first() {
                None => text.is_empty(),
                Some((b'*', tail)) => (0..=text.len()).any(|skip| chars(tail, &text[skip..])),
                Some((head, tail)) => text
                    .split_first()
                    .is_some_and(|(first, rest)| (*head == b'?' || head == first) && chars(tail, rest)),
            }
        }
        let pattern: Vec<_> = pattern.split('/').collect();
        let path: Vec<_> = if path.is_empty() { vec![] } else { path.split('/').collect() };
        if pattern.len() > 1 && pattern[0] == "**" {
            (1..=path.len()).any(|skip| segments(&pattern[1..], &path[skip..]))
        } else {
            segments(&pattern, &path)
        }
    }

    fn pattern() -> impl Strategy<Value = String> {
        let segment = prop_oneof![
            3 => Just("**".to_owned()),
            2 => Just("*".to_owned()),
            6 => "[ab?*]{1,4}".prop_filter("** inside", |s| !s.contains("**")),
        ];
        proptest::collection::vec(segment, 1..7).prop_map(|segments| segments.join("/"))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]
        #[test]
        fn the_walk_agrees_with_the_definition(
            pattern in pattern(),
            path in proptest::collection::vec("[ab]{1,4}", 0..7).prop_map(|segments| segments.join("/")),
        ) {
            if let Ok(parsed) = PathPattern::parse(&pattern) {
                prop_assert_eq!(parsed.matches(&path), reference(&pattern, &path), "{} {}", pattern, path);
            }
        }
    }

    #[test]
    fn what_covers_what() {
        let covers = |wide: &str, narrow: &str| {
            PathPattern::parse(wide).unwrap().covers(&PathPattern::parse(narrow).unwrap())
        };
        for (wide, yes, no) in [
            ("**", &["**", "a", "*", "a/**", "**/b", "a?c/*"][..], &[][..]),
            (
                "app/**",
                &["app", "app/db", "app/*", "app/**", "app/**/x"],
                &["**", "apps/**", "*/db", "ap?/x"],
            ),
            ("app/*", &["app/db", "app/*", "app/d*"], &["app", "app/**", "app/a/b"]),
            ("app/db", &["app/db"], &["app/d?", "app/*", "app/DB"]),
            ("app/a*", &["app/a", "app/ab", "app/a*b", "app/a?"], &["app/*", "app/b*", "app/*a"]),
            ("app/a?", &["app/ab", "app/a?"], &["app/a*", "app/abc"]),
            ("**/ssl", &["a/ssl", "a/b/ssl", "*/ssl", "**/ssl"], &["ssl", "a/ssl/b"]),
        ] {
            for narrow in yes {
                assert!(covers(wide, narrow), "{wide} {narrow}");
            }
            for narrow in no {
                assert!(!covers(wide, narrow), "{wide} {narrow}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]
        #[test]
        fn sec_b1_what_is_covered_matches_nothing_more(
            wide in pattern(),
            narrow in pattern(),
            path in proptest::collection::vec("[ab]{1,4}", 0..7).prop_map(|segments| segments.join("/")),
        ) {
            if let (Ok(wide), Ok(narrow)) = (PathPattern::parse(&wide), PathPattern::parse(&narrow)) {
                prop_assert!(narrow.covers(&narrow));
                if wide.covers(&narrow) && narrow.matches(&path) {
                    prop_assert!(wide.matches(&path), "{} {} {}", wide, narrow, path);
                }
            }
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(pattern in "\\PC{0,40}", path in "\\PC{0,40}") {
            if let Ok(parsed) = PathPattern::parse(&pattern) {
                let _ = parsed.matches(&path);
            }
        }
    }

    #[test]
    fn the_worst_patterns_take_no_more_steps_than_pairs_of_characters() {
        let many = |part: &str, n: usize, last: &str| format!("{}{last}", part.repeat(n));
        for (pattern, path) in [
            (many("a*", 255, "b"), many("a", 512, "")),
            (many("*?", 255, "b"), many("a", 512, "")),
            (many("?", 256, &many("*a", 127, "b")), many("a", 512, "")),
            (many("**/a/", 4, "b"), many("a/", 255, "a")),
            (many("**/*/", 4, "b"), many("a/", 255, "a")),
            (many("**/*a*a*b/", 4, "c"), many("aaaaaaaaaaaaaaa/", 31, "a")),
        ] {
            let parsed = PathPattern::parse(&pattern).unwrap();
            let mut steps = 0_usize;
            assert!(!parsed.walk(&path, &mut || steps += 1), "{pattern}");
            let bound = (pattern.len() + 2) * (path.len() + 2);
            assert!(steps <= bound, "{pattern}: {steps} of {bound}");
        }
    }
}
