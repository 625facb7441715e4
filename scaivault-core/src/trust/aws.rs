//! Who signed a request to AWS: the Security Token Service is asked, and nobody else.

mod answer;
mod regions;

use aws_lc_rs::digest;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::Value;
use time::{Duration, OffsetDateTime, PrimitiveDateTime, macros::format_description};

use self::regions::Host;
use super::{Outside, bound::Pattern, exchange::refuse};
use crate::{FieldErrors, Result, identity::json, limits};

/// Which identities of AWS are believed.
#[derive(Clone, Debug)]
pub(super) struct AwsAccounts {
    /// Account ids, 12 digits each.
    pub(super) accounts: Vec<String>,
    /// Patterns of ARNs, one of which has to match.
    pub(super) arns: Vec<Pattern>,
    /// `aws`, `aws-cn`, `aws-us-gov`.
    pub(super) partitions: Vec<String>,
}

impl AwsAccounts {
    /// What stands in the place of an issuer.
    pub(super) const ISSUER: &'static str = "urn:aws:sts";

    pub(super) fn parse(
        accounts: Vec<String>,
        arns: Vec<String>,
        partitions: Option<Vec<String>>,
        wrong: &mut FieldErrors,
    ) -> Self {
        let partitions = partitions.unwrap_or_else(|| vec!["aws".to_owned()]);
        let is_account = |id: &String| id.len() == 12 && id.bytes().all(|b| b.is_ascii_digit());
        if !(1..=limits::BOUND_VALUES).contains(&accounts.len()) || !accounts.iter().all(is_account) {
            wrong.push("accounts", format!("must be 1 to {} account ids of 12 digits", limits::BOUND_VALUES));
        }
        if partitions.is_empty()
            || !partitions.iter().all(|name| regions::PARTITIONS.contains(&name.as_str()))
        {
            wrong.push("partitions", format!("must be of {}", regions::PARTITIONS.join(", ")));
        }
        if !(1..=limits::BOUND_VALUES).contains(&arns.len()) {
            wrong.push("arns", format!("must have 1 to {} patterns", limits::BOUND_VALUES));
        }
        let mut read = Vec::new();
        for (at, text) in arns.iter().enumerate() {
            match Pattern::parse(text) {
                Ok(pattern) if text.starts_with("arn:") => read.push(pattern),
                Ok(_) => wrong.push(format!("arns[{at}]"), "must begin with arn:"),
                Err(reason) => wrong.push(format!("arns[{at}]"), reason),
            }
        }
        Self { accounts, arns: read, partitions }
    }

    /// Whether this is one of those identities.
    pub(super) fn check(&self, identity: &AwsIdentity) -> Result<()> {
        let mut parts = identity.arn.splitn(6, ':');
        let (Some("arn"), Some(partition), Some("iam" | "sts"), Some(""), Some(account), Some(_)) =
            (parts.next(), parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(refuse("AWS answers with an ARN of another form"));
        };
        if account != identity.account || partition != identity.partition {
            return Err(refuse("AWS answers with an ARN that is not of the account or the partition"));
        }
        if !self.partitions.iter().any(|trusted| trusted == partition) {
            return Err(refuse("the partition is not a bound one"));
        }
        if !self.accounts.iter().any(|trusted| trusted == account) {
            return Err(refuse("the account is not a bound one"));
        }
        if !self.arns.iter().any(|pattern| pattern.matches(&identity.arn)) {
            return Err(refuse("the ARN is not a bound one"));
        }
        Ok(())
    }
}

/// Whom AWS names.
#[derive(Debug)]
pub(super) struct AwsIdentity {
    pub(super) arn: String,
    account: String,
    /// Of the region that was asked.
    partition: &'static str,
    /// Of the request that was signed.
    pub(super) hash: String,
    /// From when on AWS would not accept the request.
    pub(super) expires: OffsetDateTime,
}

/// Reads a signed request for `sts:GetCallerIdentity`, sends it on, and reads the answer.
///
/// Nothing of it decides where it goes but a region that we know, and nothing is asked but who signed it. `server` has to be
/// in a header that is signed, so that what was signed for somebody else is worth nothing here.
pub(super) async fn ask(
    outside: &dyn Outside,
    text: &str,
    server: &str,
    now: OffsetDateTime,
) -> Result<AwsIdentity> {
    let request = SignedRequest::read(text, server, now)?;
    let headers: Vec<_> =
        request.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let answer = outside.post(&request.host.url(), &headers, BODY, limits::STS_BYTES).await;
    let answer = answer.map_err(|error| refuse("AWS cannot be asked").because(error))?;
    if answer.status != 200 {
        return Err(refuse(format_args!("AWS answers {}", answer.status)));
    }
    let identity = answer::read(&answer.body).ok_or_else(|| refuse("AWS answers with something else"))?;
    Ok(AwsIdentity {
        arn: identity.arn,
        account: identity.account,
        partition: request.host.partition,
        hash: request.hash,
        expires: request.expires,
    })
}

/// The one thing that is asked.
const BODY: &str = "Action=GetCallerIdentity&Version=2011-06-15";

#[derive(Debug)]
struct SignedRequest {
    host: Host,
    /// What is sent on: what AWS needs to check the signature.
    headers: Vec<(String, String)>,
    hash: String,
    expires: OffsetDateTime,
}

/// What is sent on if it is there; `host` is of our making.
const SENT_ON: [&str; 6] = [
    "authorization",
    "content-type",
    "x-amz-content-sha256",
    "x-amz-date",
    "x-amz-security-token",
    SERVER_ID,
];
const SERVER_ID: &str = "x-scaivault-server-id";

impl SignedRequest {
    /// Reads base64url of `{"method", "url", "headers": {…}, "body"}`, with nothing else in it.
    fn read(text: &str, server: &str, now: OffsetDateTime) -> Result<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| refuse("it is not base64url"))?;
        let members = json::object(&bytes).ok_or_else(|| refuse("it is not a JSON object"))?;
        let of = |name: &str| members.get(name).and_then(Value::as_str);
        if members.len() != 4 || of("method") != Some("POST") || of("body") != Some(BODY) {
            return Err(refuse("it is not a POST of GetCallerIdentity with method, url, headers and body"));
        }
        let host = of("url").and_then(Host::of_url);
        let host =
            host.ok_or_else(|| refuse("its url is not that of the service in a region that we know"))?;
        let headers = members.get("headers").and_then(Value::as_object);
        let headers = headers.ok_or_else(|| refuse("its headers are no object"))?;
        let mut all: Vec<(String, String)> = Vec::new();
        for (name, value) in headers {
            let name = name.to_ascii_lowercase();
            let value =
                value.as_str().filter(|value| value.bytes().all(|b| b == b' ' || b.is_ascii_graphic()));
            let value = value.ok_or_else(|| refuse("a header is not visible ASCII"))?;
            if all.iter().any(|(known, _)| *known == name) {
                return Err(refuse("a header is there twice"));
            }
            all.push((name, value.to_owned()));
        }
        let header =
            |name: &str| all.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
        if header("host").is_some_and(|value| value != host.name) {
            return Err(refuse("its header host is not that of its url"));
        }
        if header(SERVER_ID) != Some(server) {
            return Err(refuse("it was not made for this vault and tenant"));
        }
        let signed_at = header("x-amz-date").and_then(read_date);
        let signed_at = signed_at.ok_or_else(|| refuse("its header x-amz-date is not a time"))?;
        if (now - signed_at).abs() >= AGE {
            return Err(refuse("it was not signed within the last minutes"));
        }
        let signature = Authorization::read(header("authorization").unwrap_or_default(), &host, signed_at)?;
        let is_sent = |name: &str| name == "host" || SENT_ON.contains(&name);
        if !signature.signed.iter().all(|name| is_sent(name) && (name == "host" || header(name).is_some())) {
            return Err(refuse("it signs a header that is not sent on, or not there"));
        }
        let hash = hex::encode(digest::digest(&digest::SHA256, signature.value.as_bytes()));
        all.retain(|(name, _)| SENT_ON.contains(&name.as_str()));
        Ok(Self { host, headers: all, hash, expires: signed_at + AGE })
    }
}

/// AWS takes a signature for a quarter of an hour at most.
const AGE: Duration = Duration::minutes(15);

fn read_date(text: &str) -> Option<OffsetDateTime> {
    let format = format_description!("[year][month][day]T[hour][minute][second]Z");
    PrimitiveDateTime::parse(text, format).ok().map(PrimitiveDateTime::assume_utc)
}

/// The header of signature version 4, with the signature in it left to AWS to check.
struct Authorization {
    signed: Vec<String>,
    value: String,
}

impl Authorization {
    fn read(text: &str, host: &Host, signed_at: OffsetDateTime) -> Result<Self> {
        let malformed = || refuse("its header authorization is not of signature version 4 for this region");
        let parts = text.strip_prefix("AWS4-HMAC-SHA256 ").ok_or_else(malformed)?;
        let (mut credential, mut signed, mut signature) = (None, None, None);
        for part in parts.split(',') {
            let (name, value) = part.trim().split_once('=').ok_or_else(malformed)?;
            let place = match name {
                "Credential" => &mut credential,
                "SignedHeaders" => &mut signed,
                "Signature" => &mut signature,
                _ => return Err(malformed()),
            };
            if place.replace(value).is_some() {
                return Err(malformed());
            }
        }
        let (Some(credential), Some(signed), Some(signature)) = (credential, signed, signature) else {
            return Err(malformed());
        };
        let date = signed_at.date();
        let day = format!("{:04}{:02}{:02}", date.year(), u8::from(date.month()), date.day());
        let scope = format!("/{day}/{}/sts/aws4_request", host.region);
        let key_id = credential.strip_suffix(&scope).ok_or_else(malformed)?;
        let hexadecimal = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        let good = (16..=128).contains(&key_id.len())
            && key_id.bytes().all(|b| b.is_ascii_alphanumeric())
            && signature.len() == 64
            && signature.bytes().all(hexadecimal);
        if !good {
            return Err(malformed());
        }
        let signed: Vec<String> = signed.split(';').map(str::to_owned).collect();
        if !["host", "x-amz-date", SERVER_ID].iter().all(|name| signed.iter().any(|signed| signed == name)) {
            return Err(refuse("it does not sign the headers host, x-amz-date and x-scaivault-server-id"));
        }
        Ok(Self { signed, value: signature.to_owned() })
    }
}
