//! Verdicts beside those of OpenSSL, on the same chains and lists.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;
mod forge;

use common::Bench;
use forge::{
    DAY, Draft, Made, NOW, ca, constraints, dns,
    evidence::{INDIRECT, List, ONLY_CAS, ONLY_USERS, crl_point, delta_of, freshest, idp},
    inhibit_any, key_usage, mappings, policies, policy_constraints, purposes, signs, tlv,
};
use scaivault_pki::{
    Certificate, TrustAnchor, pem, validate,
    validate::{Evidence, PolicyRules, ReferenceName, RevocationMode, Rules},
};

/// Asks both about a leaf for `a.test`; asserts that both say `expected`.
struct Case {
    root: Made,
    bag: Vec<Made>,
    leaf: Made,
    crls: Vec<Vec<u8>>,
    /// Policies are demanded.
    explicit: bool,
}

impl Case {
    fn new(root: &Made, bag: &[&Made], leaf: &Made) -> Self {
        let bag = bag.iter().map(|made| (*made).clone()).collect();
        Self { root: root.clone(), bag, leaf: leaf.clone(), crls: vec![], explicit: false }
    }

    fn crls(mut self, crls: &[Vec<u8>]) -> Self {
        self.crls = crls.to_vec();
        self
    }

    fn explicit(mut self) -> Self {
        self.explicit = true;
        self
    }

    fn is(&self, what: &str, expected: bool) {
        let ours = self.ours();
        assert_eq!(ours.is_ok(), expected, "{what}: {ours:?}");
        let (theirs, said) = self.openssl();
        assert_eq!(theirs, expected, "{what}, as OpenSSL has it: {said}");
    }

    fn ours(&self) -> Result<(), String> {
        let read = |made: &Made| Certificate::from_der(&made.der).unwrap();
        let bag: Vec<_> = self.bag.iter().map(read).collect();
        let anchors = [TrustAnchor { certificate: read(&self.root), enforce: true }];
        let rules = Rules {
            names: vec![ReferenceName::dns("a.test").unwrap()],
            purposes: vec!["1.3.6.1.5.5.7.3.1".parse().unwrap()],
            policies: PolicyRules { require_explicit: self.explicit, ..PolicyRules::default() },
            revocation: if self.crls.is_empty() { RevocationMode::None } else { RevocationMode::Require },
            ..Rules::at(NOW)
        };
        let evidence = Evidence { crls: self.crls.clone(), ..Evidence::default() };
        let verdict = validate(&read(&self.leaf), &bag, &anchors, &evidence, &rules);
        if verdict.valid { Ok(()) } else { Err(format!("{:?}", verdict.errors)) }
    }

    fn openssl(&self) -> (bool, String) {
        let bench = Bench::new();
        let certificates = |all: &[Made]| -> String {
            all.iter().map(|made| pem::encode("CERTIFICATE", &made.der)).collect()
        };
        bench.write("root.pem", certificates(std::slice::from_ref(&self.root)));
        bench.write("bag.pem", certificates(&self.bag));
        bench.write("leaf.pem", certificates(std::slice::from_ref(&self.leaf)));
        let mut command = format!("verify -attime {} -CAfile root.pem", NOW.unix_timestamp());
        // It would look for the host in the certificate of a list's signer, too.
        if self.crls.is_empty() {
            command += " -purpose sslserver -verify_hostname a.test";
        }
        if !self.bag.is_empty() {
            command += " -untrusted bag.pem";
        }
        if !self.crls.is_empty() {
            let crls: String = self.crls.iter().map(|der| pem::encode("X509 CRL", der)).collect();
            bench.write("crls.pem", crls);
            command += " -crl_check -extended_crl -use_deltas -CRLfile crls.pem";
        }
        command += if self.explicit {
            " -policy_check -explicit_policy -policy 2.5.29.32.0"
        } else {
            " -policy_check"
        };
        bench.openssl(&format!("{command} leaf.pem"))
    }
}

#[test]
fn chains_are_judged_as_openssl_does() {
    let root = Made::root("root");
    let sub = root.ca("sub");
    let through = |draft: Draft| {
        let sub = draft.sign(&root.key);
        Case::new(&root, &[&sub], &sub.leaf())
    };
    let host = |text: &str| tlv(0x82, &[text.as_bytes()]);
    let plain = || root.ca_draft("sub");
    Case::new(&root, &[&sub], &sub.leaf()).is("a good chain", true);
    Case::new(&root, &[], &sub.leaf()).is("a chain with a gap", false);
    Case::new(&Made::root("root"), &[&sub], &sub.leaf()).is("another key of the root's name", false);
    through(root.draft("sub").with(signs())).is("no CA", false);
    through(root.draft("sub").with(ca(None)).with(key_usage(0b1000_0010))).is("no keyCertSign", false);
    through(Draft { not_after: NOW - DAY, ..plain() }).is("an intermediate of yesterday", false);
    through(plain().with(constraints(&[host("test")], &[]))).is("a permitted host", true);
    through(plain().with(constraints(&[host("b.test")], &[]))).is("a host that is not permitted", false);
    through(plain().with(constraints(&[], &[host("a.test")]))).is("an excluded host", false);
    through(plain().with(purposes(&["1.3.6.1.5.5.7.3.2"]))).is("a CA for clients", false);
    let flat = root.draft("sub").with(ca(Some(0))).with(signs()).sign(&root.key);
    let below = flat.ca("below");
    Case::new(&root, &[&flat, &below], &below.leaf()).is("one CA too many", false);
    let leaf = |draft: Draft| Case::new(&root, &[&sub], &draft.sign(&sub.key));
    leaf(sub.draft("leaf").with(dns(&["*.test"]))).is("a wildcard with one label behind it", false);
    leaf(sub.draft("leaf").with(dns(&["b.test", "A.test"]))).is("another case", true);
    leaf(Draft { not_before: NOW + DAY, ..sub.draft("leaf").with(dns(&["a.test"])) })
        .is("a leaf of tomorrow", false);
    leaf(Draft { version: 2, ..sub.draft("a.test").with(dns(&["b.test"])) })
        .is("a name in the subject alone", false);
}

#[test]
fn policies_are_judged_as_openssl_does() {
    const P: &str = "1.3.6.1.4.1.55555.1.1";
    const Q: &str = "1.3.6.1.4.1.55555.1.2";
    const ANY: &str = "2.5.29.32.0";
    let judged = |what: &str, one: &[Vec<u8>], two: &[Vec<u8>], leaf: &[Vec<u8>], expected: bool| {
        let root = Made::root("root");
        let with = |mut draft: Draft, extensions: &[Vec<u8>]| {
            draft.extensions.extend(extensions.iter().cloned());
            draft
        };
        let first = with(root.ca_draft("one"), one).sign(&root.key);
        let second = with(first.ca_draft("two"), two).sign(&first.key);
        let leaf = with(second.draft("leaf").with(dns(&["a.test"])), leaf).sign(&second.key);
        Case::new(&root, &[&first, &second], &leaf).explicit().is(what, expected);
    };
    let (p, q, any) = (|| policies(&[P]), || policies(&[Q]), || policies(&[ANY]));
    judged("one policy", &[p()], &[p()], &[p()], true);
    judged("no policy", &[p()], &[], &[p()], false);
    judged("another policy", &[p()], &[q()], &[p()], false);
    judged("any policy", &[any()], &[any()], &[q()], true);
    judged("any policy, inhibited", &[any(), inhibit_any(0)], &[any()], &[q()], false);
    judged("a mapping", &[p(), mappings(&[(P, Q)])], &[q()], &[q()], true);
    judged("a mapping, and the old name", &[p(), mappings(&[(P, Q)])], &[p()], &[p()], false);
    let inhibited = &[p(), policy_constraints(None, Some(0))];
    judged("a mapping, inhibited", inhibited, &[p(), mappings(&[(P, Q)])], &[q()], false);
    judged("a mapping to any", &[p(), mappings(&[(P, ANY)])], &[p()], &[p()], false);
}

#[test]
fn lists_are_judged_as_openssl_does() {
    let root = Made::root("root");
    let leaf = root.leaf();
    let serial = &leaf.serial;
    let list = || List::of(&root);
    let judged = |what: &str, crls: &[List], expected: bool| {
        let crls: Vec<_> = crls.iter().map(|list| list.clone().sign(&root.key)).collect();
        Case::new(&root, &[], &leaf).crls(&crls).is(what, expected);
    };
    judged("a list", &[list()], true);
    judged("a list with the leaf", &[list().revoking(serial, 1)], false);
    judged("a list of last week", &[List { next_update: Some(NOW - DAY / 2), ..list() }], false);
    judged("a list of tomorrow", &[List { this_update: NOW + DAY / 2, ..list() }], false);
    judged("a list of users", &[list().with(idp(None, ONLY_USERS))], true);
    judged("a list of CAs", &[list().with(idp(None, ONLY_CAS))], false);
    // OpenSSL looks for deltas of lists that name a place for them alone.
    let list = || List::of(&root).with(freshest("http://pki.test/delta"));
    let delta = || List::of(&root).number(11).with(delta_of(10));
    judged("a delta with the leaf", &[list(), delta().revoking(serial, 1)], false);
    judged("a delta without", &[list(), delta()], true);
    judged("a delta that takes it back", &[list().revoking(serial, 6), delta().revoking(serial, 8)], true);
    // A list of another issuer, whom the leaf names.
    let lister = root.ca("lister");
    let url = "http://pki.test/indirect";
    let leaf =
        root.draft("leaf").with(dns(&["a.test"])).with(crl_point(url, Some(&lister.name))).sign(&root.key);
    let indirect = || List::of(&lister).with(idp(Some(url), INDIRECT));
    let judged = |what: &str, list: List, expected: bool| {
        // The root's own list vouches for the lister, but not for the leaf.
        let own = List::of(&root).with(idp(None, ONLY_CAS));
        let crls = [list.sign(&lister.key), own.sign(&root.key)];
        Case::new(&root, &[&lister], &leaf).crls(&crls).is(what, expected);
    };
    judged("an indirect list with the leaf", indirect().revoking_of(&root.name, &leaf.serial), false);
    judged("an indirect list without", indirect(), true);
}
