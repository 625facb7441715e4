use super::*;

struct Nobody;

impl App for Nobody {
    type Caller = ();

    async fn identify(&self, _: &Head) -> Result<()> {
        Ok(())
    }

    fn fields(&self, _: &Self::Caller) -> Vec<(HeaderName, HeaderValue)> {
        Vec::new()
    }

    fn metrics(&self) -> &Metrics {
        unreachable!("the table is asked, and no server")
    }

    async fn refused(&self, (): &(), _: Refusal, error: Error) -> Error {
        error
    }
}

async fn open(_: Request<Nobody>) -> Result<Reply> {
    Ok(Reply::no_content())
}

async fn guarded(_: Request<Nobody>, (): ()) -> Result<Reply> {
    Ok(Reply::no_content())
}

fn row(method: Method, template: &'static str, action: &'static str) -> Route<Nobody> {
    route(method, template, guarded).action(action)
}

fn table() -> Router<Nobody> {
    Router::new(vec![
        public(Method::GET, "/v1/health", open).action("health"),
        row(Method::GET, "/v1/secrets", "list"),
        row(Method::POST, "/v1/secrets/batch", "batch"),
        row(Method::GET, "/v1/secrets/{*path}", "read").scopes(&[Scope::SecretsRead]),
        row(Method::PUT, "/v1/secrets/{*path}", "write"),
        row(Method::GET, "/v1/secrets/{*path}/metadata", "metadata"),
        row(Method::POST, "/v1/secrets/{*path}/restore", "restore"),
        row(Method::GET, "/v1/policies/{id}", "policy_read"),
        row(Method::DELETE, "/v1/policies/{id}/bindings/{binding_id}", "policy_unbind"),
        public(Method::POST, "/v1/pki/ocsp/{ca_id}", open).action("ocsp"),
        public(Method::GET, "/v1/pki/ocsp/{ca_id}/{*request}", open).action("ocsp").raw_tail(),
    ])
    .unwrap()
}

type Found = (&'static str, Vec<(String, String)>);

/// The action and the parameters of a request, or its code and the methods allowed.
fn ask(method: &Method, path: &str) -> Result<Found, (Code, String)> {
    match table().find(method, path) {
        Ok(found) => Ok((found.route.audit_action(), found.params.0)),
        Err(miss) => {
            Err((miss.error.code(), miss.allow.map_or(String::new(), |v| v.to_str().unwrap().into())))
        }
    }
}

fn param(path: &str) -> Result<String, Code> {
    ask(&Method::GET, path).map(|(_, mut params)| params.swap_remove(0).1).map_err(|(code, _)| code)
}

#[test]
fn rows_are_found_with_their_parameters() {
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(ask(&Method::GET, "/v1/secrets"), Ok(("list", vec![])));
    assert_eq!(ask(&Method::POST, "/v1/secrets/batch"), Ok(("batch", vec![])));
    assert_eq!(ask(&Method::GET, "/v1/secrets/app/db"), Ok(("read", vec![pair("path", "app/db")])));
    assert_eq!(ask(&Method::HEAD, "/v1/secrets/app/db"), Ok(("read", vec![pair("path", "app/db")])));
    assert_eq!(
        ask(&Method::DELETE, "/v1/policies/pol_1/bindings/bind_2"),
        Ok(("policy_unbind", vec![pair("id", "pol_1"), pair("binding_id", "bind_2")]))
    );
    assert_eq!(ask(&Method::GET, "/v1/nothing"), Err((Code::NotFound, String::new())));
    assert_eq!(ask(&Method::GET, "/"), Err((Code::NotFound, String::new())));
}

#[test]
fn the_last_segment_selects_the_rows_and_the_method_decides() {
    let path = |value: &str| vec![("path".to_owned(), value.to_owned())];
    assert_eq!(ask(&Method::GET, "/v1/secrets/app/db/metadata"), Ok(("metadata", path("app/db"))));
    assert_eq!(ask(&Method::POST, "/v1/secrets/a/restore"), Ok(("restore", path("a"))));
    let refused = |allow: &str| Err((Code::MethodNotAllowed, allow.to_owned()));
    assert_eq!(ask(&Method::PUT, "/v1/secrets/app/metadata"), refused("GET, HEAD"));
    assert_eq!(ask(&Method::GET, "/v1/secrets/app/restore"), refused("POST"));
    assert_eq!(ask(&Method::DELETE, "/v1/secrets/app/db"), refused("GET, HEAD, PUT"));
    assert_eq!(ask(&Method::GET, "/v1/secrets/batch"), refused("POST"));
    // Nothing before it: then it is a path of one segment, for the path rules to judge.
    assert_eq!(ask(&Method::GET, "/v1/secrets/metadata"), Ok(("read", path("metadata"))));
}

#[test]
fn sec_a1_every_spelling_of_a_path_is_refused_or_is_that_path() {
    let canonical = "app/db-1";
    assert_eq!(param("/v1/secrets/app/db-1").as_deref(), Ok(canonical));
    let refused = [
        "app/../app/db-1",
        "app/./db-1",
        "app//db-1",
        "/app/db-1",
        "app/db-1/",
        "app/db-1//",
        "./app/db-1",
        "../secrets/app/db-1",
        "app/x/../db-1",
        "app/db-1/.",
        "app/db-1/..",
        "app/db-1/x/..",
        "app%2Fdb-1",
        "app%2fdb-1",
        "app%5Cdb-1",
        "app\\db-1",
        "app/%2e/db-1",
        "app/%2E%2E/app/db-1",
        "app/.%2e/app/db-1",
        "app/%2e./app/db-1",
        "%2e%2e/app/db-1",
        "app/%252e%252e/db-1",
        "app%252Fdb-1",
        "app%25%32%46db-1",
        "app/db%2D1",
        "app/db%2d1",
        "%61pp/db-1",
        "ap%70/db-1",
        "app/d%62-1",
        "app/db-%31",
        "app/db-1%00",
        "app/db-1%00.txt",
        "app/db-1%0a",
        "app/db-1%0d%0a",
        "app/db-1%20",
        "%20app/db-1",
        "app/db-1%09",
        "app%EF%BC%8Fdb-1",
        "app／db-1",
        "app/db\u{2010}1",
        "app/db%E2%80%901",
        "ａpp/db-1",
        "app/db-1%c0%af",
        "app%c0%afdb-1",
        "app/db-1%",
        "app/db-1%2",
        "app/db-1%zz",
        "app/db-1%7f",
        "app/db-1\u{301}",
    ];
    assert!(refused.len() > 40);
    for spelling in refused {
        assert_eq!(param(&format!("/v1/secrets/{spelling}")), Err(Code::InvalidPath), "{spelling}");
    }
    // Other names, which the path rules refuse: the router neither folds nor trims them into this one.
    for other in
        ["APP/db-1", "App/DB-1", "app/db-1.", "app/db-1;v=1", "app/db-1%3Bv=1", "app/db-1&x", "app/db-1+"]
    {
        let value = param(&format!("/v1/secrets/{other}")).unwrap();
        assert_ne!(value, canonical);
        assert_eq!(value, other.replace("%3B", ";"));
    }
}

#[test]
fn sec_a1_an_encoded_literal_never_reaches_the_row_behind_it() {
    for spelling in ["/v1/secrets/b%61tch", "/v1/secrets/app/metadat%61", "/v1/secrets/app/%6Detadata"] {
        assert_eq!(param(spelling), Err(Code::InvalidPath), "{spelling}");
    }
    for spelling in [
        "/v1/%73ecrets/app",
        "/v1//secrets/app",
        "//v1/secrets/app",
        "/v1/./secrets/app",
        "/v1/secrets/../policies/p",
        "/v1/policies/../policies/p",
        "/v1/policies/a%2Fb",
        "/v1/policies/.",
        "/v1/policies/p/",
        "/v1/health/",
        "*",
        "",
        "v1/secrets/app",
        "/v1/nothing//x",
    ] {
        let code = ask(&Method::GET, spelling).unwrap_err().0;
        assert!(matches!(code, Code::InvalidRequest | Code::InvalidPath), "{spelling} {code:?}");
    }
}

#[test]
fn a_parameter_of_one_segment_is_decoded_once() {
    assert_eq!(param("/v1/policies/user%3Aalice%40acme").as_deref(), Ok("user:alice@acme"));
    assert_eq!(param("/v1/policies/user:alice@acme").as_deref(), Ok("user:alice@acme"));
}

#[test]
fn a_raw_tail_reaches_its_handler_as_sent() {
    for tail in ["MEUw%2BQ%3D%3D", "a/b+c==", "a%2Fb", "/a//b/", "..", "a/../b", "%zz", "a%2f%2F"] {
        let (action, params) = ask(&Method::GET, &format!("/v1/pki/ocsp/ca_1/{tail}")).unwrap();
        assert_eq!((action, params[0].1.as_str(), params[1].1.as_str()), ("ocsp", "ca_1", tail));
    }
    assert_eq!(param("/v1/pki/ocsp/%2e%2e/x"), Err(Code::InvalidRequest));
    assert_eq!(param("/v1/pki/ocsp/../x"), Err(Code::InvalidRequest));
    assert_eq!(ask(&Method::GET, "/v1/pki/ocsp/ca_1").unwrap_err().0, Code::MethodNotAllowed);
}

#[test]
fn a_table_that_contradicts_itself_is_refused() {
    let build = |routes: Vec<Route<Nobody>>| Router::new(routes).map(|_| ()).unwrap_err().to_string();
    let one = || row(Method::GET, "/a/{id}", "x");
    assert!(build(vec![one(), one()]).contains("two rows"));
    assert!(build(vec![route(Method::GET, "/a", guarded)]).contains("no action"));
    assert!(build(vec![one(), row(Method::PUT, "/a/{name}", "y")]).contains("/a/{name}"));
    assert!(build(vec![row(Method::GET, "/a/{*p}/b/c", "x")]).contains("one word"));
    assert!(build(vec![one().raw_tail()]).contains("raw tail"));
    let mixed = vec![row(Method::GET, "/a/{*p}", "x").raw_tail(), row(Method::PUT, "/a/{*p}", "y")];
    assert!(build(mixed).contains("disagree"));
}

#[test]
fn rows_tell_what_they_are() {
    let table = table();
    let read = table.rows().find(|row| row.audit_action() == "read").unwrap();
    assert_eq!((read.access(), read.required_scopes()), (Access::Authenticated, &[Scope::SecretsRead][..]));
    assert_eq!((read.method(), read.template()), (&Method::GET, "/v1/secrets/{*path}"));
    assert_eq!(table.rows().filter(|row| row.access() == Access::Public).count(), 3);
    assert_eq!(format!("{read:?}"), "GET /v1/secrets/{*path} (read)");
}

/// The action and the tenant of a request, or its code.
fn in_tenant(path: &str) -> Result<(&'static str, Option<String>), Code> {
    match table().find(&Method::GET, path) {
        Ok(found) => Ok((found.route.audit_action(), found.tenant)),
        Err(miss) => Err(miss.error.code()),
    }
}

#[test]
fn a_tenant_may_stand_once_before_every_row_for_callers_who_are_known() {
    let of = |tenant: &str| Some(tenant.to_owned());
    assert_eq!(in_tenant("/v1/secrets"), Ok(("list", None)));
    assert_eq!(in_tenant("/v1/t/tnt_a/secrets"), Ok(("list", of("tnt_a"))));
    assert_eq!(in_tenant("/v1/t/tnt_a/secrets/app/db"), Ok(("read", of("tnt_a"))));
    assert_eq!(in_tenant("/v1/t/tnt_a/secrets/t/x/secrets/y"), Ok(("read", of("tnt_a"))));
    assert_eq!(in_tenant("/v1/t/a%3Ab/secrets/app/db/metadata"), Ok(("metadata", of("a:b"))));
    assert_eq!(in_tenant("/v1/t/t/secrets"), Ok(("list", of("t"))));
    for public in ["/v1/t/tnt_a/health", "/v1/t/tnt_a/pki/ocsp/ca_a", "/v1/t/tnt_a/pki/ocsp/ca_a/MEE%2F"] {
        assert_eq!(in_tenant(public), Err(Code::NotFound), "{public}");
    }
    let allowed = ask(&Method::PATCH, "/v1/t/tnt_a/secrets/app/db").unwrap_err();
    assert_eq!(allowed, (Code::MethodNotAllowed, "GET, HEAD, PUT".to_owned()));
}

#[test]
fn sec_c1_no_other_spelling_of_the_prefix_names_a_tenant() {
    for bad in [
        "/v1/t//secrets",
        "/v1/t/../secrets",
        "/v1/t/./secrets",
        "/v1/t/a//secrets",
        "/v1/t/a/../secrets",
        "/v1/t/a/",
        "/v1/t/",
        "/v1/t/%74nt_a/secrets",
        "/v1/t/a%2Fb/secrets",
        "/v1/t/a%20b/secrets",
        "/v1/t/partner%20ptn_a/secrets",
        "/v1/t/a%00/secrets",
        "/v1/t/a\\b/secrets",
        "/v1/t/\u{e9}/secrets",
        "/v1/%74/a/secrets",
        "//v1/t/a/secrets",
        "/./v1/t/a/secrets",
    ] {
        assert_eq!(in_tenant(bad), Err(Code::InvalidRequest), "{bad}");
    }
    for none in [
        "/v1/t",
        "/v1/t/a",
        "/V1/t/a/secrets",
        "/v1/T/a/secrets",
        "/v1/t/a/v1/secrets",
        "/v1/t/a/t/b/secrets",
        "/v1/t/a/T/b/secrets",
        "/t/a/secrets",
        "/t/a/v1/secrets",
        "/v1/tenants/a/secrets",
    ] {
        assert_eq!(in_tenant(none), Err(Code::NotFound), "{none}");
    }
}
