//! Public keys that give no security, made by arithmetic as the broken generators made them.

use num_bigint::BigUint;

use super::{oid_der, sequence, spki, tlv};

/// Primes of the broken library are powers of 65537 modulo the product of the primes up to here.
const LAST_PRIME: u32 = 167;

fn is_prime(number: u32) -> bool {
    (2..).take_while(|factor| factor * factor <= number).all(|factor| !number.is_multiple_of(factor))
}

/// Whether a number has none of the factors that are looked for.
fn is_rough(number: &BigUint) -> bool {
    (2_u32..2048).filter(|factor| is_prime(*factor)).all(|factor| (number % factor).bits() > 0)
}

/// The next number without small factors; that it is no prime does not show in a modulus.
fn rough(from: BigUint) -> BigUint {
    (0_u32..).map(|step| &from + step).find(is_rough).unwrap()
}

/// A modulus in which nothing is found.
pub fn sound() -> BigUint {
    far() * rough((BigUint::from(7_u32) << 1021_u32) + 98_765_u32)
}

fn far() -> BigUint {
    rough((BigUint::from(3_u32) << 1022_u32) + 12_345_u32)
}

/// CVE-2017-15361: both primes are k·M + (65537^a mod M).
pub fn roca() -> BigUint {
    let product = (2..=LAST_PRIME).filter(|&p| is_prime(p)).fold(BigUint::from(1_u32), |all, p| all * p);
    let prime = |k: u32, a: u32| {
        (&product << (1024 - product.bits())) * k
            + BigUint::from(65537_u32).modpow(&BigUint::from(a), &product)
    };
    (1..).map(|a| prime(3, a) * prime(5, a + 7)).find(is_rough).unwrap()
}

/// Two factors beside each other, which Fermat's method finds at once.
pub fn close() -> BigUint {
    far() * rough(far() + 2_u32)
}

/// One factor twice.
pub fn square() -> BigUint {
    far() * far()
}

/// A modulus that a trial division takes apart.
pub fn small_factor() -> BigUint {
    far() * rough(BigUint::from(7_u32) << 1011_u32) * 1021_u32
}

/// Y coordinates of Ed25519 points of the orders 1, 2, 4 and 8; under the first, R = B·S signs every message.
pub fn low_points() -> [[u8; 32]; 4] {
    let mut neutral = [0; 32];
    neutral[0] = 1;
    let mut minus_one = [0xff; 32];
    (minus_one[0], minus_one[31]) = (0xec, 0x7f);
    let mut eighth = [0; 32];
    let octets =
        BigUint::parse_bytes(b"05fc536d880238b13933c6d305acdfd5f098eff289f4c345b027b2c28f95e826", 16);
    let octets = octets.unwrap().to_bytes_le();
    eighth[..octets.len()].copy_from_slice(&octets);
    [neutral, minus_one, [0; 32], eighth]
}

pub fn rsa_spki(modulus: &BigUint, exponent: u32) -> Vec<u8> {
    let integer = |number: &BigUint| match number.to_bytes_be() {
        octets if octets[0] & 0x80 != 0 => tlv(2, &[&[0], &octets]),
        octets => tlv(2, &[&octets]),
    };
    let algorithm = sequence(&[&oid_der("1.2.840.113549.1.1.1"), &[5, 0]]);
    spki(&algorithm, &sequence(&[&integer(modulus), &integer(&exponent.into())]))
}

pub fn ed25519_spki(point: &[u8]) -> Vec<u8> {
    spki(&sequence(&[&oid_der("1.3.101.112")]), point)
}
