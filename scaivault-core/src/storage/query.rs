use std::sync::Arc;

use sqlx::{AssertSqlSafe, SqlSafeStr as _, SqlStr};

use super::types::Arg;

/// A statement and its parameters. The text is made of constants only; what a caller sends travels as
/// a parameter, never as text.
#[derive(Clone, Debug)]
pub(crate) struct Query<'a> {
    pub(super) sql: SqlStr,
    pub(super) args: Vec<Arg<'a>>,
}

/// A statement from constant text with `$1`, `$2`, …
pub(crate) fn query<'a>(sql: &'static str) -> Query<'a> {
    Query { sql: sql.into_sql_str(), args: Vec::new() }
}

impl<'a> Query<'a> {
    /// A statement from text that was put together from constants once.
    pub(crate) fn constant(sql: AssertSqlSafe<Arc<str>>) -> Self {
        Self { sql: sql.into_sql_str(), args: Vec::new() }
    }

    /// Adds the next parameter.
    pub(crate) fn bind(mut self, arg: impl Into<Arg<'a>>) -> Self {
        self.args.push(arg.into());
        self
    }
}

/// A statement that is put together from constant pieces, each with the parameters it brings.
#[derive(Debug)]
pub(crate) struct QueryBuilder<'a> {
    sql: String,
    args: Vec<Arg<'a>>,
}

impl<'a> QueryBuilder<'a> {
    pub(crate) fn new(sql: &'static str) -> Self {
        Self { sql: sql.to_owned(), args: Vec::new() }
    }

    /// Goes on from constant text that has places for these parameters already.
    pub(crate) fn with<const N: usize>(sql: &'static str, args: [Arg<'a>; N]) -> Self {
        Self { sql: sql.to_owned(), args: args.into() }
    }

    /// Appends constant text.
    pub(crate) fn text(&mut self, sql: &'static str) -> &mut Self {
        self.sql.push_str(sql);
        self
    }

    /// Appends the place of a parameter.
    pub(crate) fn arg(&mut self, arg: impl Into<Arg<'a>>) -> &mut Self {
        self.args.push(arg.into());
        self.sql.push('$');
        self.sql.push_str(&self.args.len().to_string());
        self
    }

    /// Appends ` AND column OP $n` if there is a value.
    pub(crate) fn and(&mut self, test: &'static str, arg: Option<impl Into<Arg<'a>>>) -> &mut Self {
        if let Some(arg) = arg {
            self.text(" AND ").text(test).arg(arg);
        }
        self
    }

    /// Appends ` AND column IN (…)` if there are values.
    pub(crate) fn and_in(
        &mut self,
        column: &'static str,
        values: impl IntoIterator<Item = &'a str>,
    ) -> &mut Self {
        let mut values = values.into_iter();
        if let Some(first) = values.next() {
            self.text(" AND ").text(column).text(" IN (").arg(first);
            for value in values {
                self.text(", ").arg(value);
            }
            self.text(")");
        }
        self
    }

    pub(crate) fn build(self) -> Query<'a> {
        // Only `&'static str` and `$n` are ever appended to the text.
        Query { sql: AssertSqlSafe(self.sql).into_sql_str(), args: self.args }
    }
}

/// The end of the range of keys that begin with `prefix`, for `key >= prefix AND key < end` under bytewise
/// order; `None` if there is no end. Keys are ASCII.
pub(crate) fn prefix_end(prefix: &str) -> Option<String> {
    let mut end = prefix.as_bytes().to_vec();
    while let Some(last) = end.pop() {
        if last < 0x7f {
            end.push(last + 1);
            return String::from_utf8(end).ok();
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_built_statement_holds_constants_and_numbered_places_only() {
        let mut builder = QueryBuilder::new("SELECT 1 WHERE a = ");
        builder.arg("x'; DROP TABLE secret; --").and("b = ", None::<i64>).and("c < ", Some(3));
        builder.and_in("d", ["y", "z"]).and_in("e", []);
        let query = builder.build();
        assert_eq!(query.sql.as_str(), "SELECT 1 WHERE a = $1 AND c < $2 AND d IN ($3, $4)");
        assert_eq!(query.args.len(), 4);
    }

    #[test]
    fn prefix_range_holds_exactly_the_keys_with_that_prefix() {
        for (prefix, inside, outside) in
            [("app/", "app/zz", "app0"), ("app", "app/x", "apq"), ("a~", "a~/", "b")]
        {
            let end = prefix_end(prefix).unwrap();
            assert!(inside >= prefix && inside < end.as_str(), "{prefix} {end}");
            assert!(outside >= end.as_str(), "{prefix} {end}");
        }
        assert_eq!(prefix_end(""), None);
    }
}
