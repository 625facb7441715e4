//! CAs with name constraints, CAs that are signed outside, and CAs that were made elsewhere. OpenSSL is the others.

use scaivault_core::{
    Code,
    pki::{
        Ca, CaCreate, CaCrossSign, CaImport, CaInstall, CaState, CaType, KeyType, NameConstraints,
        NameSubtrees, RevocationReason, RolePatch, RoleQuestion,
    },
};

use crate::{
    bench::{Bench, DAY, OTHER, code, contract, refusal},
    pki::{
        Files, below, crl_text, import, issue, rekey, revocation, revoke, role, role_write, root, root_write,
        wanted,
    },
};

/// What OpenSSL is told: a CA in a folder, and what it writes into certificates.
const CONFIG: &str = "\
[ca]
default_ca=outside
[outside]
database=index.txt
new_certs_dir=.
serial=serial
default_md=sha256
policy=any
unique_subject=no
[any]
commonName=optional
organizationName=optional
[req]
distinguished_name=none
[none]
[root]
basicConstraints=critical,CA:true
keyUsage=critical,keyCertSign,cRLSign
subjectKeyIdentifier=hash
[mid]
basicConstraints=critical,CA:true,pathlen:0
keyUsage=critical,keyCertSign,cRLSign
nameConstraints=critical,permitted;DNS:svc.test
subjectKeyIdentifier=hash
authorityKeyIdentifier=keyid
[leaf]
basicConstraints=critical,CA:false
keyUsage=digitalSignature
";

/// A root of OpenSSL's: `outside.key` and `outside.pem`.
pub(crate) struct Outside {
    pub(crate) files: Files,
    life: String,
}

impl Outside {
    pub(crate) fn new(t: &Bench) -> Self {
        let day = |at: time::OffsetDateTime| {
            format!("{}{:02}{:02}000000Z", at.year(), u8::from(at.month()), at.day())
        };
        let life = format!("-startdate {} -enddate {}", day(t.now() - DAY), day(t.now() + DAY * 100));
        let files = Files::new();
        files.add("outside.cnf", CONFIG);
        files.add("index.txt", "");
        files.add("serial", "1000\n");
        let new = Self { files, life };
        new.files.agrees("ecparam -name prime256v1 -genkey -noout -out outside.key");
        new.request("outside.key", "/CN=Outside");
        let life = &new.life;
        new.files.agrees(&format!(
            "ca -config outside.cnf -batch -notext -selfsign -keyfile outside.key -in request.pem -out outside.pem \
             -extensions root {life}"
        ));
        new
    }

    pub(crate) fn text(&self, name: &str) -> String {
        String::from_utf8(self.files.read(name)).unwrap()
    }

    pub(crate) fn request(&self, key: &str, subject: &str) {
        let ask = format!("req -new -config outside.cnf -key {key} -subj {subject} -out request.pem");
        self.files.agrees(&ask);
    }

    /// Signs a request with those extensions.
    pub(crate) fn sign(&self, request: &str, extensions: &str) -> String {
        self.sign_with(request, &format!("-extensions {extensions}"))
    }

    /// Signs a request as OpenSSL is told.
    pub(crate) fn sign_with(&self, request: &str, told: &str) -> String {
        self.files.add("request.pem", request);
        let life = &self.life;
        self.files.agrees(&format!(
            "ca -config outside.cnf -batch -notext -cert outside.pem -keyfile outside.key -in request.pem \
             -out signed.pem {told} {life}"
        ));
        self.text("signed.pem")
    }

    /// A self-signed CA of that key, which is in the file.
    pub(crate) fn own(&self, key: &str, name: &str) -> String {
        self.request(key, &format!("/CN={name}"));
        let life = &self.life;
        self.files.agrees(&format!(
            "ca -config outside.cnf -batch -notext -selfsign -keyfile {key} -in request.pem -out own.pem \
             -extensions root {life}"
        ));
        self.text("own.pem")
    }
}

pub(crate) fn external(name: &str) -> CaCreate {
    CaCreate { ca_type: CaType::Intermediate, external: true, ..root_write(name) }
}

/// A leaf of the role `web` under `ca` verifies up to `anchor`, and no more after it was revoked.
async fn issues_and_revokes(t: &Bench, ca: &Ca, anchor: &str) {
    let admin = t.admin();
    role(&t.vault, &admin, "web", &ca.id).await;
    let leaf = issue(t, "a.svc.test").await;
    let files = Files::new();
    files.add("anchor.pem", anchor);
    files.add("leaf.pem", &leaf.certificate);
    files.add("chain.pem", leaf.ca_chain.concat());
    let verify = |at: time::OffsetDateTime| {
        let at = at.unix_timestamp();
        format!(
            "verify -x509_strict -crl_check -CRLfile list.pem -CAfile anchor.pem -untrusted chain.pem -attime {at} leaf.pem"
        )
    };
    files.add("list.pem", t.vault.public_pki().crl(&ca.id).await.unwrap().pem());
    files.agrees(&verify(t.now()));
    revoke(t, &leaf.serial_number, RevocationReason::Superseded).await;
    files.add("list.pem", t.vault.pki(&t.admin()).build_crl(&ca.id).await.unwrap().crl_pem);
    let (agreed, said) = files.openssl(&verify(t.now()));
    assert!(!agreed && said.contains("certificate revoked"), "{said}");
}

fn dns(permitted: &str) -> Option<NameConstraints> {
    let permitted = NameSubtrees { dns: vec![permitted.to_owned()], ..NameSubtrees::default() };
    Some(NameConstraints { permitted, excluded: NameSubtrees::default() })
}

contract! {
    async fn sec_e4_no_leaf_leaves_the_name_constraints_of_its_chain(t: Bench) {
        let admin = t.admin();
        let pki = t.vault.pki(&admin);
        let policies = vec!["2.23.140.1.2.1".to_owned()];
        let top = CaCreate { name_constraints: dns("svc.test"), policies: policies.clone(), ..root_write("Top") };
        let top = pki.create_ca(top).await.unwrap();
        assert_eq!((&top.name_constraints, &top.policies), (&dns("svc.test"), &policies));
        assert_eq!(pki.ca(&top.id).await.unwrap(), top);
        for bad in ["test", "other.test"] {
            let write = CaCreate { name_constraints: dns(bad), ..below(&top, "Mid") };
            let error = refusal(pki.create_ca(write).await);
            assert_eq!(error.code(), Code::ValidationError);
            let fields: Vec<_> = error.details().fields.keys().map(String::as_str).collect();
            assert_eq!(fields, ["name_constraints.permitted.dns[0]"], "{bad}");
        }
        // A CA without constraints of its own is held to those above it.
        let mid = pki.create_ca(below(&top, "Mid")).await.unwrap();
        assert_eq!(mid.name_constraints, None);
        let domains = Some(vec!["*.svc.test".to_owned(), "*.other.test".to_owned()]);
        pki.create_role(role_write("web", &mid.id)).await.unwrap();
        pki.patch_role("web", RolePatch { allowed_domains: domains, ..RolePatch::default() }).await.unwrap();
        let error = refusal(pki.issue("web", wanted("a.other.test")).await);
        let said = format!("{:?}", error.details().fields);
        assert!(said.contains("common_name") && said.contains("name_constraints"), "{said}");
        let dry = pki.test_role("web", RoleQuestion::Issue(wanted("a.other.test"))).await.unwrap();
        assert_eq!(dry.violations.iter().map(|v| v.rule).collect::<Vec<_>>(), ["name_constraints"]);
        assert!(!dry.allowed);
        assert!(pki.issue("web", wanted("a.svc.test")).await.is_ok());
    }

    async fn a_ca_that_is_signed_outside_waits_and_then_issues(t: Bench) {
        let outside = Outside::new(&t);
        let admin = t.admin();
        let pki = t.vault.pki(&admin);
        for (bad, field) in [
            (CaCreate { ca_type: CaType::Root, ..external("Mid") }, "external"),
            (CaCreate { parent_ca_id: Some("ca_x".to_owned()), ..external("Mid") }, "parent_ca_id"),
            (CaCreate { validity_days: Some(3), ..external("Mid") }, "validity_days"),
            (CaCreate { name_constraints: dns("svc.test"), ..external("Mid") }, "name_constraints"),
        ] {
            let error = refusal(pki.create_ca(bad).await);
            assert!(error.details().fields.contains_key(field), "{field}: {error:?}");
        }
        let ca = pki.create_ca(external("Mid")).await.unwrap();
        assert_eq!((ca.state, ca.is_active, ca.serial_number.as_str()), (CaState::Pending, false, ""));
        assert_eq!(pki.ca(&ca.id).await.unwrap(), ca);
        assert_eq!(pki.cas(None, None).await.unwrap().items, std::slice::from_ref(&ca));
        // It does nothing yet.
        assert_eq!(code(pki.create_role(role_write("web", &ca.id)).await), Code::InvalidState);
        assert_eq!(code(pki.create_ca(below(&ca, "Low")).await), Code::InvalidState);
        assert_eq!(code(pki.ca_certificate(&ca.id).await), Code::InvalidState);
        assert_eq!(code(pki.build_crl(&ca.id).await), Code::InvalidState);
        assert_eq!(code(pki.revoke_ca(&ca.id, RevocationReason::Superseded).await), Code::InvalidState);
        assert_eq!(code(t.vault.public_pki().crl(&ca.id).await), Code::CaNotFound);
        t.vault.run_due_jobs().await.unwrap();

        let request = pki.ca_csr(&ca.id).await.unwrap().csr_pem.unwrap();
        let put = |certificate: &str, chain: &[&str]| CaInstall {
            certificate_pem: certificate.to_owned(),
            chain_pem: chain.iter().map(|&text| text.to_owned()).collect(),
        };
        let anchor = outside.text("outside.pem");
        let leaf = outside.sign(&request, "leaf");
        let good = outside.sign(&request, "mid");
        for (write, field) in [
            (put(&leaf, &[&anchor]), "certificate_pem"),
            (put(&anchor, &[]), "certificate_pem"),
            (put("x", &[]), "certificate_pem"),
            (put(&(good.clone() + &anchor), &[]), "certificate_pem"),
            (put(&good, &["x"]), "chain_pem[0]"),
            (put(&good, &[&good]), "chain_pem"),
        ] {
            let error = refusal(pki.install_ca(&ca.id, write).await);
            assert_eq!(error.code(), Code::ValidationError);
            assert!(error.details().fields.contains_key(field), "{field}: {error:?}");
        }
        let other = t.admin_of(OTHER);
        assert_eq!(code(t.vault.pki(&other).install_ca(&ca.id, put(&good, &[])).await), Code::CaNotFound);
        assert_eq!(code(t.vault.pki(&other).ca_csr(&ca.id).await), Code::CaNotFound);
        assert_eq!(pki.ca(&ca.id).await.unwrap().state, CaState::Pending);

        let ca = pki.install_ca(&ca.id, put(&good, &[&anchor])).await.unwrap();
        assert_eq!((ca.state, ca.is_active, ca.max_path_length), (CaState::Active, true, Some(0)));
        assert_eq!((ca.serial_number.as_str(), ca.name_constraints.clone()), ("10:02", dns("svc.test")));
        assert_eq!(code(pki.install_ca(&ca.id, put(&good, &[&anchor])).await), Code::InvalidState);
        let chain = pki.ca_certificate(&ca.id).await.unwrap();
        assert_eq!((chain.certificate_pem, chain.chain_pem), (good, anchor.clone()));
        // Its path length and its end bound what it issues.
        let error = refusal(pki.create_ca(below(&ca, "Low")).await);
        assert!(error.details().fields.contains_key("parent_ca_id"), "{error:?}");
        issues_and_revokes(&t, &ca, &anchor).await;
        t.clock.advance(DAY * 101);
        let late = refusal(t.vault.pki(&t.admin()).issue("web", wanted("b.svc.test")).await);
        assert!(late.details().fields.contains_key("ttl"), "{late:?}");
    }

    async fn a_ca_that_was_made_elsewhere_goes_on_here(t: Bench) {
        let outside = Outside::new(&t);
        let admin = t.admin();
        let pki = t.vault.pki(&admin);
        let files = &outside.files;
        files.agrees("ecparam -name secp384r1 -genkey -noout -out ec.key");
        files.agrees("genrsa -traditional -out rsa.key 2048");
        files.agrees("pkcs8 -topk8 -in ec.key -passout pass:x -out locked.key");
        files.agrees("pkcs8 -topk8 -nocrypt -in ec.key -out ec8.key");
        let own = outside.own("ec.key", "Elsewhere");
        let key = outside.text("ec.key");
        let error = |result| refusal(result).details().fields.keys().cloned().collect::<Vec<_>>();
        let stranger = outside.text("outside.key");
        let chained = CaImport { chain_pem: vec![own.clone()], ..import("Moved", &own, &key) };
        let keyless = CaImport { private_key_pem: None, ..import("Moved", &own, &key) };
        let both = CaImport { key_provider: Some("local".to_owned()), ..import("Moved", &own, &key) };
        let huge = CaImport { crl_number: u64::MAX, ..import("Moved", &own, &key) };
        for (bad, field) in [
            (import("Moved", &own, &stranger), "private_key_pem"),
            (import("Moved", &own, &outside.text("rsa.key")), "private_key_pem"),
            (import("Moved", &own, &outside.text("locked.key")), "private_key_pem"),
            (import("Moved", &own, "x"), "private_key_pem"),
            (import("Moved", "x", &key), "certificate_pem"),
            (import("*", &own, &key), "name"),
            (chained, "chain_pem"),
            (keyless, "private_key_pem"),
            (both, "private_key_pem"),
            (huge, "crl_number"),
        ] {
            assert_eq!(error(pki.import_ca(bad).await), [field]);
        }
        assert_eq!(t.raw.count("pki_ca").await, 0);

        let ca = CaImport { crl_number: 41, ..import("Moved", &own, &key) };
        let ca = pki.import_ca(ca).await.unwrap();
        assert_eq!((ca.ca_type, ca.state, ca.key_type, ca.key_size), (CaType::Root, CaState::Active, KeyType::Ec, Some(384)));
        assert_eq!((ca.common_name.as_str(), ca.name.as_str()), ("Elsewhere", "Moved"));
        assert!(crl_text(&t, &ca).await.contains("X509v3 CRL Number: \n                42"));
        issues_and_revokes(&t, &ca, &own).await;
        // Once is enough, also in another form.
        assert_eq!(error(pki.import_ca(import("Twice", &own, &outside.text("ec8.key"))).await), ["certificate_pem"]);
        // A CA below another, with RSA: its chain comes with it.
        outside.request("rsa.key", "/CN=Below");
        let below = outside.sign(&outside.text("request.pem"), "mid");
        let anchor = outside.text("outside.pem");
        let mid = CaImport { chain_pem: vec![anchor.clone()], ..import("Below", &below, &outside.text("rsa.key")) };
        let mid = pki.import_ca(mid).await.unwrap();
        assert_eq!((mid.ca_type, mid.key_type, mid.max_path_length), (CaType::Intermediate, KeyType::Rsa, Some(0)));
        assert_eq!(pki.ca_certificate(&mid.id).await.unwrap().chain_pem, anchor);

        // The key is nowhere in the clear, neither as text nor as octets.
        let dump = t.raw.dump_all().await;
        let body: String = key.lines().filter(|line| !line.starts_with('-')).collect();
        assert!(!dump.contains(&body[..40]) && !dump.contains("PRIVATE KEY"));
    }

    async fn sec_f_a_key_that_was_compromised_comes_back_as_no_ca(t: Bench) {
        let outside = Outside::new(&t);
        outside.files.agrees("ecparam -name prime256v1 -genkey -noout -out ec.key");
        let own = outside.own("ec.key", "Lost");
        let admin = t.admin();
        let pki = t.vault.pki(&admin);
        let top = root(&t.vault, &admin, "Top").await;
        role(&t.vault, &admin, "web", &top.id).await;
        outside.request("ec.key", "/CN=a.svc.test");
        let csr = outside.text("request.pem");
        let sign = || scaivault_core::pki::SignWrite { csr_pem: csr.clone(), ..Default::default() };
        let leaf = pki.sign("web", sign()).await.unwrap();
        pki.revoke(revocation(&leaf.serial_number)).await.unwrap();
        let error = refusal(pki.import_ca(import("Lost", &own, &outside.text("ec.key"))).await);
        assert!(error.details().fields.contains_key("certificate_pem"), "{error:?}");
        let error = refusal(pki.sign("web", sign()).await);
        assert!(error.details().fields.contains_key("csr_pem"), "{error:?}");
        let cross = CaCrossSign { csr_pem: Some(csr.clone()), ..CaCrossSign::default() };
        let error = refusal(pki.cross_sign(&top.id, cross).await);
        assert!(error.details().fields.contains_key("csr_pem"), "{error:?}");
        assert_eq!(t.raw.count("pki_ca").await, 1);
    }

    async fn another_ca_is_certified_and_its_leaves_verify_both_ways(t: Bench) {
        let admin = t.admin();
        let pki = t.vault.pki(&admin);
        let old = root(&t.vault, &admin, "Old").await;
        let new = CaCreate { name_constraints: dns("svc.test"), ..root_write("New") };
        let new = pki.create_ca(new).await.unwrap();
        role(&t.vault, &admin, "web", &new.id).await;
        let leaf = issue(&t, "a.svc.test").await;
        let by_id = |id: &str| CaCrossSign { ca_id: Some(id.to_owned()), ..CaCrossSign::default() };
        let cross = pki.cross_sign(&old.id, by_id(&new.id)).await.unwrap();
        let seen = pki.ca_certificate(&new.id).await.unwrap();
        assert_eq!(seen.cross_certificates, std::slice::from_ref(&cross));
        assert!(pki.ca_certificate(&old.id).await.unwrap().cross_certificates.is_empty());
        let files = Files::new();
        files.add("leaf.pem", &leaf.certificate);
        files.add("cross.pem", &cross.certificate_pem);
        files.add("new.pem", &seen.certificate_pem);
        files.add("old.pem", &cross.chain_pem);
        let at = t.now().unix_timestamp();
        files.agrees(&format!("verify -x509_strict -CAfile old.pem -untrusted cross.pem -attime {at} leaf.pem"));
        files.agrees(&format!("verify -x509_strict -CAfile new.pem -attime {at} leaf.pem"));
        let text = files.agrees("x509 -in cross.pem -noout -text");
        assert!(text.contains("Name Constraints: critical") && text.contains("DNS:svc.test"), "{text}");
        // It is in the inventory of who signed it, and revoked there.
        let listed = pki.certificate(&cross.id).await.unwrap();
        assert_eq!((listed.ca_id.as_str(), listed.source.as_str()), (old.id.as_str(), "cross"));
        revoke(&t, &listed.serial_number, RevocationReason::CessationOfOperation).await;
        assert!(pki.ca_certificate(&new.id).await.unwrap().cross_certificates.is_empty());
        pki.build_crl(&old.id).await.unwrap();
        assert!(crl_text(&t, &old).await.contains(&listed.serial_number.replace(':', "")));
        assert!(pki.issue("web", wanted("b.svc.test")).await.is_ok(), "the CA itself goes on");
        // A request of somebody outside; what means nothing.
        let outside = Outside::new(&t);
        outside.request("outside.key", "/CN=Outside");
        let csr = CaCrossSign { csr_pem: Some(outside.text("request.pem")), ..CaCrossSign::default() };
        let both = CaCrossSign { ca_id: Some(new.id.clone()), ..csr.clone() };
        let foreign = pki.cross_sign(&old.id, csr).await.unwrap();
        files.add("foreign.pem", &foreign.certificate_pem);
        assert!(files.agrees("x509 -in foreign.pem -noout -subject").contains("CN = Outside"));
        for bad in [CaCrossSign::default(), both, by_id(&old.id)] {
            assert_eq!(code(pki.cross_sign(&old.id, bad).await), Code::ValidationError);
        }
        let itself = refusal(pki.cross_sign(&old.id, by_id(&old.id)).await);
        assert!(itself.details().fields.keys().eq(["ca_id"]), "{itself:?}");
        let wide = CaCrossSign { name_constraints: dns("other.test"), ..by_id(&old.id) };
        assert_eq!(code(pki.cross_sign(&new.id, wide).await), Code::ValidationError);
        assert_eq!(code(pki.cross_sign(&old.id, by_id("ca_x")).await), Code::CaNotFound);
        assert_eq!(code(pki.cross_sign("ca_x", by_id(&new.id)).await), Code::CaNotFound);
        assert_eq!(code(t.vault.pki(&t.admin_of(OTHER)).cross_sign(&old.id, by_id(&new.id)).await), Code::CaNotFound);
    }

    async fn a_new_key_takes_over_when_it_is_told_to(t: Bench) {
        let admin = t.admin();
        let pki = t.vault.pki(&admin);
        let top = root(&t.vault, &admin, "Top").await;
        let limited = CaCreate { name_constraints: dns("svc.test"), ..below(&top, "Mid") };
        let old = pki.create_ca(limited).await.unwrap();
        role(&t.vault, &admin, "web", &old.id).await;
        let before = issue(&t, "a.svc.test").await;
        assert_eq!(code(pki.rekey_ca(&old.id, rekey("MID")).await), Code::NameConflict);
        let new = pki.rekey_ca(&old.id, rekey("Mid 2")).await.unwrap();
        assert_eq!((new.generation, new.replaces.as_deref()), (2, Some(old.id.as_str())));
        assert_eq!((old.generation, old.replaces.as_deref()), (1, None));
        assert_eq!((&new.parent_ca_id, &new.common_name, &new.name_constraints), (&old.parent_ca_id, &old.common_name, &old.name_constraints));
        // Both are alive, and roles stay where they are until they are told.
        let issuer_of = async |name: &str| {
            let leaf = issue(&t, name).await;
            t.vault.pki(&t.admin()).certificate(&leaf.id).await.unwrap().ca_id
        };
        assert_eq!(issuer_of("b.svc.test").await, old.id);
        let switched = pki.make_default(&new.id).await.unwrap();
        assert_eq!(switched.id, new.id);
        assert_eq!(pki.role("web").await.unwrap().config.ca_id, new.id);
        assert_eq!(issuer_of("c.svc.test").await, new.id);
        revoke(&t, &before.serial_number, RevocationReason::Superseded).await;
        pki.build_crl(&old.id).await.unwrap();
        assert!(crl_text(&t, &old).await.contains(&before.serial_number.replace(':', "")));
        assert!(!crl_text(&t, &new).await.contains(&before.serial_number.replace(':', "")));
        // A third key counts on, and the second can be gone back to.
        let third = pki.rekey_ca(&new.id, rekey("Mid 3")).await.unwrap();
        assert_eq!((third.generation, third.replaces.as_deref()), (3, Some(new.id.as_str())));
        pki.make_default(&third.id).await.unwrap();
        pki.make_default(&new.id).await.unwrap();
        assert_eq!(pki.role("web").await.unwrap().config.ca_id, new.id);
        // A root, too; the old one certifies the new key under their one name.
        let second = pki.rekey_ca(&top.id, rekey("Top 2")).await.unwrap();
        role(&t.vault, &admin, "top", &second.id).await;
        let leaf = pki.issue("top", wanted("d.svc.test")).await.unwrap();
        let link = CaCrossSign { ca_id: Some(second.id.clone()), ..CaCrossSign::default() };
        let link = pki.cross_sign(&top.id, link).await.unwrap();
        let files = Files::new();
        files.add("leaf.pem", &leaf.certificate);
        files.add("link.pem", &link.certificate_pem);
        files.add("top.pem", &link.chain_pem);
        let at = t.now().unix_timestamp();
        files.agrees(&format!("verify -x509_strict -CAfile top.pem -untrusted link.pem -attime {at} leaf.pem"));
        // What waits for a certificate takes nothing over.
        let waiting = pki.create_ca(external("Waiting")).await.unwrap();
        assert_eq!(code(pki.make_default(&waiting.id).await), Code::InvalidState);
        assert_eq!(code(pki.rekey_ca(&waiting.id, rekey("x")).await), Code::InvalidState);
        assert_eq!(code(pki.make_default("ca_x").await), Code::CaNotFound);
        let other = t.admin_of(OTHER);
        assert_eq!(code(t.vault.pki(&other).make_default(&new.id).await), Code::CaNotFound);
        assert_eq!(code(t.vault.pki(&other).rekey_ca(&new.id, rekey("x")).await), Code::CaNotFound);
    }
}
