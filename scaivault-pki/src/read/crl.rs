//! Revocation lists of others (RFC 5280, 5). Entries are walked where they are, so that a list of 50 MB costs no more
//! memory than its octets.

use const_oid::db::rfc5280 as id;
use time::OffsetDateTime;

use super::{
    asn1::{
        ENUMERATED, GENERALIZED_TIME, INTEGER, Malformed, Reader, Result, SEQUENCE, UTC_TIME, boolean,
        constructed, context, count, named_bits,
    },
    dn::Dn,
    extensions::{PointName, RawExtension, distinct_extensions, point_name},
    general::{GeneralName, general_names},
    signature::Signed,
};

/// A list of version 2.
pub(crate) struct Crl<'a> {
    pub(crate) issuer: Dn,
    pub(crate) this_update: OffsetDateTime,
    pub(crate) next_update: Option<OffsetDateTime>,
    pub(crate) signed: Signed<'a>,
    entries: &'a [u8],
    pub(crate) authority_key_id: Option<Vec<u8>>,
    /// The content of the INTEGER.
    pub(crate) number: Option<Vec<u8>>,
    /// Of a delta: the number of the list that it changes.
    pub(crate) base: Option<Vec<u8>>,
    pub(crate) scope: Scope,
    /// Rules that it breaks, for which nothing may be concluded from it.
    pub(crate) faults: Vec<String>,
}

/// What a list is about (RFC 5280, 5.2.5).
#[derive(Debug, Default)]
pub(crate) struct Scope {
    /// The extension as it came; lists of one scope have the same.
    pub(crate) raw: Vec<u8>,
    pub(crate) name: Option<PointName>,
    pub(crate) only_users: bool,
    pub(crate) only_cas: bool,
    pub(crate) only_attributes: bool,
    pub(crate) reasons: Option<u16>,
    pub(crate) indirect: bool,
}

/// What a list says of a serial number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) at: OffsetDateTime,
    /// The `CRLReason`; 0 if none is given.
    pub(crate) reason: u8,
}

/// The fault of a list of version 1.
pub(crate) const NOT_V2: &str = "is not of version 2";
/// The fault of a list without a number.
pub(crate) const NO_NUMBER: &str = "has no number";
/// `removeFromCRL`, which only deltas have.
pub(crate) const REMOVED: u8 = 8;

impl<'a> Crl<'a> {
    /// Reads everything but the entries.
    pub(crate) fn parse(der: &'a [u8]) -> Result<Self> {
        let (tbs, signed) = Signed::parse(der)?;
        let mut faults = Vec::new();
        let mut tbs = Reader::new(Reader::only(tbs, SEQUENCE)?);
        let version = tbs.optional(INTEGER)?.map(count).transpose()?;
        if version != Some(1) {
            faults.push(NOT_V2.to_owned());
        }
        if tbs.next()?.raw != &*signed.algorithm {
            faults.push("names two signature algorithms that differ".to_owned());
        }
        let issuer = Dn::parse(tbs.next()?.raw)?;
        let this_update = tbs.time()?;
        let next_update =
            if matches!(tbs.peek(), Some(UTC_TIME | GENERALIZED_TIME)) { Some(tbs.time()?) } else { None };
        let entries = tbs.optional(SEQUENCE)?.unwrap_or_default();
        let mut crl = Self {
            issuer,
            this_update,
            next_update,
            signed,
            entries,
            authority_key_id: None,
            number: None,
            base: None,
            scope: Scope::default(),
            faults,
        };
        if let Some(content) = tbs.optional(constructed(0))? {
            for extension in distinct_extensions(Reader::only(content, SEQUENCE)?)? {
                crl.read_extension(&extension)?;
            }
        }
        tbs.end()?;
        if crl.number.is_none() {
            crl.faults.push(NO_NUMBER.to_owned());
        }
        Ok(crl)
    }

    fn read_extension(&mut self, extension: &RawExtension<'_>) -> Result<()> {
        let RawExtension { oid, critical, value } = extension;
        match () {
            () if oid.is(id::ID_CE_CRL_NUMBER) => {
                if *critical {
                    self.faults.push("has a critical number".to_owned());
                }
                self.number = Some(number(value)?);
            }
            () if oid.is(id::ID_CE_DELTA_CRL_INDICATOR) => self.base = Some(number(value)?),
            () if oid.is(id::ID_CE_ISSUING_DISTRIBUTION_POINT) => self.scope = Scope::parse(value)?,
            () if oid.is(id::ID_CE_AUTHORITY_KEY_IDENTIFIER) => {
                let mut reader = Reader::new(Reader::only(value, SEQUENCE)?);
                self.authority_key_id = reader.optional(context(0))?.map(<[u8]>::to_vec);
            }
            () if *critical => self.faults.push(format!("has the unknown critical extension {oid}")),
            () => {}
        }
        Ok(())
    }

    /// How long its entries are.
    pub(crate) fn octets(&self) -> usize {
        self.entries.len()
    }

    /// All entries of a list that is not indirect, up to the first that cannot be read.
    pub(crate) fn own_entries(&self) -> impl Iterator<Item = Result<(&'a [u8], Entry)>> + use<'a> {
        let mut reader = Some(Reader::new(self.entries));
        std::iter::from_fn(move || {
            let mut rest = reader.take().filter(|rest| !rest.is_empty())?;
            let entry = own_entry(&mut rest);
            reader = entry.is_ok().then_some(rest);
            Some(entry)
        })
    }

    /// What it says of the certificate of `issuer` with `serial`, and whether its entries can be used at all. An entry that is
    /// not understood leaves open what the list does not have, and not that the certificate it names was revoked.
    pub(crate) fn entry(&self, issuer: &Dn, serial: &[u8]) -> Result<Option<Entry>> {
        let mut reader = Reader::new(self.entries);
        // An entry of an indirect list is about the issuer named last before it (RFC 5280, 5.3.3).
        let mut named: Option<Vec<Dn>> = None;
        let (mut found, mut fault) = (None, None);
        while !reader.is_empty() {
            let mut entry = reader.sequence()?;
            let entry_serial = entry.integer()?;
            let at = entry.time()?;
            let mut reason = 0;
            if !entry.is_empty() {
                for extension in distinct_extensions(entry.expect(SEQUENCE)?)? {
                    match () {
                        () if extension.oid.is(id::ID_CE_CRL_REASONS) => {
                            reason = match Reader::only(extension.value, ENUMERATED)? {
                                [code @ (0..=6 | 8..=10)] => *code,
                                _ => {
                                    fault = Some(Malformed("an entry with an unknown reason"));
                                    0
                                }
                            };
                        }
                        () if extension.oid.is(id::ID_CE_CERTIFICATE_ISSUER) => {
                            if !self.scope.indirect {
                                let why = "an entry of another issuer, and the list is not indirect";
                                fault = Some(Malformed(why));
                            }
                            let names = general_names(Reader::only(extension.value, SEQUENCE)?)?;
                            named = Some(names.into_iter().filter_map(directory).collect());
                        }
                        () if extension.critical => {
                            fault = Some(Malformed("an entry with an unknown critical extension"));
                        }
                        () => {}
                    }
                }
                entry.end()?;
            }
            let about = named.as_ref().map_or(self.issuer == *issuer, |names| names.contains(issuer));
            // Of two words about one number, the one that takes nothing back stands.
            if about && entry_serial == serial && found.is_none_or(|found: Entry| found.reason == REMOVED) {
                found = Some(Entry { at, reason });
            }
        }
        match (found, fault) {
            (None | Some(Entry { reason: REMOVED, .. }), Some(why)) => Err(why),
            _ => Ok(found),
        }
    }
}

fn own_entry<'a>(reader: &mut Reader<'a>) -> Result<(&'a [u8], Entry)> {
    let mut entry = reader.sequence()?;
    let (serial, at) = (entry.integer()?, entry.time()?);
    let mut reason = 0;
    if !entry.is_empty() {
        for extension in distinct_extensions(entry.expect(SEQUENCE)?)? {
            if extension.oid.is(id::ID_CE_CRL_REASONS) {
                reason = match Reader::only(extension.value, ENUMERATED)? {
                    [code] => *code,
                    _ => return Err(Malformed("an entry with an unknown reason")),
                };
            } else if extension.critical {
                return Err(Malformed("an entry with an unknown critical extension"));
            }
        }
        entry.end()?;
    }
    Ok((serial, Entry { at, reason }))
}

impl Scope {
    fn parse(value: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(Reader::only(value, SEQUENCE)?);
        let name = reader.optional(constructed(0))?.map(point_name).transpose()?;
        let mut flag = |number| reader.optional(context(number))?.map_or(Ok(false), boolean);
        let (only_users, only_cas) = (flag(1)?, flag(2)?);
        let reasons = reader.optional(context(3))?.map(named_bits).transpose()?;
        let mut flag = |number| reader.optional(context(number))?.map_or(Ok(false), boolean);
        let (indirect, only_attributes) = (flag(4)?, flag(5)?);
        reader.end()?;
        if u8::from(only_users) + u8::from(only_cas) + u8::from(only_attributes) > 1 {
            return Err(Malformed("a scope that excludes everything"));
        }
        Ok(Self { raw: value.to_vec(), name, only_users, only_cas, only_attributes, reasons, indirect })
    }
}

fn directory(name: GeneralName) -> Option<Dn> {
    match name {
        GeneralName::Directory(name) => Some(name),
        _ => None,
    }
}

/// A number of at most 20 octets that is not negative, as the content of its INTEGER.
fn number(value: &[u8]) -> Result<Vec<u8>> {
    let content = super::asn1::integer(Reader::only(value, INTEGER)?)?;
    if content.len() > 21 || content.first().is_some_and(|first| first & 0x80 != 0) {
        return Err(Malformed("a number that is negative or longer than 20 octets"));
    }
    let digits = content.iter().skip_while(|byte| **byte == 0).copied().collect();
    Ok(digits)
}

/// Whether number `a` is less than `b`; both without leading zeros.
pub(crate) fn less(a: &[u8], b: &[u8]) -> bool {
    (a.len(), a) < (b.len(), b)
}
