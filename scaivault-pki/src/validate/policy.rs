//! Certificate policies by the valid policy graph of RFC 9618, whose size grows with the path and not with its powers.

use std::collections::{BTreeMap, BTreeSet};

use const_oid::db::rfc5280::ANY_POLICY;

use crate::{Certificate, Oid, read::extensions::Extensions};

/// What is demanded of certificate policies (RFC 5280, 6.1.1 (c), (e), (f), (g)).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyRules {
    /// The policies that are acceptable; empty for any.
    pub acceptable: Vec<Oid>,
    /// Whether an acceptable policy has to hold along the path.
    pub require_explicit: bool,
    /// Whether mappings of policies do not count.
    pub inhibit_mapping: bool,
    /// Whether `anyPolicy` does not count.
    pub inhibit_any: bool,
}

/// One depth of the graph: each policy that holds there, once.
type Depth = BTreeMap<Oid, Node>;

#[derive(Default)]
struct Node {
    /// Policies of the depth above that it follows from.
    parents: BTreeSet<Oid>,
    /// Policies that satisfy it at the next depth.
    expected: BTreeSet<Oid>,
}

struct Graph {
    depths: Vec<Depth>,
}

/// The most edges between policies along a path.
const MAX_EDGES: usize = 100_000;

/// Checks the policies of `certificates`, the leaf first; `anchor` is one whose own demands count.
pub(super) fn check(
    certificates: &[&Certificate],
    anchor: Option<&Certificate>,
    rules: &PolicyRules,
) -> Result<(), (Option<usize>, String)> {
    let length = u32::try_from(certificates.len()).unwrap_or(u32::MAX);
    let start = |inhibited: bool| if inhibited { 0 } else { length.saturating_add(1) };
    let mut counters = Counters {
        explicit: start(rules.require_explicit),
        mapping: start(rules.inhibit_mapping),
        any: start(rules.inhibit_any),
    };
    if let Some(anchor) = anchor {
        counters.limit(&anchor.parts().extensions);
    }
    let any = Oid::known(ANY_POLICY);
    let root = Node { parents: BTreeSet::new(), expected: BTreeSet::from([any.clone()]) };
    let mut graph = Some(Graph { depths: vec![Depth::from([(any.clone(), root)])] });
    let mut edges = 0;
    for (at, certificate) in certificates.iter().enumerate().rev() {
        let extensions = &certificate.parts().extensions;
        let self_issued = certificate.is_self_issued();
        let allow_any = counters.any > 0 || (at > 0 && self_issued);
        graph = match (graph, &extensions.policies) {
            (Some(graph), Some(policies)) => graph.descend(policies, &any, allow_any, &mut edges),
            _ => None,
        };
        if edges > MAX_EDGES {
            return Err((Some(at), "has too many policies".to_owned()));
        }
        if counters.explicit == 0 && graph.is_none() {
            return Err((Some(at), "has no acceptable policy, and one is required".to_owned()));
        }
        if extensions.mappings.iter().any(|(from, to)| *from == any || *to == any) {
            return Err((Some(at), "maps anyPolicy, which has no other side".to_owned()));
        }
        if at == 0 {
            break;
        }
        graph = graph.and_then(|graph| graph.map(&extensions.mappings, &any, counters.mapping > 0));
        if !self_issued {
            counters.count_down();
        }
        counters.limit(extensions);
    }
    // RFC 5280, 6.1.5 (a) and (b).
    counters.explicit = counters.explicit.saturating_sub(1);
    let leaf = certificates.first().map(|leaf| &leaf.parts().extensions);
    if leaf.and_then(|extensions| extensions.require_explicit) == Some(0) {
        counters.explicit = 0;
    }
    let acceptable = graph.is_some_and(|graph| graph.has_acceptable(&rules.acceptable, &any));
    if counters.explicit > 0 || acceptable {
        return Ok(());
    }
    Err((None, "no acceptable policy holds along the path, and one is required".to_owned()))
}

/// How many certificates there may still be until a demand begins.
struct Counters {
    explicit: u32,
    mapping: u32,
    any: u32,
}

impl Counters {
    fn count_down(&mut self) {
        for counter in [&mut self.explicit, &mut self.mapping, &mut self.any] {
            *counter = counter.saturating_sub(1);
        }
    }

    fn limit(&mut self, extensions: &Extensions) {
        let lower =
            |counter: &mut u32, to: Option<u32>| *counter = to.map_or(*counter, |to| to.min(*counter));
        lower(&mut self.explicit, extensions.require_explicit);
        lower(&mut self.mapping, extensions.inhibit_mapping);
        lower(&mut self.any, extensions.inhibit_any);
    }
}

impl Graph {
    /// The next depth, from the policies of a certificate (RFC 9618, 5.4: 6.1.3 (d)); `None` if nothing is left.
    fn descend(mut self, policies: &[Oid], any: &Oid, allow_any: bool, edges: &mut usize) -> Option<Self> {
        let above = self.depths.last()?;
        let mut expecting: BTreeMap<&Oid, BTreeSet<Oid>> = BTreeMap::new();
        for (policy, node) in above {
            for expected in &node.expected {
                expecting.entry(expected).or_default().insert(policy.clone());
            }
        }
        let mut depth = Depth::new();
        for policy in policies.iter().filter(|policy| *policy != any) {
            let parents = match expecting.get(policy) {
                Some(parents) => parents.clone(),
                None if above.contains_key(any) => BTreeSet::from([any.clone()]),
                None => continue,
            };
            depth.insert(policy.clone(), Node { parents, expected: BTreeSet::from([policy.clone()]) });
        }
        if allow_any && policies.contains(any) {
            for (expected, parents) in expecting {
                depth
                    .entry(expected.clone())
                    .or_insert_with(|| Node { parents, expected: BTreeSet::from([expected.clone()]) });
            }
        }
        *edges += depth.values().map(|node| node.parents.len()).sum::<usize>();
        self.depths.push(depth);
        self.prune()
    }

    /// Applies mappings to the last depth (RFC 9618: 6.1.4 (b)).
    fn map(mut self, mappings: &[(Oid, Oid)], any: &Oid, allowed: bool) -> Option<Self> {
        let mut by_source: BTreeMap<&Oid, BTreeSet<Oid>> = BTreeMap::new();
        for (from, to) in mappings {
            by_source.entry(from).or_default().insert(to.clone());
        }
        let depth = self.depths.last_mut()?;
        let has_any = depth.contains_key(any);
        for (from, to) in by_source {
            if !allowed {
                depth.remove(from);
            } else if let Some(node) = depth.get_mut(from) {
                node.expected = to;
            } else if has_any {
                depth.insert(from.clone(), Node { parents: BTreeSet::from([any.clone()]), expected: to });
            }
        }
        self.prune()
    }

    /// Takes away what leads nowhere; `None` if that is everything.
    fn prune(mut self) -> Option<Self> {
        for at in (1..self.depths.len()).rev() {
            let (upper, lower) = self.depths.split_at_mut(at);
            let needed: BTreeSet<&Oid> = lower.first()?.values().flat_map(|node| &node.parents).collect();
            upper.last_mut()?.retain(|policy, _| needed.contains(policy));
        }
        if self.depths.last()?.is_empty() { None } else { Some(self) }
    }

    /// Whether a policy that its CAs vouch for is among `acceptable` (RFC 9618: 6.1.5 (g)).
    fn has_acceptable(&self, acceptable: &[Oid], any: &Oid) -> bool {
        if acceptable.is_empty()
            || acceptable.contains(any)
            || self.depths.last().is_some_and(|d| d.contains_key(any))
        {
            return true;
        }
        // What the anchor's domain calls the policies: nodes that follow from anyPolicy alone.
        let mut vouched = self.depths.iter().flatten().filter(|(_, node)| node.parents.contains(any));
        vouched.any(|(policy, _)| acceptable.contains(policy))
    }
}
