//! Who may.
//!
//! [`PolicyDocument`] is what an administrator writes, parsed; [`CompiledPolicies`] decides by the
//! policies of a tenant. A policy only ever grants: allowed is what any rule of any active policy bound
//! to the caller allows, and the rest is denied.
//!
//! Everything here is pure: no database, no clock, no knowledge of scopes or of the roles that stand
//! above policies.

mod eval;
mod glob;
mod types;

pub use eval::{BindingInput, CompiledPolicies, Decision, Match, PolicyInput};
pub use glob::PathPattern;
pub use types::{Permission, Permissions, PolicyDocument, PolicyName, PolicyWrite, Rule, RuleWrite};
