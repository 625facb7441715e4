use std::fmt;

use aws_lc_rs::hmac;
use time::OffsetDateTime;

use crate::{Code, Error, Result, limits};

/// The secrets that the identity provider may sign its events with; two while one replaces the other.
pub struct WebhookSecrets(Vec<hmac::Key>);

impl WebhookSecrets {
    /// Takes 1 to 4 secrets of 16 to 1024 bytes.
    ///
    /// # Errors
    /// [`Code::ValidationError`] on `webhook_secret` otherwise.
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a [u8]>) -> Result<Self> {
        let secrets: Vec<&[u8]> = secrets.into_iter().collect();
        let good = (1..=4).contains(&secrets.len()) && secrets.iter().all(|s| (16..=1024).contains(&s.len()));
        if !good {
            return Err(Error::field("webhook_secret", "must be 1 to 4 secrets of 16 to 1024 bytes each"));
        }
        Ok(Self(secrets.into_iter().map(|secret| hmac::Key::new(hmac::HMAC_SHA256, secret)).collect()))
    }

    /// Whether one of the secrets has signed `t + "." + body`, at most [`limits::WEBHOOK_AGE`] away from `now`.
    /// `signature` is `t=<Unix seconds>,v1=<hex>`, with further `v1` while the sender's secret is replaced; `sent_at`
    /// is what the header beside it says, if it is there, and has to say the same.
    ///
    /// # Errors
    /// [`Code::InvalidSignature`], whatever is wrong.
    pub(super) fn verify(
        &self,
        signature: Option<&str>,
        sent_at: Option<&str>,
        body: &[u8],
        now: OffsetDateTime,
    ) -> Result<()> {
        let signature = signature.and_then(Signature::parse).ok_or_else(refuse)?;
        let age = now.unix_timestamp().checked_sub(signature.seconds).ok_or_else(refuse)?;
        let fresh = age.unsigned_abs() <= limits::WEBHOOK_AGE.as_secs();
        let agrees = sent_at.is_none_or(|sent_at| sent_at == signature.time);
        let signed = [signature.time.as_bytes(), b".", body].concat();
        // Every pair is looked at, whichever fits. `hmac::verify` takes constant time.
        let good = self
            .0
            .iter()
            .flat_map(|key| signature.tags.iter().map(move |tag| (key, tag)))
            .fold(false, |good, (key, tag)| good | hmac::verify(key, &signed, tag).is_ok());
        if good && fresh && agrees { Ok(()) } else { Err(refuse()) }
    }
}

impl fmt::Debug for WebhookSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WebhookSecrets({})", self.0.len())
    }
}

fn refuse() -> Error {
    Error::new(Code::InvalidSignature, "The signature is missing, wrong, or not of the last five minutes.")
}

struct Signature<'a> {
    time: &'a str,
    seconds: i64,
    tags: Vec<[u8; 32]>,
}

impl<'a> Signature<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (mut time, mut tags) = (None, Vec::new());
        for part in text.split(',') {
            match part.split_once('=')? {
                ("t", value) if time.is_none() => time = Some(value),
                ("t", _) => return None,
                ("v1", value) if tags.len() < TAGS => {
                    let mut tag = [0; 32];
                    hex::decode_to_slice(value, &mut tag).ok()?;
                    tags.push(tag);
                }
                ("v1", _) => return None,
                // Other schemes are for others.
                _ => {}
            }
        }
        let time = time.filter(|time| (1..=12).contains(&time.len()) && time.bytes().all(|b| b.is_ascii_digit()))?;
        Some(Self { time, seconds: time.parse().ok()?, tags }).filter(|signature| !signature.tags.is_empty())
    }
}

/// Signatures of one delivery.
const TAGS: usize = 4;
