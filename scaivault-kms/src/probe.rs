use std::{
    sync::{Mutex, PoisonError},
    time::Instant,
};

use crate::{Context, Health, KeyProvider, KmsError, SecretKey, WrappedKey};

/// A wrap kept to be opened again: one round trip that proves what matters, that the root key opens. The
/// first one is made when it is first needed, and a new one when the old one no longer opens.
#[derive(Debug, Default)]
pub(crate) struct Probe(Mutex<Option<(WrappedKey, SecretKey)>>);

impl Probe {
    pub(crate) async fn run(&self, provider: &dyn KeyProvider) -> Result<Health, KmsError> {
        let start = Instant::now();
        let context = Context::new().with("purpose", "health");
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((wrapped, key)) = kept {
            match provider.unwrap(&wrapped, &context).await {
                // The version that made it may be retired; whether the root key works, a new wrap tells.
                Err(KmsError::Invalid { .. } | KmsError::NotFound { .. } | KmsError::Disabled { .. }) => {}
                result => {
                    let same = result.as_ref().map(|opened| opened.ct_eq(&key)).unwrap_or(true);
                    self.keep(wrapped, key);
                    result?;
                    return if same {
                        Ok(Health { latency: start.elapsed() })
                    } else {
                        Err(broken(provider))
                    };
                }
            }
        }
        let key = SecretKey::generate()?;
        let wrapped = provider.wrap(&key, &context).await?;
        if !provider.unwrap(&wrapped, &context).await?.ct_eq(&key) {
            return Err(broken(provider));
        }
        self.keep(wrapped, key);
        Ok(Health { latency: start.elapsed() })
    }

    fn keep(&self, wrapped: WrappedKey, key: SecretKey) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((wrapped, key));
    }
}

fn broken(provider: &dyn KeyProvider) -> KmsError {
    let message = "another key came back than was wrapped".to_owned();
    KmsError::Device { provider: provider.describe().provider, message, source: None }
}
