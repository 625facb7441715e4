//! Lists: filters, pages, cursors.

use std::collections::BTreeSet;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use scaivault_core::{
    Code, Ctx, Page, Vault,
    secrets::{ListFilter, Metadata, SecretItem, SecretType, SecretWrite},
};
use serde_json::json;

use crate::bench::{OTHER, any, code, contract, path, policy};

async fn list(vault: &Vault, ctx: &Ctx, filter: ListFilter) -> Page<SecretItem> {
    vault.secrets(ctx).list(filter).await.unwrap()
}

fn paths(page: &Page<SecretItem>) -> Vec<&str> {
    page.items.iter().map(|item| item.path.as_str()).collect()
}

fn limit(limit: u32) -> ListFilter {
    ListFilter { limit: Some(limit), ..ListFilter::default() }
}

fn prefix(prefix: &str) -> ListFilter {
    ListFilter { prefix: Some(prefix.to_owned()), ..ListFilter::default() }
}

/// Every page of a list, with how many there were.
async fn walk(vault: &Vault, ctx: &Ctx, filter: ListFilter) -> (Vec<String>, usize) {
    let (mut all, mut pages, mut cursor) = (Vec::new(), 0, None);
    loop {
        let page = list(vault, ctx, ListFilter { cursor, ..filter.clone() }).await;
        all.extend(page.items.into_iter().map(|item| item.path));
        pages += 1;
        assert!(pages <= 1000, "a list has an end");
        match page.cursor {
            Some(next) => cursor = Some(next),
            None => return (all, pages),
        }
    }
}

contract! {
    async fn filters_choose_and_combine(t: Bench) {
        let admin = t.admin();
        let secrets = t.vault.secrets(&admin);
        let things = [
            ("app/a", SecretType::Kv, json!(["x", "y"])),
            ("app/b", SecretType::Json, json!(["x"])),
            ("app0", SecretType::Kv, json!(["x"])),
            ("apq", SecretType::Kv, json!([])),
            ("b", SecretType::Certificate, json!(["X"])),
        ];
        for (at, kind, tags) in things {
            let metadata = Metadata::new(json!({"tags": tags}).as_object().unwrap().clone()).unwrap();
            let write = SecretWrite { secret_type: Some(kind), metadata: Some(metadata), ..any() };
            secrets.put(&path(at), write).await.unwrap();
        }
        secrets.delete(&path("app/b"), false).await.unwrap();
        let kind = |kind| ListFilter { secret_type: Some(kind), ..ListFilter::default() };
        let tag = |tag: &str| ListFilter { tag: Some(tag.to_owned()), ..ListFilter::default() };
        let deleted = |filter| ListFilter { include_deleted: true, ..filter };
        let cases = [
            (ListFilter::default(), vec!["app/a", "app0", "apq", "b"]),
            (deleted(ListFilter::default()), vec!["app/a", "app/b", "app0", "apq", "b"]),
            (prefix("app"), vec!["app/a", "app0"]),
            (prefix("app/"), vec!["app/a"]),
            (deleted(prefix("app/")), vec!["app/a", "app/b"]),
            (prefix("none"), vec![]),
            (prefix(""), vec!["app/a", "app0", "apq", "b"]),
            (tag("x"), vec!["app/a", "app0"]),
            (deleted(tag("x")), vec!["app/a", "app/b", "app0"]),
            (tag("y"), vec!["app/a"]),
            (kind(SecretType::Kv), vec!["app/a", "app0", "apq"]),
            (kind(SecretType::SshKey), vec![]),
            (ListFilter { prefix: Some("app".to_owned()), tag: Some("x".to_owned()), ..kind(SecretType::Kv) }, vec!["app/a", "app0"]),
        ];
        for (filter, expected) in cases {
            let page = list(&t.vault, &admin, filter.clone()).await;
            assert_eq!(paths(&page), expected, "{filter:?}");
            assert!(!page.has_more());
        }
        for bad in ["A", "a.b", "a%", "a*", "/\u{e9}", &"x".repeat(513)] {
            assert_eq!(code(secrets.list(prefix(bad)).await), Code::InvalidPath, "{bad:?}");
        }
    }

    async fn pages_for_a_restricted_caller_are_complete_and_show_nothing_else(t: Bench) {
        let mut expected = BTreeSet::new();
        for n in 0..60 {
            // Two of three may be listed, in runs of different length.
            let area = ["mine", "mine", "theirs", "hers"][(n * 7 / 3) % 4];
            let at = format!("n{n:02}/{area}/s");
            t.put(&at, json!({})).await;
            if area == "mine" {
                expected.insert(at);
            }
        }
        t.grant("user:u", "*/mine/*", &["list"]).await;
        t.grant("user:u", "*/hers/*", &["read", "write", "delete"]).await;
        let ctx = t.user("user:u");
        for size in [1, 2, 3, 7, 29, 30, 31, 100] {
            let (all, pages) = walk(&t.vault, &ctx, limit(size)).await;
            assert_eq!(all, expected.iter().cloned().collect::<Vec<_>>(), "pages of {size}");
            assert_eq!(pages, expected.len().div_ceil(size as usize), "pages of {size}: none is empty");
        }
        let (all, _) = walk(&t.vault, &ctx, ListFilter { limit: Some(2), ..prefix("n1") }).await;
        assert_eq!(all, expected.iter().filter(|p| p.starts_with("n1")).cloned().collect::<Vec<_>>());
    }

    async fn sec_a2_a_page_does_not_show_that_something_hidden_follows(t: Bench) {
        t.grant("user:u", "app/a", &["list"]).await;
        t.put("app/a", json!({})).await;
        let ctx = t.user("user:u");
        let before = list(&t.vault, &ctx, limit(1)).await;
        for hidden in ["app/0", "app/b", "app/c", "z"] {
            t.put(hidden, json!({})).await;
        }
        let after = list(&t.vault, &ctx, limit(1)).await;
        assert_eq!((before, 1), (after.clone(), after.items.len()), "neither an item nor a cursor");
        for empty in ["app/b", "z", "y"] {
            assert_eq!(list(&t.vault, &ctx, prefix(empty)).await, Page { items: Vec::new(), cursor: None });
        }
        assert_eq!(list(&t.vault, &t.user("user:nobody"), limit(1)).await, Page { items: Vec::new(), cursor: None });
    }

    async fn sec_a5_no_limit_gets_more_than_the_server_allows(t: Bench) {
        // Rows by SQL: a thousand and one puts would take long.
        t.put("first", json!({})).await;
        for start in (0..1100).step_by(100) {
            let rows: Vec<String> = (start..start + 100).map(|n| format!("('p{n:04}', 'sec_{n}')")).collect();
            t.raw.execute(&format!(
                "INSERT INTO secret (tenant_id, path, id, secret_type, current_version, max_versions, metadata, notify_before, \
                 created_at, updated_at) SELECT s.tenant_id, v.column1, v.column2, s.secret_type, 1, 10, s.metadata, \
                 s.notify_before, s.created_at, s.updated_at FROM secret s, (VALUES {}) v WHERE s.path = 'first'",
                rows.join(", ")
            )).await;
        }
        let admin = t.admin();
        for (asked, given) in [(Some(0), 100), (None, 100), (Some(u32::MAX), 1000), (Some(1001), 1000), (Some(1000), 1000), (Some(999), 999)] {
            let page = list(&t.vault, &admin, ListFilter { limit: asked, ..ListFilter::default() }).await;
            assert_eq!((page.items.len(), page.has_more()), (given, true), "{asked:?}");
        }
        let (all, pages) = walk(&t.vault, &admin, limit(u32::MAX)).await;
        assert_eq!((all.len(), pages), (1101, 2));
        // A caller who may see none of them asks one at a time.
        assert_eq!(walk(&t.vault, &t.user("user:nobody"), limit(1)).await, (Vec::new(), 1));
    }

    async fn a_cursor_is_good_for_its_own_list_and_cannot_be_made_up(t: Bench) {
        for n in 0..5 {
            t.put(&format!("s{n}"), json!({})).await;
        }
        let admin = t.admin();
        let secrets = t.vault.secrets(&admin);
        let cursor = list(&t.vault, &admin, limit(2)).await.cursor.unwrap();
        let at = |cursor: &str| ListFilter { cursor: Some(cursor.to_owned()), ..limit(2) };
        assert_eq!(paths(&list(&t.vault, &t.admin(), at(&cursor)).await), ["s2", "s3"], "good again and again");

        let bytes = URL_SAFE_NO_PAD.decode(&cursor).unwrap();
        for i in 0..bytes.len() {
            for flip in [1, 0x80] {
                let mut forged = bytes.clone();
                forged[i] ^= flip;
                assert_eq!(code(secrets.list(at(&URL_SAFE_NO_PAD.encode(forged))).await), Code::InvalidCursor, "byte {i}");
            }
        }
        for bad in ["", "x", "!!", "eyJpZCI6MTc4fQ", &cursor[1..], &cursor[..cursor.len() - 2], &format!("{cursor}AA"), "\u{e9}"] {
            assert_eq!(code(secrets.list(at(bad)).await), Code::InvalidCursor, "{bad:?}");
        }
        assert!(!bytes.windows(2).any(|w| w == b"s1"), "where the page ended cannot be read");

        for other in [
            ListFilter { prefix: Some("s".to_owned()), ..at(&cursor) },
            ListFilter { tag: Some("x".to_owned()), ..at(&cursor) },
            ListFilter { secret_type: Some(SecretType::Kv), ..at(&cursor) },
            ListFilter { include_deleted: true, ..at(&cursor) },
        ] {
            assert_eq!(code(secrets.list(other.clone()).await), Code::InvalidCursor, "{other:?}");
        }
        // Another page size is not another list.
        assert_eq!(list(&t.vault, &admin, ListFilter { limit: Some(1), ..at(&cursor) }).await.items.len(), 1);

        t.grant("user:u", "**", &["list"]).await;
        assert_eq!(code(t.vault.secrets(&t.user("user:u")).list(at(&cursor)).await), Code::InvalidCursor, "another caller");
        assert_eq!(code(t.vault.secrets(&t.admin_of(OTHER)).list(at(&cursor)).await), Code::InvalidCursor, "another tenant");
        assert_eq!(code(t.vault.policies(&admin).list(false, None, Some(cursor.clone())).await), Code::InvalidCursor);
        assert_eq!(code(t.vault.pki(&admin).cas(None, Some(cursor.clone())).await), Code::InvalidCursor);
        assert_eq!(code(t.vault.pki(&admin).roles(None, Some(cursor)).await), Code::InvalidCursor);
    }

    async fn policies_are_paged_and_their_cursor_is_theirs(t: Bench) {
        let admin = t.admin();
        let policies = t.vault.policies(&admin);
        let mut made = Vec::new();
        for n in 0..5 {
            t.clock.advance(std::time::Duration::from_millis(1));
            let ctx = t.admin();
            let document = policy(&format!("p{n}"), &[("a", &["read"]), ("b", &["read"])]);
            made.push(t.vault.policies(&ctx).create(document).await.unwrap().id);
        }
        let (mut seen, mut cursor) = (Vec::new(), None);
        loop {
            let page = policies.list(false, Some(2), cursor).await.unwrap();
            assert!(page.items.iter().all(|p| (p.rule_count, p.binding_count, p.is_active) == (2, 0, true)));
            seen.extend(page.items.into_iter().map(|p| p.id));
            cursor = page.cursor;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(seen, made, "in the order they were made, each once");
        let cursor = policies.list(false, Some(2), None).await.unwrap().cursor;
        assert_eq!(code(policies.list(true, Some(2), cursor).await), Code::InvalidCursor, "another filter");
        assert_eq!(policies.list(false, Some(0), None).await.unwrap().items.len(), 5);
    }
}
