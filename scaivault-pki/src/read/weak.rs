//! Keys that anybody can factor, or forge signatures of.

use num_bigint::BigUint;

use super::asn1::{Malformed, Reader, SEQUENCE};

/// Why a public key is refused; the text follows the word "key".
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Weakness {
    /// It cannot be read.
    Malformed(String),
    /// There is no such algorithm here.
    Unsupported(String),
    /// It gives no security.
    Weak(String),
}

/// RSA keys with fewer bits are refused.
const MIN_RSA_BITS: u64 = 2048;
/// RSA keys with more bits are not computed with.
const MAX_RSA_BITS: u64 = 8192;
/// Moduli are divided by every odd number below, which is where primes of broken generators have been found.
const SMALL_FACTORS: u32 = 2048;
/// How far from each other the primes are looked for: rounds of Fermat's method, as the baseline requirements of public
/// CAs have it (6.1.1.3).
const FERMAT_ROUNDS: usize = 100;
/// Keys of the broken library (CVE-2017-15361) are powers of 65537 modulo every prime up to here; of other keys fewer than
/// one in 2^60 is.
const ROCA_PRIMES: u32 = 167;

/// Reads an `RSAPublicKey` and looks for what makes it worthless.
pub(crate) fn check_rsa(der: &[u8]) -> Result<(), Weakness> {
    let (modulus, exponent) = read(der).map_err(|Malformed(why)| Weakness::Malformed(why.to_owned()))?;
    let weak = |why: &str| Err(Weakness::Weak(why.to_owned()));
    if modulus.bits() < MIN_RSA_BITS {
        return weak(&format!("is RSA with {} bits, fewer than 2048", modulus.bits()));
    }
    if modulus.bits() > MAX_RSA_BITS {
        return Err(Weakness::Unsupported("is RSA with more than 8192 bits".to_owned()));
    }
    if !exponent.bit(0) || exponent.bits() < 2 {
        return weak("is RSA with an exponent that is even or 1");
    }
    if exponent.bits() > 33 {
        return Err(Weakness::Unsupported("is RSA with an exponent of more than 33 bits".to_owned()));
    }
    if !modulus.bit(0) || (3..SMALL_FACTORS).step_by(2).any(|factor| (&modulus % factor).bits() == 0) {
        return weak("is RSA with a small factor");
    }
    if is_roca(&modulus) {
        return weak("is RSA of the ROCA kind (CVE-2017-15361)");
    }
    if has_close_primes(&modulus) {
        return weak("is RSA with two primes that are close to each other");
    }
    Ok(())
}

/// Looks for the points of small order, under which there are signatures that hold for nearly every message.
pub(crate) fn check_ed25519(point: &[u8]) -> Result<(), Weakness> {
    let mut low = <[u8; 32]>::try_from(point)
        .map_err(|_| Weakness::Malformed("is Ed25519 without 32 octets".to_owned()))?;
    // The sign of x, which changes no order.
    low[31] &= 0x7f;
    if SMALL_ORDER.contains(&low) {
        return Err(Weakness::Weak("is Ed25519 with a point of small order".to_owned()));
    }
    Ok(())
}

/// The y coordinates of the points of order 1, 2, 4 and 8, in the order of RFC 8032, 5.1.2, and the two that are written
/// with p added.
const SMALL_ORDER: [[u8; 32]; 7] = [
    ends(0, 0, 0),
    ends(1, 0, 0),
    ends(0xec, 0xff, 0x7f),
    ends(0xed, 0xff, 0x7f),
    ends(0xee, 0xff, 0x7f),
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5,
        0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a,
        0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
    ],
];

const fn ends(first: u8, middle: u8, last: u8) -> [u8; 32] {
    let mut all = [middle; 32];
    all[0] = first;
    all[31] = last;
    all
}

fn read(der: &[u8]) -> Result<(BigUint, BigUint), Malformed> {
    let mut reader = Reader::new(Reader::only(der, SEQUENCE)?);
    let mut number = || match reader.integer()? {
        [first, ..] if first & 0x80 != 0 => Err(Malformed("has a negative number")),
        octets => Ok(BigUint::from_bytes_be(octets)),
    };
    let numbers = (number()?, number()?);
    reader.end()?;
    Ok(numbers)
}

fn is_roca(modulus: &BigUint) -> bool {
    (3..=ROCA_PRIMES).step_by(2).filter(|&p| is_prime(p)).all(|prime| {
        let rest = u32::try_from(modulus % prime).unwrap_or_default();
        let mut power = 1;
        loop {
            if power == rest {
                return true;
            }
            power = power * (65537 % prime) % prime;
            if power == 1 {
                return false;
            }
        }
    })
}

fn is_prime(odd: u32) -> bool {
    (3..).step_by(2).take_while(|factor| factor * factor <= odd).all(|factor| !odd.is_multiple_of(factor))
}

/// Fermat: if the modulus is a² - b² with an `a` just above its root, it is factored.
fn has_close_primes(modulus: &BigUint) -> bool {
    let mut a = modulus.sqrt();
    if &a * &a < *modulus {
        a += 1_u32;
    }
    let mut rest = &a * &a - modulus;
    for _ in 0..FERMAT_ROUNDS {
        if is_square(&rest) {
            return true;
        }
        rest += (&a << 1_u32) + 1_u32;
        a += 1_u32;
    }
    false
}

fn is_square(number: &BigUint) -> bool {
    // Most are told by what they leave: a square leaves few remainders.
    for modulus in [64_u32, 63, 65, 11, 17, 19] {
        let rest = u32::try_from(number % modulus).unwrap_or_default();
        if !(0..modulus).any(|root| root * root % modulus == rest) {
            return false;
        }
    }
    let root = number.sqrt();
    &root * &root == *number
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weakness(modulus: &BigUint, exponent: u32) -> Option<Weakness> {
        let integer = |number: &BigUint| {
            let mut octets = number.to_bytes_be();
            if octets[0] & 0x80 != 0 {
                octets.insert(0, 0);
            }
            [wrap(2, octets.len()), octets].concat()
        };
        let body = [integer(modulus), integer(&BigUint::from(exponent))].concat();
        check_rsa(&[wrap(0x30, body.len()), body].concat()).err()
    }

    fn wrap(tag: u8, length: usize) -> Vec<u8> {
        match u8::try_from(length) {
            Ok(short) if short < 0x80 => vec![tag, short],
            Ok(short) => vec![tag, 0x81, short],
            _ => [&[tag, 0x82][..], &u16::try_from(length).unwrap().to_be_bytes()].concat(),
        }
    }

    /// Numbers without factors below [`SMALL_FACTORS`]; primes are not needed to show what is found.
    fn rough(from: &BigUint) -> BigUint {
        let mut candidate: BigUint = from | BigUint::from(1_u32);
        while (3..SMALL_FACTORS).step_by(2).any(|factor| (&candidate % factor).bits() == 0) {
            candidate += 2_u32;
        }
        candidate
    }

    fn says(modulus: &BigUint, exponent: u32, text: &str) {
        match weakness(modulus, exponent) {
            Some(Weakness::Weak(why)) => assert!(why.contains(text), "{why}"),
            other => panic!("{other:?}, not {text}"),
        }
    }

    #[test]
    fn keys_that_anybody_can_factor_are_found() {
        let p = rough(&((BigUint::from(3_u32) << 1022_u32) + 12345_u32));
        let q = rough(&((BigUint::from(7_u32) << 1021_u32) + 98765_u32));
        let far = &p * &q;
        assert_eq!(weakness(&far, 65537), None);
        assert_eq!(weakness(&far, 3), None);
        says(&far, 1, "exponent");
        says(&far, 65538, "exponent");
        says(&(&far >> 64_u32 | BigUint::from(1_u32)), 65537, "fewer than 2048");
        says(&(&far * 1021_u32), 65537, "small factor");
        says(&(&far + 1_u32), 65537, "small factor");
        let neighbour = rough(&(&p + 2_u32));
        says(&(&p * &neighbour), 65537, "close");
        says(&(&p * &p), 65537, "close");
        assert!(matches!(
            weakness(&(BigUint::from(1_u32) << 8200_u32), 65537),
            Some(Weakness::Unsupported(_))
        ));
    }

    #[test]
    fn points_of_small_order_are_found() {
        let number = |text: &str| BigUint::parse_bytes(text.as_bytes(), 10).unwrap();
        let p = (BigUint::from(1_u32) << 255_u32) - 19_u32;
        let d = &p - number("121665") * number("121666").modpow(&(&p - 2_u32), &p) % &p;
        let found = |y: &BigUint, sign: u8| {
            let mut octets = y.to_bytes_le();
            octets.resize(32, 0);
            octets[31] |= sign;
            check_ed25519(&octets).is_err()
        };
        // y = ±1 and x = ±1 have order 1, 2 and 4; 2y² + dy⁴ = 1 wherever doubling gives y = 0.
        let mut small = vec![BigUint::ZERO, BigUint::from(1_u32), &p - 1_u32, p.clone(), &p + 1_u32];
        for coordinate in &SMALL_ORDER[5..] {
            let y = BigUint::from_bytes_le(coordinate);
            let square = &y * &y % &p;
            assert_eq!((&square * 2_u32 + &d * &square * &square) % &p, BigUint::from(1_u32));
            small.push(y);
        }
        assert_eq!(small.len(), SMALL_ORDER.len());
        assert!(small.iter().all(|y| found(y, 0) && found(y, 0x80)));
        // The base point, 4/5.
        let base = BigUint::from(4_u32) * BigUint::from(5_u32).modpow(&(&p - 2_u32), &p) % &p;
        assert!(!found(&base, 0) && !found(&base, 0x80));
        assert!(matches!(check_ed25519(&[9; 31]), Err(Weakness::Malformed(_))));
    }

    #[test]
    fn roca_keys_are_found() {
        // p = k·M + (65537^a mod M), as the broken library made them.
        let primorial = (3..=ROCA_PRIMES)
            .step_by(2)
            .filter(|&p| is_prime(p))
            .fold(BigUint::from(2_u32), |all, p| all * p);
        let part = |k: u32, a: u32| {
            (&primorial << (1024 - primorial.bits())) * k
                + BigUint::from(65537_u32).modpow(&BigUint::from(a), &primorial)
        };
        let mut a = 1;
        let modulus = loop {
            let modulus = part(3, a) * part(5, a + 7);
            if (3..SMALL_FACTORS).step_by(2).all(|factor| (&modulus % factor).bits() != 0) {
                break modulus;
            }
            a += 1;
        };
        says(&modulus, 65537, "ROCA");
    }
}
