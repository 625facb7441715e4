//! Two replicas on one database: what was revoked is allowed nowhere a second after that was acknowledged, whatever
//! else went on, and what was granted is.

use std::sync::Arc;

use scaivault_core::{
    Clock as _, Code, Scope, Vault,
    policy::{Binding, BindingWrite},
};
use serde_json::json;
use time::{Duration, OffsetDateTime};

use crate::bench::{TestClock, bind_user, contract, path, policy, root_key, user};

/// Interleavings on SQLite: `SCAIVAULT_TEST_INTERLEAVINGS`, or few, as ten thousand take minutes. On PostgreSQL a tenth.
fn rounds() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "one of the two settings that the tests themselves have")]
    let rounds = std::env::var("SCAIVAULT_TEST_INTERLEAVINGS");
    rounds.map_or(40, |rounds| rounds.parse().unwrap())
}

/// Steps of each.
const STEPS: u64 = 24;

struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// What was acknowledged, by which replica, and when.
struct Model {
    binding: Option<Binding>,
    changed_by: usize,
    changed_at: OffsetDateTime,
}

async fn reads(vault: &Vault) -> bool {
    let ctx = vault.ctx(user("user:u").with_scopes([Scope::SecretsRead])).unwrap();
    match vault.secrets(&ctx).get(&path("a"), None).await {
        Ok(_) => true,
        Err(error) => {
            assert_eq!(error.code(), Code::AccessDenied);
            false
        }
    }
}

contract! {
    async fn a_revocation_that_was_acknowledged_holds_everywhere_within_a_second(t: Bench) {
        t.put("a", json!({})).await;
        let made = t.vault.policies(&t.admin()).create(policy("p", &[("a", &["read"])])).await.unwrap();
        // The clocks of the replicas differ, as clocks do.
        let other = TestClock::at(t.now() + Duration::minutes(3));
        let replica = t.builder(root_key(7)).clock(Arc::clone(&other) as Arc<_>).open().await.unwrap();
        let vaults = [t.vault.clone(), replica];
        let rounds = if t.scratch.is_some() { rounds() / 10 } else { rounds() };
        let start = t.now();
        let mut model = Model { binding: None, changed_by: 0, changed_at: start - Duration::HOUR };
        let (mut allows, mut stale, mut settled) = (0, 0, 0);
        for seed in 0..rounds {
            let mut dice = Dice(seed);
            for step in 0..STEPS {
                let on = dice.roll(2) as usize;
                let vault = &vaults[on];
                let admin = vault.ctx(t.admin().caller().clone()).unwrap();
                let what = dice.roll(8);
                if what < 2 {
                    let by = std::time::Duration::from_millis(dice.roll(700));
                    t.clock.advance(by);
                    other.advance(by);
                    continue;
                }
                if what == 2 {
                    // A change, and reads on both replicas while it goes on: they may end either way, and must
                    // leave nothing behind.
                    let change = async {
                        match model.binding.take() {
                            Some(binding) => {
                                vault.policies(&admin).unbind(&made.id, &binding.id).await.unwrap();
                                None
                            }
                            None => Some(vault.policies(&admin).bind(&made.id, bind_user("user:u")).await.unwrap().0),
                        }
                    };
                    let (binding, ..) = tokio::join!(change, reads(&vaults[0]), reads(&vaults[1]));
                    model = Model { binding, changed_by: on, changed_at: t.now() };
                    continue;
                }
                let allowed = reads(vault).await;
                let age = t.now() - model.changed_at;
                let known = on == model.changed_by || age >= Duration::SECOND;
                if known {
                    settled += 1;
                    assert_eq!(allowed, model.binding.is_some(), "seed {seed}, step {step}: {age} after a change on {}", model.changed_by);
                }
                allows += u32::from(allowed);
                stale += u32::from(allowed && model.binding.is_none());
            }
        }
        assert!(allows > 0 && settled > allows / 2, "{allows} allowed, {settled} settled");
        // Within the second it may happen, or this test would not see what it looks for.
        assert!(stale > 0 || rounds < 20, "no read was stale");
        assert_eq!(t.clock.now() - start, other.now() - start - Duration::minutes(3));
        vaults[1].close().await;
    }

    async fn sec_k5_a_clock_that_jumps_neither_lets_in_nor_locks_out(t: Bench) {
        t.put("a", json!({})).await;
        let made = t.vault.policies(&t.admin()).create(policy("p", &[("a", &["read"])])).await.unwrap();
        let other = TestClock::at(t.now());
        let replica = t.builder(root_key(7)).clock(Arc::clone(&other) as Arc<_>).open().await.unwrap();
        for jump in [Duration::HOUR, -Duration::HOUR, -Duration::HOUR, Duration::HOUR] {
            let (binding, _) = t.vault.policies(&t.admin()).bind(&made.id, bind_user("user:u")).await.unwrap();
            other.advance(std::time::Duration::from_secs(1));
            assert!(reads(&replica).await, "{jump}");
            other.set(other.now() + jump);
            t.vault.policies(&t.admin()).unbind(&made.id, &binding.id).await.unwrap();
            other.advance(std::time::Duration::from_secs(1));
            assert!(!reads(&replica).await, "allowed after a jump of {jump}");
            assert!(!reads(&t.vault).await);
        }
        // A binding ends by the clock of whoever is asked; a jump forth does not end it for the others.
        let ends = BindingWrite { expires_at: Some(t.now() + Duration::minutes(30)), ..bind_user("user:u") };
        t.vault.policies(&t.admin()).bind(&made.id, ends).await.unwrap();
        other.set(t.now() + Duration::HOUR);
        assert!(!reads(&replica).await);
        assert!(reads(&t.vault).await);
        other.set(t.now());
        assert!(reads(&replica).await);
        replica.close().await;
    }
}
