//! The OpenAPI 3.1 document. Paths, methods and scopes come from the routing table; what a row takes and answers stands in
//! `contract.json`, which the tests of the API hold against every answer that they get.

use std::collections::BTreeMap;

use scaivault_core::{Error, Result};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::http::router::{Access, Route, Router};

/// What is true of every route that takes a token, and would only be repeated there.
const TENANTS: &str = "Every request that carries a token acts on the caller's own tenant. Who may act on others names one \
    in the header `X-Tenant-ID`, or in the path: `/v1/t/{tenant}/secrets` is `/v1/secrets` of that tenant, and so on.";

/// What the routing table does not know.
#[derive(Deserialize)]
struct Contract {
    /// By name, for `$ref`.
    schemas: Map<String, Value>,
    /// Parameters of query strings, by name.
    query: BTreeMap<String, Value>,
    /// Parameters of paths, by name; with a star in front of what may be several segments.
    path: BTreeMap<String, Value>,
    /// By method and template.
    operations: BTreeMap<String, Operation>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Operation {
    summary: String,
    #[serde(default)]
    query: Vec<String>,
    /// A schema or a media type.
    body: Option<String>,
    /// Whether a request may do without its body.
    #[serde(default)]
    body_optional: bool,
    /// By status, a schema, a media type or `null` for nothing.
    answers: BTreeMap<String, Option<String>>,
    /// Statuses of refusals besides the usual ones.
    #[serde(default)]
    errors: Vec<String>,
    /// Media types that can be asked for as well.
    #[serde(default)]
    media: Vec<String>,
}

/// The document for a routing table.
///
/// # Errors
/// [`scaivault_core::Code::InternalError`] for a row without a description, a description without a row, and a name that
/// is not there: a test sees to it that there are none.
pub fn document<A>(table: &Router<A>) -> Result<Value> {
    let mut contract: Contract = serde_json::from_str(CONTRACT).map_err(Error::internal)?;
    let mut paths: Map<String, Value> = Map::new();
    for row in table.rows() {
        let key = format!("{} {}", row.method(), row.template());
        let operation = contract.operations.remove(&key).ok_or_else(|| missing(&key))?;
        let path = paths.entry(row.template().replace("{*", "{")).or_insert_with(|| json!({}));
        path[row.method().as_str().to_ascii_lowercase()] = contract.describe(row, &operation)?;
    }
    if let Some(left) = contract.operations.keys().next() {
        return Err(missing(left));
    }
    Ok(json!({
        "openapi": "3.1.0",
        "info": {
            "title": "ScaiVault",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "Secrets and certificates",
            "description": TENANTS,
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "security": [{ "bearer": [] }],
        "paths": paths,
        "components": {
            "securitySchemes": { "bearer": { "type": "http", "scheme": "bearer", "bearerFormat": "JWT" } },
            "schemas": contract.schemas,
        },
    }))
}

impl Contract {
    fn describe<A>(&self, row: &Route<A>, operation: &Operation) -> Result<Value> {
        let known = row.access() == Access::Authenticated;
        let mut answers: Map<String, Value> = if known { ERRORS } else { OPEN_ERRORS }
            .iter()
            .copied()
            .chain(operation.errors.iter().map(String::as_str))
            .map(|status| (status.to_owned(), error()))
            .collect();
        for (status, body) in &operation.answers {
            let mut content =
                body.as_deref().map(|body| self.content(body)).transpose()?.unwrap_or_else(|| json!({}));
            for media in operation.media.iter().filter(|_| status == "200") {
                content[media] = text();
            }
            let mut answer = json!({ "description": if status == "503" { "Not ready" } else { "Done" } });
            if content.as_object().is_some_and(|content| !content.is_empty()) {
                answer["content"] = content;
            }
            answers.insert(status.clone(), answer);
        }
        let id = format!("{} {}", row.method().as_str().to_ascii_lowercase(), row.template());
        let id: Vec<&str> =
            id.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect();
        let mut described = json!({
            "operationId": id.join("_"),
            "summary": operation.summary,
            "parameters": self.parameters(row, operation)?,
            "responses": answers,
        });
        if !known {
            described["security"] = json!([]);
        }
        let scopes: Vec<&str> = row.required_scopes().iter().map(|scope| scope.as_str()).collect();
        if !scopes.is_empty() {
            described["description"] = format!("Needs the scope {}.", scopes.join(" or ")).into();
        }
        if let Some(body) = &operation.body {
            described["requestBody"] =
                json!({ "required": !operation.body_optional, "content": self.content(body)? });
        }
        Ok(described)
    }

    fn parameters<A>(&self, row: &Route<A>, operation: &Operation) -> Result<Vec<Value>> {
        let names =
            row.template().split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'));
        let path = names.map(|name| {
            let mut parameter = self.path.get(name).cloned().ok_or_else(|| missing(name))?;
            parameter["in"] = "path".into();
            parameter["required"] = true.into();
            parameter["name"] = name.trim_start_matches('*').into();
            Ok(parameter)
        });
        let query = operation.query.iter().map(|name| {
            let mut parameter = self.query.get(name).cloned().ok_or_else(|| missing(name))?;
            parameter["in"] = "query".into();
            parameter["name"] = name.as_str().into();
            Ok(parameter)
        });
        path.chain(query).collect()
    }

    /// The content of a body that is a schema or of a media type.
    fn content(&self, body: &str) -> Result<Value> {
        if body.contains('/') {
            let schema =
                if body == "application/json" { json!({ "schema": { "type": "object" } }) } else { text() };
            return Ok(json!({ body: schema }));
        }
        if !self.schemas.contains_key(body) {
            return Err(missing(body));
        }
        Ok(json!({ "application/json": { "schema": { "$ref": format!("#/components/schemas/{body}") } } }))
    }
}

fn text() -> Value {
    json!({ "schema": { "type": "string" } })
}

fn error() -> Value {
    let content = json!({ "application/json": { "schema": { "$ref": "#/components/schemas/Error" } } });
    json!({ "description": "Refused", "content": content })
}

fn missing(what: &str) -> Error {
    Error::internal(format!("the API description and the routing table disagree about {what}"))
}

const CONTRACT: &str = include_str!("contract.json");
/// What a caller who is known can be refused with.
const ERRORS: &[&str] = &["400", "401", "403", "404", "409", "413", "415", "422", "429", "503"];
/// What anybody can be refused with.
const OPEN_ERRORS: &[&str] = &["400", "404", "413", "415", "429", "503"];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use http::Method;

    use super::*;
    use crate::routes;

    /// Every `$ref` in a value.
    fn references(value: &Value, into: &mut BTreeSet<String>) {
        match value {
            Value::Object(members) => {
                if let Some(Value::String(name)) = members.get("$ref") {
                    into.insert(name.rsplit('/').next().unwrap().to_owned());
                }
                members.values().for_each(|member| references(member, into));
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, into)),
            _ => {}
        }
    }

    #[test]
    fn every_row_is_described_and_every_schema_used() {
        let table = routes::router().unwrap();
        let document = document(&table).unwrap();
        let described: usize =
            document["paths"].as_object().unwrap().values().map(|path| path.as_object().unwrap().len()).sum();
        assert_eq!(described, table.rows().count());
        let mut used = BTreeSet::new();
        references(&document, &mut used);
        let there: BTreeSet<String> =
            document["components"]["schemas"].as_object().unwrap().keys().cloned().collect();
        assert_eq!(used, there);
        let read = &document["paths"]["/v1/secrets/{path}"]["get"];
        assert_eq!(read["description"], "Needs the scope secrets:read.");
        assert_eq!(read["parameters"][0]["name"], "path");
        assert_eq!(document["paths"]["/v1/health"]["get"]["security"], json!([]));
        let methods = [Method::GET, Method::PUT, Method::POST, Method::PATCH, Method::DELETE];
        assert!(table.rows().all(|row| methods.contains(row.method())));
    }
}
