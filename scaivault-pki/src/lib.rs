//! placeholder until the engine lands
#![allow(missing_docs, clippy::allow_attributes)]
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PkiError {
    #[error("refused")]
    Refused(Refused),
    #[error("{field}: {message}")]
    Invalid { field: &'static str, message: String },
    #[error(transparent)]
    Kms(scaivault_kms::KmsError),
}
#[derive(Debug)]
pub struct Refused {
    pub violations: Vec<Violation>,
}
#[derive(Debug)]
pub struct Violation {
    pub field: String,
    pub rule: &'static str,
    pub message: String,
}
