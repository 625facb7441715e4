use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::*;

#[derive(Debug, Deserialize)]
struct Policy {
    name: String,
    #[serde(default)]
    scope: Scope,
    rules: Vec<Rule>,
    #[serde(default)]
    data: Option<Box<RawValue>>,
    #[serde(default)]
    labels: BTreeMap<String, serde_json::Value>,
    #[serde(default)]
    limit: Option<u8>,
}

#[derive(Debug, Deserialize)]
struct Rule {
    path_pattern: String,
    #[serde(default)]
    kind: Option<Kind>,
}

#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
enum Scope {
    #[default]
    Tenant,
    Partner,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Plain,
    Until { year: u16 },
}

#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Tagged {
    One { value: u8 },
}

fn policy(body: &str) -> Result<Policy> {
    decode(body.as_bytes())
}

fn refusal(body: &str) -> (Code, String, BTreeMap<String, Vec<String>>) {
    let error = policy(body).unwrap_err();
    (error.code(), error.message().to_owned(), error.details().fields.clone())
}

#[test]
fn a_typed_body_is_read_with_escapes_numbers_and_raw_text() {
    let read = policy(
        r#" {"name":"a\"\u00e9","scope":"partner","rules":[{"path_pattern":"app/**","kind":{"until":{"year":2030}}},
            {"path_pattern":"b","kind":"plain"}],
            "data":{"n": 12345678901234567890123, "s":"x"},"labels":{"k":[1,-2,1.5,null,true]},"limit":7} "#,
    )
    .unwrap();
    assert_eq!((read.name.as_str(), read.scope, read.limit), ("a\"é", Scope::Partner, Some(7)));
    assert_eq!(read.rules[0].kind, Some(Kind::Until { year: 2030 }));
    assert_eq!(read.rules[1].kind, Some(Kind::Plain));
    assert_eq!(read.rules[1].path_pattern, "b");
    assert_eq!(read.data.unwrap().get(), r#"{"n": 12345678901234567890123, "s":"x"}"#);
    assert_eq!(read.labels["k"], serde_json::json!([1, -2, 1.5, null, true]));
    let Tagged::One { value } = decode(br#"{"type":"one","value":3}"#).unwrap();
    assert_eq!(value, 3);
}

#[test]
fn what_is_not_strict_json_is_an_invalid_request() {
    for body in [
        "",
        "  ",
        "{",
        "{}x",
        "{'a':1}",
        "[1,2",
        "nul",
        "{\"a\":01}",
        "{\"a\":1,}",
        "\u{feff}{}",
        "{\"a\":\"\t\"}",
        "[]",
        "\"text\"",
        "7",
        "null",
        "{\"a\":1e999}",
        "{\"a\":\"\\ud800\"}",
        "{} {}",
        "// c\n{}",
    ] {
        assert_eq!(refusal(body).0, Code::InvalidRequest, "{body:?}");
    }
    assert_eq!(decode::<Policy>(b"{\"name\":\"\xff\"}").unwrap_err().code(), Code::InvalidRequest);
}

#[test]
fn sec_j1_duplicate_names_are_refused_at_any_depth_typed_or_not() {
    for body in [
        r#"{"name":"a","name":"b","rules":[]}"#,
        r#"{"name":"a","rules":[{"path_pattern":"a","path_pattern":"b"}]}"#,
        r#"{"name":"a","rules":[],"data":{"deep":[{"k":1,"k":2}]}}"#,
        r#"{"name":"a","rules":[],"labels":{"k":1,"k":1}}"#,
        r#"{"name":"a","rules":[],"labels":{"k":1,"\u006b":1}}"#,
    ] {
        let (code, message, _) = refusal(body);
        assert_eq!(code, Code::InvalidRequest, "{body}");
        assert!(message.contains("twice"), "{message}");
    }
}

#[test]
fn sec_j1_depth_is_bounded_and_a_bomb_costs_nothing() {
    let nested = |open: &str, close: &str, n: usize| {
        format!(r#"{{"name":"a","rules":[],"labels":{{"k":{}1{}}}}}"#, open.repeat(n), close.repeat(n))
    };
    assert!(policy(&nested("[", "]", 30)).is_ok());
    for body in [
        nested("[", "]", 31),
        nested("{\"a\":", "}", 31),
        nested("[", "]", 100_000),
        "[".repeat(100_000),
        "{\"a\":".repeat(100_000),
    ] {
        let (code, message, _) = refusal(&body);
        assert_eq!(code, Code::InvalidRequest);
        assert!(message.contains("32 levels"), "{message}");
    }
}

#[test]
fn unknown_and_missing_members_are_named_all_of_the_unknown_at_once() {
    let (code, _, fields) = refusal(r#"{"name":"a","rules":[],"x":1,"y":2}"#);
    assert_eq!(code, Code::ValidationError);
    assert_eq!(fields.keys().collect::<Vec<_>>(), ["x", "y"]);
    let (_, message, fields) = refusal(r#"{"name":"a","rules":[{"path_pattern":"p"},{}]}"#);
    assert_eq!(fields["rules[1].path_pattern"], ["is required"]);
    assert_eq!(message, "rules[1].path_pattern: is required");
    let (_, _, fields) = refusal(r#"{"name":"a","rules":[{"path_pattern":"p","extra":1}]}"#);
    assert_eq!(fields["rules[0].extra"], ["is not a known field"]);
    let (_, _, fields) =
        refusal(r#"{"name":"a","rules":[{"path_pattern":"p","kind":{"until":{"month":1}}}]}"#);
    assert!(fields.contains_key("rules[0].kind.month"), "{fields:?}");
}

#[test]
fn an_array_never_stands_in_for_a_struct() {
    let (code, _, fields) = refusal(r#"{"name":"a","rules":[["app/**"]]}"#);
    assert_eq!((code, fields["rules[0]"][0].as_str()), (Code::ValidationError, "must be an object"));
}

#[test]
fn a_wrong_value_is_never_repeated() {
    const CANARY: &str = "hunter2, expected a canary";
    for (body, field) in [
        (r#"{"name":"a","rules":"CANARY"}"#, "rules"),
        (r#"{"name":{"CANARY2":"CANARY"},"rules":[]}"#, "name"),
        (r#"{"name":"a","rules":[],"limit":"CANARY"}"#, "limit"),
        (r#"{"name":"a","rules":[],"scope":"CANARY"}"#, "scope"),
        (r#"{"name":"a","rules":[],"scope":{"CANARY":1}}"#, "scope"),
        (r#"{"name":"a","rules":["CANARY"]}"#, "rules[0]"),
        (r#"{"name":"a","rules":[{"path_pattern":["CANARY"]}]}"#, "rules[0].path_pattern"),
        (r#"{"name":"a","rules":[{"path_pattern":"p","kind":"CANARY"}]}"#, "rules[0].kind"),
        (r#"{"name":"a","rules":[],"labels":["CANARY"]}"#, "labels"),
        (r#"{"name":"a","rules":[],"limit":90210}"#, "limit"),
    ] {
        let body = body.replace("CANARY", CANARY);
        let error = policy(&body).unwrap_err();
        assert_eq!(error.code(), Code::ValidationError, "{body}");
        assert_eq!(error.details().fields.keys().collect::<Vec<_>>(), [field], "{body}");
        let shown = format!("{error:?} {error} {}", serde_json::to_string(error.details()).unwrap());
        assert!(!shown.contains("hunter2") && !shown.contains("90210"), "{shown}");
    }
    let (_, message, _) = refusal("{\"name\":\"hunter2");
    assert!(!message.contains("hunter2"), "{message}");
}

#[test]
fn a_name_that_is_shown_is_short_and_printable() {
    let (_, message, fields) =
        refusal(&format!(r#"{{"name":"a","rules":[],"{}":1}}"#, "\\u001b[31m".repeat(40)));
    let name = fields.keys().next().unwrap();
    assert!(name.chars().count() <= 65 && !name.contains('\u{1b}'), "{name:?}");
    assert!(!message.contains('\u{1b}'));
}

#[test]
fn media_types_are_json_or_absent_and_never_compressed() {
    let check = |pairs: &[(&'static str, &str)]| {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        check_media_type(&headers).map_err(|error| error.code())
    };
    let json = ("content-type", "application/json");
    for good in [
        &[][..],
        &[json],
        &[("content-type", "Application/JSON; charset=utf-8")],
        &[json, ("content-encoding", "identity")],
    ] {
        assert_eq!(check(good), Ok(()), "{good:?}");
    }
    for bad in [
        &[("content-type", "text/plain")][..],
        &[("content-type", "")],
        &[("content-type", "application/jsonx")],
        &[json, json],
        &[json, ("content-encoding", "gzip")],
        &[("content-encoding", "gzip")],
    ] {
        assert_eq!(check(bad), Err(Code::UnsupportedMediaType), "{bad:?}");
    }
}
