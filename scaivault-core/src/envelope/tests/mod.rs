//! Rotation of keys, over SQLite and, where `SCAIVAULT_TEST_POSTGRES` names a server, over PostgreSQL.

mod ground;
mod keyring;
mod life;
mod partner_and_root;
mod upgrade;
mod verify;
mod wear;

/// Writes each test once and runs it over both databases.
macro_rules! over_both {
    ($($(#[$attribute:meta])* async fn $name:ident($ground:ident: Ground) $body:block)*) => {
        $($(#[$attribute])* async fn $name($ground: Ground) $body)*

        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(super::Ground::sqlite()).await;
            })*
        }

        #[cfg(feature = "postgres")]
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                if let Some(ground) = super::Ground::postgres().await {
                    super::$name(ground).await;
                }
            })*
        }
    };
}
use over_both;
