use std::fmt;

use serde::{Serialize, Serializer};

/// An enum whose variants have one stable text each.
macro_rules! texts {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$vdoc])* $variant,)* }

        impl $name {
            /// Every one there is.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The stable text.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// The one with exactly this text, if there is one.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$variant),)* _ => None }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_str(self.as_str())
            }
        }
    };
}

texts! {
    /// What kind of principal an identifier names. The same identifier under two types is two principals.
    IdentityType {
        /// A person.
        User = "user",
        /// A program with credentials of its own.
        ServiceAccount = "service_account",
        /// A set of principals; it can be bound to a policy, but never calls.
        Group = "group",
        /// A background job of the vault itself.
        System = "system",
    }
}

texts! {
    /// What a token may be used for. A scope alone opens nothing: policies have to agree.
    Scope {
        /// Read values.
        SecretsRead = "secrets:read",
        /// Create and update.
        SecretsWrite = "secrets:write",
        /// Delete; restoring takes `secrets:write`.
        SecretsDelete = "secrets:delete",
        /// Enumerate, and read metadata.
        SecretsList = "secrets:list",
        /// Rotate.
        SecretsRotate = "secrets:rotate",
        /// Read policies and bindings, and try them.
        PoliciesRead = "policies:read",
        /// Change policies and bindings.
        PoliciesWrite = "policies:write",
        /// Query the audit trail.
        AuditRead = "audit:read",
        /// Export the audit trail.
        AuditExport = "audit:export",
        /// Issue and sign certificates.
        PkiIssue = "pki:issue",
        /// Manage authorities and roles, and revoke.
        PkiAdmin = "pki:admin",
        /// Read engines, and obtain credentials from them.
        DynamicRead = "dynamic:read",
        /// Obtain credentials.
        DynamicGenerate = "dynamic:generate",
        /// Manage engines and their roles.
        DynamicManage = "dynamic:manage",
        /// Read subscriptions.
        SubscriptionsRead = "subscriptions:read",
        /// Change subscriptions.
        SubscriptionsWrite = "subscriptions:write",
        /// Read federation backends.
        FederationRead = "federation:read",
        /// Change federation backends.
        FederationWrite = "federation:write",
        /// Read the identity cache.
        IdentityRead = "identity:read",
        /// Change the identity cache.
        IdentityAdmin = "identity:admin",
        /// Every scope of the tenant.
        Admin = "admin",
    }
}

texts! {
    /// A standing over tenants, given by the identity provider.
    Role {
        /// Everything, everywhere.
        SuperAdmin = "super_admin",
        /// The tenants of one partner.
        PartnerAdmin = "partner_admin",
        /// One tenant.
        TenantAdmin = "tenant_admin",
    }
}

/// The scopes of one caller.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Scopes(u32);

impl Scopes {
    /// Whether these scopes cover `wanted`: it is among them, or [`Scope::Admin`] is.
    ///
    /// [`Scope::DynamicRead`] covers [`Scope::DynamicGenerate`] too. Nothing else implies anything: who
    /// may write may not therefore read.
    #[must_use]
    pub fn contains(self, wanted: Scope) -> bool {
        self.holds(wanted)
            || self.holds(Scope::Admin)
            || (wanted == Scope::DynamicGenerate && self.holds(Scope::DynamicRead))
    }

    /// The scopes as they were given, without what they imply, in a fixed order.
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.iter().copied().filter(move |scope| self.holds(*scope))
    }

    fn holds(self, scope: Scope) -> bool {
        self.0 & bit(scope) != 0
    }
}

fn bit(scope: Scope) -> u32 {
    1 << scope as u32
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().fold(0, |all, scope| all | bit(scope)))
    }
}

impl fmt::Debug for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(Scope::as_str)).finish()
    }
}

impl Serialize for Scopes {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(self.iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read_back_exactly() {
        for scope in Scope::ALL {
            assert_eq!(Scope::parse(scope.as_str()), Some(*scope));
            assert_eq!(Scope::parse(&scope.as_str().to_uppercase()), None);
        }
        assert_eq!(IdentityType::parse("service_account"), Some(IdentityType::ServiceAccount));
        assert_eq!(Role::parse("Super_Admin"), None);
    }

    #[test]
    fn admin_covers_every_scope_and_no_other_scope_covers_admin() {
        let admin: Scopes = [Scope::Admin].into_iter().collect();
        assert!(Scope::ALL.iter().all(|scope| admin.contains(*scope)));
        let rest: Scopes = Scope::ALL.iter().copied().filter(|scope| *scope != Scope::Admin).collect();
        assert!(!rest.contains(Scope::Admin));
    }

    #[test]
    fn writing_does_not_imply_reading() {
        for given in Scope::ALL.iter().copied().filter(|scope| *scope != Scope::Admin) {
            let scopes: Scopes = [given].into_iter().collect();
            for wanted in Scope::ALL.iter().copied() {
                let dynamic = (given, wanted) == (Scope::DynamicRead, Scope::DynamicGenerate);
                assert_eq!(scopes.contains(wanted), given == wanted || dynamic, "{given} {wanted}");
            }
        }
        assert!(!Scopes::default().contains(Scope::SecretsRead));
    }
}
