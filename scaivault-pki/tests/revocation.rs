//! Revocation: every way of knowing, of not knowing, and of being told wrong.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;
mod forge;

use common::{Ca, request};
use forge::{
    DAY, Draft, Key, Made, NOW, ca, dns,
    evidence::{
        GOOD, INDIRECT, List, ONLY_ATTRIBUTES, ONLY_CAS, ONLY_USERS, OTHER_REASONS, Reply, SOME_REASONS,
        UNKNOWN, crl_point, delta_of, idp, revoked,
    },
    extension, key_usage, purposes,
};
use scaivault_kms::KeySpec;
use scaivault_pki::{
    Certificate, CrlEntry, RevocationReason, TrustAnchor, Validation, build_crl, ocsp, validate,
    validate::{
        CertificateRevocation, Evidence, OcspEvidence, Reason, Registered, RevocationMode, Rules, Source,
        Verdict, limits,
    },
};

const OCSP_SIGNING: &str = "1.3.6.1.5.5.7.3.9";

fn read(made: &Made) -> Certificate {
    Certificate::from_der(&made.der).unwrap()
}

/// A root and a leaf right below it.
struct Bench {
    root: Made,
    leaf: Made,
    bag: Vec<Made>,
}

impl Bench {
    fn new() -> Self {
        let root = Made::root("root");
        Self { leaf: root.leaf(), root, bag: Vec::new() }
    }

    fn with_point(url: &str, crl_issuer: Option<&[u8]>) -> Self {
        let root = Made::root("root");
        let leaf = root.draft("leaf").with(dns(&["a.test"])).with(crl_point(url, crl_issuer)).sign(&root.key);
        Self { leaf, root, bag: Vec::new() }
    }

    fn judge(&self, mode: RevocationMode, crls: &[Vec<u8>], ocsp: &[Vec<u8>]) -> Validation {
        let ocsp = ocsp.iter().map(|der| OcspEvidence { der: der.clone(), nonce: None }).collect();
        self.judge_by(mode, &Evidence { crls: crls.to_vec(), ocsp, ..Evidence::default() })
    }

    fn judge_by(&self, mode: RevocationMode, evidence: &Evidence) -> Validation {
        let bag: Vec<_> = self.bag.iter().map(read).collect();
        let anchors = [TrustAnchor { certificate: read(&self.root), enforce: true }];
        let rules = Rules { revocation: mode, ..Rules::at(NOW) };
        validate(&read(&self.leaf), &bag, &anchors, evidence, &rules)
    }

    /// What is known of the leaf.
    fn known(&self, crls: &[Vec<u8>], ocsp: &[Vec<u8>]) -> (Known, Source) {
        let verdict = self.judge(RevocationMode::Prefer, crls, ocsp);
        let required = self.judge(RevocationMode::Require, crls, ocsp);
        let known = verdict.revocation.first().map(summary).unwrap();
        // Whatever is not good is refused where that is required.
        assert_eq!(required.valid, known.0 == Known::Good, "{:#?}", required.errors);
        known
    }

    fn by_crls(&self, crls: &[Vec<u8>]) -> Known {
        let (known, source) = self.known(crls, &[]);
        assert!(source != Source::Ocsp && (known == Known::Unknown) == (source == Source::None));
        known
    }

    fn by_ocsp(&self, answers: &[Vec<u8>]) -> Known {
        self.known(&[], answers).0
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Good,
    Revoked,
    Unknown,
}

fn summary(known: &CertificateRevocation) -> (Known, Source) {
    let verdict = match known.verdict {
        Verdict::Good => Known::Good,
        Verdict::Revoked { .. } => Known::Revoked,
        Verdict::Unknown => Known::Unknown,
    };
    (verdict, known.source)
}

/// What sources say, each of every kind, in every mode: which verdict, from whom, and whether the chain passes.
#[test]
fn sec_f2_every_mix_of_sources_has_its_verdict() {
    let bench = Bench::new();
    let (root, serial) = (&bench.root, &bench.leaf.serial);
    let stranger = Made::root("stranger");
    let stale = |mut list: List| {
        list.next_update = Some(NOW - DAY / 2);
        list.sign(&root.key)
    };
    let crls: [(&str, Vec<Vec<u8>>); 5] = [
        ("none", vec![]),
        ("good", vec![List::of(root).sign(&root.key)]),
        ("revoked", vec![List::of(root).revoking(serial, 1).sign(&root.key)]),
        ("stale", vec![stale(List::of(root))]),
        ("forged", vec![List::of(root).sign(&stranger.key)]),
    ];
    let answer = |status: &[u8]| vec![Reply::by(root).says(root, serial, status).sign()];
    let old = Reply { next_update: Some(NOW - DAY / 4), ..Reply::by(root) };
    let ocsp: [(&str, Vec<Vec<u8>>); 7] = [
        ("none", vec![]),
        ("good", answer(GOOD)),
        ("revoked", answer(&revoked())),
        ("unknown", answer(UNKNOWN)),
        ("stale", vec![old.says(root, serial, GOOD).sign()]),
        ("forged", vec![Reply::by(&stranger).says(root, serial, GOOD).sign()]),
        ("later", vec![ocsp::error_response(ocsp::OcspError::TryLater)]),
    ];
    for (listed, crls) in &crls {
        for (said, answers) in &ocsp {
            let expected = match (*said, *listed) {
                ("revoked", _) => (Known::Revoked, Source::Ocsp),
                (_, "revoked") => (Known::Revoked, Source::Crl),
                ("good", _) => (Known::Good, Source::Ocsp),
                ("unknown", _) => (Known::Unknown, Source::Ocsp),
                (_, "good") => (Known::Good, Source::Crl),
                _ => (Known::Unknown, Source::None),
            };
            let prefer = bench.judge(RevocationMode::Prefer, crls, answers);
            let require = bench.judge(RevocationMode::Require, crls, answers);
            let none = bench.judge(RevocationMode::None, crls, answers);
            assert_eq!(summary(&prefer.revocation[0]), expected, "OCSP {said}, list {listed}");
            assert_eq!(summary(&require.revocation[0]), expected, "OCSP {said}, list {listed}");
            assert_eq!(require.valid, expected.0 == Known::Good, "OCSP {said}, list {listed}");
            assert_eq!(
                prefer.valid,
                expected.0 == Known::Good || expected.1 == Source::None,
                "OCSP {said}, list {listed}"
            );
            assert!(none.valid);
            assert_eq!(summary(&none.revocation[0]), (Known::Unknown, Source::None));
            let reason = match expected.0 {
                Known::Good => None,
                Known::Revoked => Some(Reason::Revoked),
                Known::Unknown => Some(Reason::RevocationUnknown),
            };
            assert_eq!(require.errors.first().map(|failure| failure.reason), reason);
            let useless =
                matches!(*listed, "stale" | "forged") || matches!(*said, "stale" | "forged" | "later");
            if expected.1 == Source::None && useless {
                assert!(!prefer.revocation[0].notes.is_empty(), "OCSP {said}, list {listed}");
            }
        }
    }
}

#[tokio::test]
async fn the_lists_and_answers_of_this_engine_are_believed() {
    let root = Ca::root(KeySpec::EcP256, None).await;
    let sub = root.below("Intermediate", KeySpec::EcP384).await;
    let (leaf, _) = sub.leaf(KeySpec::EcP256, &request("api.svc.test")).await;
    let now = common::now();
    let list = async |ca: &Ca, entries: Vec<CrlEntry>| {
        build_crl(&ca.issuer, &ca.key, 3, now, now + common::DAY, entries.into_iter()).await.unwrap()
    };
    let entry =
        CrlEntry { serial: leaf.serial.clone(), revoked_at: now, reason: RevocationReason::Superseded };
    let certificate = Certificate::from_der(&leaf.der).unwrap();
    let bag = [Certificate::from_der(&sub.issued.der).unwrap()];
    let anchors = [TrustAnchor::from_der(&root.issued.der).unwrap()];
    let rules = Rules { revocation: RevocationMode::Require, ..Rules::at(now) };
    let good =
        Evidence { crls: vec![list(&root, vec![]).await, list(&sub, vec![]).await], ..Evidence::default() };
    let verdict = validate(&certificate, &bag, &anchors, &good, &rules);
    assert!(verdict.valid, "{verdict:#?}");
    assert!(verdict.revocation.iter().all(|known| summary(known) == (Known::Good, Source::Crl)));
    let bad = Evidence {
        crls: vec![list(&root, vec![]).await, list(&sub, vec![entry]).await],
        ..Evidence::default()
    };
    let verdict = validate(&certificate, &bag, &anchors, &bad, &rules);
    assert_eq!(verdict.errors[0].reason, Reason::Revoked);
    let Verdict::Revoked { reason, .. } = verdict.revocation[0].verdict else { panic!("{verdict:#?}") };
    assert_eq!(reason, RevocationReason::Superseded);
}

#[test]
fn every_certificate_below_the_anchor_is_asked_about() {
    let root = Made::root("root");
    let sub = root.ca("sub");
    let bench = Bench { leaf: sub.leaf(), bag: vec![sub.clone()], root };
    let empty = |made: &Made| List::of(made).sign(&made.key);
    let of_root = List::of(&bench.root).revoking(&sub.serial, 2).sign(&bench.root.key);
    let good = bench.judge(RevocationMode::Require, &[empty(&bench.root), empty(&sub)], &[]);
    assert!(good.valid, "{:#?}", good.errors);
    let bad = bench.judge(RevocationMode::Prefer, &[of_root, empty(&sub)], &[]);
    assert_eq!((bad.errors[0].reason, bad.errors[0].certificate), (Reason::Revoked, Some(1)));
    let half = bench.judge(RevocationMode::Require, &[empty(&sub)], &[]);
    assert_eq!((half.errors[0].reason, half.errors[0].certificate), (Reason::RevocationUnknown, Some(1)));
}

#[test]
fn a_path_around_a_revoked_ca_is_taken() {
    let (old, new) = (Made::root("old"), Made::root("new"));
    let sub = old.ca("sub");
    let leaf = sub.leaf();
    let crossed =
        Draft { subject: sub.name.clone(), spki: sub.key.spki(), ..new.ca_draft("") }.sign(&new.key);
    let revoked = List::of(&old).revoking(&sub.serial, 5).sign(&old.key);
    let evidence = Evidence {
        crls: vec![revoked, List::of(&new).sign(&new.key), List::of(&sub).sign(&sub.key)],
        ocsp: vec![],
        ..Evidence::default()
    };
    let rules = Rules { revocation: RevocationMode::Require, ..Rules::at(NOW) };
    let anchor = |made: &Made| TrustAnchor { certificate: read(made), enforce: true };
    let (old, new) = (anchor(&old), anchor(&new));
    let bag = [read(&sub), read(&crossed)];
    let verdict = validate(&read(&leaf), &bag, &[old.clone(), new], &evidence, &rules);
    assert!(verdict.valid, "{verdict:#?}");
    assert_eq!((verdict.anchor, verdict.chain[1].clone()), (Some(1), read(&crossed)));
    assert_eq!(verdict.rejected[0].failures[0].reason, Reason::Revoked);
    let verdict = validate(&read(&leaf), &bag, &[old], &evidence, &rules);
    assert_eq!(verdict.errors[0].reason, Reason::Revoked);
    assert_eq!(
        verdict.revocation.iter().map(|known| summary(known).0).collect::<Vec<_>>(),
        [Known::Good, Known::Revoked]
    );
}

#[test]
fn sec_f3_lists_of_the_wrong_signer_or_time_say_nothing() {
    let bench = Bench::new();
    let root = &bench.root;
    let list = || List::of(root).revoking(&bench.leaf.serial, 1);
    assert_eq!(bench.by_crls(&[list().sign(&root.key)]), Known::Revoked);
    assert_eq!(bench.by_crls(&[list().sign(&Key::p256())]), Known::Unknown);
    let other = Made::root("root");
    assert_eq!(bench.by_crls(&[List::of(&other).sign(&other.key)]), Known::Unknown);
    let times = |this, next| List { this_update: this, next_update: next, ..List::of(root) }.sign(&root.key);
    assert_eq!(bench.by_crls(&[times(NOW, Some(NOW))]), Known::Good);
    for (this, next) in
        [(NOW + DAY, Some(NOW + DAY * 2)), (NOW - DAY * 2, Some(NOW - DAY)), (NOW - DAY, None)]
    {
        assert_eq!(bench.by_crls(&[times(this, next)]), Known::Unknown);
    }
    let without_number = List { number: None, ..List::of(root) }.sign(&root.key);
    let of_version_one = List { number: None, version: false, ..List::of(root) }.sign(&root.key);
    let critical = || extension("1.3.6.1.4.1.55555.1", true, &[5, 0]);
    let unknown = List::of(root).with(critical()).sign(&root.key);
    let unknown_entry = List::of(root).entry(&[9, 9, 9], 0, &critical()).sign(&root.key);
    let seven = List::of(root).revoking(&[9, 9, 9], 7).sign(&root.key);
    let twice = List::of(root).with(extension("2.5.29.20", false, &[2, 1, 5])).sign(&root.key);
    let cut = List::of(root).sign(&root.key)[..60].to_vec();
    for odd in [without_number, of_version_one, unknown, unknown_entry, seven, twice, cut] {
        assert_eq!(bench.by_crls(&[odd]), Known::Unknown);
    }
    // A CA whose key usage has no cRLSign.
    let root = Made::root("root");
    let sub = root.draft("sub").with(ca(None)).with(key_usage(0b0000_0100)).sign(&root.key);
    let bench = Bench { leaf: sub.leaf(), bag: vec![sub.clone()], root };
    assert_eq!(bench.by_crls_below(&sub, &[List::of(&sub).sign(&sub.key)]), Known::Unknown);
}

impl Bench {
    /// With a good list for the CA in between.
    fn by_crls_below(&self, sub: &Made, crls: &[Vec<u8>]) -> Known {
        let mut crls = crls.to_vec();
        crls.push(List::of(&self.root).sign(&self.root.key));
        assert!(self.bag.iter().any(|made| made.der == sub.der));
        self.by_crls(&crls)
    }
}

#[test]
fn sec_f3_shards_speak_of_their_own_certificates() {
    let here = "http://pki.test/crl/1";
    let bench = Bench::with_point(here, None);
    let root = &bench.root;
    let shard = |url| List::of(root).with(idp(Some(url), &[]));
    assert_eq!(bench.by_crls(&[shard(here).sign(&root.key)]), Known::Good);
    assert_eq!(bench.by_crls(&[shard("http://pki.test/crl/2").sign(&root.key)]), Known::Unknown);
    let elsewhere = [shard("http://pki.test/crl/2").sign(&root.key)];
    let judged = bench.judge(RevocationMode::Prefer, &elsewhere, &[]);
    assert_eq!(judged.revocation[0].notes, ["a list of the issuer is about other certificates"]);
    let listed = shard(here).revoking(&bench.leaf.serial, 1).sign(&root.key);
    assert_eq!(bench.by_crls(&[shard("http://pki.test/crl/2").sign(&root.key), listed]), Known::Revoked);
    // A complete list of the issuer will do too.
    assert_eq!(bench.by_crls(&[List::of(root).sign(&root.key)]), Known::Good);
    let scoped = |rest: &[u8]| List::of(root).with(idp(None, rest)).sign(&root.key);
    assert_eq!(bench.by_crls(&[scoped(ONLY_USERS)]), Known::Good);
    assert_eq!(bench.by_crls(&[scoped(ONLY_CAS)]), Known::Unknown);
    assert_eq!(bench.by_crls(&[scoped(ONLY_ATTRIBUTES)]), Known::Unknown);
    // A certificate that names no point is in no shard.
    let plain = Bench::new();
    let other = List::of(&plain.root).with(idp(Some(here), &[])).sign(&plain.root.key);
    assert_eq!(plain.by_crls(&[other]), Known::Unknown);
}

#[test]
fn sec_f3_some_reasons_are_not_all() {
    let bench = Bench::new();
    let root = &bench.root;
    let about = |reasons: &[u8]| List::of(root).with(idp(None, reasons));
    assert_eq!(bench.by_crls(&[about(SOME_REASONS).sign(&root.key)]), Known::Unknown);
    let both = [about(SOME_REASONS).sign(&root.key), about(OTHER_REASONS).sign(&root.key)];
    assert_eq!(bench.by_crls(&both), Known::Good);
    let listed = about(SOME_REASONS).revoking(&bench.leaf.serial, 1).sign(&root.key);
    assert_eq!(bench.by_crls(&[listed]), Known::Revoked);
}

#[test]
fn sec_f3_numbers_that_go_backwards_hide_nothing() {
    let bench = Bench::new();
    let root = &bench.root;
    let at = |number: u8, age: i32, held: bool| {
        let list = List { this_update: NOW - DAY * age, ..List::of(root).number(number) };
        if held { list.revoking(&bench.leaf.serial, 6) } else { list }.sign(&root.key)
    };
    // A hold that was taken back: the newer list is right.
    assert_eq!(bench.by_crls(&[at(5, 2, true), at(6, 1, false)]), Known::Good);
    assert_eq!(bench.by_crls(&[at(5, 2, false), at(6, 1, true)]), Known::Revoked);
    // A later date with a lower number: both are heard.
    assert_eq!(bench.by_crls(&[at(6, 2, true), at(5, 1, false)]), Known::Revoked);
}

#[test]
fn sec_f3_deltas_go_with_their_base() {
    let bench = Bench::new();
    let root = &bench.root;
    let serial = &bench.leaf.serial;
    let base = || List::of(root).number(10);
    let delta = |number, of| List::of(root).number(number).with(delta_of(of));
    let known = |crls: &[List]| {
        let crls: Vec<_> = crls.iter().map(|list| list.clone().sign(&root.key)).collect();
        bench.known(&crls, &[])
    };
    assert_eq!(known(&[base(), delta(11, 10)]), (Known::Good, Source::Delta));
    assert_eq!(known(&[base(), delta(11, 10).revoking(serial, 1)]), (Known::Revoked, Source::Delta));
    assert_eq!(
        known(&[base().revoking(serial, 6), delta(11, 9).revoking(serial, 8)]),
        (Known::Good, Source::Delta)
    );
    assert_eq!(known(&[base().revoking(serial, 1), delta(11, 10)]), (Known::Revoked, Source::Crl));
    assert_eq!(known(&[delta(11, 10)]), (Known::Unknown, Source::None));
    // A delta of a later base, an older one, one of another scope, and a stale one are left.
    let stale = List { next_update: Some(NOW - DAY / 2), ..delta(11, 10) };
    let scoped = delta(11, 10).with(idp(None, ONLY_USERS));
    for other in [delta(12, 11), delta(9, 8), scoped, stale] {
        assert_eq!(known(&[base(), other.revoking(serial, 1)]), (Known::Good, Source::Crl));
    }
    // A fresh delta keeps a list alive that has run out; the newest delta counts.
    let old = List { next_update: Some(NOW - DAY / 2), ..base() };
    assert_eq!(known(&[old.clone(), delta(11, 10)]), (Known::Good, Source::Delta));
    assert_eq!(known(&[old]), (Known::Unknown, Source::None));
    let both = [base(), delta(12, 10), delta(11, 10).revoking(serial, 6)];
    assert_eq!(known(&both), (Known::Good, Source::Delta));
    let forged = delta(11, 10).revoking(serial, 1).sign(&Key::p256());
    assert_eq!(bench.known(&[base().sign(&root.key), forged], &[]), (Known::Good, Source::Crl));
}

#[test]
fn lists_may_be_signed_by_another_key_under_the_same_anchor() {
    let root = Made::root("root");
    let sub = root.ca("sub");
    let signer = root.draft("sub").with(key_usage(0b0000_0010)).sign(&root.key);
    let top = || List::of(&root).sign(&root.key);
    let of_sub = || List::of(&sub).sign(&signer.key);
    let leaf = sub.leaf();
    let bench = |bag: &[&Made]| Bench {
        root: root.clone(),
        leaf: leaf.clone(),
        bag: bag.iter().map(|made| (*made).clone()).collect(),
    };
    assert_eq!(bench(&[&sub, &signer]).by_crls(&[top(), of_sub()]), Known::Good);
    let listed = List::of(&sub).revoking(&leaf.serial, 1).sign(&signer.key);
    assert_eq!(bench(&[&sub, &signer]).by_crls(&[top(), listed]), Known::Revoked);
    assert_eq!(bench(&[&sub]).by_crls(&[top(), of_sub()]), Known::Unknown);
    // The signer was revoked, has run out, may not sign, or belongs to another root.
    let revoked = List::of(&root).revoking(&signer.serial, 1).sign(&root.key);
    assert_eq!(bench(&[&sub, &signer]).by_crls(&[revoked, of_sub()]), Known::Unknown);
    let stranger = Made::root("stranger");
    for signer in [
        Draft { not_after: NOW - DAY, ..root.draft("sub").with(key_usage(0b0000_0010)) }.sign(&root.key),
        root.draft("sub").with(key_usage(0b1000_0000)).sign(&root.key),
        stranger.draft("sub").with(key_usage(0b0000_0010)).sign(&stranger.key),
    ] {
        let list = List::of(&sub).sign(&signer.key);
        assert_eq!(bench(&[&sub, &signer, &stranger]).by_crls(&[top(), list]), Known::Unknown);
    }
}

#[test]
fn a_signer_of_lists_vouches_for_itself_if_it_was_named_for_that_alone() {
    let root = Made::root("root");
    let url = "http://pki.test/indirect";
    let lister_name = forge::name("lister");
    let leaf =
        root.draft("leaf").with(dns(&["a.test"])).with(crl_point(url, Some(&lister_name))).sign(&root.key);
    let bench = |lister: &Made| Bench { root: root.clone(), leaf: leaf.clone(), bag: vec![lister.clone()] };
    let draft = || root.draft("lister").with(key_usage(0b0000_0010));
    let named = draft().with(crl_point(url, Some(&lister_name))).sign(&root.key);
    let unnamed = draft().sign(&root.key);
    let list = |lister: &Made| List::of(lister).with(idp(Some(url), INDIRECT));
    let known = |lister: &Made, list: List| bench(lister).by_crls(&[list.sign(&lister.key)]);
    assert_eq!(known(&named, list(&named)), Known::Good);
    assert_eq!(known(&named, list(&named).revoking_of(&root.name, &named.serial)), Known::Unknown);
    let verdict = bench(&unnamed).judge(RevocationMode::Require, &[list(&unnamed).sign(&unnamed.key)], &[]);
    assert_eq!(verdict.errors[0].reason, Reason::RevocationUnknown);
    assert_eq!(verdict.chain.len(), 2);
    // What the CA itself says comes before.
    let revoked = List::of(&root).with(idp(None, SOME_REASONS)).revoking(&named.serial, 1).sign(&root.key);
    assert_eq!(bench(&named).by_crls(&[list(&named).sign(&named.key), revoked]), Known::Unknown);
}

#[test]
fn indirect_lists_speak_for_those_who_name_their_issuer() {
    let root = Made::root("root");
    let lister = root.draft("lister").with(key_usage(0b0000_0010)).sign(&root.key);
    let url = "http://pki.test/indirect";
    let leaf =
        root.draft("leaf").with(dns(&["a.test"])).with(crl_point(url, Some(&lister.name))).sign(&root.key);
    let top = List::of(&root).with(idp(None, ONLY_CAS)).sign(&root.key);
    let cert_list = |list: List| list.sign(&lister.key);
    let indirect = || List::of(&lister).with(idp(Some(url), INDIRECT));
    let mut bench = Bench { root: root.clone(), leaf, bag: vec![lister.clone()] };
    // The lister itself is vouched for by the root's own list.
    let own = List::of(&root).with(idp(None, ONLY_USERS)).sign(&root.key);
    let known = |bench: &Bench, list: Vec<u8>| {
        let evidence = Evidence { crls: vec![list, top.clone()], ..Evidence::default() };
        summary(&bench.judge_by(RevocationMode::Prefer, &evidence).revocation[0]).0
    };
    assert_eq!(known(&bench, cert_list(indirect())), Known::Good);
    let serial = bench.leaf.serial.clone();
    assert_eq!(known(&bench, cert_list(indirect().revoking_of(&root.name, &serial))), Known::Revoked);
    // The same number of the lister's own, and of a third.
    assert_eq!(known(&bench, cert_list(indirect().revoking(&serial, 1))), Known::Good);
    let third = forge::name("third");
    assert_eq!(known(&bench, cert_list(indirect().revoking_of(&third, &serial))), Known::Good);
    // The issuer that is named holds for the entries that follow it.
    let sticky = indirect().revoking_of(&root.name, &[9, 9]).revoking(&serial, 1);
    assert_eq!(known(&bench, cert_list(sticky)), Known::Revoked);
    // It does not say that it is indirect.
    let plain = List::of(&lister).with(idp(Some(url), &[]));
    assert_eq!(known(&bench, cert_list(plain)), Known::Unknown);
    let entry = List::of(&lister).with(idp(Some(url), &[])).revoking_of(&root.name, &serial);
    assert_eq!(known(&bench, cert_list(entry)), Known::Unknown);
    // Nobody names it.
    bench.leaf = root.leaf();
    assert_eq!(known(&bench, cert_list(indirect())), Known::Unknown);
    assert_eq!(bench.by_crls(&[own]), Known::Good);
}

#[test]
fn sec_f4_answers_come_from_the_ca_or_its_delegate() {
    let bench = Bench::new();
    let (root, serial) = (&bench.root, &bench.leaf.serial);
    let says = |reply: Reply| vec![reply.says(root, serial, GOOD).sign()];
    assert_eq!(bench.by_ocsp(&says(Reply::by(root))), Known::Good);
    assert_eq!(bench.by_ocsp(&says(Reply { sha256: true, ..Reply::by(root) })), Known::Good);
    assert_eq!(
        bench.by_ocsp(&says(Reply { by_name: Some(root.name.clone()), ..Reply::by(root) })),
        Known::Good
    );
    let no_check = || extension("1.3.6.1.5.5.7.48.1.5", false, &[5, 0]);
    let delegate =
        |change: &dyn Fn(Draft) -> Draft| change(root.draft("responder").with(no_check())).sign(&root.key);
    let right = |draft: Draft| draft.with(purposes(&[OCSP_SIGNING])).with(key_usage(0b1000_0000));
    assert_eq!(bench.by_ocsp(&says(Reply::by_delegate(&delegate(&right)))), Known::Good);
    let wrong: [&dyn Fn(Draft) -> Draft; 6] = [
        &|draft| draft,
        &|draft| draft.with(purposes(&["2.5.29.37.0"])),
        &|draft| Draft { not_after: NOW - DAY, ..right(draft) },
        &|draft| Draft { not_before: NOW + DAY, ..right(draft) },
        &|draft| draft.with(purposes(&[OCSP_SIGNING])).with(key_usage(0b0000_0100)),
        &|draft| right(draft).with(extension("1.3.6.1.4.1.55555.1", true, &[5, 0])),
    ];
    for change in wrong {
        assert_eq!(bench.by_ocsp(&says(Reply::by_delegate(&delegate(change)))), Known::Unknown);
    }
    // Of another CA, even one below the same root; and one that shows no certificate.
    let sub = root.ca("sub");
    let other = right(sub.draft("responder")).sign(&sub.key);
    assert_eq!(bench.by_ocsp(&says(Reply::by_delegate(&other))), Known::Unknown);
    let misnamed = Draft { issuer: forge::name("other"), ..right(root.draft("responder")) }.sign(&root.key);
    assert_eq!(bench.by_ocsp(&says(Reply::by_delegate(&misnamed))), Known::Unknown);
    let pretender = Made { key: Key::p256(), ..root.clone() };
    let as_root = Reply { by_name: Some(root.name.clone()), ..Reply::by(&pretender) };
    assert_eq!(bench.by_ocsp(&says(as_root)), Known::Unknown);
    let hidden = Reply { certificates: vec![], ..Reply::by_delegate(&delegate(&right)) };
    assert_eq!(bench.by_ocsp(&says(hidden)), Known::Unknown);
    // A delegate may be revoked, unless its certificate says not to ask.
    let asked = right(root.draft("responder")).sign(&root.key);
    let lists = |made: &Made| {
        vec![List::of(root).with(idp(None, SOME_REASONS)).revoking(&made.serial, 1).sign(&root.key)]
    };
    assert_eq!(bench.known(&lists(&asked), &says(Reply::by_delegate(&asked))).0, Known::Unknown);
    let unasked = delegate(&right);
    assert_eq!(bench.known(&lists(&unasked), &says(Reply::by_delegate(&unasked))).0, Known::Good);
}

#[test]
fn sec_f4_answers_are_current_and_to_the_question() {
    let bench = Bench::new();
    let (root, serial) = (&bench.root, &bench.leaf.serial);
    let reply = || Reply::by(root);
    let says = |reply: Reply| vec![reply.says(root, serial, GOOD).sign()];
    for (reply, expected) in [
        (Reply { this_update: NOW, produced_at: NOW, next_update: Some(NOW), ..reply() }, Known::Good),
        (Reply { this_update: NOW - DAY, next_update: None, ..reply() }, Known::Good),
        (Reply { this_update: NOW - DAY * 2, next_update: None, ..reply() }, Known::Unknown),
        (Reply { next_update: Some(NOW - DAY / 4), ..reply() }, Known::Unknown),
        (Reply { this_update: NOW + DAY, next_update: Some(NOW + DAY * 2), ..reply() }, Known::Unknown),
        (Reply { produced_at: NOW + DAY, ..reply() }, Known::Unknown),
    ] {
        assert_eq!(bench.by_ocsp(&says(reply)), expected);
    }
    // A nonce that was sent has to come back.
    let asked = |sent: Option<&[u8]>, came: Option<&[u8]>| {
        let der = says(Reply { nonce: came.map(<[u8]>::to_vec), ..reply() }).remove(0);
        let ocsp = vec![OcspEvidence { der, nonce: sent.map(<[u8]>::to_vec) }];
        summary(
            &bench.judge_by(RevocationMode::Prefer, &Evidence { ocsp, ..Evidence::default() }).revocation[0],
        )
        .0
    };
    assert_eq!(asked(Some(b"12345678"), Some(b"12345678")), Known::Good);
    assert_eq!(asked(None, Some(b"12345678")), Known::Good);
    assert_eq!(asked(Some(b"12345678"), None), Known::Unknown);
    assert_eq!(asked(Some(b"12345678"), Some(b"87654321")), Known::Unknown);
    // Several certificates in any order; that of another, or of another issuer, says nothing of this one.
    let other = Made::root("other");
    let several =
        reply().says(root, &[7, 7], &revoked()).says(root, serial, GOOD).says(root, &[8, 8], UNKNOWN);
    assert_eq!(bench.by_ocsp(&[several.sign()]), Known::Good);
    assert_eq!(bench.by_ocsp(&[reply().says(root, &[7, 7], GOOD).sign()]), Known::Unknown);
    assert_eq!(bench.by_ocsp(&[reply().says(&other, serial, GOOD).sign()]), Known::Unknown);
    // Two words about one certificate: the worse one stands.
    let torn = reply().says(root, serial, GOOD).says(root, serial, &revoked());
    assert_eq!(bench.by_ocsp(&[torn.sign()]), Known::Revoked);
    let torn = reply().says(root, serial, UNKNOWN).says(root, serial, GOOD);
    assert_eq!(bench.by_ocsp(&[torn.sign()]), Known::Unknown);
}

#[test]
fn sec_f5_a_serial_that_was_never_issued_is_never_good() {
    let bench = Bench::new();
    let (root, serial) = (&bench.root, &bench.leaf.serial);
    let list = List::of(root).sign(&root.key);
    let unknown = Reply::by(root).says(root, serial, UNKNOWN).sign();
    for mode in [RevocationMode::Prefer, RevocationMode::Require] {
        let verdict = bench.judge(mode, std::slice::from_ref(&list), std::slice::from_ref(&unknown));
        assert!(!verdict.valid);
        assert_eq!(verdict.errors[0].reason, Reason::RevocationUnknown);
        assert_eq!(summary(&verdict.revocation[0]), (Known::Unknown, Source::Ocsp));
    }
}

#[test]
fn evidence_beyond_all_bounds_hides_nothing() {
    // Signatures that nobody can verify use up what may be verified; the list that matters comes last.
    let bench = Bench::new();
    let root = &bench.root;
    let forged = List::of(root).sign(&Key::p256());
    let mut crls = vec![forged; limits::MAX_EVIDENCE];
    crls.push(List::of(root).revoking(&bench.leaf.serial, 1).sign(&root.key));
    for crls in [&crls[..], &crls[1..]] {
        let verdict = bench.judge(RevocationMode::Prefer, crls, &[]);
        assert!(!verdict.valid);
        assert_eq!(verdict.errors[0].reason, Reason::WorkLimit);
    }
}

/// The same octets with one of them changed, or cut off there.
fn damaged(der: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let cut = (0..der.len()).map(|at| der[..at].to_vec());
    let changed = (0..der.len()).flat_map(|at| {
        [0x01, 0x20, 0x80].map(|bit| {
            let mut der = der.to_vec();
            der[at] ^= bit;
            der
        })
    });
    cut.chain(changed)
}

#[test]
fn every_octet_of_a_certificate_a_list_and_an_answer_counts() {
    let bench = Bench::new();
    let root = &bench.root;
    let anchors = [TrustAnchor { certificate: read(root), enforce: true }];
    for der in damaged(&bench.leaf.der) {
        let Ok(leaf) = Certificate::from_der(&der) else { continue };
        let verdict = validate(&leaf, &[], &anchors, &Evidence::default(), &Rules::at(NOW));
        assert!(!verdict.valid && !verdict.errors.is_empty(), "{der:02x?}");
    }
    let known = |crls: Vec<Vec<u8>>, ocsp: Vec<Vec<u8>>| {
        summary(&bench.judge(RevocationMode::Prefer, &crls, &ocsp).revocation[0])
    };
    for der in damaged(&List::of(root).revoking(&[9, 9], 1).sign(&root.key)) {
        assert_eq!(known(vec![der], vec![]), (Known::Unknown, Source::None));
    }
    for der in damaged(&Reply::by(root).says(root, &bench.leaf.serial, GOOD).sign()) {
        assert_eq!(known(vec![], vec![der]), (Known::Unknown, Source::None));
    }
}

#[test]
fn a_long_list_is_read_where_it_is() {
    let bench = Bench::new();
    let root = &bench.root;
    let serial = |n: u32| [&[1, 1, 1, 1], &n.to_be_bytes()[..]].concat();
    let long = |list: List| (0..50_000).fold(list, |list, n| list.revoking(&serial(n), 1));
    let list = long(List::of(root));
    assert_eq!(bench.by_crls(&[list.clone().sign(&root.key)]), Known::Good);
    assert_eq!(bench.by_crls(&[list.revoking(&bench.leaf.serial, 1).sign(&root.key)]), Known::Revoked);
}

#[test]
fn the_register_of_a_ca_is_heard_and_what_it_does_not_have_was_never_issued() {
    let bench = Bench::new();
    let (root, leaf) = (read(&bench.root), read(&bench.leaf));
    let says = |verdict| Evidence {
        register: vec![Registered {
            issuer_key_sha256: root.key_sha256(),
            serial: leaf.serial_octets().to_vec(),
            verdict,
        }],
        ..Evidence::default()
    };
    let revoked = Verdict::Revoked { at: NOW, reason: RevocationReason::Superseded };
    for (verdict, prefer, require) in
        [(Verdict::Good, true, true), (revoked, false, false), (Verdict::Unknown, false, false)]
    {
        for (mode, valid) in [(RevocationMode::Prefer, prefer), (RevocationMode::Require, require)] {
            let found = bench.judge_by(mode, &says(verdict));
            assert_eq!(found.valid, valid, "{verdict:?} {mode:?} {found:#?}");
            assert_eq!(found.revocation[0].source, Source::Register);
            assert_eq!(found.revocation[0].verdict, verdict);
        }
        assert!(bench.judge_by(RevocationMode::None, &says(verdict)).valid);
    }
    // Of another CA, or another number, it says nothing.
    let mut other = says(revoked);
    other.register[0].issuer_key_sha256[0] ^= 1;
    let mut number = says(revoked);
    number.register[0].serial.push(1);
    for evidence in [other, number] {
        let found = bench.judge_by(RevocationMode::Prefer, &evidence);
        assert!(found.valid && found.revocation[0].source == Source::None, "{found:#?}");
    }
    // A list that says otherwise is not outvoted.
    let listed = List::of(&bench.root).revoking(&bench.leaf.serial, 1).sign(&bench.root.key);
    let evidence = Evidence { crls: vec![listed], ..says(Verdict::Good) };
    assert!(!bench.judge_by(RevocationMode::Prefer, &evidence).valid);
}
