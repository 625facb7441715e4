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
        let time =
            time.filter(|time| (1..=12).contains(&time.len()) && time.bytes().all(|b| b.is_ascii_digit()))?;
        Some(Self { time, seconds: time.parse().ok()?, tags }).filter(|signature| !signature.tags.is_empty())
    }
}

/// Signatures of one delivery.
const TAGS: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &[u8] = b"a secret of the identity provider";
    const OTHER: &[u8] = b"another secret, of somebody else.";
    const NOW: i64 = 1_800_000_000;
    const BODY: &[u8] = br#"{"event_id":"evt_1"}"#;

    fn tag(secret: &[u8], time: &str, body: &[u8]) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        hex::encode(hmac::sign(&key, &[time.as_bytes(), b".", body].concat()))
    }

    fn header(secret: &[u8], time: i64, body: &[u8]) -> String {
        format!("t={time},v1={}", tag(secret, &time.to_string(), body))
    }

    fn verify(secrets: &[&[u8]], signature: Option<&str>, sent_at: Option<&str>, body: &[u8]) -> bool {
        let now = OffsetDateTime::from_unix_timestamp(NOW).unwrap();
        let secrets = WebhookSecrets::new(secrets.iter().copied()).unwrap();
        match secrets.verify(signature, sent_at, body, now) {
            Ok(()) => true,
            Err(error) => {
                assert_eq!(error.code(), Code::InvalidSignature);
                false
            }
        }
    }

    #[test]
    fn what_is_signed_by_one_of_the_secrets_is_believed() {
        let good = header(SECRET, NOW, BODY);
        assert!(verify(&[SECRET], Some(&good), None, BODY));
        assert!(verify(&[OTHER, SECRET], Some(&good), Some(&NOW.to_string()), BODY));
        let both = format!("t={NOW},v1={},v1={}", "0".repeat(64), tag(SECRET, &NOW.to_string(), BODY));
        assert!(verify(&[SECRET], Some(&both), None, BODY), "the sender replaces its secret");
        let newer = format!("{good},v2=whatever");
        assert!(verify(&[SECRET], Some(&newer), None, BODY), "schemes of later");
        let upper = format!("t={NOW},v1={}", tag(SECRET, &NOW.to_string(), BODY).to_uppercase());
        assert!(verify(&[SECRET], Some(&upper), None, BODY));
    }

    #[test]
    fn sec_k6_an_event_of_another_time_is_refused() {
        for (away, good) in [(0, true), (300, true), (-300, true), (301, false), (-301, false), (NOW, false)]
        {
            let signature = header(SECRET, NOW - away, BODY);
            assert_eq!(verify(&[SECRET], Some(&signature), None, BODY), good, "{away}");
        }
        for time in
            ["", "-1", "+1800000000", " 1800000000", "1800000000.0", "0x6b49d200", "18000000000000", "now"]
        {
            let signature = format!("t={time},v1={}", tag(SECRET, time, BODY));
            assert!(!verify(&[SECRET], Some(&signature), None, BODY), "{time:?}");
        }
        let good = header(SECRET, NOW, BODY);
        let other = (NOW + 1).to_string();
        assert!(
            !verify(&[SECRET], Some(&good), Some(&other), BODY),
            "the header beside it says another time"
        );
    }

    #[test]
    fn sec_k1_every_bit_of_a_signature_counts() {
        let good = tag(SECRET, &NOW.to_string(), BODY);
        let bytes = hex::decode(&good).unwrap();
        for bit in 0..256 {
            let mut wrong = bytes.clone();
            wrong[bit / 8] ^= 1 << (bit % 8);
            let signature = format!("t={NOW},v1={}", hex::encode(wrong));
            assert!(!verify(&[SECRET], Some(&signature), None, BODY), "bit {bit}");
        }
        for bad in [
            String::new(),
            good.clone(),
            format!("t={NOW}"),
            format!("v1={good}"),
            format!("t={NOW},v1="),
            format!("t={NOW},v1={}", &good[2..]),
            format!("t={NOW},v1={good}00"),
            format!("t={NOW},v1={}g", &good[1..]),
            format!("t={NOW},v0={good}"),
            format!("t={NOW},t={NOW},v1={good}"),
            format!("t={NOW}, v1={good}"),
            format!("t={NOW};v1={good}"),
            format!("t={NOW},v1={good},"),
            format!("t={NOW}{}", format!(",v1={good}").repeat(5)),
            header(OTHER, NOW, BODY),
            header(SECRET, NOW, b"{}"),
            header(SECRET, NOW, b""),
            format!("t={NOW},v1={}", tag(SECRET, "", BODY)),
            format!("t={},v1={good}", NOW + 1),
        ] {
            assert!(!verify(&[SECRET], Some(&bad), None, BODY), "{bad}");
        }
        assert!(!verify(&[SECRET], None, None, BODY));
        assert!(!verify(&[OTHER], Some(&header(SECRET, NOW, BODY)), None, BODY));
    }

    #[test]
    fn secrets_are_long_enough_and_not_shown() {
        for bad in [&[][..], &[&b"short"[..]], &[&[b'x'; 1025][..]], &[SECRET; 5]] {
            assert!(WebhookSecrets::new(bad.iter().copied()).is_err());
        }
        assert_eq!(format!("{:?}", WebhookSecrets::new([SECRET]).unwrap()), "WebhookSecrets(1)");
    }
}
