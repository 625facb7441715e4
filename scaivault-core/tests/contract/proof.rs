//! The audit trail proves itself: what was done to it past the vault is found.

use scaivault_core::{
    AuditFilter, AuditKey, Caller, Code, Ctx, End, Fault, FaultKind, Line, ProofRange, Scope, Verdict,
    Verifier, verify_export,
};
use serde_json::json;
use time::macros::datetime;

use crate::bench::{ACME, Bench, DAY, HOUR, OTHER, any, code, contract, path, root_key, tenant};

/// A trail of twelve records or so, signed for in the middle and at its end.
async fn trail(t: &Bench) {
    for n in 0..3 {
        t.put(&format!("app/{n}"), json!({"n": n})).await;
        t.get(&format!("app/{n}")).await.unwrap();
        t.vault.secrets(&t.admin_of(OTHER)).put(&path(&format!("app/{n}")), any()).await.unwrap();
    }
    t.vault.run_due_jobs().await.unwrap();
    t.clock.advance(HOUR);
    for n in 0..3 {
        t.get(&format!("app/{n}")).await.unwrap();
    }
    t.vault.run_due_jobs().await.unwrap();
    // Behind the last checkpoint, as a trail always has some.
    t.get("app/0").await.unwrap();
    t.get("app/1").await.unwrap();
}

async fn verify(t: &Bench, ctx: &Ctx, range: ProofRange) -> Verdict {
    t.vault.audit(ctx).verify(range).await.unwrap()
}

async fn verdict(t: &Bench) -> Verdict {
    verify(t, &t.admin(), ProofRange::default()).await
}

/// Does what only somebody can who has the database to himself.
async fn tamper(t: &Bench, sql: &[&str]) {
    if t.folder.is_some() {
        for trigger in [
            "audit_log_no_update",
            "audit_log_no_delete",
            "audit_checkpoint_no_update",
            "audit_checkpoint_no_delete",
        ] {
            t.raw.execute(&format!("DROP TRIGGER IF EXISTS {trigger}")).await;
        }
    } else {
        t.raw.execute("SET session_replication_role = replica").await;
    }
    for sql in sql {
        assert!(t.raw.execute(sql).await > 0, "{sql} did nothing");
    }
}

/// What the verifier says once a good trail was tampered with.
async fn fault(t: &Bench, sql: &[&str]) -> Fault {
    trail(t).await;
    tamper(t, sql).await;
    verdict(t).await.fault.unwrap()
}

async fn export(t: &Bench, ctx: &Ctx) -> Vec<Line> {
    let mut lines = Vec::new();
    let take = |line: &Line| {
        lines.push(line.clone());
        Ok(())
    };
    t.vault.audit(ctx).export(take).await.unwrap();
    lines
}

fn judge(key: &AuditKey, lines: &[Line]) -> Verdict {
    let lines = lines.iter().map(|line| Ok::<_, std::convert::Infallible>(line.clone()));
    let Ok(verdict) = verify_export(key, lines);
    verdict
}

fn kind(verdict: &Verdict) -> Option<FaultKind> {
    verdict.fault.as_ref().map(|fault| fault.kind)
}

contract! {
    async fn a_trail_that_nobody_touched_is_good_and_has_no_gaps(t: Bench) {
        trail(&t).await;
        for id in [ACME, OTHER] {
            let found = verify(&t, &t.admin_of(id), ProofRange::default()).await;
            assert!(found.is_good(), "{found:?}");
            assert_eq!((found.first_seq, found.tenant_id.as_str()), (1, id));
            // The verdict itself is one more.
            assert_eq!(t.raw.count(&format!("audit_log WHERE tenant_id = '{id}'")).await as i64, found.last_seq + 1);
        }
        assert_eq!(t.raw.count("(SELECT 1 FROM audit_log GROUP BY tenant_id, seq HAVING count(*) > 1) d").await, 0);
        assert_eq!(t.raw.count("audit_intake").await, 0);
        let never = verify(&t, &t.admin_of("tnt_never"), ProofRange::default()).await;
        assert!(never.is_good() && never.last_seq == 0);
        assert_eq!(code(t.vault.audit(&t.scoped("u", &[Scope::SecretsRead])).verify(ProofRange::default()).await), Code::InsufficientScope);
        let seen = t.vault.audited_tenants().await.unwrap();
        assert!(seen.contains(&tenant(ACME)) && seen.contains(&tenant(OTHER)));
    }

    async fn replicas_that_write_at_once_make_one_chain(t: Bench) {
        let replica = if t.folder.is_some() { t.vault.clone() } else { t.replica().await };
        let tasks: Vec<_> = (0..80).map(|n| {
            let (t, vault) = (t.clone(), if n % 2 == 0 { t.vault.clone() } else { replica.clone() });
            tokio::spawn(async move {
                let ctx = t.admin_of(if n % 3 == 0 { OTHER } else { ACME });
                let at = path(&format!("s/{n}"));
                if n % 5 == 0 {
                    vault.secrets(&ctx).get(&at, None).await.map(drop).unwrap_err();
                } else {
                    vault.secrets(&ctx).put(&at, any()).await.unwrap();
                }
            })
        }).collect();
        for task in tasks {
            task.await.unwrap();
        }
        let mut sum = 0;
        for id in [ACME, OTHER] {
            let found = verify(&t, &t.admin_of(id), ProofRange::default()).await;
            assert!(found.is_good(), "{found:?}");
            sum += found.last_seq;
        }
        assert_eq!(sum, 80, "each its place, none twice");
    }

    async fn a_part_of_a_chain_is_verified_between_the_checkpoints_around_it(t: Bench) {
        trail(&t).await;
        let whole = verdict(&t).await;
        let from = t.now();
        let late = verify(&t, &t.admin(), ProofRange { from: Some(from), to: None }).await;
        assert!(late.is_good() && late.first_seq > 1, "{late:?}");
        let early = verify(&t, &t.admin(), ProofRange { from: None, to: Some(from) }).await;
        assert!(early.is_good() && early.last_seq < whole.last_seq, "{early:?}");
        tamper(&t, &["UPDATE audit_log SET identity_id = 'user:mallory' WHERE tenant_id = 'tnt_acme' AND seq = 2"]).await;
        assert!(verify(&t, &t.admin(), ProofRange { from: Some(from), to: None }).await.is_good());
        let early = verify(&t, &t.admin(), ProofRange { from: None, to: Some(from) }).await;
        assert_eq!((kind(&early), early.fault.unwrap().seq), (Some(FaultKind::Edited), 2));
    }

    async fn sec_i2_a_deleted_record_is_found(t: Bench) {
        let fault = fault(&t, &["DELETE FROM audit_log WHERE tenant_id = 'tnt_acme' AND seq = 4"]).await;
        assert_eq!((fault.kind, fault.seq), (FaultKind::Missing, 4));
    }

    async fn sec_i2_the_first_records_deleted_are_found(t: Bench) {
        let fault = fault(&t, &["DELETE FROM audit_log WHERE tenant_id = 'tnt_acme' AND seq < 3"]).await;
        assert_eq!((fault.kind, fault.seq), (FaultKind::Missing, 1));
    }

    async fn sec_i2_an_edited_record_is_found_by_its_place_and_name(t: Bench) {
        let fault = fault(&t, &["UPDATE audit_log SET secret_path = 'app/else' WHERE tenant_id = 'tnt_acme' AND seq = 3"]).await;
        let id = t.raw.texts("SELECT id FROM audit_log WHERE tenant_id = 'tnt_acme' AND seq = 3").await.remove(0);
        assert_eq!((fault.kind, fault.seq, fault.id), (FaultKind::Edited, 3, Some(id)));
    }

    async fn sec_i2_records_that_changed_places_are_found(t: Bench) {
        let fault = fault(&t, &[
            "UPDATE audit_log SET seq = 1000 WHERE tenant_id = 'tnt_acme' AND seq = 3",
            "UPDATE audit_log SET seq = 3 WHERE tenant_id = 'tnt_acme' AND seq = 4",
            "UPDATE audit_log SET seq = 4 WHERE tenant_id = 'tnt_acme' AND seq = 1000",
        ]).await;
        assert_eq!((fault.kind, fault.seq), (FaultKind::Edited, 3));
    }

    async fn sec_i2_a_record_that_is_there_twice_is_found(t: Bench) {
        trail(&t).await;
        let columns = "tenant_id, seq, prev_hash, hash, action, identity_type, identity_id, acting_tenant_id, resource_type, resource_id, \
            secret_path, source_ip, user_agent, success, error_code, duration_ms, request_id, extra_data, timestamp";
        // The id makes the row another one, and the hash gives it away; with the index gone the row may be the same.
        let copy = format!("INSERT INTO audit_log ({columns}, id) SELECT {columns}, id || '!' FROM audit_log WHERE tenant_id = 'tnt_acme' AND seq = 3");
        t.raw.execute("DROP INDEX audit_log_seq").await;
        tamper(&t, &[&copy]).await;
        let found = verdict(&t).await.fault.unwrap();
        assert_eq!((found.kind, found.seq), (FaultKind::Edited, 3));
        if t.folder.is_some() {
            t.raw.execute("DELETE FROM audit_log WHERE id LIKE '%!'").await;
            t.raw.execute("DROP VIEW audit_trail").await;
            t.raw.execute("CREATE TABLE free AS SELECT * FROM audit_log").await;
            t.raw.execute("DROP TABLE audit_log").await;
            t.raw.execute("ALTER TABLE free RENAME TO audit_log").await;
            t.raw.execute("INSERT INTO audit_log SELECT * FROM audit_log WHERE tenant_id = 'tnt_acme' AND seq = 3").await;
        } else {
            t.raw.execute("DELETE FROM audit_log WHERE id LIKE '%!'").await;
            t.raw.execute("ALTER TABLE audit_log DROP CONSTRAINT audit_log_pkey CASCADE").await;
            t.raw.execute("INSERT INTO audit_log SELECT * FROM audit_log WHERE tenant_id = 'tnt_acme' AND seq = 3").await;
        }
        let found = verdict(&t).await;
        // Both have one place and one name; a page gives either one or both.
        assert_eq!((kind(&found), found.fault.unwrap().seq), (Some(FaultKind::Duplicated), 3));
    }

    async fn sec_i2_a_tail_that_was_cut_off_is_found(t: Bench) {
        trail(&t).await;
        let good = verdict(&t).await;
        // Only the records; then the head set back to what is left; then the last checkpoint gone as well.
        tamper(&t, &["DELETE FROM audit_log WHERE tenant_id = 'tnt_acme' AND seq > 5"]).await;
        let found = verdict(&t).await;
        assert!(matches!(kind(&found), Some(FaultKind::Truncated | FaultKind::Missing)), "{found:?}");
        assert_eq!(found.fault.unwrap().seq, 6);
        let back = "UPDATE audit_head SET seq = 5, hash = (SELECT hash FROM audit_log WHERE tenant_id = 'tnt_acme' AND seq = 5) WHERE tenant_id = 'tnt_acme'";
        tamper(&t, &["DELETE FROM audit_log WHERE tenant_id = 'tnt_acme' AND seq > 5", back]).await;
        let found = verdict(&t).await;
        assert_eq!((kind(&found), found.fault.unwrap().seq), (Some(FaultKind::Truncated), 6));
        assert!(good.signed_seq > Some(6));
        // The job signs for nothing that contradicts what was signed.
        t.clock.advance(HOUR);
        assert_eq!(code(t.vault.run_due_jobs().await), Code::InternalError);
        tamper(&t, &["DELETE FROM audit_log WHERE tenant_id = 'tnt_acme'", "DELETE FROM audit_head WHERE tenant_id = 'tnt_acme'"]).await;
        let found = verdict(&t).await;
        assert_eq!((kind(&found), found.fault.unwrap().seq), (Some(FaultKind::Truncated), 1));
        assert!(t.vault.audited_tenants().await.unwrap().contains(&tenant(ACME)));
    }

    async fn sec_i2_chains_that_changed_tenants_are_found(t: Bench) {
        trail(&t).await;
        tamper(&t, &[
            "UPDATE audit_log SET tenant_id = 'tnt_x' WHERE tenant_id = 'tnt_acme'",
            "UPDATE audit_log SET tenant_id = 'tnt_acme' WHERE tenant_id = 'tnt_other'",
            "UPDATE audit_log SET tenant_id = 'tnt_other' WHERE tenant_id = 'tnt_x'",
            "UPDATE audit_head SET tenant_id = 'tnt_x' WHERE tenant_id = 'tnt_acme'",
            "UPDATE audit_head SET tenant_id = 'tnt_acme' WHERE tenant_id = 'tnt_other'",
            "UPDATE audit_head SET tenant_id = 'tnt_other' WHERE tenant_id = 'tnt_x'",
        ]).await;
        for id in [ACME, OTHER] {
            let found = verify(&t, &t.admin_of(id), ProofRange::default()).await;
            assert_eq!((kind(&found), found.fault.unwrap().seq), (Some(FaultKind::Edited), 1));
        }
    }

    async fn sec_i2_a_relabelled_algorithm_or_key_is_found(t: Bench) {
        trail(&t).await;
        tamper(&t, &["UPDATE audit_checkpoint SET algorithm = 'none' WHERE tenant_id = 'tnt_acme'"]).await;
        assert_eq!(kind(&verdict(&t).await), Some(FaultKind::BadCheckpoint));
        tamper(&t, &["UPDATE audit_checkpoint SET algorithm = 'ecdsa-p256-sha256', key_id = 'mine' WHERE tenant_id = 'tnt_acme'"]).await;
        assert_eq!(kind(&verdict(&t).await), Some(FaultKind::BadCheckpoint));
        let key = t.vault.audit_key().await.unwrap();
        let other = format!("UPDATE audit_checkpoint SET key_id = '{}', purpose = 'retention' WHERE tenant_id = 'tnt_acme'", key.id());
        tamper(&t, &[&other]).await;
        assert_eq!(kind(&verdict(&t).await), Some(FaultKind::BadCheckpoint), "a head is no statement of retention");
    }

    async fn sec_i2_a_history_that_was_written_anew_is_found_by_its_signature(t: Bench) {
        trail(&t).await;
        let key = t.vault.audit_key().await.unwrap();
        let lines = export(&t, &t.admin()).await;
        assert!(judge(&key, &lines).is_good(), "{:?}", judge(&key, &lines));
        // Somebody who can do all but sign: every hash is right again.
        let mut before = scaivault_core::ChainHash::default();
        let forged: Vec<Line> = lines.iter().cloned().map(|line| match line {
            Line::Record(mut record) => {
                if record.seq == 2 {
                    record.log.identity_id = "user:mallory".to_owned();
                }
                record.prev_hash = before;
                record.hash = record.digest();
                before = record.hash;
                Line::Record(record)
            }
            other => other,
        }).collect();
        let found = judge(&key, &forged);
        assert_eq!(kind(&found), Some(FaultKind::Edited), "{found:?}");
        let unsigned: Vec<Line> = forged.into_iter().filter(|line| !matches!(line, Line::Checkpoint(_))).collect();
        assert_eq!(kind(&judge(&key, &unsigned)), Some(FaultKind::Edited), "the last checkpoint is in the first line");
    }

    async fn sec_i2_an_exported_trail_is_judged_without_the_vault(t: Bench) {
        trail(&t).await;
        let key = AuditKey::from_pem(&t.vault.audit_key().await.unwrap().to_pem()).unwrap();
        let good = export(&t, &t.admin()).await;
        let text: Vec<String> = good.iter().map(|line| serde_json::to_string(line).unwrap()).collect();
        let read: Vec<Line> = text.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(read, good, "what is written is read");
        assert!(judge(&key, &good).is_good());
        let records: Vec<usize> = (0..good.len()).filter(|&n| matches!(good[n], Line::Record(_))).collect();
        let at = records[3];
        let changed = |change: &dyn Fn(&mut Vec<Line>)| {
            let mut lines = good.clone();
            change(&mut lines);
            judge(&key, &lines).fault.map(|fault| (fault.kind, fault.seq))
        };
        let last = records.len() as i64;
        assert_eq!(changed(&|l| drop(l.remove(at))), Some((FaultKind::Missing, 4)));
        assert_eq!(changed(&|l| l.swap(at, records[4])), Some((FaultKind::Reordered, 4)));
        assert_eq!(changed(&|l| l.insert(at, good[at].clone())), Some((FaultKind::Duplicated, 4)));
        assert_eq!(changed(&|l| l.truncate(records[records.len() - 1])), Some((FaultKind::Truncated, last)));
        assert_eq!(changed(&|l| l.truncate(1)), Some((FaultKind::Truncated, 1)));
        assert!(changed(&|l| drop(l.remove(0))).is_some(), "without a header");
        assert!(changed(&|l| l.clear()).is_some());
        assert_eq!(changed(&|l| if let Line::Record(r) = &mut l[at] { r.log.success = !r.log.success }), Some((FaultKind::Edited, 4)));
        assert_eq!(changed(&|l| if let Line::Record(r) = &mut l[at] {
            r.log.duration_ms += 1;
            r.hash = r.digest();
        }), Some((FaultKind::Unlinked, 5)));
        assert_eq!(changed(&|l| if let Line::Header { ends_with, .. } = &mut l[0] { ends_with.algorithm = "none".to_owned() }).map(|f| f.0), Some(FaultKind::BadCheckpoint));
        let theirs = export(&t, &t.admin_of(OTHER)).await;
        assert!(judge(&key, &theirs).is_good());
        let swapped = changed(&|l| { *l = theirs.clone(); l[0] = good[0].clone(); });
        assert_eq!(swapped.map(|f| f.0), Some(FaultKind::OtherTenant));
        // An older header for a longer trail: nothing stands for what follows.
        let early = good.iter().find_map(|line| match line { Line::Checkpoint(c) => Some(c.clone()), _ => None }).unwrap();
        let longer = changed(&|l| {
            l.retain(|line| !matches!(line, Line::Checkpoint(_)));
            if let Line::Header { ends_with, .. } = &mut l[0] { *ends_with = early.clone() }
        });
        assert_eq!(longer, Some((FaultKind::Unsigned, early.seq + 1)));
        // Nor can it begin behind any checkpoint that comes handy.
        let cut = changed(&|l| {
            l.retain(|line| !matches!(line, Line::Record(r) if r.seq <= early.seq));
            if let Line::Header { begins_after, .. } = &mut l[0] { *begins_after = Some(early.clone()) }
        });
        assert_eq!(cut.map(|f| f.0), Some(FaultKind::Missing));
        // Another vault's key proves nothing here.
        let mut stranger = Verifier::new(&key, ACME);
        stranger.checkpoint(&early);
        assert!(!stranger.finish(End::Signed).is_good(), "promised, not there");
    }

    async fn sec_i2_the_database_itself_refuses_to_change_the_trail(t: Bench) {
        trail(&t).await;
        for sql in [
            "UPDATE audit_log SET success = NOT success",
            "DELETE FROM audit_log",
            "UPDATE audit_checkpoint SET seq = 1",
            "DELETE FROM audit_checkpoint",
        ] {
            assert!(t.raw.try_execute(sql).await.is_err(), "{sql}");
        }
        assert!(verdict(&t).await.is_good());
    }

    async fn what_a_crash_left_without_a_place_gets_one(t: Bench) {
        t.put("app/a", json!({})).await;
        t.vault.audit(&t.admin()).query(AuditFilter::default()).await.unwrap();
        let left = |id: &str| format!(
            "INSERT INTO audit_intake (tenant_id, id, timestamp, action, identity_type, identity_id, acting_tenant_id, success, duration_ms, request_id, extra_data) \
             SELECT tenant_id, '{id}', timestamp, action, identity_type, identity_id, acting_tenant_id, success, duration_ms, 'req_left', '{{\"f\": 1.50, \"n\": 7}}' \
             FROM audit_log WHERE action = 'write' AND request_id <> 'req_left'"
        );
        t.raw.execute(&left("log_left_1")).await;
        // By whoever asks, by the job, by the next start.
        let filter = AuditFilter { request_id: Some("req_left".to_owned()), ..AuditFilter::default() };
        assert_eq!(t.vault.audit(&t.admin()).query(filter.clone()).await.unwrap().items.len(), 1);
        t.raw.execute(&left("log_left_2")).await;
        t.vault.run_due_jobs().await.unwrap();
        assert_eq!(t.raw.count("audit_intake").await, 0);
        t.raw.execute(&left("log_left_3")).await;
        t.vault.close().await;
        let again = t.builder(root_key(7)).open().await.unwrap();
        let ctx = again.ctx(Caller::system("test", tenant(ACME)).unwrap()).unwrap();
        assert_eq!(again.audit(&ctx).query(filter).await.unwrap().items.len(), 3);
        assert!(again.audit(&ctx).verify(ProofRange::default()).await.unwrap().is_good());
        again.close().await;
    }

    async fn what_outlived_its_retention_goes_and_the_rest_is_still_proved(t: Bench) {
        t.clock.set(datetime!(2011-03-30 12:00 UTC));
        trail(&t).await;
        t.clock.advance(DAY * 40);
        trail(&t).await;
        let before = verdict(&t).await;
        assert!(before.is_good() && before.first_seq == 1);
        let old = t.raw.count("audit_log WHERE tenant_id = 'tnt_acme'").await;
        // Seven years and a little after the first trail, not after the second.
        t.clock.set(datetime!(2018-04-12 12:00 UTC));
        t.vault.run_due_jobs().await.unwrap();
        t.vault.run_due_jobs().await.unwrap();
        let left = t.raw.count("audit_log WHERE tenant_id = 'tnt_acme'").await;
        assert!(left > 0 && left < old, "{left} of {old}");
        let after = verdict(&t).await;
        assert!(after.is_good() && after.first_seq > 1 && after.last_seq > before.last_seq, "{after:?}");
        let key = t.vault.audit_key().await.unwrap();
        assert!(judge(&key, &export(&t, &t.admin()).await).is_good());
        // What is gone without having outlived its time is missed.
        let first = format!("DELETE FROM audit_log WHERE tenant_id = 'tnt_acme' AND seq = {}", after.first_seq);
        tamper(&t, &[&first]).await;
        assert_eq!(kind(&verdict(&t).await), Some(FaultKind::Missing));
    }
}

/// On PostgreSQL only: what a role that owns nothing can do with partitions.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_are_made_and_let_go_of_by_a_role_that_owns_nothing() {
    crate::bench::on_postgres(|t: Bench| async move {
        t.put("a", json!({})).await;
        t.vault.run_due_jobs().await.unwrap();
        let names = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'audit_log'::regclass ORDER BY 1";
        let expected = ["04", "05", "06", "07"].map(|month| format!("audit_log_p2026_{month}"));
        assert_eq!(t.raw.texts(names).await, expected, "this month and three more");

        let role = format!("scaivault_nobody_{}", t.admin().request_id());
        for sql in [
            format!("CREATE ROLE {role}"),
            format!("GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO {role}"),
            "ALTER TABLE audit_log ENABLE ROW LEVEL SECURITY".to_owned(),
            format!("SET ROLE {role}"),
        ] {
            t.raw.execute(&sql).await;
        }
        let make = |table: &str, month: &str| format!("SELECT scaivault_make_partition('{table}', '{month}')::text");
        assert_eq!(t.raw.texts(&make("audit_log", "2014-02-17")).await, ["true"]);
        assert_eq!(t.raw.texts(&make("audit_log", "2014-02-01")).await, ["false"]);
        assert!(t.raw.try_execute(&make("tenant", "2014-02-01")).await.is_err());
        assert_eq!(t.raw.texts(&make("pki_certificate", "2014-02-01")).await, ["true"]);
        let fenced = "SELECT (relrowsecurity AND relforcerowsecurity)::text FROM pg_class WHERE relname = 'audit_log_p2014_02'";
        assert_eq!(t.raw.texts(fenced).await, ["true"], "fenced as its parent is");
        assert!(t.raw.try_execute("SELECT * FROM audit_log_p2014_02").await.is_err());
        let detach = |month: &str| format!("SELECT scaivault_detach_partition('audit_log', {month})::text");
        assert!(t.raw.try_execute(&detach("(now() - interval '40 days')::date")).await.is_err(), "not old enough");
        assert_eq!(t.raw.texts(&detach("'2014-02-01'")).await, ["true"]);
        assert_eq!(t.raw.texts(&detach("'2014-02-01'")).await, ["false"]);
        t.raw.execute("RESET ROLE").await;
        assert_eq!(t.raw.count("pg_class WHERE relname = 'audit_log_p2014_02_detached' AND relkind = 'r'").await, 1);
        // Replicas that make the same month at once both have it.
        let second = t.replica().await;
        t.clock.advance(DAY * 365);
        let (one, two) = tokio::join!(t.vault.run_due_jobs(), second.run_due_jobs());
        one.and(two).unwrap();
        assert_eq!(t.raw.texts(names).await.len(), 8);
        second.close().await;
        for sql in [format!("DROP OWNED BY {role}"), format!("DROP ROLE {role}")] {
            t.raw.execute(&sql).await;
        }
    })
    .await;
}
