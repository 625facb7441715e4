//! Who may.
//!
//! [`PolicyDocument`] is what an administrator writes, parsed; [`CompiledPolicies`] decides by the
//! policies of a tenant. A policy only ever grants: allowed is what any rule of any active policy bound
//! to the caller allows, and the rest is denied.
//!
//! The decision itself (`glob`, `types`, `conditions`, `matcher`, `eval`) is pure: no database, no clock, no knowledge of scopes or
//! of the roles that stand above policies. The stored policies around it are [`Policies`]; what the
//! [`Policies::test`], [`Policies::explain`], [`Policies::who_can`] and [`Policies::diff`] look through them. What the
//! pipeline decides by is compiled once a tenant and kept by the tenant's epoch.

mod ask;
mod cache;
mod conditions;
mod diff;
mod eval;
mod glob;
mod matcher;
mod ops;
mod records;
pub(crate) mod store;
mod types;

pub use ask::{
    BindingRef, ConsideredRule, Explanation, Grantee, PolicyRef, Question, RuleRef, Verdict, WhoCan,
};
pub(crate) use cache::PolicyCache;
pub use conditions::{Circumstances, Condition, Conditions, Unmet};
pub use diff::{Diff, Draft, Ending, Flip, Undecided};
pub(crate) use eval::InForce;
pub use eval::{BindingInput, CompiledPolicies, Decision, Match, PolicyInput};
pub use glob::PathPattern;
pub use ops::Policies;
pub use records::{Binding, BindingWrite, Policy, PolicyPatch, PolicySummary};
pub use types::{Permission, Permissions, PolicyDocument, PolicyWrite, Rule, RuleWrite};
