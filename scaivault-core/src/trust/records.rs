use serde::Serialize;
use time::OffsetDateTime;

use super::TrustDocument;
use crate::wire;

/// A stored trust configuration.
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "the fields of the API")]
pub struct Trust {
    pub id: String,
    #[serde(flatten)]
    pub document: TrustDocument,
    #[serde(serialize_with = "wire::seconds")]
    pub created_at: OffsetDateTime,
    pub created_by: String,
}
