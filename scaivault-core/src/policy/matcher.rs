use std::collections::{HashMap, HashSet};

use super::glob::{PathPattern, Segment, is_like};

/// Many patterns in one tree of their segments, so that a path is held against all of them in one walk.
///
/// The walk goes over the path once and never back; at each segment it stands on those nodes that what is before it
/// leads to. Exact segments are looked up, patterns within a segment by what they begin and end with.
#[derive(Debug)]
pub(super) struct Matcher<T> {
    nodes: Vec<Node<T>>,
}

#[derive(Debug)]
struct Node<T> {
    exact: HashMap<Box<str>, usize>,
    /// Below `*`.
    one: Option<usize>,
    /// Below `**`: where the walk stays for any number of segments.
    many: Option<usize>,
    /// By the characters before the first wildcard, then by those after the last: the pattern, and what is below it.
    like: HashMap<Box<str>, HashMap<Box<str>, Vec<Like>>>,
    /// The lengths of those, ascending, each pair once.
    shapes: Vec<(usize, usize)>,
    /// What belongs to the patterns that end here.
    ends: Vec<T>,
}

/// A pattern within a segment, and what is below it.
type Like = (Box<str>, usize);

/// Where a walk stands. A node has one parent and one segment that leads to it, so that none is entered twice by one
/// step; below `**` a walk stays once it is there.
#[derive(Default)]
struct Feet {
    on: Vec<usize>,
    staying: Vec<usize>,
    stays: HashSet<usize>,
}

impl<T> Default for Node<T> {
    fn default() -> Self {
        Self {
            exact: HashMap::new(),
            one: None,
            many: None,
            like: HashMap::new(),
            shapes: Vec::new(),
            ends: Vec::new(),
        }
    }
}

impl<T> Default for Matcher<T> {
    fn default() -> Self {
        Self { nodes: vec![Node::default()] }
    }
}

impl<T> Matcher<T> {
    /// Adds a pattern, and what belongs to it.
    pub(super) fn add(&mut self, pattern: &PathPattern, value: T) {
        let at = pattern.segments().iter().fold(0, |at, segment| self.below(at, segment));
        self.nodes[at].ends.push(value);
    }

    /// Everything whose pattern matches `path`, as [`PathPattern::matches`] has it; in no particular order.
    pub(super) fn matching<'a>(&'a self, path: &str) -> impl Iterator<Item = &'a T> {
        self.walk(path).into_iter().flat_map(|at| &self.nodes[at].ends)
    }

    /// The nodes that the whole path leads to, each once.
    fn walk(&self, path: &str) -> Vec<usize> {
        let mut feet = Feet::default();
        if path.starts_with('/') || path.ends_with('/') || path.contains("//") {
            return feet.on;
        }
        self.enter(0, &mut feet);
        if !path.is_empty() {
            let mut before = Vec::new();
            for segment in path.split('/') {
                std::mem::swap(&mut before, &mut feet.on);
                feet.on.clear();
                let staying = feet.staying.len();
                before.iter().for_each(|at| self.step(*at, segment, &mut feet));
                for i in 0..staying {
                    self.step(feet.staying[i], segment, &mut feet);
                }
            }
        }
        feet.on.append(&mut feet.staying);
        feet.on
    }

    fn enter(&self, at: usize, feet: &mut Feet) {
        feet.on.push(at);
        if let Some(many) = self.nodes[at].many
            && feet.stays.insert(many)
        {
            feet.staying.push(many);
        }
    }

    fn step(&self, at: usize, segment: &str, feet: &mut Feet) {
        let node = &self.nodes[at];
        if let Some(below) = node.exact.get(segment) {
            self.enter(*below, feet);
        }
        if let Some(below) = node.one {
            self.enter(below, feet);
        }
        for (prefix, suffix) in &node.shapes {
            let Some(from) = segment.len().checked_sub(*suffix).filter(|from| prefix <= from) else {
                continue;
            };
            let like = segment.get(..*prefix).and_then(|text| node.like.get(text));
            let like = like.zip(segment.get(from..)).and_then(|(like, text)| like.get(text));
            for (pattern, below) in like.into_iter().flatten() {
                if is_like(pattern.as_bytes(), segment, &mut || {}) {
                    self.enter(*below, feet);
                }
            }
        }
    }

    fn below(&mut self, at: usize, segment: &Segment) -> usize {
        let fresh = self.nodes.len();
        let node = &mut self.nodes[at];
        let below = match segment {
            Segment::Exact(text) => *node.exact.entry(text.clone()).or_insert(fresh),
            Segment::One => *node.one.get_or_insert(fresh),
            Segment::Many => *node.many.get_or_insert(fresh),
            Segment::Like(text) => {
                let prefix = text.split(['*', '?']).next().unwrap_or_default();
                let suffix = text.rsplit(['*', '?']).next().unwrap_or_default();
                let shape = (prefix.len(), suffix.len());
                if let Err(place) = node.shapes.binary_search(&shape) {
                    node.shapes.insert(place, shape);
                }
                let like = node.like.entry(prefix.into()).or_default().entry(suffix.into()).or_default();
                match like.iter().find(|(pattern, _)| pattern == text) {
                    Some((_, below)) => *below,
                    None => {
                        like.push((text.clone(), fresh));
                        fresh
                    }
                }
            }
        };
        if below == fresh {
            self.nodes.push(Node::default());
        }
        below
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pattern() -> impl Strategy<Value = String> {
        let segment = prop_oneof![
            3 => Just("**".to_owned()),
            2 => Just("*".to_owned()),
            6 => "[ab?*]{1,4}".prop_filter("** inside", |s| !s.contains("**")),
        ];
        prop::collection::vec(segment, 1..7).prop_map(|segments| segments.join("/"))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn the_tree_agrees_with_each_of_its_patterns(
            patterns in prop::collection::vec(pattern(), 1..12),
            path in prop_oneof![
                9 => prop::collection::vec("[abé]{1,4}", 0..7).prop_map(|segments| segments.join("/")),
                1 => "[ab/]{0,6}",
            ],
        ) {
            let parsed: Vec<_> = patterns.iter().filter_map(|text| PathPattern::parse(text).ok()).collect();
            let mut matcher = Matcher::default();
            parsed.iter().enumerate().for_each(|(i, pattern)| matcher.add(pattern, i));
            let mut found: Vec<_> = matcher.matching(&path).copied().collect();
            found.sort_unstable();
            let expected: Vec<_> = (0..parsed.len()).filter(|i| parsed[*i].matches(&path)).collect();
            prop_assert_eq!(found, expected, "{:?} {}", parsed, path);
        }
    }
}
