//! Paths out of bags: which one is found, and that the search ends.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod forge;

use std::rc::Rc;

use forge::{
    DAY, Draft, Key, Made, NOW, ca, constraints, dns, extension, inhibit_any, mappings, policies,
    policy_constraints, signs, tlv,
};
use scaivault_pki::{
    Certificate, TrustAnchor, Validation, validate,
    validate::{Evidence, PolicyRules, Reason, Rules, limits},
};

fn read(made: &Made) -> Certificate {
    Certificate::from_der(&made.der).unwrap()
}

fn judge(leaf: &Made, bag: &[Made], roots: &[&Made], rules: &Rules) -> Validation {
    let bag: Vec<_> = bag.iter().map(read).collect();
    let anchors: Vec<_> =
        roots.iter().map(|root| TrustAnchor { certificate: read(root), enforce: true }).collect();
    validate(&read(leaf), &bag, &anchors, &Evidence::default(), rules)
}

fn reasons(verdict: &Validation) -> Vec<Reason> {
    verdict.errors.iter().map(|failure| failure.reason).collect()
}

fn now() -> Rules {
    Rules::at(NOW)
}

/// The same name and key, certified by somebody else.
fn cross(made: &Made, by: &Made) -> Made {
    let draft = Draft {
        subject: made.name.clone(),
        spki: made.key.spki(),
        key: Rc::clone(&made.key),
        ..by.ca_draft("")
    };
    draft.sign(&by.key)
}

#[test]
fn a_path_is_found_whatever_the_order_and_whatever_else_is_there() {
    let (root, other) = (Made::root("root"), Made::root("other"));
    let one = root.ca("one");
    let two = one.ca("two");
    let leaf = two.leaf();
    let decoys = [other.ca("two"), other.ca("one"), other.leaf(), other.clone()];
    let mut bag = vec![two.clone(), one.clone()];
    bag.extend(decoys);
    for _ in 0..bag.len() {
        bag.rotate_left(1);
        let verdict = judge(&leaf, &bag, &[&other, &root], &now());
        assert!(verdict.valid, "{verdict:#?}");
        assert_eq!(verdict.chain, [read(&leaf), read(&two), read(&one), read(&root)]);
        assert_eq!(verdict.anchor, Some(1));
        assert!(verdict.rejected.iter().all(|path| !path.failures.is_empty()));
    }
    let verdict = judge(&leaf, &[two], &[&root], &now());
    assert_eq!(reasons(&verdict), [Reason::UnknownIssuer]);
    assert_eq!(verdict.chain, [read(&leaf)]);
    assert_eq!(reasons(&judge(&leaf, &bag, &[], &now())), [Reason::UnknownIssuer]);
}

#[test]
fn another_path_is_taken_where_the_first_one_does_not_do() {
    let (old, new) = (Made::root("old"), Made::root("new"));
    let ca = old.ca("CA");
    let expired = Draft {
        not_after: NOW - DAY,
        subject: ca.name.clone(),
        spki: ca.key.spki(),
        key: Rc::clone(&ca.key),
        ..old.ca_draft("")
    };
    let expired = expired.sign(&old.key);
    let narrow =
        Draft { subject: ca.name.clone(), spki: ca.key.spki(), key: Rc::clone(&ca.key), ..old.ca_draft("") };
    let narrow = narrow.with(constraints(&[tlv(0x82, &[b"elsewhere.test"])], &[])).sign(&old.key);
    let leaf = ca.leaf();
    let bag = [expired.clone(), narrow, cross(&ca, &new)];
    let verdict = judge(&leaf, &bag, &[&old, &new], &now());
    assert!(verdict.valid, "{verdict:#?}");
    assert_eq!(verdict.anchor, Some(1));
    let rejected: Vec<_> =
        verdict.rejected.iter().flat_map(|path| &path.failures).map(|f| f.reason).collect();
    assert!(
        rejected.iter().all(|reason| [Reason::Expired, Reason::NameConstraint].contains(reason)),
        "{rejected:?}"
    );
    // With nothing else there, that is the reason.
    assert_eq!(reasons(&judge(&leaf, &[expired], &[&old, &new], &now())), [Reason::Expired]);
}

#[test]
fn key_identifiers_are_hints_and_not_rules() {
    let root = Made::root("root");
    let ski = |id: &[u8]| extension("2.5.29.14", false, &tlv(4, &[id]));
    let aki = |id: &[u8]| extension("2.5.29.35", false, &tlv(0x30, &[&tlv(0x80, &[id])]));
    let ca = root.ca_draft("CA").with(ski(b"mine")).sign(&root.key);
    let leaf = ca.draft("leaf").with(dns(&["a.test"])).with(aki(b"other")).sign(&ca.key);
    let lure = root.ca_draft("CA").with(ski(b"other")).sign(&root.key);
    let verdict = judge(&leaf, &[lure.clone(), ca.clone()], &[&root], &now());
    assert!(verdict.valid);
    assert_eq!(verdict.rejected[0].failures[0].reason, Reason::BadSignature);
    assert_eq!(reasons(&judge(&leaf, &[lure], &[&root], &now())), [Reason::BadSignature]);
}

#[test]
fn circles_of_cross_signed_cas_end() {
    let (a, b) = (Made::root("a"), Made::root("b"));
    let circle = [cross(&a, &b), cross(&b, &a)];
    let leaf = a.leaf();
    assert_eq!(reasons(&judge(&leaf, &circle, &[&Made::root("far")], &now())), [Reason::UnknownIssuer]);
    assert!(judge(&leaf, &circle, &[&b], &now()).valid);
    // A self-signed certificate that nobody trusts, and one that is trusted.
    assert_eq!(
        reasons(&judge(&a, &circle[1..], &[&Made::root("a")], &now())).first(),
        Some(&Reason::BadSignature)
    );
    let verdict = judge(&a, &[], &[&a], &now());
    assert!(verdict.valid);
    assert_eq!(verdict.chain, [read(&a)]);
}

#[test]
fn a_bag_with_more_paths_than_can_be_walked_is_given_up() {
    // Every certificate of a layer is issued by a name that all of the next layer has: 12 to the 8th paths, none of which
    // gets past the constraint at the top.
    let root = Made::root("root");
    let top =
        root.ca_draft("layer 8").with(constraints(&[tlv(0x82, &[b"elsewhere.test"])], &[])).sign(&root.key);
    let mut bag = vec![top.clone()];
    let shared: Vec<_> = (0..12).map(|_| Key::p256()).collect();
    let mut above = vec![top];
    for layer in (0..8).rev() {
        let made: Vec<_> = shared
            .iter()
            .enumerate()
            .map(|(at, key)| {
                let issuer = &above[at % above.len()];
                let draft = issuer.ca_draft(&format!("layer {layer}"));
                Draft { spki: key.spki(), key: Rc::clone(key), ..draft }.sign(&issuer.key)
            })
            .collect();
        bag.extend(made.iter().cloned());
        above = made;
    }
    let leaf = above[0].leaf();
    let verdict = judge(&leaf, &bag, &[&root], &now());
    assert!(!verdict.valid);
    assert!(
        reasons(&verdict).iter().any(|r| [Reason::WorkLimit, Reason::NameConstraint].contains(r)),
        "{verdict:#?}"
    );
    assert!(verdict.rejected.len() <= limits::MAX_REJECTED);

    // One name, one hundred keys, everybody signs for everybody with the same key: no loop by key, and no end.
    let key = Key::p256();
    let crowd: Vec<_> = (0..100)
        .map(|_| {
            let mut draft = Draft::new(&root.name, &root.name, Key::p256());
            draft.issuer = forge::name("crowd");
            draft.subject = forge::name("crowd");
            draft.with(ca(None)).with(signs()).sign(&key)
        })
        .collect();
    let mut bag = crowd.clone();
    let head = root.ca("crowd");
    bag.push(head);
    let leaf = Draft { issuer: forge::name("crowd"), ..root.draft("leaf") }.with(dns(&["a.test"])).sign(&key);
    let verdict = judge(&leaf, &bag, &[&root], &now());
    assert!(!verdict.valid);
}

#[test]
fn names_beyond_number_are_not_compared() {
    let root = Made::root("root");
    let hosts: Vec<_> = (0..600).map(|n| tlv(0x82, &[format!("h{n}.test").as_bytes()])).collect();
    let ca = root.ca_draft("CA").with(constraints(&[], &hosts)).sign(&root.key);
    let names: Vec<_> = (0..600).map(|n| tlv(0x82, &[format!("n{n}.test").as_bytes()])).collect();
    let leaf = ca.draft("leaf").with(forge::names(&names)).sign(&ca.key);
    let verdict = judge(&leaf, std::slice::from_ref(&ca), &[&root], &now());
    assert!(reasons(&verdict).contains(&Reason::WorkLimit), "{verdict:#?}");
    let leaf = ca.draft("leaf").with(forge::names(&names[..300])).sign(&ca.key);
    assert!(judge(&leaf, &[ca], &[&root], &now()).valid);
}

#[test]
fn paths_longer_than_any_are_refused() {
    let root = Made::root("root");
    let mut bag = vec![root.ca("0")];
    for n in 1..=limits::MAX_DEPTH {
        bag.push(bag[n - 1].ca(&n.to_string()));
    }
    let deep = bag[limits::MAX_DEPTH].leaf();
    assert_eq!(reasons(&judge(&deep, &bag, &[&root], &now())), [Reason::TooManyIntermediates]);
    let fine = bag[limits::MAX_DEPTH - 1].leaf();
    assert!(judge(&fine, &bag, &[&root], &now()).valid);
}

const ANY: &str = "2.5.29.32.0";
const P: &str = "1.3.6.1.4.1.55555.1.1";
const Q: &str = "1.3.6.1.4.1.55555.1.2";

/// Judges root → one → two → leaf, whose extensions are those given.
fn by_policy(one: &[Vec<u8>], two: &[Vec<u8>], leaf: &[Vec<u8>], rules: PolicyRules) -> bool {
    let root = Made::root("root");
    let with = |mut draft: Draft, extensions: &[Vec<u8>]| {
        draft.extensions.extend(extensions.iter().cloned());
        draft
    };
    let first = with(root.ca_draft("one"), one).sign(&root.key);
    let second = with(first.ca_draft("two"), two).sign(&first.key);
    let leaf = with(second.draft("leaf").with(dns(&["a.test"])), leaf).sign(&second.key);
    let verdict = judge(&leaf, &[first, second], &[&root], &Rules { policies: rules, ..now() });
    assert!(verdict.valid || reasons(&verdict) == [Reason::Policy], "{verdict:#?}");
    verdict.valid
}

#[test]
fn policies_hold_along_the_path_where_they_are_demanded() {
    let explicit = || PolicyRules { require_explicit: true, ..PolicyRules::default() };
    let only = |policy: &str| PolicyRules { acceptable: vec![policy.parse().unwrap()], ..explicit() };
    let (p, q, any) = (|| policies(&[P]), || policies(&[Q]), || policies(&[ANY]));
    // Nobody asks.
    assert!(by_policy(&[], &[], &[], PolicyRules::default()));
    assert!(by_policy(&[p()], &[q()], &[p()], PolicyRules::default()));
    // The question asks.
    assert!(by_policy(&[p()], &[p()], &[p()], explicit()));
    assert!(!by_policy(&[p()], &[], &[p()], explicit()));
    assert!(!by_policy(&[p()], &[q()], &[p()], explicit()));
    assert!(by_policy(&[p()], &[p()], &[p()], only(P)));
    assert!(!by_policy(&[p()], &[p()], &[p()], only(Q)));
    assert!(by_policy(&[any()], &[p()], &[p()], only(P)));
    assert!(by_policy(&[any()], &[any()], &[any()], only(Q)));
    let no_any = |rules: PolicyRules| PolicyRules { inhibit_any: true, ..rules };
    assert!(!by_policy(&[any()], &[p()], &[p()], no_any(explicit())));
    // A CA asks, at once and one below it.
    assert!(!by_policy(&[p(), policy_constraints(Some(0), None)], &[], &[], PolicyRules::default()));
    assert!(by_policy(&[p(), policy_constraints(Some(0), None)], &[p()], &[p()], PolicyRules::default()));
    assert!(!by_policy(&[], &[policy_constraints(Some(1), None)], &[], PolicyRules::default()));
    assert!(by_policy(&[], &[policy_constraints(Some(2), None)], &[], PolicyRules::default()));
    assert!(!by_policy(&[], &[], &[policy_constraints(Some(0), None)], PolicyRules::default()));
    assert!(!by_policy(&[any(), inhibit_any(0)], &[any()], &[p()], explicit()));
    assert!(by_policy(&[any(), inhibit_any(1)], &[any()], &[p()], explicit()));
}

#[test]
fn mappings_rename_policies_unless_they_are_inhibited() {
    let explicit = || PolicyRules { require_explicit: true, ..PolicyRules::default() };
    let only = |policy: &str| PolicyRules { acceptable: vec![policy.parse().unwrap()], ..explicit() };
    let p_to_q = || vec![policies(&[P]), mappings(&[(P, Q)])];
    assert!(by_policy(&p_to_q(), &[policies(&[Q])], &[policies(&[Q])], only(P)));
    assert!(!by_policy(&p_to_q(), &[policies(&[Q])], &[policies(&[Q])], only(Q)));
    assert!(!by_policy(&p_to_q(), &[policies(&[P])], &[policies(&[P])], explicit()));
    let inhibited = PolicyRules { inhibit_mapping: true, ..explicit() };
    assert!(!by_policy(&p_to_q(), &[policies(&[Q])], &[policies(&[Q])], inhibited));
    let no_more = policy_constraints(None, Some(0));
    assert!(!by_policy(&[policies(&[P]), no_more], &p_to_q(), &[policies(&[Q])], explicit()));
    let from_any = vec![policies(&[ANY]), mappings(&[(P, Q)])];
    assert!(by_policy(&from_any, &[policies(&[Q])], &[policies(&[Q])], only(P)));
    assert!(!by_policy(&[policies(&[ANY]), mappings(&[(ANY, Q)])], &[], &[], PolicyRules::default()));
    assert!(!by_policy(&[policies(&[P]), mappings(&[(P, ANY)])], &[], &[], PolicyRules::default()));
}

#[test]
fn policies_that_are_mapped_to_each_other_do_not_multiply() {
    // In a tree every depth would have as many nodes more as there are policies (CVE-2023-0464).
    let ids: Vec<String> = (1..=12).map(|n| format!("1.3.6.1.4.1.55555.2.{n}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let pairs: Vec<(&str, &str)> =
        ids.iter().flat_map(|from| ids.iter().map(move |to| (*from, *to))).collect();
    let root = Made::root("root");
    let mut bag = Vec::new();
    let mut above = root.clone();
    for n in 0..20 {
        let draft = above.ca_draft(&format!("CA {n}")).with(policies(&ids)).with(mappings(&pairs));
        above = draft.sign(&above.key);
        bag.push(above.clone());
    }
    let leaf = above.draft("leaf").with(dns(&["a.test"])).with(policies(&ids)).sign(&above.key);
    let policies = PolicyRules {
        require_explicit: true,
        acceptable: vec![ids[3].parse().unwrap()],
        ..PolicyRules::default()
    };
    assert!(judge(&leaf, &bag, &[&root], &Rules { policies, ..now() }).valid);
}
