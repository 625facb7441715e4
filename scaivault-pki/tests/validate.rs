//! Verdicts on chains, one defect at a time.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;
mod forge;

use std::rc::Rc;

use common::{Ca, HOUR};
use forge::{
    DAY, Draft, Key, Made, NOW, ca, constraints, dns, extension, key_usage, name, name_as, names, oid_der,
    pss, purposes, rdn, sequence, signs, spki, tlv,
};
use scaivault_kms::KeySpec;
use scaivault_pki::{
    Certificate, IssueRequest, TrustAnchor, Validation, validate,
    validate::{Evidence, Reason, ReferenceName, Rules},
};

const SERVER: &str = "1.3.6.1.5.5.7.3.1";
const CLIENT: &str = "1.3.6.1.5.5.7.3.2";
const ANY: &str = "2.5.29.37.0";

fn read(made: &Made) -> Certificate {
    Certificate::from_der(&made.der).unwrap()
}

fn rules() -> Rules {
    Rules {
        names: vec![ReferenceName::dns("a.test").unwrap()],
        purposes: vec![SERVER.parse().unwrap()],
        ..Rules::at(NOW)
    }
}

fn judge(leaf: &Made, bag: &[&Made], root: &Made, rules: &Rules) -> Validation {
    let bag: Vec<_> = bag.iter().map(|made| read(made)).collect();
    let anchors = [TrustAnchor { certificate: read(root), enforce: true }];
    validate(&read(leaf), &bag, &anchors, &Evidence::default(), rules)
}

/// Asserts that the verdict is no, and that for this reason alone, at this place of the chain.
fn refused(verdict: &Validation, reason: Reason, at: impl Into<Option<usize>>) {
    let found: Vec<_> = verdict.errors.iter().map(|failure| (failure.reason, failure.certificate)).collect();
    assert!(!verdict.valid);
    assert_eq!(found, [(reason, at.into())], "{:#?}", verdict.errors);
}

fn accepted(verdict: &Validation) {
    assert!(verdict.valid && verdict.errors.is_empty(), "{:#?}", verdict.errors);
}

/// root → CA → leaf, with one of them made by the caller.
struct Chain {
    root: Made,
    ca: Made,
    leaf: Made,
}

impl Chain {
    fn new() -> Self {
        let root = Made::root("root");
        let ca = root.ca("CA");
        let leaf = ca.leaf();
        Self { root, ca, leaf }
    }

    fn with_ca(change: impl FnOnce(Draft) -> Draft) -> Self {
        let root = Made::root("root");
        let ca = change(root.draft("CA")).sign(&root.key);
        let leaf = ca.leaf();
        Self { root, ca, leaf }
    }

    fn with_leaf(change: impl FnOnce(Draft) -> Draft) -> Self {
        let root = Made::root("root");
        let ca = root.ca("CA");
        let leaf = change(ca.draft("leaf")).sign(&ca.key);
        Self { root, ca, leaf }
    }

    fn with_root(change: impl FnOnce(Draft) -> Draft) -> Self {
        let key = Key::p256();
        let root = change(Draft::new(&name("root"), &name("root"), Rc::clone(&key))).sign(&key);
        let ca = root.ca("CA");
        let leaf = ca.leaf();
        Self { root, ca, leaf }
    }

    fn judge(&self) -> Validation {
        judge(&self.leaf, &[&self.ca], &self.root, &rules())
    }

    /// The root's name and key are all that counts.
    fn judge_lax(&self) -> Validation {
        let anchors = [TrustAnchor { certificate: read(&self.root), enforce: false }];
        validate(&read(&self.leaf), &[read(&self.ca)], &anchors, &Evidence::default(), &rules())
    }
}

#[test]
fn a_good_chain_is_shown_from_leaf_to_anchor() {
    let chain = Chain::new();
    let verdict = chain.judge();
    accepted(&verdict);
    assert_eq!(verdict.chain, [read(&chain.leaf), read(&chain.ca), read(&chain.root)]);
    assert_eq!(verdict.anchor, Some(0));
    assert_eq!(verdict.chain[0].subject(), "CN=leaf");
    assert_eq!(verdict.chain[0].issuer(), "CN=CA");
    accepted(&chain.judge_lax());
}

#[tokio::test]
async fn what_this_engine_issues_is_valid_to_it() {
    for spec in common::SPECS {
        let root = Ca::root(spec, Some(1)).await;
        let sub = root.below("Intermediate", spec).await;
        let request = IssueRequest {
            common_name: Some("api.svc.test".into()),
            alt_names: vec!["*.svc.test".into()],
            ip_sans: vec!["2001:db8::1".into()],
            ttl: Some(HOUR),
            ..IssueRequest::default()
        };
        let (leaf, _) = sub.leaf(KeySpec::EcP256, &request).await;
        let leaf = Certificate::from_der(&leaf.der).unwrap();
        let bag = [Certificate::from_der(&sub.issued.der).unwrap()];
        let anchors = [TrustAnchor::from_der(&root.issued.der).unwrap()];
        let mut rules = Rules::at(common::now());
        rules.purposes = vec![SERVER.parse().unwrap(), CLIENT.parse().unwrap()];
        let mut asked = |text: &str| {
            rules.names = vec![ReferenceName::dns(text).unwrap()];
            validate(&leaf, &bag, &anchors, &Evidence::default(), &rules)
        };
        for good in ["api.svc.test", "x.SVC.test", "2001:db8::1"] {
            accepted(&asked(good));
        }
        for bad in ["svc.test", "a.b.svc.test", "2001:db8::2", "intermediate"] {
            refused(&asked(bad), Reason::NameMismatch, 0);
        }
    }
}

#[test]
fn lives_include_their_ends_and_anchors_have_them_too() {
    let chain =
        Chain::with_leaf(|draft| Draft { not_before: NOW, not_after: NOW, ..draft.with(dns(&["a.test"])) });
    let at = |now| judge(&chain.leaf, &[&chain.ca], &chain.root, &Rules { now, ..rules() });
    accepted(&at(NOW));
    accepted(&at(NOW + time::Duration::milliseconds(999)));
    refused(&at(NOW - time::Duration::milliseconds(1)), Reason::NotYetValid, 0);
    refused(&at(NOW + time::Duration::SECOND), Reason::Expired, 0);
    let late = |draft: Draft| Draft { not_after: NOW - DAY, ..draft.with(ca(None)).with(signs()) };
    refused(&Chain::with_ca(late).judge(), Reason::Expired, 1);
    let old = Chain::with_root(late);
    refused(&old.judge(), Reason::Expired, 2);
    accepted(&old.judge_lax());
}

#[test]
fn a_ca_has_to_be_one() {
    refused(&Chain::with_ca(|draft| draft.with(signs())).judge(), Reason::NotCa, 1);
    let not_ca = extension("2.5.29.19", true, &sequence(&[]));
    refused(&Chain::with_ca(|draft| draft.with(not_ca.clone()).with(signs())).judge(), Reason::NotCa, 1);
    let other_usage = key_usage(0b1000_0010);
    refused(
        &Chain::with_ca(|draft| draft.with(ca(None)).with(other_usage.clone())).judge(),
        Reason::KeyUsage,
        1,
    );
    accepted(&Chain::with_ca(|draft| draft.with(ca(None))).judge());
    refused(&Chain::with_ca(|draft| Draft { version: 0, ..draft }).judge(), Reason::NotCa, 1);
    // An anchor is held to the same, unless its owner says otherwise.
    for (root, reason) in [
        (Chain::with_root(|draft| draft.with(signs())), Reason::NotCa),
        (Chain::with_root(|draft| draft.with(ca(None)).with(other_usage.clone())), Reason::KeyUsage),
    ] {
        refused(&root.judge(), reason, 2);
        accepted(&root.judge_lax());
    }
}

#[test]
fn path_lengths_count_what_is_not_self_issued() {
    let root = Made::root("root");
    let one = root.draft("one").with(ca(Some(0))).with(signs()).sign(&root.key);
    let two = one.ca("two");
    let leaf = two.leaf();
    refused(&judge(&leaf, &[&one, &two], &root, &rules()), Reason::PathLength, 1);
    // A new key under the old name.
    let rolled = one.draft("one").with(ca(Some(0))).with(signs()).sign(&one.key);
    let leaf = rolled.leaf();
    accepted(&judge(&leaf, &[&one, &rolled], &root, &rules()));
    let most =
        |most| judge(&leaf, &[&one, &rolled], &root, &Rules { max_intermediates: Some(most), ..rules() });
    accepted(&most(1));
    refused(&most(0), Reason::TooManyIntermediates, None);
    // A root's own.
    let key = Key::p256();
    let draft = Draft::new(&name("root"), &name("root"), Rc::clone(&key));
    let root = draft.with(ca(Some(0))).with(signs()).sign(&key);
    let sub = root.ca("sub");
    refused(&judge(&sub.leaf(), &[&sub], &root, &rules()), Reason::PathLength, 1);
}

#[test]
fn purposes_hold_for_the_leaf_and_for_the_cas_above_it() {
    let leaf =
        |ids: &[&str]| Chain::with_leaf(|draft| draft.with(dns(&["a.test"])).with(purposes(ids))).judge();
    accepted(&leaf(&[SERVER]));
    accepted(&leaf(&[CLIENT, SERVER]));
    refused(&leaf(&[CLIENT]), Reason::Purpose, 0);
    refused(&leaf(&[ANY]), Reason::Purpose, 0);
    refused(&leaf(&[]), Reason::Malformed, 0);
    let ca = |ids: &[&str]| Chain::with_ca(|draft| draft.with(ca(None)).with(signs()).with(purposes(ids)));
    accepted(&ca(&[SERVER]).judge());
    accepted(&ca(&[ANY]).judge());
    refused(&ca(&[CLIENT]).judge(), Reason::Purpose, 1);
    let root = Chain::with_root(|draft| draft.with(forge::ca(None)).with(purposes(&[CLIENT])));
    refused(&root.judge(), Reason::Purpose, 2);
    accepted(&root.judge_lax());
}

#[test]
fn extensions_that_are_unknown_double_or_malformed_are_refused() {
    let odd = || extension("1.3.6.1.4.1.55555.1", true, &[5, 0]);
    let with = |extra: Vec<Vec<u8>>| {
        let leaf = |mut draft: Draft| {
            draft.extensions.push(dns(&["a.test"]));
            draft.extensions.extend(extra);
            draft
        };
        Chain::with_leaf(leaf).judge()
    };
    accepted(&with(vec![extension("1.3.6.1.4.1.55555.1", false, &[1, 2])]));
    refused(&with(vec![odd()]), Reason::UnknownCriticalExtension, 0);
    refused(
        &Chain::with_ca(|draft| draft.with(ca(None)).with(odd())).judge(),
        Reason::UnknownCriticalExtension,
        1,
    );
    let root = Chain::with_root(|draft| draft.with(ca(None)).with(odd()));
    refused(&root.judge(), Reason::UnknownCriticalExtension, 2);
    accepted(&root.judge_lax());
    refused(&with(vec![dns(&["a.test"])]), Reason::Malformed, 0);
    for malformed in [
        extension("2.5.29.15", true, &[4, 1, 6]),
        extension("2.5.29.14", true, &[4, 1, 6]),
        key_usage(0),
        extension("2.5.29.32", false, &sequence(&[])),
        extension("2.5.29.31", false, b"http://"),
        extension("1.3.6.1.5.5.7.1.1", false, &sequence(&[])),
        constraints(&[tlv(0x82, &[b"test"])], &[]),
    ] {
        refused(&with(vec![malformed]), Reason::Malformed, 0);
    }
    refused(
        &Chain::with_leaf(|draft| Draft { version: 1, ..draft.with(dns(&["a.test"])) }).judge(),
        Reason::Malformed,
        0,
    );
    let nameless = |critical| {
        let value = sequence(&[&tlv(0x82, &[b"a.test"])]);
        let subject = sequence(&[]);
        Chain::with_leaf(|draft| Draft { subject, ..draft.with(extension("2.5.29.17", critical, &value)) })
            .judge()
    };
    accepted(&nameless(true));
    refused(&nameless(false), Reason::Malformed, 0);
    // One that is of no use does no harm beside the path.
    let chain = Chain::new();
    let stray = chain.root.draft("CA").with(odd()).sign(&chain.root.key);
    accepted(&judge(&chain.leaf, &[&stray, &chain.ca], &chain.root, &rules()));
}

#[test]
fn names_compare_as_people_read_them() {
    let root = Made::root("root");
    let key = Key::p256();
    for (tag, text) in [(0x13, &b"Good  CA"[..]), (0x0c, b" good ca "), (0x1e, b"\0G\0o\0o\0d\0 \0c\0A")] {
        let ca = Draft { subject: name_as(0x0c, b"Good CA"), ..root.ca_draft("") };
        let ca = Draft { spki: key.spki(), key: Rc::clone(&key), ..ca }.sign(&root.key);
        let leaf = Draft { issuer: name_as(tag, text), ..ca.draft("leaf") };
        accepted(&judge(&leaf.with(dns(&["a.test"])).sign(&key), &[&ca], &root, &rules()));
    }
}

#[test]
fn a_common_name_is_no_host_name() {
    let chain = Chain::with_leaf(|draft| Draft { subject: name("a.test"), ..draft });
    refused(&chain.judge(), Reason::NameMismatch, 0);
    let address = Chain::with_leaf(|draft| draft.with(dns(&["127.0.0.1"])));
    let asked = Rules { names: vec![ReferenceName::ip("127.0.0.1").unwrap()], ..rules() };
    refused(&judge(&address.leaf, &[&address.ca], &address.root, &asked), Reason::NameMismatch, 0);
}

/// A leaf with one name of its own besides `a.test`, below a CA with constraints.
fn constrained(permitted: &[Vec<u8>], excluded: &[Vec<u8>], own: Vec<u8>) -> Validation {
    let root = Made::root("root");
    let ca = root.ca_draft("CA").with(constraints(permitted, excluded)).sign(&root.key);
    let leaf = ca.draft("leaf").with(names(&[tlv(0x82, &[b"a.test"]), own])).sign(&ca.key);
    judge(&leaf, &[&ca], &root, &rules())
}

#[test]
fn constraints_hold_for_every_kind_of_name() {
    let host = |text: &str| tlv(0x82, &[text.as_bytes()]);
    let mail = |text: &str| tlv(0x81, &[text.as_bytes()]);
    let uri = |text: &str| tlv(0x86, &[text.as_bytes()]);
    let ip = |octets: &[u8]| tlv(0x87, &[octets]);
    let directory = |text: &str| tlv(0xa4, &[&name(text)]);
    let other = |value: &str| {
        tlv(0xa0, &[&oid_der("1.3.6.1.4.1.311.20.2.3"), &tlv(0xa0, &[&tlv(12, &[value.as_bytes()])])])
    };
    let ten = ip(&[10, 0, 0, 0, 255, 0, 0, 0]);
    for (base, inside, outside) in [
        (host("test"), host("x.a.test"), host("test.example")),
        (ten, ip(&[10, 1, 2, 3]), ip(&[11, 1, 2, 3])),
        (mail("mail.test"), mail("x@MAIL.test"), mail("x@a.mail.test")),
        (mail(".mail.test"), mail("x@a.mail.test"), mail("x@mail.test")),
        (mail("x@mail.test"), mail("x@mail.test"), mail("y@mail.test")),
        (uri(".test"), uri("https://a.test:1/x"), uri("https://a.example/x.test")),
        (directory("here"), directory("HERE"), directory("there")),
    ] {
        let also = match base[0] {
            0x82 => vec![base.clone()],
            // The leaf's own subject has to be permitted, too.
            0xa4 => vec![base.clone(), directory("leaf")],
            _ => vec![base.clone()],
        };
        accepted(&constrained(&also, &[], inside.clone()));
        refused(&constrained(&also, &[], outside.clone()), Reason::NameConstraint, 0);
        let free = if base[0] == 0x82 { vec![host("a.test.example")] } else { vec![base.clone()] };
        if base[0] != 0x82 {
            refused(&constrained(&[], &free, inside), Reason::NameConstraint, 0);
            accepted(&constrained(&[], &free, outside));
        }
    }
    refused(&constrained(&[], &[host("b.test")], host("x.b.test")), Reason::NameConstraint, 0);
    refused(&constrained(&[], &[host("b.test")], host("*.test")), Reason::NameConstraint, 0);
    accepted(&constrained(&[], &[host("b.test")], host("c.test")));
    // What cannot be compared is refused, where there is something to compare it with.
    for (base, own) in [
        (uri("test"), uri("urn:x:y")),
        (uri("test"), uri("https://10.0.0.1/")),
        (mail("test"), mail("nobody")),
        (host("test"), host("a b.test")),
        (other("x"), other("x")),
    ] {
        refused(
            &constrained(std::slice::from_ref(&base), &[], own.clone()),
            Reason::UnsupportedNameConstraint,
            0,
        );
        if base[0] != 0x82 {
            accepted(&constrained(&[host("test")], &[], own));
        }
    }
    // An extension of nonsense makes its CA useless.
    for (permitted, excluded) in
        [(vec![host("*.test")], vec![]), (vec![], vec![ip(&[1, 2, 3])]), (vec![], vec![])]
    {
        refused(&constrained(&permitted, &excluded, host("b.test")), Reason::Malformed, 1);
    }
}

#[test]
fn constraints_of_an_anchor_and_of_each_ca_add_up() {
    let host = |text: &str| tlv(0x82, &[text.as_bytes()]);
    let root = Chain::with_root(|draft| draft.with(ca(None)).with(constraints(&[host("example")], &[])));
    refused(&root.judge(), Reason::NameConstraint, 0);
    accepted(&root.judge_lax());
    // Each permits something, both together nothing.
    let root = Made::root("root");
    let one = root.ca_draft("one").with(constraints(&[host("a.test")], &[])).sign(&root.key);
    let two = one.ca_draft("two").with(constraints(&[host("b.test")], &[])).sign(&one.key);
    refused(&judge(&two.leaf(), &[&one, &two], &root, &rules()), Reason::NameConstraint, 0);
    // A self-issued CA is not held to them, a self-issued leaf is.
    let inside = constraints(&[host("a.test")], &[]);
    let one = root.ca_draft("one").with(inside).sign(&root.key);
    let rolled = one.draft("one").with(ca(None)).with(signs()).with(dns(&["b.test"])).sign(&one.key);
    accepted(&judge(&rolled.leaf(), &[&one, &rolled], &root, &rules()));
    let leaf = one.draft("one").with(dns(&["a.test", "b.test"])).sign(&one.key);
    refused(&judge(&leaf, &[&one], &root, &rules()), Reason::NameConstraint, 0);
    // A CA's own name is held to them, and an address in the subject.
    let directory = |text: &str| tlv(0xa4, &[&name(text)]);
    let one = root.ca_draft("one").with(constraints(&[], &[directory("two")])).sign(&root.key);
    let two = one.ca("two");
    refused(&judge(&two.leaf(), &[&one, &two], &root, &rules()), Reason::NameConstraint, 1);
    let mail = constraints(&[], &[tlv(0x81, &[b"mail.test"])]);
    let one = root.ca_draft("one").with(mail).sign(&root.key);
    let attribute = sequence(&[&oid_der("1.2.840.113549.1.9.1"), &tlv(0x16, &[b"X@Mail.Test"])]);
    let subject = sequence(&[&rdn(0x0c, b"leaf"), &tlv(0x31, &[&attribute])]);
    let leaf = Draft { subject, ..one.draft("") }.with(dns(&["a.test"])).sign(&one.key);
    refused(&judge(&leaf, &[&one], &root, &rules()), Reason::NameConstraint, 0);
}

#[test]
fn every_kind_of_key_signs_and_is_signed_for() {
    let root = Made::root("root");
    for key in Key::zoo() {
        let key = Rc::new(key);
        let draft = Draft { spki: key.spki(), key: Rc::clone(&key), ..root.ca_draft("CA") };
        let ca = draft.sign(&root.key);
        let leaf = ca.leaf();
        accepted(&judge(&leaf, &[&ca], &root, &rules()));
        let mut forged = leaf;
        let last = forged.der.len() - 1;
        forged.der[last] ^= 1;
        refused(&judge(&forged, &[&ca], &root, &rules()), Reason::BadSignature, 0);
    }
}

#[test]
fn pss_has_one_salt_for_each_hash() {
    let root = Made::root("root");
    let key = Rc::new(Key::zoo().swap_remove(3));
    let ca = Draft { spki: key.spki(), key: Rc::clone(&key), ..root.ca_draft("CA") }.sign(&root.key);
    let signed = |algorithm| {
        let draft = Draft { algorithm: Some(algorithm), ..ca.draft("leaf").with(dns(&["a.test"])) };
        judge(&draft.sign(&key), &[&ca], &root, &rules())
    };
    accepted(&signed(pss(32)));
    refused(&signed(pss(20)), Reason::UnsupportedSignature, 0);
}

#[test]
fn keys_that_only_sign_do_not_encrypt() {
    let root = Made::root("root");
    for key in Key::zoo().into_iter().skip(4) {
        let with_usage = |bits| {
            let draft = Draft { spki: key.spki(), ..root.draft("leaf") };
            let leaf = draft.with(dns(&["a.test"])).with(key_usage(bits)).sign(&root.key);
            judge(&leaf, &[], &root, &rules())
        };
        accepted(&with_usage(0b1000_0000));
        refused(&with_usage(0b1010_0000), Reason::Malformed, 0);
        refused(&with_usage(0b0000_1000), Reason::Malformed, 0);
    }
}

#[test]
fn algorithms_that_can_be_forged_or_do_not_fit_are_refused() {
    let sign_by = |algorithm: Vec<u8>| {
        Chain::with_leaf(|draft| Draft { algorithm: Some(algorithm), ..draft.with(dns(&["a.test"])) }).judge()
    };
    let plain = |id: &str| sequence(&[&oid_der(id)]);
    for weak in ["1.2.840.10045.4.1", "1.2.840.113549.1.1.4", "1.2.840.113549.1.1.5", "1.2.840.113549.1.1.2"]
    {
        refused(&sign_by(plain(weak)), Reason::WeakSignature, 0);
    }
    let sha1_pss = sequence(&[&oid_der("1.2.840.113549.1.1.10"), &sequence(&[])]);
    refused(&sign_by(sha1_pss), Reason::WeakSignature, 0);
    let with_null = sequence(&[&oid_der("1.2.840.10045.4.3.2"), &[5, 0]]);
    for odd in [plain("1.3.101.112"), plain("1.2.3.4"), pss(20), pss(32), with_null] {
        refused(&sign_by(odd), Reason::UnsupportedSignature, 0);
    }
    // The two places where the algorithm stands have to agree; the second one is not signed.
    let chain = Chain::new();
    let mut der = chain.leaf.der.clone();
    let ecdsa = oid_der("1.2.840.10045.4.3.2");
    let second = der.windows(ecdsa.len()).rposition(|window| window == ecdsa).unwrap();
    der[second + ecdsa.len() - 1] = 3;
    let verdict = judge(&Made { der, ..chain.leaf }, &[&chain.ca], &chain.root, &rules());
    assert!(verdict.errors.iter().any(|f| f.reason == Reason::Malformed || f.reason == Reason::BadSignature));
    assert!(!verdict.valid);
}

#[test]
fn sec_e8_keys_that_give_no_security_are_refused() {
    let with_key =
        |spki: Vec<u8>| Chain::with_leaf(|draft| Draft { spki, ..draft.with(dns(&["a.test"])) }).judge();
    let rsa = |modulus: &[u8], exponent: &[u8]| {
        let algorithm = sequence(&[&oid_der("1.2.840.113549.1.1.1"), &[5, 0]]);
        spki(&algorithm, &sequence(&[&tlv(2, &[&[0], modulus]), &tlv(2, &[exponent])]))
    };
    let mut odd = vec![0xff; 256];
    refused(&with_key(rsa(&odd[..128], &[1, 0, 1])), Reason::WeakKey, 0);
    refused(&with_key(rsa(&odd, &[1])), Reason::WeakKey, 0);
    refused(&with_key(rsa(&odd, &[2])), Reason::WeakKey, 0);
    odd[255] = 0xfe;
    refused(&with_key(rsa(&odd, &[1, 0, 1])), Reason::WeakKey, 0);
    let ec = |curve: &str| sequence(&[&oid_der("1.2.840.10045.2.1"), &oid_der(curve)]);
    let mut point = Key::p256().bits();
    point[64] ^= 1;
    refused(&with_key(spki(&ec("1.2.840.10045.3.1.7"), &point)), Reason::WeakKey, 0);
    refused(&with_key(spki(&ec("1.3.132.0.10"), &point)), Reason::UnsupportedKey, 0);
    refused(&with_key(spki(&ec("1.3.132.0.34"), &point)), Reason::WeakKey, 0);
    let dsa = sequence(&[&oid_der("1.2.840.10040.4.1")]);
    refused(&with_key(spki(&dsa, &[2, 1, 9])), Reason::UnsupportedKey, 0);
}
