//! Revocation lists and OCSP answers.

use std::rc::Rc;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use time::OffsetDateTime;

use super::{DAY, Key, Made, NOW, extension, generalized, oid_der, sequence, tlv};

/// What a list is going to say.
#[derive(Clone)]
pub struct List {
    pub issuer: Vec<u8>,
    pub number: Option<u8>,
    pub this_update: OffsetDateTime,
    pub next_update: Option<OffsetDateTime>,
    pub entries: Vec<Vec<u8>>,
    pub extensions: Vec<Vec<u8>>,
    pub version: bool,
}

impl List {
    /// A list without entries, issued yesterday and good until tomorrow.
    pub fn of(issuer: &Made) -> Self {
        Self {
            issuer: issuer.name.clone(),
            number: Some(10),
            this_update: NOW - DAY,
            next_update: Some(NOW + DAY),
            entries: Vec::new(),
            extensions: Vec::new(),
            version: true,
        }
    }

    pub fn number(mut self, number: u8) -> Self {
        self.number = Some(number);
        self
    }

    pub fn with(mut self, extension: Vec<u8>) -> Self {
        self.extensions.push(extension);
        self
    }

    /// Adds an entry; 0 for no reason.
    pub fn revoking(self, serial: &[u8], reason: u8) -> Self {
        self.entry(serial, reason, &[])
    }

    pub fn entry(mut self, serial: &[u8], reason: u8, more: &[u8]) -> Self {
        let reason =
            if reason == 0 { Vec::new() } else { extension("2.5.29.21", false, &tlv(10, &[&[reason]])) };
        let extensions =
            if reason.is_empty() && more.is_empty() { Vec::new() } else { sequence(&[&reason, more]) };
        self.entries.push(sequence(&[&tlv(2, &[serial]), &generalized(NOW - DAY * 2), &extensions]));
        self
    }

    /// An entry about a certificate of another issuer.
    pub fn revoking_of(self, issuer: &[u8], serial: &[u8]) -> Self {
        let issuer = extension("2.5.29.29", true, &sequence(&[&tlv(0xa4, &[issuer])]));
        self.entry(serial, 0, &issuer)
    }

    pub fn sign(self, key: &Key) -> Vec<u8> {
        let number = self.number.map(|number| extension("2.5.29.20", false, &tlv(2, &[&[number]])));
        let entries = self.entries.concat();
        let list = [number.unwrap_or_default(), self.extensions.concat()].concat();
        let tbs = sequence(&[
            if self.version { &[2, 1, 1] } else { &[] },
            &key.algorithm(),
            &self.issuer,
            &generalized(self.this_update),
            &self.next_update.map(generalized).unwrap_or_default(),
            &if entries.is_empty() { Vec::new() } else { sequence(&[&entries]) },
            &if list.is_empty() { Vec::new() } else { tlv(0xa0, &[&sequence(&[&list])]) },
        ]);
        key.frame(&tbs, &[])
    }
}

pub fn delta_of(base: u8) -> Vec<u8> {
    extension("2.5.29.27", true, &tlv(2, &[&[base]]))
}

/// The scope of a list: a URL that it is published at, and the rest of the extension as it is.
pub fn idp(url: Option<&str>, rest: &[u8]) -> Vec<u8> {
    let name = url.map(|url| tlv(0xa0, &[&point(url)])).unwrap_or_default();
    extension("2.5.29.28", true, &sequence(&[&name, rest]))
}

fn point(url: &str) -> Vec<u8> {
    tlv(0xa0, &[&tlv(0x86, &[url.as_bytes()])])
}

pub const ONLY_USERS: &[u8] = &[0x81, 1, 0xff];
pub const ONLY_CAS: &[u8] = &[0x82, 1, 0xff];
pub const INDIRECT: &[u8] = &[0x84, 1, 0xff];
pub const ONLY_ATTRIBUTES: &[u8] = &[0x85, 1, 0xff];
/// keyCompromise and cACompromise.
pub const SOME_REASONS: &[u8] = &[0x83, 2, 5, 0b0110_0000];
/// All the others.
pub const OTHER_REASONS: &[u8] = &[0x83, 3, 7, 0b0001_1111, 0b1000_0000];

/// The extension of a certificate that names one distribution point.
pub fn crl_point(url: &str, crl_issuer: Option<&[u8]>) -> Vec<u8> {
    let issuer = crl_issuer.map(|name| tlv(0xa2, &[&tlv(0xa4, &[name])])).unwrap_or_default();
    extension("2.5.29.31", false, &sequence(&[&sequence(&[&tlv(0xa0, &[&point(url)]), &issuer])]))
}

/// The extension of a list that says where its deltas are.
pub fn freshest(url: &str) -> Vec<u8> {
    extension("2.5.29.46", false, &sequence(&[&sequence(&[&tlv(0xa0, &[&point(url)])])]))
}

/// What an OCSP answer is going to say.
#[derive(Clone)]
pub struct Reply {
    pub singles: Vec<Vec<u8>>,
    pub responder: Rc<Key>,
    pub by_name: Option<Vec<u8>>,
    pub produced_at: OffsetDateTime,
    pub this_update: OffsetDateTime,
    pub next_update: Option<OffsetDateTime>,
    pub nonce: Option<Vec<u8>>,
    pub certificates: Vec<Vec<u8>>,
    pub sha256: bool,
}

pub const GOOD: &[u8] = &[0x80, 0];
pub const UNKNOWN: &[u8] = &[0x82, 0];

/// `revoked`, for keyCompromise.
pub fn revoked() -> Vec<u8> {
    tlv(0xa1, &[&generalized(NOW - DAY * 2), &tlv(0xa0, &[&[10, 1, 1]])])
}

impl Reply {
    /// An answer of the CA itself.
    pub fn by(issuer: &Made) -> Self {
        Self {
            singles: Vec::new(),
            responder: Rc::clone(&issuer.key),
            by_name: None,
            produced_at: NOW - DAY / 2,
            this_update: NOW - DAY,
            next_update: Some(NOW + DAY),
            nonce: None,
            certificates: Vec::new(),
            sha256: false,
        }
    }

    /// An answer of somebody who shows a certificate.
    pub fn by_delegate(delegate: &Made) -> Self {
        Self { certificates: vec![delegate.der.clone()], ..Self::by(delegate) }
    }

    /// Adds a status of a certificate of `issuer`, as of this answer's times.
    pub fn says(mut self, issuer: &Made, serial: &[u8], status: &[u8]) -> Self {
        let (algorithm, oid) = match self.sha256 {
            true => (&SHA256, "2.16.840.1.101.3.4.2.1"),
            false => (&SHA1_FOR_LEGACY_USE_ONLY, "1.3.14.3.2.26"),
        };
        let id = sequence(&[
            &sequence(&[&oid_der(oid), &[5, 0]]),
            &tlv(4, &[digest(algorithm, &issuer.name).as_ref()]),
            &tlv(4, &[digest(algorithm, &issuer.key.bits()).as_ref()]),
            &tlv(2, &[serial]),
        ]);
        let next = self.next_update.map(|next| tlv(0xa0, &[&generalized(next)])).unwrap_or_default();
        self.singles.push(sequence(&[&id, status, &generalized(self.this_update), &next]));
        self
    }

    pub fn sign(self) -> Vec<u8> {
        let responder = match &self.by_name {
            Some(name) => tlv(0xa1, &[name]),
            None => {
                tlv(0xa2, &[&tlv(4, &[digest(&SHA1_FOR_LEGACY_USE_ONLY, &self.responder.bits()).as_ref()])])
            }
        };
        let nonce = self.nonce.map(|nonce| {
            let value = extension("1.3.6.1.5.5.7.48.1.2", false, &tlv(4, &[&nonce]));
            tlv(0xa1, &[&sequence(&[&value])])
        });
        let data = sequence(&[
            &responder,
            &generalized(self.produced_at),
            &sequence(&[&self.singles.concat()]),
            &nonce.unwrap_or_default(),
        ]);
        let certificates = self.certificates.concat();
        let after =
            if certificates.is_empty() { Vec::new() } else { tlv(0xa0, &[&sequence(&[&certificates])]) };
        let basic = self.responder.frame(&data, &after);
        let body = sequence(&[&oid_der("1.3.6.1.5.5.7.48.1.1"), &tlv(4, &[&basic])]);
        sequence(&[&[10, 1, 0], &tlv(0xa0, &[&body])])
    }
}
