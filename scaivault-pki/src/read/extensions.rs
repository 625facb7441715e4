//! The extensions of certificates (RFC 5280, 4.2), all of those that a path is judged by.

use const_oid::db::{rfc5280 as id, rfc6960};

use super::{
    asn1::{
        INTEGER, Malformed, NULL, OCTET_STRING, Reader, Result, SEQUENCE, constructed, context, count,
        named_bits,
    },
    dn::Rdn,
    general::{GeneralName, NameConstraints, general_names},
    oid::Oid,
};

/// Bits of `KeyUsage`.
pub(crate) const DIGITAL_SIGNATURE: u16 = 1;
pub(crate) const NON_REPUDIATION: u16 = 1 << 1;
pub(crate) const KEY_ENCIPHERMENT: u16 = 1 << 2;
pub(crate) const KEY_AGREEMENT: u16 = 1 << 4;
pub(crate) const KEY_CERT_SIGN: u16 = 1 << 5;
pub(crate) const CRL_SIGN: u16 = 1 << 6;

/// Bits for keys that encrypt or agree: keyEncipherment, dataEncipherment, keyAgreement, encipherOnly, decipherOnly.
pub(crate) const ENCIPHERMENT: u16 = 1 << 2 | 1 << 3 | 1 << 4 | 1 << 7 | 1 << 8;

/// The most extensions of one certificate, list or answer.
const MAX_EXTENSIONS: usize = 128;

/// One extension as it came.
pub(crate) struct RawExtension<'a> {
    pub(crate) oid: Oid,
    pub(crate) critical: bool,
    pub(crate) value: &'a [u8],
}

/// Reads a SEQUENCE of extensions, each there once.
pub(crate) fn distinct_extensions(list: &[u8]) -> Result<Vec<RawExtension<'_>>> {
    let found = raw_extensions(list)?;
    if twice(&found).is_some() { Err(Malformed("an extension twice")) } else { Ok(found) }
}

fn twice<'a>(extensions: &'a [RawExtension<'_>]) -> Option<&'a Oid> {
    let before = |at: usize| extensions.iter().take(at);
    let mut all = extensions.iter().enumerate();
    all.find(|(at, extension)| before(*at).any(|other| other.oid == extension.oid))
        .map(|(_, extension)| &extension.oid)
}

fn raw_extensions(list: &[u8]) -> Result<Vec<RawExtension<'_>>> {
    let mut reader = Reader::new(list);
    let mut found: Vec<RawExtension<'_>> = Vec::new();
    while !reader.is_empty() {
        let mut extension = reader.sequence()?;
        let oid = extension.oid()?;
        let critical = extension.boolean_or_false()?;
        let value = extension.expect(OCTET_STRING)?;
        extension.end()?;
        if found.len() == MAX_EXTENSIONS {
            return Err(Malformed("more than 128 extensions"));
        }
        found.push(RawExtension { oid, critical, value });
    }
    Ok(found)
}

/// What the extensions of one certificate say.
#[derive(Debug, Default)]
pub(crate) struct Extensions {
    pub(crate) authority_key_id: Option<Vec<u8>>,
    pub(crate) has_authority_key: bool,
    pub(crate) subject_key_id: Option<Vec<u8>>,
    pub(crate) key_usage: Option<u16>,
    pub(crate) purposes: Option<Vec<Oid>>,
    pub(crate) purposes_critical: bool,
    pub(crate) names: Option<Vec<GeneralName>>,
    pub(crate) names_critical: bool,
    pub(crate) basic: Option<Basic>,
    pub(crate) basic_critical: bool,
    pub(crate) name_constraints: Option<NameConstraints>,
    pub(crate) policies: Option<Vec<Oid>>,
    pub(crate) mappings: Vec<(Oid, Oid)>,
    pub(crate) require_explicit: Option<u32>,
    pub(crate) inhibit_mapping: Option<u32>,
    pub(crate) policy_constraints_critical: Option<bool>,
    pub(crate) inhibit_any: Option<u32>,
    pub(crate) distribution_points: Vec<DistributionPoint>,
    pub(crate) no_check: bool,
    pub(crate) unknown_critical: Vec<Oid>,
    pub(crate) faults: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Basic {
    pub(crate) ca: bool,
    pub(crate) max_path_length: Option<u32>,
}

/// A place where lists are published (RFC 5280, 4.2.1.13).
#[derive(Clone, Debug, Default)]
pub(crate) struct DistributionPoint {
    pub(crate) name: Option<PointName>,
    /// The reasons that lists there are about; `None` for all of them.
    pub(crate) reasons: Option<u16>,
    pub(crate) crl_issuer: Vec<GeneralName>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PointName {
    Full(Vec<GeneralName>),
    Relative(Rdn),
}

/// Extensions that have to be not critical, whatever they say.
const NEVER_CRITICAL: [const_oid::ObjectIdentifier; 5] = [
    id::ID_CE_AUTHORITY_KEY_IDENTIFIER,
    id::ID_CE_SUBJECT_KEY_IDENTIFIER,
    id::ID_PE_AUTHORITY_INFO_ACCESS,
    id::ID_PE_SUBJECT_INFO_ACCESS,
    id::ID_CE_FRESHEST_CRL,
];

impl Extensions {
    pub(crate) fn parse(list: &[u8]) -> Result<Self> {
        let raw = raw_extensions(list)?;
        let mut all = Self::default();
        if let Some(oid) = twice(&raw) {
            all.faults.push(format!("has the extension {oid} twice"));
        }
        for extension in &raw {
            if extension.critical && NEVER_CRITICAL.iter().any(|known| extension.oid.is(*known)) {
                all.faults
                    .push(format!("has the extension {} critical, which it must not be", extension.oid));
            }
            match all.read(extension) {
                Ok(true) => {}
                Ok(false) if extension.critical => all.unknown_critical.push(extension.oid.clone()),
                Ok(false) => {}
                Err(Malformed(why)) => {
                    all.faults.push(format!("has a malformed extension {}: {why}", extension.oid))
                }
            }
        }
        Ok(all)
    }

    /// Whether the extension is understood.
    fn read(&mut self, extension: &RawExtension<'_>) -> Result<bool> {
        let RawExtension { oid, critical, value } = extension;
        match () {
            () if oid.is(id::ID_CE_AUTHORITY_KEY_IDENTIFIER) => self.read_authority_key(value)?,
            () if oid.is(id::ID_CE_SUBJECT_KEY_IDENTIFIER) => {
                self.subject_key_id = Some(Reader::only(value, OCTET_STRING)?.to_vec());
            }
            () if oid.is(id::ID_CE_KEY_USAGE) => {
                let usage = named_bits(Reader::only(value, super::asn1::BIT_STRING)?)?;
                if usage == 0 {
                    return Err(Malformed("a key usage of no use"));
                }
                self.key_usage = Some(usage);
            }
            () if oid.is(id::ID_CE_EXT_KEY_USAGE) => {
                self.purposes = Some(oids(value)?);
                self.purposes_critical = *critical;
            }
            () if oid.is(id::ID_CE_SUBJECT_ALT_NAME) => {
                self.names = Some(general_names(Reader::only(value, SEQUENCE)?)?);
                self.names_critical = *critical;
            }
            () if oid.is(id::ID_CE_ISSUER_ALT_NAME) => {
                general_names(Reader::only(value, SEQUENCE)?)?;
                // Nothing here goes by it, which is not enough if it has to be gone by.
                return Ok(!critical);
            }
            () if oid.is(id::ID_CE_BASIC_CONSTRAINTS) => {
                self.basic = Some(basic(value)?);
                self.basic_critical = *critical;
            }
            () if oid.is(id::ID_CE_NAME_CONSTRAINTS) => {
                self.name_constraints = Some(NameConstraints::parse(value)?)
            }
            () if oid.is(id::ID_CE_CERTIFICATE_POLICIES) => self.policies = Some(policies(value)?),
            () if oid.is(id::ID_CE_POLICY_MAPPINGS) => self.mappings = mappings(value)?,
            () if oid.is(id::ID_CE_POLICY_CONSTRAINTS) => {
                let mut reader = Reader::new(Reader::only(value, SEQUENCE)?);
                self.require_explicit = reader.optional(context(0))?.map(count).transpose()?;
                self.inhibit_mapping = reader.optional(context(1))?.map(count).transpose()?;
                self.policy_constraints_critical = Some(*critical);
                reader.end()?;
                if self.require_explicit.is_none() && self.inhibit_mapping.is_none() {
                    return Err(Malformed("policy constraints without a constraint"));
                }
            }
            () if oid.is(id::ID_CE_INHIBIT_ANY_POLICY) => {
                self.inhibit_any = Some(count(Reader::only(value, INTEGER)?)?);
            }
            () if oid.is(id::ID_CE_CRL_DISTRIBUTION_POINTS) => self.distribution_points = points(value)?,
            () if oid.is(id::ID_CE_FRESHEST_CRL) => {
                points(value)?;
            }
            () if oid.is(id::ID_PE_AUTHORITY_INFO_ACCESS) || oid.is(id::ID_PE_SUBJECT_INFO_ACCESS) => {
                access(value)?
            }
            () if oid.is(rfc6960::ID_PKIX_OCSP_NOCHECK) => {
                Reader::only(value, NULL)?;
                self.no_check = true;
            }
            () => return Ok(false),
        }
        Ok(true)
    }

    fn read_authority_key(&mut self, value: &[u8]) -> Result<()> {
        let mut reader = Reader::new(Reader::only(value, SEQUENCE)?);
        self.authority_key_id = reader.optional(context(0))?.map(<[u8]>::to_vec);
        let issuer = reader.optional(constructed(1))?.map(general_names).transpose()?;
        let serial = reader.optional(context(2))?.map(super::asn1::integer).transpose()?;
        if issuer.is_some() != serial.is_some() {
            return Err(Malformed("an issuer and a serial number go together"));
        }
        self.has_authority_key = true;
        reader.end()
    }
}

fn basic(value: &[u8]) -> Result<Basic> {
    let mut reader = Reader::new(Reader::only(value, SEQUENCE)?);
    let ca = reader.boolean_or_false()?;
    let max_path_length = reader.optional(INTEGER)?.map(count).transpose()?;
    reader.end()?;
    Ok(Basic { ca, max_path_length })
}

fn oids(value: &[u8]) -> Result<Vec<Oid>> {
    let mut reader = Reader::new(Reader::only(value, SEQUENCE)?);
    let mut found = Vec::new();
    while !reader.is_empty() {
        found.push(reader.oid()?);
    }
    if found.is_empty() { Err(Malformed("a list of purposes without a purpose")) } else { Ok(found) }
}

fn policies(value: &[u8]) -> Result<Vec<Oid>> {
    let mut reader = Reader::new(Reader::only(value, SEQUENCE)?);
    let mut found: Vec<Oid> = Vec::new();
    while !reader.is_empty() {
        let mut information = reader.sequence()?;
        found.push(information.oid()?);
        if !information.is_empty() {
            information.sequence()?;
        }
        information.end()?;
    }
    let mut sorted: Vec<_> = found.iter().collect();
    sorted.sort();
    if sorted.windows(2).any(|pair| pair.first() == pair.last()) {
        return Err(Malformed("a policy twice"));
    }
    if found.is_empty() { Err(Malformed("a list of policies without a policy")) } else { Ok(found) }
}

fn mappings(value: &[u8]) -> Result<Vec<(Oid, Oid)>> {
    let mut reader = Reader::new(Reader::only(value, SEQUENCE)?);
    let mut found = Vec::new();
    while !reader.is_empty() {
        let mut pair = reader.sequence()?;
        found.push((pair.oid()?, pair.oid()?));
        pair.end()?;
    }
    if found.is_empty() { Err(Malformed("policy mappings without a mapping")) } else { Ok(found) }
}

fn points(value: &[u8]) -> Result<Vec<DistributionPoint>> {
    let mut reader = Reader::new(Reader::only(value, SEQUENCE)?);
    let mut found = Vec::new();
    while !reader.is_empty() {
        let mut point = reader.sequence()?;
        let name = point.optional(constructed(0))?.map(point_name).transpose()?;
        let reasons = point.optional(context(1))?.map(named_bits).transpose()?;
        let crl_issuer = point.optional(constructed(2))?.map(general_names).transpose()?.unwrap_or_default();
        point.end()?;
        if name.is_none() && crl_issuer.is_empty() {
            return Err(Malformed("a distribution point that names nothing"));
        }
        found.push(DistributionPoint { name, reasons, crl_issuer });
    }
    if found.is_empty() { Err(Malformed("a list of distribution points without a point")) } else { Ok(found) }
}

/// Reads the content of a `[0] EXPLICIT DistributionPointName`.
pub(crate) fn point_name(content: &[u8]) -> Result<PointName> {
    let mut reader = Reader::new(content);
    let element = reader.next()?;
    reader.end()?;
    match element.tag {
        tag if tag == constructed(0) => general_names(element.content).map(PointName::Full),
        tag if tag == constructed(1) => Rdn::parse(element.content).map(PointName::Relative),
        _ => Err(Malformed("a distribution point name of no known kind")),
    }
}

fn access(value: &[u8]) -> Result<()> {
    let mut reader = Reader::new(Reader::only(value, SEQUENCE)?);
    if reader.is_empty() {
        return Err(Malformed("a list of accesses without an access"));
    }
    while !reader.is_empty() {
        let mut description = reader.sequence()?;
        description.oid()?;
        GeneralName::read(&mut description)?;
        description.end()?;
    }
    Ok(())
}
