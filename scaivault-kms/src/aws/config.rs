use std::time::Duration;

use aws_config::{BehaviorVersion, Region, retry::RetryConfig, timeout::TimeoutConfig};
use aws_sdk_kms::{Client, config::SharedCredentialsProvider};

use super::error::invalid;
use crate::KmsError;

/// Which key, and where. Credentials come by AWS's own chain: environment, profile, web identity, container,
/// instance metadata; they are refreshed before they expire.
#[derive(Clone, Debug)]
pub struct AwsConfig {
    /// The root key: an ARN, a key id, or an alias (`alias/name`, or its ARN).
    pub key_id: String,
    /// The region; by default that of the ARN, else what the environment says.
    pub region: Option<String>,
    /// Another endpoint than the region's: a VPC endpoint, or an emulator.
    pub endpoint: Option<String>,
    /// A profile of AWS's configuration files.
    pub profile: Option<String>,
    /// For each request. 5 s by default.
    pub timeout: Duration,
}

impl AwsConfig {
    /// The key `key_id`, everything else by default.
    #[must_use]
    pub fn new(key_id: impl Into<String>) -> Self {
        Self {
            key_id: key_id.into(),
            region: None,
            endpoint: None,
            profile: None,
            timeout: Duration::from_secs(5),
        }
    }

    /// A client; makes no request, but may read AWS's files and, where nothing names a region, ask the
    /// instance for its own.
    pub(super) async fn client(
        &self,
        credentials: Option<SharedCredentialsProvider>,
    ) -> Result<Client, KmsError> {
        let fit = |c: char| c.is_ascii_alphanumeric() || ":/_-".contains(c);
        if self.key_id.is_empty() || self.key_id.len() > 2048 || !self.key_id.chars().all(fit) {
            return Err(invalid("the key id is neither an ARN, an id nor an alias"));
        }
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(self.timeout)
            .operation_attempt_timeout(self.timeout)
            .operation_timeout(self.timeout)
            .build();
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            // Tried again by the layer around every provider, which knows the deadline.
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts);
        if let Some(region) = self.region.clone().or_else(|| region_of(&self.key_id).map(str::to_owned)) {
            loader = loader.region(Region::new(region));
        }
        if let Some(endpoint) = &self.endpoint {
            loader = loader.endpoint_url(endpoint);
        }
        if let Some(profile) = &self.profile {
            loader = loader.profile_name(profile);
        }
        if let Some(credentials) = credentials {
            loader = loader.credentials_provider(credentials);
        }
        let shared = loader.load().await;
        if shared.region().is_none() {
            return Err(invalid("no region: name one, or give the key's ARN"));
        }
        Ok(Client::new(&shared))
    }
}

/// `arn:partition:kms:REGION:account:key/id`.
pub(super) fn region_of(key_id: &str) -> Option<&str> {
    let mut parts = key_id.split(':');
    (parts.next()? == "arn").then_some(())?;
    (parts.nth(1)? == "kms").then_some(())?;
    parts.next().filter(|region| !region.is_empty())
}

/// Whether two ARNs are one key: the same, or replicas of one multi-Region key.
pub(super) fn same_key(one: &str, other: &str) -> bool {
    let replica = |arn: &str| {
        let (_, id) = arn.rsplit_once(":key/")?;
        id.starts_with("mrk-").then(|| (arn.split(':').nth(4).map(str::to_owned), id.to_owned()))
    };
    one == other || replica(one).is_some_and(|id| replica(other) == Some(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_and_replicas_are_read_from_arns() {
        assert_eq!(region_of("arn:aws:kms:eu-west-1:111122223333:key/k"), Some("eu-west-1"));
        assert_eq!(region_of("arn:aws:s3:eu-west-1:111122223333:key/k"), None);
        assert_eq!(region_of("alias/scai"), None);
        let key = |region: &str, account: &str, id: &str| format!("arn:aws:kms:{region}:{account}:key/{id}");
        assert!(same_key(&key("a", "1", "x"), &key("a", "1", "x")));
        assert!(!same_key(&key("a", "1", "x"), &key("b", "1", "x")));
        assert!(same_key(&key("a", "1", "mrk-x"), &key("b", "1", "mrk-x")));
        assert!(!same_key(&key("a", "1", "mrk-x"), &key("b", "2", "mrk-x")));
        assert!(!same_key(&key("a", "1", "mrk-x"), &key("b", "1", "mrk-y")));
    }
}
