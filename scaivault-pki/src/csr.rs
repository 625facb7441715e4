//! Certificate requests of others (PKCS #10, RFC 2986): what they ask for, which is not what they get.

use std::{collections::BTreeSet, net::IpAddr};

use const_oid::{
    ObjectIdentifier,
    db::{rfc4519, rfc5280, rfc5912},
};
use der::{
    Any, Decode as _, Encode as _, ErrorKind, Sequence, SliceReader, Tag,
    asn1::{BitString, Ia5StringRef, Int, PrintableStringRef, SetOfVec, Utf8StringRef},
};
use x509_cert::{
    attr::Attribute,
    ext::{
        Extension,
        pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAltName, name::GeneralName},
    },
    name::Name,
};

use crate::{
    PkiError,
    key::{Algorithm, KeyKind, PublicKey},
    name::SubjectParts,
    pem::parse_one,
};

const FIELD: &str = "csr_pem";
const COMMON_NAME: &str = "csr_pem.common_name";
/// The longest request, in octets of DER.
const MAX_CSR: usize = 64 * 1024;
/// The most extensions that one may ask for.
const MAX_EXTENSIONS: usize = 64;
/// The most purposes that one may ask for.
const MAX_PURPOSES: usize = 64;
/// The most things that are told to be ignored.
const MAX_IGNORED: usize = 64;

/// A request whose signature proves that its sender has the private key. Nothing in it is granted yet:
/// [`Role::admit_csr`](crate::Role::admit_csr) judges it.
#[derive(Clone, Debug)]
pub struct Csr {
    der: Vec<u8>,
    spki: Vec<u8>,
    public_key: PublicKey,
    common_name: Option<String>,
    names: Vec<CsrName>,
    /// What it says in each of [`SubjectParts::FIELDS`]; `None` for a value that is no text.
    parts: [Vec<Option<String>>; 5],
    purposes: Vec<ObjectIdentifier>,
    ignored: Vec<String>,
    objections: Vec<Objection>,
}

/// One subject alternative name that a request asks for, in its order.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CsrName {
    /// A DNS name as it was written, unchecked.
    Dns(String),
    /// An IP address.
    Ip(IpAddr),
    /// An e-mail address as it was written, unchecked.
    Email(String),
    /// A URI as it was written, unchecked.
    Uri(String),
    /// A name of a kind that is not issued here: which kind.
    Other(&'static str),
}

/// Something in the request that no role admits: field, rule, message.
pub(crate) type Objection = (&'static str, &'static str, String);

#[derive(Sequence)]
struct Request {
    /// [`Info`], kept as it came, since that is what was signed.
    info: Any,
    algorithm: Algorithm,
    signature: BitString,
}

#[derive(Sequence)]
pub(crate) struct Info {
    pub(crate) version: u8,
    pub(crate) subject: Name,
    pub(crate) public_key: Any,
    #[asn1(context_specific = "0", tag_mode = "IMPLICIT", optional = "true")]
    pub(crate) attributes: Option<SetOfVec<Attribute>>,
}

impl Csr {
    /// Reads a request in DER, or in PEM (`CERTIFICATE REQUEST`), and verifies that it was signed with its own
    /// key: ECDSA on P-256, P-384 or P-521 and RSA PKCS #1 v1.5 of 2048 to 8192 bits, with SHA-256, SHA-384
    /// or SHA-512, Ed25519 or ML-DSA.
    ///
    /// # Errors
    /// [`PkiError::Invalid`] if it is malformed, not in DER, longer than 64 KiB, of another kind of key or
    /// signature (RSA-PSS among them), or not signed with its key.
    pub fn parse(der_or_pem: &[u8]) -> Result<Self, PkiError> {
        if der_or_pem.first() == Some(&0x30) {
            return Self::from_der(der_or_pem);
        }
        let labels = ["CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST"];
        Self::from_der(&parse_one(FIELD, der_or_pem, &labels)?)
    }

    fn from_der(der: &[u8]) -> Result<Self, PkiError> {
        if der.len() > MAX_CSR {
            return Err(bad("must have at most 64 KiB"));
        }
        let request = Request::from_der(der).map_err(|error| bad(unreadable(&error)))?;
        let signed = request.info.to_der().map_err(PkiError::encoding("a certificate request"))?;
        // Others would fail as numbers that are out of bounds.
        let version = SliceReader::new(request.info.value()).and_then(|mut info| Int::decode(&mut info));
        if version.is_ok_and(|version| version.as_bytes() != [0]) {
            return Err(bad("is of an unknown version: the only one is 0 (RFC 2986, 4.1)"));
        }
        let info = Info::from_der(&signed).map_err(|error| bad(unreadable(&error)))?;
        if info.to_der().ok().as_ref() != Some(&signed) {
            return Err(bad("is not in DER"));
        }
        let spki = info.public_key.to_der().map_err(PkiError::encoding("a public key"))?;
        let public_key = PublicKey::parse(FIELD, &spki)?;
        verify(&request, &signed, &public_key)?;

        let mut csr = Self {
            der: der.to_vec(),
            spki,
            public_key,
            common_name: None,
            names: Vec::new(),
            parts: Default::default(),
            purposes: Vec::new(),
            ignored: Vec::new(),
            objections: Vec::new(),
        };
        csr.read_subject(&info.subject);
        csr.read_attributes(info.attributes.as_ref())?;
        for extension in requested_extensions(info.attributes.as_ref())? {
            csr.read_extension(&extension);
        }
        Ok(csr)
    }

    /// The request in DER, as it came.
    #[must_use]
    pub fn to_der(&self) -> Vec<u8> {
        self.der.clone()
    }

    /// The public key, a DER `SubjectPublicKeyInfo`, byte for byte.
    #[must_use]
    pub fn public_key_spki(&self) -> &[u8] {
        &self.spki
    }

    /// The subject it asks for, a DER `Name`, as it came.
    ///
    /// # Errors
    /// [`PkiError::Invalid`] if it cannot be read any more, which it was once.
    pub fn subject_der(&self) -> Result<Vec<u8>, PkiError> {
        let request = Request::from_der(&self.der).map_err(|_| bad("is not a certificate request in DER"))?;
        let signed = request.info.to_der().map_err(PkiError::encoding("a certificate request"))?;
        let info = Info::from_der(&signed).map_err(|_| bad("is not a certificate request in DER"))?;
        info.subject.to_der().map_err(PkiError::encoding("a subject"))
    }

    /// The kind of the public key.
    #[must_use]
    pub fn key_kind(&self) -> KeyKind {
        self.public_key.kind
    }

    /// The common name of the subject it asks for, unchecked.
    #[must_use]
    pub fn common_name(&self) -> Option<&str> {
        self.common_name.as_deref()
    }

    /// The subject alternative names it asks for, unchecked.
    #[must_use]
    pub fn names(&self) -> &[CsrName] {
        &self.names
    }

    /// What it says that no certificate will: attributes, extensions and parts of the subject, at most 64 of them.
    #[must_use]
    pub fn ignored(&self) -> &[String] {
        &self.ignored
    }

    /// What it says in each part of its subject, unchecked; `None` for what is no text.
    pub(crate) fn subject_parts(&self) -> impl Iterator<Item = (&'static str, &[Option<String>])> {
        SubjectParts::FIELDS.into_iter().zip(self.parts.iter().map(Vec::as_slice))
    }

    pub(crate) fn purposes(&self) -> &[ObjectIdentifier] {
        &self.purposes
    }

    pub(crate) fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    /// Whether its subject has a common name, be it one that cannot be read.
    pub(crate) fn has_common_name(&self) -> bool {
        self.common_name.is_some() || self.objections.iter().any(|(field, ..)| *field == COMMON_NAME)
    }

    pub(crate) fn objections(&self) -> &[Objection] {
        &self.objections
    }

    fn object(&mut self, field: &'static str, rule: &'static str, message: impl Into<String>) {
        self.objections.push((field, rule, message.into()));
    }

    fn ignore(&mut self, what: impl FnOnce() -> String) {
        if self.ignored.len() < MAX_IGNORED {
            self.ignored.push(what());
        }
    }

    fn read_subject(&mut self, subject: &Name) {
        for attribute in subject.iter() {
            let part = PARTS.iter().position(|oid| *oid == attribute.oid);
            if let Some(part) = part.and_then(|at| self.parts.get_mut(at)) {
                // Two are one too many already.
                if part.len() < 2 {
                    part.push(text(&attribute.value));
                }
            } else if attribute.oid == rfc4519::CN {
                self.read_common_name(&attribute.value);
            } else {
                self.ignore(|| format!("subject attribute {}", attribute.oid));
            }
        }
    }

    fn read_common_name(&mut self, value: &Any) {
        match text(value) {
            _ if self.common_name.is_some() => self.object(COMMON_NAME, "single", "must be there once only"),
            Some(name) => self.common_name = Some(name),
            None => self.object(COMMON_NAME, "encoding", "must be a UTF8String or PrintableString"),
        }
    }

    /// Attributes beside the request for extensions are never granted; of each kind there may be one.
    fn read_attributes(&mut self, attributes: Option<&SetOfVec<Attribute>>) -> Result<(), PkiError> {
        let mut seen = BTreeSet::new();
        for attribute in attributes.into_iter().flat_map(SetOfVec::iter) {
            if attribute.oid == MICROSOFT_EXTENSIONS {
                return Err(bad("asks for extensions by an attribute other than extensionRequest"));
            }
            if !is_minimal(attribute.oid) {
                return Err(bad("is not in DER"));
            }
            if attribute.values.is_empty() {
                return Err(bad("has an attribute without values"));
            }
            if !seen.insert(attribute.oid) {
                return Err(bad(match attribute.oid {
                    rfc5912::ID_EXTENSION_REQ => "asks for extensions twice",
                    _ => "has an attribute twice",
                }));
            }
            if attribute.oid != rfc5912::ID_EXTENSION_REQ {
                self.ignore(|| format!("attribute {}", attribute.oid));
            }
        }
        Ok(())
    }

    /// Takes names; objects to what makes a CA, and to what is critical and unknown. All else is left to the
    /// profile of the issuer.
    fn read_extension(&mut self, extension: &Extension) {
        let value = extension.extn_value.as_bytes();
        let understood = match extension.extn_id {
            rfc5280::ID_CE_SUBJECT_ALT_NAME => SubjectAltName::from_der(value).map(|names| {
                // RFC 5280, 4.2.1.6.
                if names.0.is_empty() {
                    self.object("csr_pem.names", "empty", "has a list of alternative names without a name");
                }
                self.names.extend(names.0.iter().map(read_name));
            }),
            rfc5280::ID_CE_BASIC_CONSTRAINTS => BasicConstraints::from_der(value).map(|constraints| {
                if constraints.ca || constraints.path_len_constraint.is_some() {
                    self.object("csr_pem.basic_constraints", "ca", "asks for a CA certificate");
                }
            }),
            rfc5280::ID_CE_KEY_USAGE => KeyUsage::from_der(value).map(|usage| {
                // RFC 5280, 4.2.1.3.
                if usage.0.is_empty() {
                    self.object("csr_pem.key_usage", "empty", "has a key usage without a bit");
                }
                if usage.key_cert_sign() || usage.crl_sign() {
                    self.object("csr_pem.key_usage", "ca", "asks to sign certificates or revocation lists");
                }
            }),
            rfc5280::ID_CE_EXT_KEY_USAGE => {
                ExtendedKeyUsage::from_der(value).map(|usage| self.read_purposes(usage))
            }
            oid if CA_ONLY.contains(&oid) => {
                self.object("csr_pem.extensions", "ca", format!("asks for {oid}, which only a CA may have"));
                Ok(())
            }
            oid if HARMLESS.contains(&oid) => Ok(()),
            oid if extension.critical => {
                let message = format!("asks for the critical extension {oid}, which is not issued here");
                self.object("csr_pem.extensions", "unknown_critical", message);
                Ok(())
            }
            oid => {
                self.ignore(|| format!("extension {oid}"));
                Ok(())
            }
        };
        if understood.is_err() {
            self.object(
                "csr_pem.extensions",
                "syntax",
                format!("has a malformed extension {}", extension.extn_id),
            );
        }
    }

    fn read_purposes(&mut self, usage: ExtendedKeyUsage) {
        if usage.0.is_empty() {
            self.object("csr_pem.extended_key_usage", "purpose", "asks for no purpose at all");
        } else if usage.0.len() > MAX_PURPOSES {
            let message = format!("asks for more than {MAX_PURPOSES} purposes");
            self.object("csr_pem.extended_key_usage", "count", message);
        } else {
            self.purposes = usage.0;
        }
    }
}

/// The attributes of [`SubjectParts::FIELDS`].
const PARTS: [ObjectIdentifier; 5] = [rfc4519::O, rfc4519::OU, rfc4519::C, rfc4519::ST, rfc4519::L];
/// What Microsoft's tools once put extensions into, beside or instead of `extensionRequest`.
const MICROSOFT_EXTENSIONS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.311.2.1.14");

/// Extensions that say something about a CA.
const CA_ONLY: [ObjectIdentifier; 4] = [
    rfc5280::ID_CE_NAME_CONSTRAINTS,
    rfc5280::ID_CE_POLICY_CONSTRAINTS,
    rfc5280::ID_CE_POLICY_MAPPINGS,
    rfc5280::ID_CE_INHIBIT_ANY_POLICY,
];

/// Extensions that the profile writes in its own way, whatever was asked.
const HARMLESS: [ObjectIdentifier; 2] =
    [rfc5280::ID_CE_SUBJECT_KEY_IDENTIFIER, rfc5280::ID_CE_AUTHORITY_KEY_IDENTIFIER];

fn bad(message: &str) -> PkiError {
    PkiError::invalid(FIELD, message)
}

/// Why nothing could be made of the octets, as far as the parser knows.
fn unreadable(error: &der::Error) -> &'static str {
    match error.kind() {
        ErrorKind::IndefiniteLength => "has an indefinite length, which DER does not have",
        ErrorKind::TrailingData { .. } => "has octets after its end, or after that of a part",
        ErrorKind::Incomplete { .. } => "is cut off: it is shorter than its lengths say",
        ErrorKind::TagUnknown { byte: UNIVERSAL_STRING } => {
            "has a UniversalString; text must be a UTF8String"
        }
        _ => "is not a certificate request in DER",
    }
}

/// The tag of a type of text that no CA should use (RFC 5280, 4.1.2.4).
const UNIVERSAL_STRING: u8 = 0x1c;

fn verify(request: &Request, signed: &[u8], key: &PublicKey) -> Result<(), PkiError> {
    if request.algorithm.oid == rfc5912::ID_RSASSA_PSS {
        return Err(bad("is signed with RSA-PSS; sign it with PKCS #1 v1.5 and SHA-256"));
    }
    let unsupported =
        || bad("is signed with an algorithm that is not supported for its key; use SHA-256, 384 or 512");
    // RFC 5758, 3.2, RFC 8410, 3, RFC 9881, 3: none. RFC 4055, 5: NULL, and verifiers take none for it.
    let nullable = matches!(key.kind, KeyKind::Rsa(_));
    if !request.algorithm.parameters.as_ref().is_none_or(|any| nullable && any.is_null()) {
        return Err(bad("is signed with an algorithm that has parameters where there are none"));
    }
    let signature = request.signature.as_bytes().ok_or_else(|| bad("has a malformed signature"))?;
    match key.verify(request.algorithm.oid, signed, signature) {
        Some(true) => Ok(()),
        Some(false) => Err(bad("is not signed with its own key")),
        None => Err(unsupported()),
    }
}

/// The extensions of the one `extensionRequest` attribute (RFC 2985, 5.4.2), each there once.
fn requested_extensions(attributes: Option<&SetOfVec<Attribute>>) -> Result<Vec<Extension>, PkiError> {
    let mut requests = attributes
        .into_iter()
        .flat_map(SetOfVec::iter)
        .filter(|attribute| attribute.oid == rfc5912::ID_EXTENSION_REQ)
        .flat_map(|attribute| attribute.values.iter());
    let Some(request) = requests.next() else { return Ok(Vec::new()) };
    if requests.next().is_some() {
        return Err(bad("asks for extensions twice"));
    }
    let extensions: Vec<Extension> =
        request.decode_as().map_err(|_| bad("asks for extensions that cannot be read"))?;
    let minimal = extensions.iter().all(|extension| is_minimal(extension.extn_id));
    if !minimal || extensions.to_der().ok() != request.to_der().ok() {
        return Err(bad("asks for extensions that are not in DER"));
    }
    if extensions.len() > MAX_EXTENSIONS {
        return Err(bad("asks for more than 64 extensions"));
    }
    let distinct: BTreeSet<_> = extensions.iter().map(|extension| extension.extn_id).collect();
    if distinct.len() != extensions.len() {
        return Err(bad("asks for one extension twice"));
    }
    Ok(extensions)
}

/// Whether no arc of an identifier is written with zeros before it (X.690, 8.19.2), which would be a second spelling.
fn is_minimal(oid: ObjectIdentifier) -> bool {
    let mut begins = true;
    oid.as_bytes().iter().all(|&octet| {
        let padded = begins && octet == 0x80;
        begins = octet & 0x80 == 0;
        !padded
    })
}

pub(crate) fn text(value: &Any) -> Option<String> {
    match value.header().tag() {
        Tag::Utf8String => value.decode_as::<Utf8StringRef<'_>>().ok().map(|text| text.as_str().to_owned()),
        Tag::PrintableString => {
            value.decode_as::<PrintableStringRef<'_>>().ok().map(|text| text.as_str().to_owned())
        }
        Tag::Ia5String => value.decode_as::<Ia5StringRef<'_>>().ok().map(|text| text.as_str().to_owned()),
        _ => None,
    }
}

fn read_name(name: &GeneralName) -> CsrName {
    match name {
        GeneralName::DnsName(text) => CsrName::Dns(text.as_str().to_owned()),
        GeneralName::IpAddress(octets) => {
            let octets = octets.as_bytes();
            let v4 = <[u8; 4]>::try_from(octets).map(IpAddr::from);
            match v4.or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from)) {
                Ok(address) => CsrName::Ip(address),
                Err(_) => CsrName::Other("an IP address of odd length"),
            }
        }
        GeneralName::OtherName(_) => CsrName::Other("an otherName"),
        GeneralName::Rfc822Name(text) => CsrName::Email(text.as_str().to_owned()),
        GeneralName::DirectoryName(_) => CsrName::Other("a directory name"),
        GeneralName::EdiPartyName(_) => CsrName::Other("an EDI party name"),
        GeneralName::UniformResourceIdentifier(text) => CsrName::Uri(text.as_str().to_owned()),
        GeneralName::RegisteredId(_) => CsrName::Other("a registered ID"),
    }
}
