//! Sharing a secret among people: any `threshold` of them have it together, fewer know nothing.
//!
//! Each byte of the secret is where a polynomial over GF(256) of degree `threshold - 1` begins, its
//! value at 0; a share has the values at its index. The field is that of AES: polynomials over bits
//! modulo x^8 + x^4 + x^3 + x + 1. Secrets decide neither a branch nor an address here.
//!
//! Source: Shamir, How to share a secret, 1979; FIPS 197 §4 for the field.

use std::fmt;

use subtle::Choice;
use subtle::ConditionallySelectable as _;
use subtle::ConstantTimeEq as _;

use crate::crypto::random;
use crate::crypto::secret::Secret;
use crate::crypto::secret::SecretBytes;

/// With a threshold of 1 each share would be the secret itself.
pub const THRESHOLD_MIN: u8 = 2;
/// Bytes of the secret, and of each share.
const BYTES: usize = 32;

/// Why a secret was not shared, or shares not joined.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// So many shares can't be made, or not with this threshold.
    Numbers {
        /// How many were to be enough.
        threshold: u8,
        /// How many there were to be.
        count: u8,
    },
    /// There are fewer than it takes.
    TooFew {
        /// How many it takes.
        needs: u8,
        /// How many there are.
        have: usize,
    },
    /// The share with this index is there twice.
    Twice(u8),
    /// No share has the index 0: it would be the secret.
    Zero,
    /// The shares don't agree on how many it takes.
    Thresholds(u8, u8),
    /// There are more than it takes, and they lead to different secrets.
    Differ,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Numbers { threshold, count } => {
                write!(f, "a secret can't be shared so that {threshold} of {count} have it")
            }
            Self::TooFew { needs, have } => write!(f, "it takes {needs} shares; given: {have}"),
            Self::Twice(index) => write!(f, "share {index} is there twice"),
            Self::Zero => write!(f, "no share has the number 0"),
            Self::Thresholds(first, other) => {
                write!(f, "the shares are not of one secret: one says that it takes {first}, another {other}")
            }
            Self::Differ => write!(f, "the shares are not of one secret, or one of them is wrong"),
        }
    }
}

impl std::error::Error for Error {}

/// What one person has of a secret.
pub struct Share {
    /// How many shares it takes.
    threshold: u8,
    /// Where the polynomials have these values; never 0.
    index: u8,
    values: Secret<BYTES>,
}

impl Share {
    /// Puts a share together again that was written down.
    ///
    /// # Errors
    /// [`Error::Zero`]; [`Error::Numbers`] if the threshold is one that [`split`] refuses.
    pub fn new(threshold: u8, index: u8, values: Secret<BYTES>) -> Result<Self, Error> {
        if index == 0 {
            return Err(Error::Zero);
        }
        if threshold < THRESHOLD_MIN {
            return Err(Error::Numbers { threshold, count: u8::MAX });
        }
        Ok(Self { threshold, index, values })
    }

    /// How many shares it takes to have the secret.
    #[must_use]
    pub fn threshold(&self) -> u8 {
        self.threshold
    }

    /// Which share it is, counted from 1.
    #[must_use]
    pub fn index(&self) -> u8 {
        self.index
    }

    /// The polynomials' values at the index.
    #[must_use]
    pub fn values(&self) -> &Secret<BYTES> {
        &self.values
    }
}

/// Shares `secret` so that any `threshold` of the `count` shares have it. Share a secret once only, and
/// a fresh one each time.
///
/// # Errors
/// [`Error::Numbers`] unless 2 <= `threshold` <= `count`.
pub fn split(secret: &Secret<BYTES>, threshold: u8, count: u8) -> Result<Vec<Share>, Error> {
    // Uniform, zero among them: without zeros a share would tell what the secret is not.
    let length = usize::from(threshold.saturating_sub(1)) * BYTES;
    split_with(secret, &SecretBytes::filled(length, random::fill), threshold, count)
}

/// As [`split`], with `coefficients`: 32 of x, then 32 of x^2, and so on to the degree.
fn split_with(
    secret: &Secret<BYTES>,
    coefficients: &SecretBytes,
    threshold: u8,
    count: u8,
) -> Result<Vec<Share>, Error> {
    if threshold < THRESHOLD_MIN || count < threshold {
        return Err(Error::Numbers { threshold, count });
    }
    let share = |index: u8| Share {
        threshold,
        index,
        values: Secret::filled(|values| {
            // Horner's rule, from the highest power down.
            coefficients.expose(|coefficients| {
                for powers in coefficients.chunks_exact(BYTES).rev() {
                    step(values, index, powers);
                }
            });
            secret.expose(|secret| step(values, index, secret));
        }),
    };
    Ok((1..=count).map(share).collect())
}

/// Multiplies each value by `index` and adds the next coefficient to it.
fn step(values: &mut [u8; BYTES], index: u8, coefficients: &[u8]) {
    for (value, coefficient) in values.iter_mut().zip(coefficients) {
        *value = multiply(*value, index) ^ coefficient;
    }
}

/// The secret that `shares` have together. Those beyond the threshold must agree with the others.
///
/// Shares of different secrets, or one that was changed, give another secret and no error unless there
/// are more than it takes: what the secret opens must tell.
///
/// # Errors
/// All but [`Error::Numbers`].
pub fn join<'a>(shares: impl IntoIterator<Item = &'a Share>) -> Result<Secret<BYTES>, Error> {
    let shares: Vec<&Share> = shares.into_iter().collect();
    let Some(first) = shares.first() else {
        return Err(Error::TooFew { needs: THRESHOLD_MIN, have: 0 });
    };
    for (at, share) in shares.iter().enumerate() {
        if share.threshold != first.threshold {
            return Err(Error::Thresholds(first.threshold, share.threshold));
        }
        if shares[..at].iter().any(|before| before.index == share.index) {
            return Err(Error::Twice(share.index));
        }
    }
    let Some((enough, others)) = shares.split_at_checked(usize::from(first.threshold)) else {
        return Err(Error::TooFew { needs: first.threshold, have: shares.len() });
    };
    let agrees = |other: &&Share| {
        let expected = value_at(enough, other.index);
        let same = expected.expose(|expected| other.values.expose(|values| expected.ct_eq(values)));
        bool::from(same)
    };
    if !others.iter().all(agrees) {
        return Err(Error::Differ);
    }
    Ok(value_at(enough, 0))
}

/// The values at `index` of the polynomials of least degree through `shares`, by Lagrange's formula.
fn value_at(shares: &[&Share], index: u8) -> Secret<BYTES> {
    Secret::filled(|sums| {
        for share in shares {
            let others = shares.iter().filter(|other| other.index != share.index);
            // In this field, addition and subtraction are both exclusive or.
            let weight = others.fold(1, |weight, other| {
                multiply(weight, multiply(index ^ other.index, invert(share.index ^ other.index)))
            });
            share.values.expose(|values| {
                for (sum, value) in sums.iter_mut().zip(values) {
                    *sum ^= multiply(*value, weight);
                }
            });
        }
    })
}

/// The product in GF(256), with the same steps whatever the factors are.
fn multiply(a: u8, b: u8) -> u8 {
    let mut product = 0;
    let mut power = a;
    for bit in 0..8 {
        product ^= u8::conditional_select(&0, &power, Choice::from(b >> bit & 1));
        let reduction = u8::conditional_select(&0, &0x1b, Choice::from(power >> 7));
        power = power << 1 ^ reduction;
    }
    product
}

/// The inverse in GF(256): the 254th power. That of 0 is 0.
fn invert(a: u8) -> u8 {
    // 254 = 2 + 4 + 8 + .. + 128.
    let mut square = a;
    (0..7).fold(1, |product, _| {
        square = multiply(square, square);
        multiply(product, square)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::vectors;

    /// The product by school: multiply polynomials over bits, then divide by that of the field.
    fn schoolbook(a: u8, b: u8) -> u8 {
        let mut product =
            (0..8).filter(|bit| b >> bit & 1 == 1).fold(0, |sum, bit| sum ^ u16::from(a) << bit);
        for degree in (8..15).rev() {
            if product >> degree & 1 == 1 {
                product ^= 0x11b << (degree - 8);
            }
        }
        u8::try_from(product).unwrap()
    }

    fn secret(byte: u8) -> Secret<32> {
        Secret::filled(|bytes| bytes.iter_mut().zip(byte..).for_each(|(place, number)| *place = number))
    }

    fn bytes(secret: &Secret<32>) -> [u8; 32] {
        secret.expose(|bytes| *bytes)
    }

    fn copy(share: &Share) -> Share {
        Share::new(share.threshold, share.index, share.values.duplicate()).unwrap()
    }

    #[test]
    fn every_product_is_that_of_the_schoolbook_and_every_inverse_inverts() {
        for a in 0..=255 {
            for b in 0..=255 {
                assert_eq!(multiply(a, b), schoolbook(a, b), "{a} * {b}");
            }
            assert_eq!(multiply(a, invert(a)), u8::from(a != 0), "{a}");
        }
        // FIPS 197 §4.2.
        assert_eq!((multiply(0x57, 0x83), multiply(0x57, 0x13), invert(0x53)), (0xc1, 0xfe, 0xca));
    }

    #[test]
    fn shares_are_those_of_the_vectors() {
        for case in vectors::cases(include_str!("../../tests/vectors/shamir.txt")) {
            let secret = Secret::take(&mut case.array("secret"));
            let coefficients = SecretBytes::new(case.bytes("coefficients"));
            let (threshold, count) = (case.number("threshold"), case.number("count"));
            let shares = split_with(&secret, &coefficients, threshold, count).unwrap();
            assert_eq!(shares.len(), usize::from(count));
            for share in &shares {
                assert_eq!(bytes(&share.values), case.array(&format!("share {}", share.index)));
            }
            assert_eq!(bytes(&join(&shares).unwrap()), bytes(&secret));
        }
    }

    #[test]
    fn any_threshold_of_the_shares_have_the_secret_and_fewer_are_refused() {
        for count in 2..=7 {
            for threshold in 2..=count {
                let secret = secret(count * 16 + threshold);
                let shares = split(&secret, threshold, count).unwrap();
                for subset in 0_u32..1 << count {
                    let chosen = shares.iter().filter(|share| subset >> (share.index - 1) & 1 == 1);
                    let have = usize::try_from(subset.count_ones()).unwrap();
                    // In the other order too.
                    let chosen: Vec<&Share> = chosen.collect();
                    for joined in [join(chosen.iter().copied()), join(chosen.iter().rev().copied())] {
                        if have >= usize::from(threshold) {
                            assert_eq!(bytes(&joined.unwrap()), bytes(&secret));
                        } else {
                            let needs = if have == 0 { THRESHOLD_MIN } else { threshold };
                            assert_eq!(joined.err(), Some(Error::TooFew { needs, have }));
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn as_many_shares_can_be_made_as_the_field_has_places() {
        let secret = secret(3);
        for threshold in [2, 255] {
            let shares = split(&secret, threshold, 255).unwrap();
            assert_eq!(shares.len(), 255);
            let last = shares.iter().rev().take(usize::from(threshold));
            assert_eq!(bytes(&join(last).unwrap()), bytes(&secret));
        }
    }

    /// Of all polynomials of degree 2, as many go through two shares and each value of the secret.
    #[test]
    fn fewer_shares_than_the_threshold_fit_every_secret_equally_well() {
        for (here, there) in [(1, 2), (3, 255)] {
            let (at_here, at_there) = (0x5a, 0xc3);
            let mut fits = [0; 256];
            for linear in 0..=255 {
                for square in 0..=255 {
                    let rest = |x| multiply(multiply(square, x) ^ linear, x);
                    if rest(here) ^ at_here == rest(there) ^ at_there {
                        fits[usize::from(rest(here) ^ at_here)] += 1;
                    }
                }
            }
            assert_eq!(fits, [1; 256]);
        }
    }

    #[test]
    fn coefficients_take_every_value_and_zero_is_one() {
        let secret = secret(9);
        let mut seen = [false; 256];
        // 16,384 draws leave a value out once in e^58.
        for _ in 0..512 {
            let shares = split(&secret, 2, 2).unwrap();
            // At 1 the polynomial is the sum of its coefficients.
            for (value, start) in bytes(&shares[0].values).into_iter().zip(bytes(&secret)) {
                seen[usize::from(value ^ start)] = true;
            }
        }
        assert_eq!(seen, [true; 256]);
    }

    #[test]
    fn numbers_that_make_no_sense_are_refused() {
        for (threshold, count) in [(0, 0), (0, 5), (1, 1), (1, 5), (2, 1), (6, 5), (255, 254)] {
            let refused = split(&secret(0), threshold, count).err();
            assert_eq!(refused, Some(Error::Numbers { threshold, count }));
        }
        assert_eq!(Share::new(2, 0, secret(0)).err(), Some(Error::Zero));
        let refused = Share::new(1, 1, secret(0)).err();
        assert_eq!(refused, Some(Error::Numbers { threshold: 1, count: 255 }));
    }

    #[test]
    fn shares_that_do_not_belong_together_are_refused_as_far_as_that_can_be_seen() {
        let ours = split(&secret(0), 2, 3).unwrap();
        let of_three = split(&secret(0), 3, 3).unwrap();
        let others = split(&secret(0), 2, 3).unwrap();
        let refused = |shares: &[&Share]| join(shares.iter().copied()).err();
        assert_eq!(refused(&[&ours[0], &ours[1], &ours[0]]), Some(Error::Twice(1)));
        assert_eq!(refused(&[&ours[2], &copy(&ours[2])]), Some(Error::Twice(3)));
        assert_eq!(refused(&[&ours[0], &of_three[1]]), Some(Error::Thresholds(2, 3)));
        assert_eq!(refused(&[&ours[0], &ours[1], &others[2]]), Some(Error::Differ));
        assert_eq!(refused(&[&ours[0], &ours[1], &ours[2]]), None);
        // Two of two: nothing tells, but the secret is another.
        let joined = join([&ours[0], &others[1]]).unwrap();
        assert_ne!(bytes(&joined), bytes(&secret(0)));
    }

    #[test]
    fn messages_read_as_sentences() {
        for (error, message) in [
            (Error::Numbers { threshold: 3, count: 2 }, "a secret can't be shared so that 3 of 2 have it"),
            (Error::TooFew { needs: 3, have: 2 }, "it takes 3 shares; given: 2"),
            (Error::Twice(4), "share 4 is there twice"),
            (Error::Zero, "no share has the number 0"),
            (
                Error::Thresholds(2, 3),
                "the shares are not of one secret: one says that it takes 2, another 3",
            ),
            (Error::Differ, "the shares are not of one secret, or one of them is wrong"),
        ] {
            assert_eq!(error.to_string(), message);
        }
    }
}
