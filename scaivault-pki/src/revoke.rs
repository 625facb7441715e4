/// Why a certificate was revoked (RFC 5280, 5.3.1). `removeFromCRL` is for delta lists, which are not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RevocationReason {
    /// No reason given. Lists and OCSP answers then carry none at all.
    Unspecified,
    /// The private key is, or may be, in other hands.
    KeyCompromise,
    /// The key of the CA is, or may be, in other hands.
    CaCompromise,
    /// The subject's name or affiliation has changed.
    AffiliationChanged,
    /// Another certificate has taken its place.
    Superseded,
    /// It is no longer needed.
    CessationOfOperation,
    /// It is on hold: the one reason that may be taken back.
    CertificateHold,
    /// A privilege that it states has been withdrawn.
    PrivilegeWithdrawn,
    /// The key of the attribute authority is, or may be, in other hands.
    AaCompromise,
}

impl RevocationReason {
    /// Every reason there is.
    pub const ALL: &[Self] = &[
        Self::Unspecified,
        Self::KeyCompromise,
        Self::CaCompromise,
        Self::AffiliationChanged,
        Self::Superseded,
        Self::CessationOfOperation,
        Self::CertificateHold,
        Self::PrivilegeWithdrawn,
        Self::AaCompromise,
    ];

    /// The stable name, as it is stored and shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::KeyCompromise => "key_compromise",
            Self::CaCompromise => "ca_compromise",
            Self::AffiliationChanged => "affiliation_changed",
            Self::Superseded => "superseded",
            Self::CessationOfOperation => "cessation_of_operation",
            Self::CertificateHold => "certificate_hold",
            Self::PrivilegeWithdrawn => "privilege_withdrawn",
            Self::AaCompromise => "aa_compromise",
        }
    }

    /// The reason of that name, if there is one.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.as_str() == name)
    }

    /// The number of `CRLReason`; 7 is not used (RFC 5280, 5.3.1).
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Unspecified => 0,
            Self::KeyCompromise => 1,
            Self::CaCompromise => 2,
            Self::AffiliationChanged => 3,
            Self::Superseded => 4,
            Self::CessationOfOperation => 5,
            Self::CertificateHold => 6,
            Self::PrivilegeWithdrawn => 9,
            Self::AaCompromise => 10,
        }
    }

    /// The reason of that number of `CRLReason`, if there is one.
    pub(crate) fn of_code(code: u8) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.code() == code)
    }

    /// What is written: nothing for `unspecified`, which RFC 5280 wants to be absent.
    pub(crate) fn encoded(self) -> Option<u8> {
        (self != Self::Unspecified).then(|| self.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_those_of_the_standard() {
        let codes: Vec<u8> = RevocationReason::ALL.iter().map(|reason| reason.code()).collect();
        assert_eq!(codes, [0, 1, 2, 3, 4, 5, 6, 9, 10]);
        for &reason in RevocationReason::ALL {
            assert_eq!(RevocationReason::parse(reason.as_str()), Some(reason));
        }
        assert_eq!(RevocationReason::parse("remove_from_crl"), None);
        assert_eq!(RevocationReason::parse("Superseded"), None);
    }
}
