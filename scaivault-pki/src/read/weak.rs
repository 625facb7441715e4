//! RSA keys that can be factored or forged by anybody.

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
