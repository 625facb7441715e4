use crate::{audit::Action, identity::Scope, policy::Permission, secrets::SecretPath};

/// What is to be done, to what, and what it takes.
#[derive(Clone, Debug)]
pub(crate) struct Act {
    pub(crate) action: Action,
    /// Any one of these; none needed if empty.
    pub(crate) scopes: &'static [Scope],
    pub(crate) on: On,
}

/// What an act is done to, and thereby who decides.
#[derive(Clone, Debug)]
pub(crate) enum On {
    /// A secret: a policy must grant the permission on its path.
    Path { path: String, permission: Permission },
    /// A path that stands for something else (`pki/issue/<role>`): a policy must grant it as well.
    Virtual { kind: &'static str, path: String, permission: Permission },
    /// A list of secrets: each item is decided by itself.
    Listing { prefix: Option<String> },
    /// Anything else: the scope decides.
    Object { kind: &'static str, id: Option<String> },
    /// A request that was refused before it was known what it is about.
    Nothing,
}

impl Act {
    pub(crate) fn secret(
        action: Action,
        scopes: &'static [Scope],
        path: &SecretPath,
        permission: Permission,
    ) -> Self {
        Self { action, scopes, on: On::Path { path: path.as_str().to_owned(), permission } }
    }

    pub(crate) fn on_virtual(
        action: Action,
        scopes: &'static [Scope],
        kind: &'static str,
        path: String,
    ) -> Self {
        Self { action, scopes, on: On::Virtual { kind, path, permission: Permission::Read } }
    }

    pub(crate) fn object(
        action: Action,
        scopes: &'static [Scope],
        kind: &'static str,
        id: Option<&str>,
    ) -> Self {
        Self { action, scopes, on: On::Object { kind, id: id.map(str::to_owned) } }
    }
}
