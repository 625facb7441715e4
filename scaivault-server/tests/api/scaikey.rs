//! Syncs over HTTP from a fake of ScaiKey's directory, which checks what the real one has to: who asks.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use scaivault_core::{
    Caller, Code, Database, Role, Scope, TenantId, Vault,
    egress::{Egress, ServiceUrl},
    identities::{HttpDirectory, IdentitySource as _, PageOf},
};
use scaivault_kms::local::{KeyFile, LocalProvider};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

/// Stands for ScaiKey: discovery, a token endpoint for one client, and lists in pages of one for who has the newest token.
struct FakeScaiKey {
    url: String,
    /// Tokens that were given out; the newest is the only one that is good.
    tokens: Arc<AtomicU32>,
}

impl FakeScaiKey {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let tokens = Arc::new(AtomicU32::new(0));
        let (base, given) = (url.clone(), Arc::clone(&tokens));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (base, given) = (base.clone(), Arc::clone(&given));
                tokio::spawn(async move {
                    let mut request = Vec::new();
                    let mut chunk = [0; 4096];
                    while !complete(&request) {
                        match stream.read(&mut chunk).await {
                            Ok(read) if read > 0 => request.extend_from_slice(&chunk[..read]),
                            _ => return,
                        }
                    }
                    let (status, body) = answer(&String::from_utf8_lossy(&request), &base, &given);
                    let length = body.len();
                    let answer = format!(
                        "HTTP/1.1 {status} x\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
                         Connection: close\r\n\r\n{body}"
                    );
                    let _ = stream.write_all(answer.as_bytes()).await;
                });
            }
        });
        Self { url, tokens }
    }

    fn directory(&self, secret: &str) -> HttpDirectory {
        let client = ("vault".to_owned(), secret.to_owned().into());
        HttpDirectory::new(Egress::builder().build().unwrap(), ServiceUrl::parse(&self.url).unwrap(), client)
    }
}

/// Whether all of a request is there.
fn complete(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    body.len() >= header(head, "content-length").map_or(0, |length| length.parse().unwrap())
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
}

fn answer(request: &str, base: &str, tokens: &AtomicU32) -> (u16, String) {
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    let mut words = head.split(' ');
    let (method, target) = (words.next().unwrap(), words.next().unwrap());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let authorization = header(head, "authorization").unwrap_or_default();
    match (method, path) {
        ("GET", "/api/v1/platform/oauth/.well-known/openid-configuration") => {
            (200, json!({ "token_endpoint": format!("{base}/token") }).to_string())
        }
        ("POST", "/token") => {
            let basic = format!("Basic {}", STANDARD.encode("vault:right"));
            if authorization != basic || body != "grant_type=client_credentials" {
                return (401, String::new());
            }
            let number = tokens.fetch_add(1, Ordering::Relaxed) + 1;
            (200, json!({ "access_token": format!("token-{number}"), "expires_in": 3600 }).to_string())
        }
        ("GET", path) => {
            if authorization != format!("Bearer token-{}", tokens.load(Ordering::Relaxed)) {
                return (401, String::new());
            }
            let Some(all) = list(path) else { return (404, String::new()) };
            let cursor = query.split('&').find_map(|part| part.strip_prefix("cursor="));
            let at: usize = cursor.map_or(0, |cursor| cursor.parse().unwrap());
            let more = (at + 1 < all.len()).then(|| (at + 1).to_string());
            let items: Vec<&Value> = all.iter().skip(at).take(1).collect();
            (200, json!({ "data": items, "next_cursor": more }).to_string())
        }
        _ => (405, String::new()),
    }
}

fn list(path: &str) -> Option<Vec<Value>> {
    Some(match path.strip_prefix("/api/v1/platform/")? {
        "partners" => vec![json!({ "id": "ptn_x", "name": "X", "status": "ACTIVE" })],
        "tenants" => vec![
            json!({ "id": "tnt_x", "partner_id": "ptn_x" }),
            json!({ "id": "tnt/odd", "partner_id": "ptn_x" }),
        ],
        "tenants/tnt_x/users" => vec![
            json!({ "id": "usr_1", "email": "one@x.example", "display_name": "One", "more": "than we know" }),
            json!({ "id": "usr_2", "email": "two@x.example", "status": "suspended", "updated_at": "2026-01-01T00:00:00Z" }),
        ],
        "tenants/tnt_x/groups" => vec![json!({ "id": "grp_1", "slug": "crew", "name": "Crew" })],
        "tenants/tnt_x/groups/grp_1/members" => {
            vec![json!({ "user_id": "usr_1", "membership_type": "NESTED" })]
        }
        "tenants/tnt%2Fodd/users" | "tenants/tnt%2Fodd/groups" => Vec::new(),
        _ => return None,
    })
}

#[tokio::test]
async fn a_sync_reads_every_page_and_gets_a_token_anew_when_its_own_is_taken_back() {
    let scaikey = FakeScaiKey::start().await;
    let root_key = Arc::new(LocalProvider::new(KeyFile::generate().unwrap()));
    let source = Arc::new(scaikey.directory("right"));
    let builder = Vault::builder(Database::in_memory(), root_key);
    let vault = builder.identity_source(source, Duration::from_secs(900)).open().await.unwrap();
    vault.run_due_jobs().await.unwrap();
    let root = Caller::user("user:root", TenantId::parse("tnt_x").unwrap()).unwrap();
    let ctx = vault.ctx(root.with_scopes([Scope::Admin]).with_roles([Role::SuperAdmin])).unwrap();
    let page = PageOf::new(None, None).unwrap();
    let users =
        vault.identities(&ctx).users(&TenantId::parse("tnt_x").unwrap(), None, None, page).await.unwrap();
    let shown: Vec<_> = users.items.iter().map(|user| (user.id.as_str(), user.status.as_str())).collect();
    assert_eq!(shown, [("usr_1", "ACTIVE"), ("usr_2", "SUSPENDED")]);
    assert_eq!(users.items[0].groups, ["group:crew"]);
    assert_eq!(vault.identities(&ctx).tenants(None, None, page).await.unwrap().total, 2);
    assert_eq!(scaikey.tokens.load(Ordering::Relaxed), 1, "one token for all of it");
    scaikey.tokens.fetch_add(1, Ordering::Relaxed);
    vault.identities(&ctx).sync(None, None).await.unwrap();
    vault.run_due_jobs().await.unwrap();
    assert_eq!(scaikey.tokens.load(Ordering::Relaxed), 3, "a new one after the first was refused");
    let history = vault.identities(&ctx).syncs(page).await.unwrap();
    assert!(
        history.items.iter().all(|sync| sync.status == "completed" && sync.users_synced == 2),
        "{history:?}"
    );
    let two = Caller::user("user:two@x.example", TenantId::parse("tnt_x").unwrap()).unwrap();
    let refused = vault.admit(&vault.ctx(two).unwrap()).await.unwrap_err();
    assert_eq!(refused.code(), Code::TokenRevoked);
    vault.close().await;
}

#[tokio::test]
async fn without_the_right_secret_nothing_is_read_and_nobody_learns_the_secret() {
    let scaikey = FakeScaiKey::start().await;
    let error = scaikey.directory("wrong-canary").partners(None).await.unwrap_err();
    assert_eq!(error.code(), Code::ServiceUnavailable);
    assert!(error.causes().contains("/token answered 401"), "{}", error.causes());
    assert!(!format!("{error:?} {}", error.causes()).contains("wrong-canary"));
}
