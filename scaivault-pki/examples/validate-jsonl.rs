//! Judges certificate chains, one a line: a JSON object in, one out, in order and flushed.
//!
//! In: `i`; `leaf`, `inter[]`, `trust[]`, `crls[]` in Base64 of DER; `time` in Unix seconds (now, if null); `names[]` of
//! `{kind: DNS|IP|RFC822, value}`; purposes in `eku[]`, or else one `purpose` (`server`, `client`, `any`); `max_depth`;
//! `check_crl`; `policy` of `{initial[], explicit, inhibit_map, inhibit_any}`. Out: `i`, `result` (`accept` or `reject`),
//! and an `error` if rejected.
//!
//! Lists are required to say that a certificate is good if `check_crl` is set, and taken as far as they go if there are
//! some and it is not.

#![expect(clippy::disallowed_methods, reason = "a case without a time is about now")]

use std::io::{self, BufRead as _, Write as _};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use scaivault_pki::{
    Certificate, Oid, TrustAnchor, validate,
    validate::{Evidence, OcspEvidence, PolicyRules, ReferenceName, RevocationMode, Rules},
};
use serde_json::{Value, json};
use time::OffsetDateTime;

type Answer<T> = Result<T, String>;

fn main() -> io::Result<()> {
    let mut out = io::stdout().lock();
    for line in io::stdin().lock().lines() {
        let line = line?;
        if line.trim().is_empty() {
            continue;
        }
        let (case, verdict) = match serde_json::from_str::<Value>(&line) {
            Ok(case) => {
                let verdict = judge(&case);
                (case, verdict)
            }
            Err(error) => (Value::Null, Err(error.to_string())),
        };
        let answer = match verdict {
            Ok(()) => json!({ "i": case["i"], "result": "accept" }),
            Err(why) => json!({ "i": case["i"], "result": "reject", "error": why }),
        };
        writeln!(out, "{answer}")?;
        out.flush()?;
    }
    Ok(())
}

fn judge(case: &Value) -> Answer<()> {
    let leaf = Certificate::from_der(&der(&case["leaf"])?).map_err(text)?;
    // What cannot be read cannot be on a path either.
    let bag: Vec<_> =
        ders(&case["inter"])?.iter().filter_map(|der| Certificate::from_der(der).ok()).collect();
    let anchors: Vec<_> =
        ders(&case["trust"])?.iter().filter_map(|der| TrustAnchor::from_der(der).ok()).collect();
    let ocsp = ders(&case["ocsp"])?.into_iter().map(|der| OcspEvidence { der, nonce: None }).collect();
    let evidence = Evidence { crls: ders(&case["crls"])?, ocsp, ..Evidence::default() };
    let verdict = validate(&leaf, &bag, &anchors, &evidence, &rules(case, &evidence)?);
    if verdict.valid {
        return Ok(());
    }
    let errors: Vec<_> = verdict.errors.iter().map(ToString::to_string).collect();
    Err(errors.join("; "))
}

fn rules(case: &Value, evidence: &Evidence) -> Answer<Rules> {
    let now = match case["time"].as_i64() {
        Some(seconds) => OffsetDateTime::from_unix_timestamp(seconds).map_err(text)?,
        None => OffsetDateTime::now_utc(),
    };
    let mut rules = Rules::at(now);
    for name in list(&case["names"]) {
        let value = name["value"].as_str().unwrap_or_default();
        let name = match name["kind"].as_str() {
            Some("IP") => ReferenceName::ip(value),
            Some("RFC822") => ReferenceName::email(value),
            _ => ReferenceName::dns(value),
        };
        rules.names.push(name.map_err(text)?);
    }
    // Purposes that are spelled out stand for themselves.
    let named = list(&case["eku"]);
    let purposes = if named.is_empty() { std::slice::from_ref(&case["purpose"]) } else { named };
    for purpose in purposes.iter().filter_map(Value::as_str) {
        rules.purposes.extend(purpose_oid(purpose)?);
    }
    rules.max_intermediates = case["max_depth"].as_u64().and_then(|most| usize::try_from(most).ok());
    rules.policies = policies(&case["policy"])?;
    rules.revocation = match case["check_crl"].as_bool() {
        Some(true) => RevocationMode::Require,
        _ if evidence.crls.is_empty() && evidence.ocsp.is_empty() => RevocationMode::None,
        _ => RevocationMode::Prefer,
    };
    Ok(rules)
}

fn policies(policy: &Value) -> Answer<PolicyRules> {
    let flag = |name: &str| policy[name].as_bool().unwrap_or_default();
    let named = |oid: &&Value| !matches!(oid.as_str(), Some("any" | "anyPolicy"));
    let initial = match &policy["initial"] {
        one @ Value::String(_) => std::slice::from_ref(one),
        several => list(several),
    };
    let acceptable =
        initial.iter().filter(named).map(|oid| oid.as_str().unwrap_or_default().parse().map_err(text));
    Ok(PolicyRules {
        acceptable: acceptable.collect::<Answer<_>>()?,
        require_explicit: flag("explicit"),
        inhibit_mapping: flag("inhibit_map"),
        inhibit_any: flag("inhibit_any"),
    })
}

fn purpose_oid(name: &str) -> Answer<Option<Oid>> {
    let oid = match name {
        "any" | "anyExtendedKeyUsage" | "" => return Ok(None),
        "server" | "serverAuth" => "1.3.6.1.5.5.7.3.1",
        "client" | "clientAuth" => "1.3.6.1.5.5.7.3.2",
        "codeSigning" => "1.3.6.1.5.5.7.3.3",
        "emailProtection" => "1.3.6.1.5.5.7.3.4",
        "timeStamping" => "1.3.6.1.5.5.7.3.8",
        "OCSPSigning" => "1.3.6.1.5.5.7.3.9",
        other => other,
    };
    oid.parse().map(Some).map_err(text)
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn der(value: &Value) -> Answer<Vec<u8>> {
    let text = value.as_str().ok_or("a certificate is missing")?;
    BASE64_STANDARD.decode(text).map_err(|error| error.to_string())
}

fn ders(value: &Value) -> Answer<Vec<Vec<u8>>> {
    list(value).iter().map(der).collect()
}

fn text(error: impl ToString) -> String {
    error.to_string()
}
