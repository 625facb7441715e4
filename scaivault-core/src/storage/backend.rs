//! Runs a [`Query`] on whichever database, in one place.

#[cfg(feature = "postgres")]
use sqlx::Postgres;
use sqlx::{Arguments, Executor, FromRow, IntoArguments, Sqlite};

use super::{query::Query, types::Arg};

/// A database that can take every [`Arg`].
pub(super) trait Backend: sqlx::Database<Arguments: IntoArguments<Self>> {
    fn arguments(args: Vec<Arg<'_>>) -> Result<Self::Arguments, sqlx::Error>;
    fn rows(done: &Self::QueryResult) -> u64;
}

/// PostgreSQL has no texts with a NUL. Both databases refuse them, so that both answer alike.
#[derive(Debug, thiserror::Error)]
#[error("a text holds the character NUL")]
pub(crate) struct NulInText;

macro_rules! backend {
    ($db:ty) => {
        impl Backend for $db {
            fn arguments(args: Vec<Arg<'_>>) -> Result<Self::Arguments, sqlx::Error> {
                let mut to = Self::Arguments::default();
                to.reserve(args.len(), 0);
                for arg in args {
                    if arg.has_nul() {
                        return Err(sqlx::Error::Encode(Box::new(NulInText)));
                    }
                    match arg {
                        Arg::Text(v) => to.add(v),
                        Arg::Owned(v) => to.add(v),
                        Arg::Int(v) => to.add(v),
                        Arg::Bool(v) => to.add(v),
                        Arg::Time(v) => to.add(v),
                        Arg::Bytes(v) => to.add(v),
                        Arg::Json(v) => to.add(sqlx::types::Json(v)),
                    }
                    .map_err(sqlx::Error::Encode)?;
                }
                Ok(to)
            }

            fn rows(done: &Self::QueryResult) -> u64 {
                done.rows_affected()
            }
        }
    };
}

backend!(Sqlite);
#[cfg(feature = "postgres")]
backend!(Postgres);

pub(super) async fn optional<'c, B, R>(
    on: impl Executor<'c, Database = B>,
    query: Query<'_>,
) -> Result<Option<R>, sqlx::Error>
where
    B: Backend,
    R: for<'r> FromRow<'r, B::Row> + Send + Unpin,
{
    sqlx::query_as_with(query.sql, B::arguments(query.args)?).fetch_optional(on).await
}

pub(super) async fn all<'c, B, R>(
    on: impl Executor<'c, Database = B>,
    query: Query<'_>,
) -> Result<Vec<R>, sqlx::Error>
where
    B: Backend,
    R: for<'r> FromRow<'r, B::Row> + Send + Unpin,
{
    sqlx::query_as_with(query.sql, B::arguments(query.args)?).fetch_all(on).await
}

pub(super) async fn execute<'c, B: Backend>(
    on: impl Executor<'c, Database = B>,
    query: Query<'_>,
) -> Result<u64, sqlx::Error> {
    let done = sqlx::query_with(query.sql, B::arguments(query.args)?).execute(on).await?;
    Ok(B::rows(&done))
}
