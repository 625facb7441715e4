//! AWS KMS: the root key is a symmetric KMS key, CA keys are asymmetric ones.
//!
//! The context is the encryption context of KMS: authenticated by the service, and legible in CloudTrail and
//! in conditions of key policies. One wrap or unwrap is one round trip.
//!
//! What the role needs on the root key: `kms:Encrypt`, `kms:Decrypt`, `kms:DescribeKey`; for rotation
//! `kms:RotateKeyOnDemand`, `kms:ReEncryptFrom` and `kms:ReEncryptTo`. On a CA key: `kms:GetPublicKey` and
//! `kms:Sign`; to make one `kms:CreateKey` and `kms:CreateAlias`.
//!
//! The SDK keeps copies of what it sends and receives that this crate cannot zeroize.

mod config;
mod error;
mod sign;
#[cfg(test)]
mod tests;
mod wrap;

pub use config::AwsConfig;
pub use wrap::AwsProvider;

/// The name of this provider in errors and wraps.
pub(crate) const PROVIDER: &str = "aws";
