//! Holds what the server says of itself against what it does: every answer that a test gets.

use std::sync::LazyLock;

use http::Method;
use jsonschema::Validator;
use scaivault_server::{app::Service, http::router::Router, openapi, routes};
use serde_json::{Value, json};

use crate::support::{Answer, Api};

static TABLE: LazyLock<Router<Service>> = LazyLock::new(|| routes::router().unwrap());
static DOCUMENT: LazyLock<Value> = LazyLock::new(|| openapi::document(&TABLE).unwrap());

/// Panics unless the answer is one that the document describes, and unless what was accepted is what it asks for.
#[track_caller]
pub(crate) fn check(line: &str, body: &[u8], answer: &Answer) {
    let mut words = line.split([' ', '?']);
    let (method, path) = (words.next().unwrap(), words.next().unwrap());
    let Ok(method) = Method::from_bytes(method.as_bytes()) else { return };
    let Some(row) = TABLE.reached(&method, path) else {
        return assert!(answer.status >= 400, "{line} {answer:?}");
    };
    let operation =
        &DOCUMENT["paths"][row.template().replace("{*", "{")][row.method().as_str().to_ascii_lowercase()];
    let about = format!("{} {}: {answer:?}", row.method(), row.template());
    let described = operation["responses"].get(answer.status.to_string());
    let described = described.unwrap_or_else(|| panic!("not described: {about}"));
    let media = answer.header("content-type").map(|media| media.split(';').next().unwrap());
    match media {
        None => assert!(described.get("content").is_none(), "{about}"),
        Some(media) => {
            let content = described["content"].get(media).unwrap_or_else(|| panic!("not described: {about}"));
            if media == "application/json" && method != Method::HEAD {
                fits(&content["schema"], &answer.json(), &about);
            }
        }
    }
    let asked = &operation["requestBody"]["content"]["application/json"]["schema"];
    let chunked = line.contains("Transfer-Encoding");
    let absent = body.is_empty() && operation["requestBody"]["required"] == false;
    if answer.status < 300 && asked.is_object() && !chunked && !absent {
        fits(asked, &serde_json::from_slice(body).unwrap(), &about);
    }
}

#[track_caller]
fn fits(schema: &Value, value: &Value, about: &str) {
    let name = schema["$ref"].as_str().and_then(|name| name.rsplit('/').next());
    let validator = match name {
        Some(name) => COMPONENTS.iter().find(|(known, _)| known == name).map(|(_, validator)| validator),
        None => return assert!(value.is_object(), "{about}"),
    };
    let wrong: Vec<String> =
        validator.unwrap().iter_errors(value).map(|e| format!("{}: {e}", e.instance_path())).collect();
    assert!(wrong.is_empty(), "{wrong:?}: {about}");
}

/// A validator for each schema of the document.
static COMPONENTS: LazyLock<Vec<(String, Validator)>> = LazyLock::new(|| {
    let schemas = &DOCUMENT["components"]["schemas"];
    let compile = |name: &String| {
        let schema =
            json!({ "$ref": format!("#/components/schemas/{name}"), "components": { "schemas": schemas } });
        (name.clone(), jsonschema::validator_for(&schema).unwrap())
    };
    schemas.as_object().unwrap().keys().map(compile).collect()
});

#[tokio::test]
async fn the_document_needs_no_token_and_is_what_the_table_says() {
    let api = Api::start().await;
    let answer = api.anonymous("GET", "/v1/openapi.json").send().await.expect(200).json();
    assert_eq!(answer, *DOCUMENT);
    assert_eq!(answer["openapi"], "3.1.0");
}
