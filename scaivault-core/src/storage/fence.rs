//! The fence between tenants on PostgreSQL: as whom a connection looks at rows, who could get past that, and the
//! roles it takes. `migrations/README.md` describes the whole.

use std::fmt;

use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, SqlSafeStr as _};

use super::As;
use crate::{Code, Error, Result};

/// The roles that look across tenants, each at what it needs and nothing else.
pub(super) const JOBS: &str = "scaivault_jobs";
/// See [`JOBS`].
pub(super) const RECORDER: &str = "scaivault_recorder";
/// See [`JOBS`].
pub(super) const KEYS: &str = "scaivault_keys";
/// See [`JOBS`].
pub(super) const PUBLIC: &str = "scaivault_public";
/// See [`JOBS`].
pub(super) const DIRECTORY: &str = "scaivault_directory";

/// What the owner of the tables sets as the tenant to see the rows of all of them. No tenant has such a name,
/// and the policy that looks at it is the owner's alone.
pub(super) const ALL_TENANTS: &str = "all tenants";

/// As whom a connection serves, as PostgreSQL is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sight {
    pub(super) tenant: String,
    pub(super) role: &'static str,
}

impl Default for Sight {
    /// What a new connection has.
    fn default() -> Self {
        Self { tenant: String::new(), role: "none" }
    }
}

impl As<'_> {
    /// Where there is no fence, the owner of the tables looks at all tenants where a narrow role would.
    pub(super) fn sight(self, fenced: bool) -> Sight {
        let narrow = |role| match fenced {
            true => Sight { tenant: String::new(), role },
            false => Sight { tenant: ALL_TENANTS.to_owned(), ..Sight::default() },
        };
        match self {
            Self::Nobody => Sight::default(),
            Self::Tenant(tenant) => Sight { tenant: tenant.as_str().to_owned(), ..Sight::default() },
            Self::Jobs => narrow(JOBS),
            Self::Recorder => narrow(RECORDER),
            Self::Keys => narrow(KEYS),
            Self::Public => narrow(PUBLIC),
            Self::Directory => narrow(DIRECTORY),
        }
    }
}

pub(super) const LOOK_AS: &str =
    "SELECT set_config('scaivault.tenant', $1, false), set_config('role', $2, false)";

/// The role that serves, and the one that owns a schema that `create_roles` made.
const APP: &str = "scaivault_app";
/// See [`APP`].
const OWNER: &str = "scaivault_owner";
const NARROW: [&str; 5] = [JOBS, RECORDER, KEYS, PUBLIC, DIRECTORY];

/// A way for the role that connects to get past the fence, or something it lacks to live behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding(String);

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

const ROLE: &str = "\
    SELECT r.rolname::text, r.rolsuper, r.rolbypassrls, r.rolcreaterole, \
    ARRAY(SELECT b.rolname::text FROM pg_roles b WHERE b.oid <> r.oid AND (b.rolsuper OR b.rolbypassrls OR b.rolcreaterole) \
    AND pg_has_role(r.oid, b.oid, 'MEMBER') ORDER BY 1), \
    ARRAY(SELECT DISTINCT pg_get_userbyid(c.relowner)::text FROM pg_class c \
    WHERE c.relnamespace = to_regnamespace(quote_ident(current_schema())) AND c.relkind IN ('r', 'p') \
    AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'tenant_id' AND NOT a.attisdropped) \
    AND pg_has_role(r.oid, c.relowner, 'MEMBER') ORDER BY 1), \
    ARRAY(SELECT n.name FROM unnest($1) AS n (name) WHERE NOT EXISTS \
    (SELECT FROM pg_roles m WHERE m.rolname = n.name AND pg_has_role(r.oid, m.oid, 'MEMBER'))), \
    ARRAY(SELECT m.rolname::text FROM pg_roles m WHERE m.rolname = ANY ($1) AND pg_has_role(r.oid, m.oid, 'USAGE')) \
    FROM pg_roles r WHERE r.rolname = session_user";

type Role = (String, bool, bool, bool, Vec<String>, Vec<String>, Vec<String>, Vec<String>);

/// What is wrong with the role that connects; empty if the fence holds it.
pub(super) async fn findings(connection: &mut PgConnection) -> Result<Vec<Finding>> {
    let (name, superuser, bypass, create_role, mighty, owners, missing, inherited): Role =
        sqlx::query_as(ROLE).bind(NARROW).fetch_one(connection).await?;
    let mut findings = Vec::new();
    let mut add = |text: String| findings.push(Finding(text));
    if superuser {
        return Ok(vec![Finding(format!("{name} is a superuser: connect as {APP}"))]);
    }
    if bypass {
        add(format!("{name} has BYPASSRLS: ALTER ROLE {name} NOBYPASSRLS"));
    }
    if create_role {
        add(format!("{name} has CREATEROLE: ALTER ROLE {name} NOCREATEROLE"));
    }
    for role in mighty {
        add(format!("{name} is a member of {role}, which may do more: REVOKE {role} FROM {name}"));
    }
    for owner in owners {
        if owner == name {
            let owns = format!("{name} owns tables of the vault: connect as {APP}, which owns none");
            return Ok(vec![Finding(owns)]);
        } else {
            add(format!("{name} is a member of {owner}, which owns the tables: REVOKE {owner} FROM {name}"));
        }
    }
    for role in missing {
        add(format!("{name} is no member of {role}: GRANT {role} TO {name}"));
    }
    if !inherited.is_empty() {
        let roles = inherited.join(", ");
        add(format!(
            "{name} has the rights of {roles} at all times: ALTER ROLE {name} NOINHERIT, then REVOKE and GRANT them again"
        ));
    }
    Ok(findings)
}

const UNFENCED: &str = "\
    SELECT c.relname::text FROM pg_class c \
    WHERE c.relnamespace = to_regnamespace(quote_ident(current_schema())) AND c.relkind IN ('r', 'p') \
    AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'tenant_id' AND NOT a.attisdropped) \
    AND NOT (c.relrowsecurity AND c.relforcerowsecurity) ORDER BY 1";

/// Tables with rows of tenants that the fence does not stand around.
pub(super) async fn unfenced_tables(connection: &mut PgConnection) -> Result<Vec<String>> {
    Ok(sqlx::query_scalar(UNFENCED).fetch_all(connection).await?)
}

/// Lets the connection act for whoever owns the schema, if there is one already.
///
/// # Errors
/// [`Code::InvalidState`] if the role may not.
pub(super) async fn become_owner(connection: &mut PgConnection, migrations: &str) -> Result<()> {
    let owner: Option<(String, bool)> = sqlx::query_as(
        "SELECT pg_get_userbyid(relowner)::text, pg_has_role(session_user, relowner, 'MEMBER') FROM pg_class \
         WHERE oid = to_regclass($1)",
    )
    .bind(migrations)
    .fetch_optional(&mut *connection)
    .await?;
    let can_create = "SELECT COALESCE(has_schema_privilege(current_schema(), 'CREATE'), FALSE)";
    let owner = match owner {
        Some((owner, true)) => owner,
        Some((owner, false)) => {
            return Err(may_not_migrate(&format!("the schema belongs to {owner}: migrate as that role")));
        }
        None if sqlx::query_scalar(can_create).fetch_one(&mut *connection).await? => return Ok(()),
        None => return Err(may_not_migrate("it may not create tables: migrate as the owner")),
    };
    act_for(connection, &owner).await
}

fn may_not_migrate(why: &str) -> Error {
    Error::new(Code::InvalidState, format!("the role that connects may not change the schema; {why}"))
}

/// Sets the role, and lets it see the rows of all tenants if it owns them.
async fn act_for(connection: &mut PgConnection, owner: &str) -> Result<()> {
    let set = sqlx::query(LOOK_AS).bind(ALL_TENANTS).bind(owner);
    set.execute(connection).await?;
    Ok(())
}

/// Puts the fence around every table that is not behind it yet, and grants what the roles need.
pub(super) async fn raise(connection: &mut PgConnection) -> Result<()> {
    connection.execute("SELECT scaivault_fence()").await?;
    Ok(())
}

/// How the two roles that log in prove who they are, as PostgreSQL stores it.
#[derive(Clone, Default)]
pub(crate) struct Verifiers {
    pub(crate) owner: Option<String>,
    pub(crate) app: Option<String>,
}

/// Makes the roles that are missing. Roles belong to the whole server: others may be doing the same.
pub(super) async fn create_roles(
    connection: &mut PgConnection,
    verifiers: &Verifiers,
    migrations: &str,
) -> Result<()> {
    let create = |name: &str, options: &str, verifier: Option<&String>| {
        let password = verifier.map_or_else(String::new, |v| format!(" PASSWORD '{v}'"));
        format!(
            "DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{name}') THEN \
             CREATE ROLE {name} {options}{password}; END IF; \
             EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"
        )
    };
    let mut statements = vec![
        create(OWNER, "LOGIN", verifiers.owner.as_ref()),
        create(APP, "LOGIN NOINHERIT", verifiers.app.as_ref()),
    ];
    for role in NARROW {
        statements.push(create(role, "NOLOGIN", None));
        statements.push(format!(
            "DO $$ BEGIN IF NOT pg_has_role('{APP}', '{role}', 'MEMBER') THEN GRANT {role} TO {APP}; END IF; \
             EXCEPTION WHEN unique_violation THEN NULL; END $$"
        ));
    }
    statements.push(format!(
        "DO $$ BEGIN EXECUTE format('GRANT USAGE, CREATE ON SCHEMA %I TO {OWNER}', current_schema()); \
         EXECUTE format('GRANT USAGE ON SCHEMA %I TO {APP}, {}', current_schema()); \
         EXECUTE format('GRANT CONNECT ON DATABASE %I TO {OWNER}, {APP}', current_database()); END $$",
        NARROW.join(", ")
    ));
    for statement in statements {
        repeat_while_contended(connection, &statement).await?;
    }
    let exists: bool = sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL")
        .bind(migrations)
        .fetch_one(&mut *connection)
        .await?;
    if exists {
        // Whoever owns it goes on to own it.
        return Ok(());
    }
    act_for(connection, OWNER).await
}

/// Two that change one row of the catalogue at once make one of them fail: it tries again.
async fn repeat_while_contended(connection: &mut PgConnection, statement: &str) -> Result<()> {
    let mut tries = 0;
    loop {
        let sql = AssertSqlSafe(statement.to_owned()).into_sql_str();
        match connection.execute(sql).await {
            Ok(_) => return Ok(()),
            Err(sqlx::Error::Database(error)) if tries < 20 && error.code().as_deref() == Some("XX000") => {
                tries += 1;
                tokio::time::sleep(std::time::Duration::from_millis(20 * tries)).await;
            }
            Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("42501") => {
                let why = format!("the role that connects may not create roles: {}", error.message());
                return Err(Error::new(Code::InvalidState, why));
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Ends a connection that was set up for one purpose.
pub(super) async fn done(connection: PgConnection) {
    let _ = connection.close().await;
}
