//! Name constraints of CAs made here: from text to subtrees and back (RFC 5280, 4.2.1.10).

use const_oid::db::rfc4519;
use der::{
    Decode as _,
    asn1::{Ia5String, OctetString},
};
use x509_cert::{
    ext::pkix::{
        constraints::name::{GeneralSubtree, NameConstraints as Extension},
        name::GeneralName as Encoded,
    },
    name::Name,
};

use crate::{
    PkiError,
    error::{Violations, quote},
    name::write_attributes,
    read::{
        dn::Dn,
        general::{GeneralName, NameConstraints as Rules, Subtree},
    },
    sans::IpRange,
};

/// The most subtrees of one CA, of all kinds together.
const MAX_SUBTREES: usize = 200;
/// The most characters of one.
const MAX_TEXT: usize = 1024;

/// Which names a CA, and every CA below it, may issue for (RFC 5280, 4.2.1.10). Names of a kind without a permitted subtree
/// are free; what is excluded stays so, whatever is permitted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NameConstraints {
    /// Names of these kinds must lie in one of these.
    pub permitted: NameSubtrees,
    /// No name may lie in one of these.
    pub excluded: NameSubtrees,
}

/// Subtrees of names, by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NameSubtrees {
    /// `example.com`: that host and everything below it. Empty for every name.
    pub dns: Vec<String>,
    /// Networks, as `10.0.0.0/8`.
    pub ip: Vec<String>,
    /// One mailbox, every mailbox of a host (`example.com`), or of the hosts below a domain (`.example.com`).
    pub email: Vec<String>,
    /// The host of a URI (`example.com`), or those below a domain (`.example.com`).
    pub uri: Vec<String>,
    /// Beginnings of subjects after RFC 4514, the last part first, of `C`, `ST`, `L`, `O`, `OU` and `CN`: `O=Acme,C=NL`.
    pub directory: Vec<String>,
}

impl NameSubtrees {
    /// Each kind by its name, with its texts.
    #[must_use]
    pub fn kinds(&self) -> [(&'static str, &[String]); 5] {
        [
            ("dns", &self.dns),
            ("ip", &self.ip),
            ("email", &self.email),
            ("uri", &self.uri),
            ("directory", &self.directory),
        ]
    }

    fn count(&self) -> usize {
        self.kinds().iter().map(|(_, texts)| texts.len()).sum()
    }

    fn of(subtrees: &[Subtree]) -> Self {
        let mut all = Self::default();
        for subtree in subtrees {
            match subtree {
                Subtree::Dns(text) => all.dns.push(text.clone()),
                Subtree::Ip(network, mask) => all.ip.push(network_text(network, mask)),
                Subtree::Email(base) => all.email.push(base.to_string()),
                Subtree::Uri(base) => all.uri.push(base.to_string()),
                Subtree::Directory(name) => all.directory.push(name.to_text()),
                // Of a kind that nothing is issued for.
                Subtree::Unsupported(_) => {}
            }
        }
        all
    }
}

impl NameConstraints {
    /// Whether nothing is said.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.permitted.count() + self.excluded.count() == 0
    }

    pub(crate) fn of(rules: &Rules) -> Self {
        Self { permitted: NameSubtrees::of(&rules.permitted), excluded: NameSubtrees::of(&rules.excluded) }
    }
}

fn network_text(network: &[u8], mask: &[u8]) -> String {
    let prefix: u32 = mask.iter().map(|byte| byte.count_ones()).sum();
    let address = match (<[u8; 4]>::try_from(network), <[u8; 16]>::try_from(network)) {
        (Ok(v4), _) => std::net::IpAddr::from(v4).to_string(),
        (_, Ok(v6)) => std::net::IpAddr::from(v6).to_string(),
        _ => String::new(),
    };
    format!("{address}/{prefix}")
}

/// Constraints that were checked, as they are going to be written and as they are going to be applied.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    pub(crate) permitted: Vec<GeneralName>,
    pub(crate) excluded: Vec<GeneralName>,
    pub(crate) rules: Rules,
}

impl Limits {
    /// Reads `text`, which must say something, and holds it against the constraints `above`: a subtree that is permitted
    /// here must be permitted there as a whole, and not excluded as a whole.
    pub(crate) fn parse(text: &NameConstraints, above: &[Rules], found: &mut Violations) -> Self {
        let mut all = Self { permitted: Vec::new(), excluded: Vec::new(), rules: Rules::default() };
        if text.is_empty() {
            found.add("name_constraints", "empty", "must permit or exclude something, or be left out");
        }
        if text.permitted.count() + text.excluded.count() > MAX_SUBTREES {
            let message = format!("must have at most {MAX_SUBTREES} subtrees");
            found.add("name_constraints", "count", message);
            return all;
        }
        for (list, subtrees) in [("permitted", &text.permitted), ("excluded", &text.excluded)] {
            for (kind, texts) in subtrees.kinds() {
                for (i, text) in texts.iter().enumerate() {
                    let field = format!("name_constraints.{list}.{kind}[{i}]");
                    let (name, subtree) = match read(kind, text) {
                        Ok(read) => read,
                        Err(why) => {
                            found.add(field, "name_constraints", format!("{} {why}", quote(text)));
                            continue;
                        }
                    };
                    if list == "permitted" {
                        if let Some(why) = above.iter().find_map(|rules| beyond(rules, &subtree)) {
                            found.add(field, "within_parent", format!("{} {why}", quote(text)));
                        }
                        all.permitted.push(name);
                        all.rules.permitted.push(subtree);
                    } else {
                        all.excluded.push(name);
                        all.rules.excluded.push(subtree);
                    }
                }
            }
        }
        all
    }

    /// The extension.
    pub(crate) fn encode(&self) -> der::Result<Extension> {
        let list = |names: &[GeneralName]| {
            let subtrees = names
                .iter()
                .map(|name| Ok(GeneralSubtree { base: encode(name)?, minimum: 0, maximum: None }));
            let subtrees = subtrees.collect::<der::Result<Vec<_>>>()?;
            Ok::<_, der::Error>(Some(subtrees).filter(|subtrees| !subtrees.is_empty()))
        };
        Ok(Extension { permitted_subtrees: list(&self.permitted)?, excluded_subtrees: list(&self.excluded)? })
    }
}

/// Why a subtree goes beyond what `rules` of a CA above let it be.
fn beyond(rules: &Rules, subtree: &Subtree) -> Option<&'static str> {
    let mut permitted = rules.permitted.iter().filter(|base| base.kind() == subtree.kind()).peekable();
    if permitted.peek().is_some() && !permitted.any(|base| base.holds(subtree)) {
        return Some("is not within what the parent, or a CA above it, permits");
    }
    let excluded = rules.excluded.iter().any(|base| base.kind() == subtree.kind() && base.holds(subtree));
    excluded.then_some("is excluded by the parent, or a CA above it")
}

fn read(kind: &str, text: &str) -> Result<(GeneralName, Subtree), String> {
    if text.len() > MAX_TEXT {
        return Err(format!("must have at most {MAX_TEXT} characters"));
    }
    if !text.is_ascii() && kind != "directory" {
        return Err("must be in ASCII; write internationalized names as A-labels (xn--…)".to_owned());
    }
    let lower = text.to_ascii_lowercase();
    let name = match kind {
        "dns" => GeneralName::Dns(lower),
        "ip" => GeneralName::Ip(IpRange::parse(text)?.octets()),
        "email" => GeneralName::Email(match text.rsplit_once('@') {
            Some((local, host)) => format!("{local}@{}", host.to_ascii_lowercase()),
            None => lower,
        }),
        "uri" => GeneralName::Uri(lower),
        _ => GeneralName::Directory(directory(text)?),
    };
    let due = match kind {
        "dns" => "must be a host name without a wildcard, as example.com",
        "email" => "must be a mailbox, a host name, or a domain behind a dot, as .example.com",
        _ => "must be a host name, or a domain behind a dot, as .example.com",
    };
    let subtree = Subtree::of(&name).map_err(|_| due.to_owned())?;
    Ok((name, subtree))
}

/// A `Name` out of `O=Acme,C=NL`, written like the subjects that are issued here.
fn directory(text: &str) -> Result<Dn, String> {
    let mut parts = Vec::new();
    for part in split(text)? {
        let form = "must be parts as O=Acme,C=NL, of C, ST, L, O, OU and CN";
        let (kind, value) = part.split_once('=').ok_or(form)?;
        let (oid, most) = match kind.trim().to_ascii_uppercase().as_str() {
            "C" => (rfc4519::C, 2),
            "ST" => (rfc4519::ST, 128),
            "L" => (rfc4519::L, 128),
            "O" => (rfc4519::O, 64),
            "OU" => (rfc4519::OU, 64),
            "CN" => (rfc4519::CN, 64),
            _ => return Err(form.to_owned()),
        };
        let value = unescape(value.trim());
        let fits = (1..=most).contains(&value.chars().count()) && !value.chars().any(char::is_control);
        let is_code = oid != rfc4519::C || value.len() == 2 && value.bytes().all(|b| b.is_ascii_alphabetic());
        if !fits || !is_code {
            return Err(format!("has a bad value for {}: 1 to {most} characters", kind.trim()));
        }
        let value = if oid == rfc4519::C { value.to_ascii_uppercase() } else { value };
        parts.push((oid, value));
    }
    parts.reverse();
    let der = write_attributes(parts.iter().map(|(oid, value)| (*oid, value.as_str())))
        .map_err(|_| "cannot be written as a name".to_owned())?;
    Dn::parse(&der).map_err(|_| "cannot be written as a name".to_owned())
}

/// The parts between the commas that no backslash stands before, which stay as they were written.
fn split(text: &str) -> Result<Vec<String>, String> {
    let (mut parts, mut part, mut escaped) = (Vec::new(), String::new(), false);
    for c in text.chars() {
        if c == ',' && !escaped {
            parts.push(std::mem::take(&mut part));
            continue;
        }
        escaped = c == '\\' && !escaped;
        part.push(c);
    }
    if escaped {
        return Err("must not end with a backslash".to_owned());
    }
    parts.push(part);
    Ok(parts)
}

/// Without the backslashes that make the character behind them plain.
fn unescape(text: &str) -> String {
    let (mut plain, mut escaped) = (String::new(), false);
    for c in text.chars() {
        escaped = c == '\\' && !escaped;
        if !escaped {
            plain.push(c);
        }
    }
    plain
}

fn encode(name: &GeneralName) -> der::Result<Encoded> {
    Ok(match name {
        GeneralName::Dns(text) => Encoded::DnsName(Ia5String::new(text)?),
        GeneralName::Email(text) => Encoded::Rfc822Name(Ia5String::new(text)?),
        GeneralName::Uri(text) => Encoded::UniformResourceIdentifier(Ia5String::new(text)?),
        GeneralName::Ip(octets) => Encoded::IpAddress(OctetString::new(octets.as_slice())?),
        GeneralName::Directory(name) => Encoded::DirectoryName(Name::from_der(name.raw())?),
        _ => return Err(der::ErrorKind::Failed.into()),
    })
}

/// Reads the dotted numbers of certificate policies.
pub(crate) fn policies(texts: &[String], found: &mut Violations) -> Vec<const_oid::ObjectIdentifier> {
    let mut all = Vec::new();
    if texts.len() > MAX_POLICIES {
        found.add("policies", "count", format!("must be at most {MAX_POLICIES}"));
        return all;
    }
    for (i, text) in texts.iter().enumerate() {
        match const_oid::ObjectIdentifier::new(text) {
            Ok(oid) if all.contains(&oid) => {
                found.add(format!("policies[{i}]"), "single", "is there twice");
            }
            Ok(oid) => all.push(oid),
            Err(_) => {
                let message = format!("{} is no object identifier, as 2.23.140.1.2.1", quote(text));
                found.add(format!("policies[{i}]"), "oid", message);
            }
        }
    }
    all
}

/// The most certificate policies of one CA.
const MAX_POLICIES: usize = 16;

/// Constraints as they stand in a certificate of others.
///
/// # Errors
/// [`PkiError::Invalid`] if they are malformed.
pub(crate) fn of_certificate(certificate: &crate::Certificate) -> Result<Option<Rules>, PkiError> {
    let oid = const_oid::db::rfc5280::ID_CE_NAME_CONSTRAINTS;
    let extensions = &certificate.parts().extensions;
    let malformed = extensions.faults.iter().any(|fault| fault.contains(&oid.to_string()));
    if malformed {
        return Err(PkiError::invalid("certificate", "has malformed name constraints"));
    }
    Ok(extensions.name_constraints.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &NameConstraints, above: &[Rules]) -> Result<Limits, Vec<(String, &'static str)>> {
        let mut found = Violations::default();
        let limits = Limits::parse(text, above, &mut found);
        match found.into_result() {
            Ok(()) => Ok(limits),
            Err(refused) => Err(refused.violations.into_iter().map(|v| (v.field, v.rule)).collect()),
        }
    }

    fn permitted(kind: &str, text: &str) -> NameConstraints {
        let mut all = NameSubtrees::default();
        let list = match kind {
            "dns" => &mut all.dns,
            "ip" => &mut all.ip,
            "email" => &mut all.email,
            "uri" => &mut all.uri,
            _ => &mut all.directory,
        };
        list.push(text.to_owned());
        NameConstraints { permitted: all, excluded: NameSubtrees::default() }
    }

    #[test]
    fn what_is_read_can_be_written_again() {
        for (kind, text) in [
            ("dns", "example.com"),
            ("dns", ""),
            ("ip", "10.0.0.0/8"),
            ("ip", "2001:db8::/32"),
            ("ip", "0.0.0.0/0"),
            ("email", "Ann@example.com"),
            ("email", "example.com"),
            ("email", ".example.com"),
            ("uri", "example.com"),
            ("uri", ".example.com"),
            ("directory", "O=Acme,C=NL"),
            ("directory", "CN=a\\,b,OU=x\\=y,O=Zoë"),
        ] {
            let limits = parse(&permitted(kind, text), &[]).unwrap();
            assert_eq!(NameConstraints::of(&limits.rules), permitted(kind, text), "{kind} {text}");
            assert!(limits.encode().is_ok(), "{kind} {text}");
        }
    }

    #[test]
    fn what_means_nothing_is_named_by_its_field() {
        for (kind, text) in [
            ("dns", "*.example.com"),
            ("dns", ".example.com"),
            ("dns", "a b"),
            ("dns", "bücher.example"),
            ("ip", "10.0.0.1"),
            ("ip", "10.0.0.1/8"),
            ("ip", "10.0.0.0/33"),
            ("email", "@example.com"),
            ("email", "a@b@example.com"),
            ("uri", "https://example.com"),
            ("directory", "Acme"),
            ("directory", ""),
            ("directory", "C=Netherlands"),
            ("directory", "O="),
            ("directory", "O=a\\"),
            ("directory", "UID=x"),
        ] {
            let refused = parse(&permitted(kind, text), &[]).unwrap_err();
            let field = format!("name_constraints.permitted.{kind}[0]");
            assert_eq!(refused, [(field, "name_constraints")], "{kind} {text}");
        }
        let nothing = parse(&NameConstraints::default(), &[]).unwrap_err();
        assert_eq!(nothing, [("name_constraints".to_owned(), "empty")]);
        let many = NameSubtrees { dns: vec!["a.test".to_owned(); 201], ..NameSubtrees::default() };
        let many = NameConstraints { permitted: many, ..NameConstraints::default() };
        assert_eq!(parse(&many, &[]).unwrap_err(), [("name_constraints".to_owned(), "count")]);
    }

    #[test]
    fn a_subtree_lies_within_another_or_not() {
        for (kind, parent, child, within) in [
            ("dns", "example.com", "example.com", true),
            ("dns", "example.com", "a.example.com", true),
            ("dns", "", "example.com", true),
            ("dns", "a.example.com", "example.com", false),
            ("dns", "example.com", "badexample.com", false),
            ("dns", "example.com", "", false),
            ("ip", "10.0.0.0/8", "10.1.0.0/16", true),
            ("ip", "10.1.0.0/16", "10.0.0.0/8", false),
            ("ip", "0.0.0.0/0", "2001:db8::/32", false),
            ("email", "example.com", "ann@example.com", true),
            ("email", "example.com", ".example.com", false),
            ("email", ".example.com", "ann@a.example.com", true),
            ("email", ".example.com", ".a.example.com", true),
            ("email", "ann@example.com", "example.com", false),
            ("email", "", "example.com", true),
            ("uri", ".example.com", "a.example.com", true),
            ("uri", ".example.com", "example.com", false),
            ("directory", "C=NL", "O=Acme,C=NL", true),
            ("directory", "O=Acme,C=NL", "C=NL", false),
            ("directory", "C=NL", "O=Acme", false),
        ] {
            let above = parse(&permitted(kind, parent), &[]).unwrap().rules;
            let below = parse(&permitted(kind, child), std::slice::from_ref(&above));
            assert_eq!(below.is_ok(), within, "{kind}: {child} in {parent}");
            // What is excluded as a whole cannot be permitted again.
            let excluded = Rules { permitted: Vec::new(), excluded: above.permitted };
            let below = parse(&permitted(kind, child), &[excluded]);
            assert_eq!(below.is_err(), within, "{kind}: {child} but not {parent}");
        }
        // Another kind is another matter.
        let above = parse(&permitted("dns", "example.com"), &[]).unwrap().rules;
        assert!(parse(&permitted("ip", "10.0.0.0/8"), &[above]).is_ok());
    }
}
