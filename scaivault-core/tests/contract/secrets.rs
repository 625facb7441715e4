//! Secrets: versions, expectations, deletion, expiry.

use std::collections::BTreeSet;

use scaivault_core::{
    Code, Database, DurationText, Scope, Vault,
    secrets::{
        Expectation, Expires, ListFilter, Metadata, SecretData, SecretPatch, SecretType, SecretWrite,
        VersionState, WriteOptions,
    },
};
use serde_json::{Map, Value, json};
use time::ext::NumericalDuration as _;

use crate::bench::{ACME, Bench, DAY, HOUR, any, code, contract, path, refusal, root_key, write};

fn metadata(value: Value) -> Metadata {
    Metadata::new(object(value)).unwrap()
}

fn object(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

fn expecting(expect: Expectation, data: Value) -> SecretWrite {
    SecretWrite { expect, ..write(data) }
}

fn with_options(options: WriteOptions) -> SecretWrite {
    SecretWrite { options, ..any() }
}

fn keeping(max_versions: i64) -> WriteOptions {
    WriteOptions { max_versions: Some(max_versions), ..WriteOptions::default() }
}

fn expiring(text: &str) -> WriteOptions {
    let expires = Expires::In(text.parse::<DurationText>().unwrap());
    WriteOptions { expires: Some(Some(expires)), ..WriteOptions::default() }
}

contract! {
    async fn what_is_put_is_got_with_everything_about_it(t: Bench) {
        let born = t.now();
        let first = SecretWrite {
            secret_type: Some(SecretType::ApiKey),
            metadata: Some(metadata(json!({"owner": "team-a", "tags": ["b", "a"], "description": "d", "free": {"x": 1}}))),
            ..write(json!({"token": "one"}))
        };
        let admin = t.admin();
        let written = t.vault.secrets(&admin).put(&path("app/db"), first).await.unwrap();
        assert!(written.created);
        assert_eq!((written.item.version, written.item.max_versions), (1, 10));
        assert_eq!(written.item.notify_before, "30d,7d,1d");
        t.clock.advance(DAY);
        let written = t.vault.secrets(&t.admin()).put(&path("app/db"), write(json!({"token": "two"}))).await.unwrap();
        assert!(!written.created);

        let admin = t.admin();
        let value = t.vault.secrets(&admin).get(&path("app/db"), None).await.unwrap();
        assert_eq!(value.data.decode::<Value>().unwrap(), json!({"token": "two"}));
        assert_eq!(value.item.path, "app/db");
        assert_eq!(value.item.version, 2);
        assert_eq!(value.item.secret_type, "api_key", "the type stays unless another is given");
        assert_eq!(value.item.metadata, metadata(json!({"owner": "team-a", "tags": ["b", "a"], "description": "d", "free": {"x": 1}})));
        assert_eq!((value.item.created_at, value.item.updated_at), (born, born + 1.days()));
        assert_eq!((value.item.expires_at, value.item.deleted_at), (None, None));

        let old = t.vault.secrets(&admin).get(&path("app/db"), Some(1)).await.unwrap();
        assert_eq!(old.data.decode::<Value>().unwrap(), json!({"token": "one"}));
        assert_eq!(old.item.version, 1);

        let versions = t.vault.secrets(&admin).versions(&path("app/db")).await.unwrap();
        let told: Vec<_> = versions.iter().map(|v| (v.version, v.state, v.created_at, v.created_by.as_str())).collect();
        assert_eq!(told, [
            (2, VersionState::Current, born + 1.days(), "user:admin"),
            (1, VersionState::Superseded, born, "user:admin"),
        ]);
        let item = t.vault.secrets(&admin).metadata(&path("app/db")).await.unwrap();
        assert_eq!((item.version, item.version_count), (2, Some(2)));
    }

    async fn a_put_replaces_type_and_metadata_only_if_it_has_them(t: Bench) {
        let admin = t.admin();
        let secrets = t.vault.secrets(&admin);
        t.put("a", json!({})).await;
        let item = secrets.metadata(&path("a")).await.unwrap();
        assert_eq!((item.secret_type.as_str(), item.metadata), ("json", metadata(json!({}))));
        let change = SecretWrite {
            secret_type: Some(SecretType::Kv),
            metadata: Some(metadata(json!({"owner": "x", "tags": ["t"]}))),
            ..any()
        };
        secrets.put(&path("a"), change).await.unwrap();
        let change = SecretWrite { metadata: Some(metadata(json!({"new": 1}))), ..any() };
        let item = secrets.put(&path("a"), change).await.unwrap().item;
        assert_eq!((item.secret_type.as_str(), item.metadata), ("kv", metadata(json!({"new": 1}))));
        let tagged = ListFilter { tag: Some("t".to_owned()), ..ListFilter::default() };
        assert!(secrets.list(tagged).await.unwrap().items.is_empty(), "the tag went with the metadata");
    }

    async fn a_patch_merges_metadata_and_makes_no_version(t: Bench) {
        let admin = t.admin();
        let secrets = t.vault.secrets(&admin);
        let first = SecretWrite { metadata: Some(metadata(json!({"owner": "a", "tags": ["x"], "n": {"y": 1, "z": 2}}))), ..any() };
        secrets.put(&path("a"), first).await.unwrap();
        t.clock.advance(DAY);
        let now = t.now();
        let patch = SecretPatch {
            metadata: Some(object(json!({"owner": null, "tags": ["new"], "n": {"y": null, "w": 3}}))),
            options: expiring("2d"),
        };
        let later = t.admin();
        let item = t.vault.secrets(&later).patch(&path("a"), patch).await.unwrap();
        assert_eq!(item.metadata, metadata(json!({"tags": ["new"], "n": {"z": 2, "w": 3}})));
        assert_eq!((item.version, item.updated_at, item.expires_at), (1, now, Some(now + 2.days())));
        for (tag, found) in [("x", 0), ("new", 1)] {
            let filter = ListFilter { tag: Some(tag.to_owned()), ..ListFilter::default() };
            assert_eq!(secrets.list(filter).await.unwrap().items.len(), found, "{tag}");
        }
        assert_eq!(t.get("a").await.unwrap(), json!({"k": "v"}));
        assert_eq!(t.raw.count("secret_version").await, 1);
        assert_eq!(t.raw.count("event_outbox WHERE event_type = 'secret.updated'").await, 0);
        // Without an expiry, the patch keeps the one that is there; `Some(None)` takes it away.
        let kept = secrets.patch(&path("a"), SecretPatch::default()).await.unwrap();
        assert_eq!(kept.expires_at, Some(now + 2.days()));
        let never = WriteOptions { expires: Some(None), ..WriteOptions::default() };
        let item = secrets.patch(&path("a"), SecretPatch { metadata: None, options: never }).await.unwrap();
        assert_eq!(item.expires_at, None);
        assert_eq!(code(secrets.patch(&path("none"), SecretPatch::default()).await), Code::SecretNotFound);
    }

    async fn versions_age_out_and_their_numbers_are_never_reused(t: Bench) {
        let admin = t.admin();
        let secrets = t.vault.secrets(&admin);
        secrets.put(&path("a"), with_options(keeping(3))).await.unwrap();
        for n in 2..=5 {
            secrets.put(&path("a"), write(json!({"n": n}))).await.unwrap();
        }
        let numbers = async || -> Vec<i64> { secrets.versions(&path("a")).await.unwrap().iter().map(|v| v.version).collect() };
        assert_eq!(numbers().await, [5, 4, 3]);
        for gone in [0, -1, 1, 2, 6, i64::MAX, i64::MIN] {
            assert_eq!(code(secrets.get(&path("a"), Some(gone)).await), Code::VersionNotFound, "{gone}");
        }
        assert_eq!(secrets.get(&path("a"), Some(3)).await.unwrap().data.decode::<Value>().unwrap(), json!({"n": 3}));
        assert_eq!(t.raw.count("secret_version").await, 3, "data keys of old versions are gone");
        let fewer = SecretPatch { metadata: None, options: keeping(1) };
        secrets.patch(&path("a"), fewer).await.unwrap();
        assert_eq!(numbers().await, [5]);
        assert_eq!(secrets.put(&path("a"), any()).await.unwrap().item.version, 6);
        assert_eq!(numbers().await, [6]);
        assert_eq!(code(secrets.get(&path("none"), Some(1)).await), Code::SecretNotFound);
        assert_eq!(code(secrets.versions(&path("none")).await), Code::SecretNotFound);
        assert_eq!(code(secrets.metadata(&path("none")).await), Code::SecretNotFound);
    }

    async fn an_expectation_that_does_not_hold_changes_nothing_and_names_the_version(t: Bench) {
        let admin = t.admin();
        let secrets = t.vault.secrets(&admin);
        let missing = refusal(secrets.put(&path("a"), expecting(Expectation::Version(1), json!({}))).await);
        assert_eq!((missing.code(), missing.details().current_version), (Code::VersionConflict, Some(0)));
        assert_eq!(t.raw.count("secret").await, 0);
        assert!(secrets.put(&path("a"), expecting(Expectation::Absent, json!({"n": 1}))).await.unwrap().created);
        for wrong in [Expectation::Absent, Expectation::Version(0), Expectation::Version(2), Expectation::Version(-1)] {
            let error = refusal(secrets.put(&path("a"), expecting(wrong, json!({"n": 9}))).await);
            assert_eq!((error.code(), error.details().current_version), (Code::VersionConflict, Some(1)), "{wrong:?}");
        }
        assert_eq!(t.get("a").await.unwrap(), json!({"n": 1}));
        let written = secrets.put(&path("a"), expecting(Expectation::Version(1), json!({"n": 2}))).await.unwrap();
        assert_eq!(written.item.version, 2);
        assert_eq!(t.get("a").await.unwrap(), json!({"n": 2}));
    }

    async fn sixteen_writers_of_one_path_make_sixteen_versions_each_with_its_record(t: Bench) {
        let tasks: Vec<_> = (0..16).map(|n| {
            let t = t.clone();
            tokio::spawn(async move {
                let ctx = t.admin();
                let write = SecretWrite { options: keeping(100), ..write(json!({"n": n})) };
                let item = t.vault.secrets(&ctx).put(&path("a"), write).await.unwrap().item;
                (item.version, n, t.trail(&ctx).await)
            })
        }).collect();
        let mut seen = BTreeSet::new();
        for task in tasks {
            let (version, n, trail) = task.await.unwrap();
            assert!(seen.insert(version), "version {version} was given out twice");
            assert_eq!(trail.len(), 1);
            assert_eq!((trail[0].action.as_str(), trail[0].outcome.as_str()), ("write", "ok"));
            assert_eq!(trail[0].extra["version"], json!(version));
            let admin = t.admin();
            let value = t.vault.secrets(&admin).get(&path("a"), Some(version)).await.unwrap();
            assert_eq!(value.data.decode::<Value>().unwrap(), json!({"n": n}), "each writer's value is under his number");
        }
        assert_eq!(seen, (1..=16).collect());
        assert_eq!(t.raw.count("audit_trail WHERE action = 'write'").await, 16);
        assert_eq!(t.raw.count("event_outbox WHERE event_type = 'secret.created'").await, 1);
        assert_eq!(t.raw.count("event_outbox WHERE event_type = 'secret.updated'").await, 15);
    }

    async fn of_many_who_create_a_secret_exactly_one_does(t: Bench) {
        let tasks: Vec<_> = (0..16).map(|n| {
            let t = t.clone();
            tokio::spawn(async move {
                let ctx = t.admin();
                t.vault.secrets(&ctx).put(&path("a"), expecting(Expectation::Absent, json!({"n": n}))).await.map(|_| n)
            })
        }).collect();
        let mut winners = Vec::new();
        for task in tasks {
            match task.await.unwrap() {
                Ok(n) => winners.push(n),
                Err(error) => assert_eq!((error.code(), error.details().current_version), (Code::VersionConflict, Some(1))),
            }
        }
        assert_eq!(winners.len(), 1);
        assert_eq!(t.get("a").await.unwrap(), json!({"n": winners[0]}));
        assert_eq!(t.raw.count("secret_version").await, 1);
        assert_eq!(t.raw.count("audit_trail WHERE action = 'write' AND error_code = 'version_conflict'").await, 15);
    }

    async fn of_many_who_change_one_version_exactly_one_does(t: Bench) {
        t.put("a", json!({})).await;
        let tasks: Vec<_> = (0..8).map(|n| {
            let t = t.clone();
            tokio::spawn(async move {
                let ctx = t.admin();
                t.vault.secrets(&ctx).put(&path("a"), expecting(Expectation::Version(1), json!({"n": n}))).await.is_ok()
            })
        }).collect();
        let mut won = 0;
        for task in tasks {
            won += usize::from(task.await.unwrap());
        }
        assert_eq!((won, t.raw.count("secret_version").await), (1, 2));
    }

    async fn a_deleted_secret_is_hidden_blocks_its_path_and_comes_back_whole(t: Bench) {
        let first = SecretWrite { metadata: Some(metadata(json!({"tags": ["x"]}))), ..write(json!({"n": 1})) };
        let admin = t.admin();
        let secrets = t.vault.secrets(&admin);
        secrets.put(&path("a"), first).await.unwrap();
        secrets.put(&path("a"), write(json!({"n": 2}))).await.unwrap();
        let deleted = secrets.delete(&path("a"), false).await.unwrap();
        assert_eq!((deleted.permanent, deleted.version_count), (false, 2));
        assert_eq!(deleted.recoverable_until, Some(t.now() + 30.days()));

        assert_eq!(code(secrets.get(&path("a"), None).await), Code::SecretNotFound);
        assert_eq!(code(secrets.get(&path("a"), Some(1)).await), Code::SecretNotFound);
        assert_eq!(code(secrets.metadata(&path("a")).await), Code::SecretNotFound);
        assert_eq!(code(secrets.versions(&path("a")).await), Code::SecretNotFound);
        assert_eq!(code(secrets.patch(&path("a"), SecretPatch::default()).await), Code::SecretNotFound);
        assert_eq!(code(secrets.delete(&path("a"), false).await), Code::SecretNotFound);
        for expect in [Expectation::Anything, Expectation::Absent, Expectation::Version(2)] {
            assert_eq!(code(secrets.put(&path("a"), expecting(expect, json!({}))).await), Code::SecretExists);
        }
        assert!(secrets.list(ListFilter::default()).await.unwrap().items.is_empty());
        let with_deleted = ListFilter { include_deleted: true, ..ListFilter::default() };
        let listed = secrets.list(with_deleted).await.unwrap().items;
        assert_eq!((listed.len(), listed[0].deleted_at), (1, Some(t.now())));

        t.clock.advance(DAY * 29);
        let later = t.admin();
        let item = t.vault.secrets(&later).restore(&path("a")).await.unwrap();
        assert_eq!((item.version, item.deleted_at), (2, None));
        assert_eq!(item.metadata.tags(), ["x"]);
        assert_eq!(t.get("a").await.unwrap(), json!({"n": 2}));
        assert_eq!(code(secrets.restore(&path("a")).await), Code::SecretNotFound, "it is not deleted any more");
        assert_eq!(code(secrets.restore(&path("none")).await), Code::SecretNotFound);
    }

    async fn after_its_retention_a_deleted_secret_is_gone_and_then_its_rows_are(t: Bench) {
        t.put("a", json!({"n": 1})).await;
        t.put("b", json!({"n": 1})).await;
        let admin = t.admin();
        t.vault.secrets(&admin).delete(&path("a"), false).await.unwrap();
        t.clock.advance(DAY * 30);
        let later = t.admin();
        let secrets = t.vault.secrets(&later);
        assert_eq!(code(secrets.restore(&path("a")).await), Code::SecretNotFound);
        let with_deleted = ListFilter { include_deleted: true, ..ListFilter::default() };
        let listed = secrets.list(with_deleted).await.unwrap().items;
        assert_eq!(listed.iter().map(|i| i.path.as_str()).collect::<Vec<_>>(), ["b"]);

        t.vault.run_due_jobs().await.unwrap();
        assert_eq!(t.raw.texts("SELECT path FROM secret").await, ["b"]);
        assert_eq!(t.raw.count("secret_version").await, 1, "the only copy of its data key is destroyed");
        let purge = t.raw.trail("action = 'secret_purge'").await;
        assert_eq!(purge.len(), 1);
        assert_eq!((purge[0].outcome.as_str(), purge[0].identity.as_str()), ("ok", "system:secret-purge"));
        assert_eq!((purge[0].tenant.as_str(), purge[0].path.as_deref()), (ACME, Some("a")));
        t.vault.run_due_jobs().await.unwrap();
        assert_eq!(t.raw.count("audit_trail WHERE action = 'secret_purge'").await, 1, "nothing was left to do");
        assert_eq!(secrets.put(&path("a"), any()).await.unwrap().item.version, 1);
    }

    async fn each_threshold_and_the_expiry_are_told_once(t: Bench) {
        let told = async |t: &Bench| {
            let sql = "SELECT event_type, path, identity_id, CAST(data AS TEXT) FROM event_outbox \
                       WHERE event_type LIKE 'secret.expir%' ORDER BY created_at, id";
            let rows = t.raw.rows(sql).await.into_iter();
            rows.map(|r| (r[0].clone().unwrap(), r[3].clone().unwrap().parse::<Value>().unwrap())).collect::<Vec<_>>()
        };
        let mut in_ten_days = any();
        in_ten_days.options.expires = Some(Some(Expires::In("10d".parse().unwrap())));
        let admin = t.admin();
        let at = t.vault.secrets(&admin).put(&path("a"), in_ten_days).await.unwrap().item.expires_at.unwrap();
        t.put("b", json!({})).await;
        let at = at.format(&time::format_description::well_known::Rfc3339).unwrap();
        t.vault.run_due_jobs().await.unwrap();
        assert_eq!(told(&t).await, [], "the threshold of 30 days was passed before the secret was there");

        t.clock.advance(DAY * 3);
        t.vault.run_due_jobs().await.unwrap();
        t.replica().await.run_due_jobs().await.unwrap();
        let week = json!({"expires_at": at, "days_remaining": 7, "threshold": "7d"});
        assert_eq!(told(&t).await, [("secret.expiring".to_owned(), week.clone())]);
        let record = t.raw.trail("action = 'secret_notify'").await;
        assert_eq!(record.len(), 1);
        assert_eq!((record[0].identity.as_str(), record[0].path.as_deref()), ("system:secret-expiry", Some("a")));
        assert_eq!(record[0].extra["event"], "secret.expiring");

        // A new version without a word about the expiry leaves the schedule alone.
        t.put("a", json!({"n": 2})).await;
        t.clock.advance(DAY * 8);
        t.vault.run_due_jobs().await.unwrap();
        t.vault.run_due_jobs().await.unwrap();
        let gone = json!({"expires_at": at});
        let all = [("secret.expiring".to_owned(), week), ("secret.expired".to_owned(), gone)];
        assert_eq!(told(&t).await, all, "a threshold that was missed is not told after the expiry");
        assert_eq!(t.raw.count("secret WHERE notify_at IS NOT NULL").await, 0);
    }

    async fn thresholds_follow_a_patch_and_a_deleted_secret_is_not_told_of(t: Bench) {
        let expiring = async |t: &Bench| {
            let sql = "SELECT CAST(data AS TEXT) FROM event_outbox WHERE event_type = 'secret.expiring' ORDER BY created_at, id";
            let data = t.raw.texts(sql).await.into_iter().map(|d| d.parse::<Value>().unwrap());
            data.map(|d| (d["threshold"].clone(), d["days_remaining"].clone())).collect::<Vec<_>>()
        };
        let mut soon = any();
        soon.options.expires = Some(Some(Expires::In("40d".parse().unwrap())));
        let admin = t.admin();
        t.vault.secrets(&admin).put(&path("a"), soon).await.unwrap();
        let options = WriteOptions { notify_before: Some(vec!["20d".parse().unwrap(), "12h".parse().unwrap()]), ..Default::default() };
        t.vault.secrets(&admin).patch(&path("a"), SecretPatch { metadata: None, options }).await.unwrap();
        t.clock.advance(DAY * 15);
        t.vault.run_due_jobs().await.unwrap();
        assert_eq!(expiring(&t).await, [], "30 days is no threshold any more");
        let later = t.admin();
        t.vault.secrets(&later).delete(&path("a"), false).await.unwrap();
        t.clock.advance(DAY * 6);
        t.vault.run_due_jobs().await.unwrap();
        assert_eq!(expiring(&t).await, [], "it is deleted");
        let later = t.admin();
        t.vault.secrets(&later).restore(&path("a")).await.unwrap();
        t.vault.run_due_jobs().await.unwrap();
        assert_eq!(expiring(&t).await, [(json!("20d"), json!(19))]);
        t.clock.advance(DAY * 18 + HOUR * 13);
        t.vault.run_due_jobs().await.unwrap();
        assert_eq!(expiring(&t).await, [(json!("20d"), json!(19)), (json!("12h"), json!(1))]);
        let later = t.admin();
        let never = WriteOptions { expires: Some(None), ..Default::default() };
        t.vault.secrets(&later).patch(&path("a"), SecretPatch { metadata: None, options: never }).await.unwrap();
        t.clock.advance(DAY);
        t.vault.run_due_jobs().await.unwrap();
        assert_eq!(t.raw.count("event_outbox WHERE event_type = 'secret.expired'").await, 0, "it never expires");
    }

    async fn the_job_leaves_what_can_still_be_restored(t: Bench) {
        t.put("a", json!({"n": 1})).await;
        let admin = t.admin();
        t.vault.secrets(&admin).delete(&path("a"), false).await.unwrap();
        t.clock.advance(DAY * 29);
        t.vault.run_due_jobs().await.unwrap();
        let later = t.admin();
        t.vault.secrets(&later).restore(&path("a")).await.unwrap();
        t.clock.advance(DAY * 60);
        t.vault.run_due_jobs().await.unwrap();
        assert_eq!(t.get("a").await.unwrap(), json!({"n": 1}));
    }

    async fn a_path_whose_deleted_secret_can_no_longer_be_restored_is_free(t: Bench) {
        t.put("a", json!({"n": 1})).await;
        let admin = t.admin();
        t.vault.secrets(&admin).delete(&path("a"), false).await.unwrap();
        t.clock.advance(DAY * 30);
        // The job has not run yet: nobody has to wait for it.
        let later = t.admin();
        let written = t.vault.secrets(&later).put(&path("a"), expecting(Expectation::Absent, json!({"n": 2}))).await.unwrap();
        assert!(written.created);
        assert_eq!(written.item.version, 1);
        assert_eq!(t.get("a").await.unwrap(), json!({"n": 2}));
        assert_eq!(t.raw.count("secret_version").await, 1);
    }

    async fn a_permanent_delete_destroys_also_what_is_deleted_already(t: Bench) {
        let admin = t.admin();
        let secrets = t.vault.secrets(&admin);
        for (name, soft_first) in [("a", false), ("b", true)] {
            t.put(name, json!({})).await;
            t.put(name, json!({})).await;
            if soft_first {
                secrets.delete(&path(name), false).await.unwrap();
            }
            let deleted = secrets.delete(&path(name), true).await.unwrap();
            assert_eq!((deleted.permanent, deleted.version_count, deleted.recoverable_until), (true, 2, None));
            assert_eq!(code(secrets.restore(&path(name)).await), Code::SecretNotFound);
            assert_eq!(code(secrets.delete(&path(name), true).await), Code::SecretNotFound);
            assert_eq!(secrets.put(&path(name), any()).await.unwrap().item.version, 1);
        }
        assert_eq!(t.raw.count("secret_version").await, 2);
    }

    async fn an_expired_secret_is_seen_only_by_who_administers_the_path(t: Bench) {
        let admin = t.admin();
        t.vault.secrets(&admin).put(&path("a"), with_options(expiring("1h"))).await.unwrap();
        t.grant("user:reader", "a", &["read"]).await;
        t.grant("user:owner", "a", &["admin"]).await;
        t.clock.advance(std::time::Duration::from_secs(3599));
        for id in ["user:reader", "user:owner"] {
            t.vault.secrets(&t.user(id)).get(&path("a"), None).await.unwrap();
        }
        t.clock.advance(std::time::Duration::from_secs(1));
        let error = refusal(t.vault.secrets(&t.user("user:reader")).get(&path("a"), None).await);
        assert_eq!((error.code(), error.details().expired), (Code::SecretNotFound, Some(true)));
        let value = t.vault.secrets(&t.user("user:owner")).get(&path("a"), None).await.unwrap();
        assert_eq!(value.data.decode::<Value>().unwrap(), json!({"k": "v"}));
        t.vault.secrets(&t.admin()).get(&path("a"), None).await.unwrap();
        // What is written anew is there for everybody.
        t.put("a", json!({"n": 2})).await;
        let value = t.vault.secrets(&t.user("user:reader")).get(&path("a"), None).await.unwrap();
        assert_eq!(value.item.expires_at, None);
        let error = refusal(t.vault.secrets(&t.user("user:reader")).get(&path("none"), None).await);
        assert_eq!((error.code(), error.details().expired), (Code::AccessDenied, None));
    }

    async fn the_last_access_is_written_at_most_once_a_minute(t: Bench) {
        t.put("a", json!({})).await;
        let last = async || { t.vault.secrets(&t.admin()).metadata(&path("a")).await.unwrap().last_accessed_at };
        // It is written soon after the answer: nobody waits for it.
        let becomes = async |expected| {
            for _ in 0..10_000 {
                if last().await == expected {
                    return;
                }
            }
            panic!("{expected:?} was never written, {:?} was", last().await);
        };
        assert_eq!(last().await, None);
        let first = t.now();
        t.get("a").await.unwrap();
        becomes(Some(first)).await;
        t.clock.advance(std::time::Duration::from_secs(59));
        t.get("a").await.unwrap();
        assert_eq!(last().await, Some(first));
        t.clock.advance(std::time::Duration::from_secs(1));
        t.get("a").await.unwrap();
        becomes(Some(first + 60.seconds())).await;
    }

    async fn options_out_of_bounds_are_named_and_nothing_is_written(t: Bench) {
        let admin = t.admin();
        let secrets = t.vault.secrets(&admin);
        let bad = WriteOptions {
            max_versions: Some(101),
            expires: Some(Some(Expires::At(t.now()))),
            notify_before: Some(Vec::new()),
        };
        let error = refusal(secrets.put(&path("a"), with_options(bad.clone())).await);
        assert_eq!(error.code(), Code::ValidationError);
        let fields: Vec<&str> = error.details().fields.keys().map(String::as_str).collect();
        assert_eq!(fields, ["options.expires_at", "options.max_versions", "options.notify_before"]);
        assert_eq!(code(secrets.put(&path("a"), with_options(keeping(0))).await), Code::ValidationError);
        assert_eq!(t.raw.count("secret").await, 0);
        t.put("a", json!({})).await;
        assert_eq!(code(secrets.patch(&path("a"), SecretPatch { metadata: None, options: bad }).await), Code::ValidationError);
        assert_eq!(secrets.metadata(&path("a")).await.unwrap().max_versions, 10);
        let bad = SecretPatch { metadata: Some(object(json!({"tags": "not a list"}))), ..SecretPatch::default() };
        let error = refusal(secrets.patch(&path("a"), bad).await);
        assert!(error.details().fields.contains_key("metadata.tags"), "{error:?}");
        let list = WriteOptions::parse_notify_before("7d, 1d").unwrap();
        let told = WriteOptions { notify_before: Some(list), ..WriteOptions::default() };
        assert_eq!(secrets.put(&path("a"), with_options(told)).await.unwrap().item.notify_before, "7d,1d");
        let error = refusal(WriteOptions::parse_notify_before("7d,soon"));
        assert_eq!(error.code(), Code::InvalidDuration);
        assert!(error.message().contains("options.notify_before"));
    }

    async fn the_longest_expiry_and_the_largest_value_are_kept(t: Bench) {
        let admin = t.admin();
        let secrets = t.vault.secrets(&admin);
        let written = secrets.put(&path("a"), with_options(expiring("52000w"))).await.unwrap();
        assert_eq!(written.item.expires_at, Some(t.now() + 52_000.weeks()));
        let text = "x".repeat((1 << 20) - 8);
        t.put("b", json!({"k": text})).await;
        assert_eq!(t.get("b").await.unwrap()["k"].as_str().unwrap().len(), text.len());
        assert_eq!(code(SecretData::from_value(&json!({"k": format!("{text}x")}))), Code::ValidationError);
    }

    async fn a_text_with_nul_is_refused_by_name_and_disturbs_nobody(t: Bench) {
        for bad in [json!({"owner": "a\0b"}), json!({"tags": ["a\0"]}), json!({"x": {"y": ["\0"]}}), json!({"x\0": 1})] {
            let error = refusal(Metadata::new(object(bad.clone())));
            assert_eq!(error.code(), Code::ValidationError, "{bad}");
        }
        t.put("a", json!({"text": "a\0b"})).await;
        assert_eq!(t.get("a").await.unwrap(), json!({"text": "a\0b"}), "a value may hold anything");
        // Requests that are refused for it, at once with some that are good: all come to their own end.
        let tasks: Vec<_> = (0..32).map(|n| {
            let t = t.clone();
            tokio::spawn(async move {
                let ctx = t.admin();
                if n % 2 == 0 {
                    t.get("a").await.map(drop)
                } else {
                    let filter = ListFilter { prefix: Some("a\0".to_owned()), ..ListFilter::default() };
                    t.vault.secrets(&ctx).list(filter).await.map(drop)
                }
            })
        }).collect();
        for (n, task) in tasks.into_iter().enumerate() {
            match task.await.unwrap() {
                Ok(()) => assert_eq!(n % 2, 0),
                Err(error) => assert_eq!((n % 2, error.code()), (1, Code::InvalidPath)),
            }
        }
        let filter = ListFilter { tag: Some("\0".to_owned()), ..ListFilter::default() };
        assert_eq!(code(t.vault.secrets(&t.admin()).list(filter).await), Code::InvalidRequest);
        let admin = t.admin();
        assert_eq!(code(t.vault.policies(&admin).read("pol_\0").await), Code::InvalidRequest);
        assert_eq!(code(t.vault.pki(&admin).ca("ca_\0").await), Code::InvalidRequest);
        let refused: Vec<_> = t.trail(&admin).await.into_iter().map(|r| (r.outcome, r.resource.unwrap())).collect();
        let expected = ["pol_\u{fffd}", "ca_\u{fffd}"].map(|id| ("invalid_request".to_owned(), id.to_owned()));
        assert!(expected.iter().all(|e| refused.contains(e)) && refused.len() == 2, "{refused:?}");
        let nobody = t.user("user:nobody");
        assert_eq!(code(t.vault.pki(&nobody).issue("r\0", Default::default()).await), Code::AccessDenied);
        assert_eq!(t.trail(&nobody).await[0].path.as_deref(), Some("pki/issue/r\u{fffd}"));
    }

    async fn each_verb_needs_its_own_scope(t: Bench) {
        t.put("a", json!({})).await;
        t.grant("user:u", "**", &["admin"]).await;
        let scopes = [Scope::SecretsRead, Scope::SecretsWrite, Scope::SecretsDelete, Scope::SecretsList];
        for scope in scopes {
            let others: Vec<Scope> = Scope::ALL.iter().copied().filter(|s| *s != scope && *s != Scope::Admin).collect();
            let ctx = t.scoped("user:u", &others);
            let secrets = t.vault.secrets(&ctx);
            let errors = match scope {
                Scope::SecretsRead => vec![secrets.get(&path("a"), None).await.map(drop)],
                Scope::SecretsWrite => vec![
                    secrets.put(&path("a"), any()).await.map(drop),
                    secrets.patch(&path("a"), SecretPatch::default()).await.map(drop),
                    secrets.restore(&path("a")).await.map(drop),
                ],
                Scope::SecretsDelete => vec![secrets.delete(&path("a"), true).await.map(drop)],
                _ => vec![
                    secrets.list(ListFilter::default()).await.map(drop),
                    secrets.metadata(&path("a")).await.map(drop),
                    secrets.versions(&path("a")).await.map(drop),
                ],
            };
            for result in errors {
                let error = refusal(result);
                assert_eq!((error.code(), error.details().required_scope), (Code::InsufficientScope, Some(scope.as_str())));
            }
        }
        assert_eq!(t.get("a").await.unwrap(), json!({}), "nothing of it happened");
    }
}

#[tokio::test]
async fn a_vault_in_memory_keeps_what_it_is_given() {
    let vault = Vault::builder(Database::in_memory(), root_key(7)).open().await.unwrap();
    let caller = crate::bench::user("user:a")
        .with_scopes([Scope::Admin])
        .with_roles([scaivault_core::Role::TenantAdmin]);
    let ctx = vault.ctx(caller).unwrap();
    vault.secrets(&ctx).put(&path("a"), write(json!({"n": 1}))).await.unwrap();
    let value = vault.secrets(&ctx).get(&path("a"), None).await.unwrap();
    assert_eq!(value.data.decode::<Value>().unwrap(), json!({"n": 1}));
    vault.close().await;
    assert_eq!(code(vault.secrets(&ctx).get(&path("a"), None).await), Code::ServiceUnavailable);
}
