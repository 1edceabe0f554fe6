//! Secrets: bytes that can't be printed, copied, compared or encoded by accident.

use zeroize::Zeroize;

use crate::crypto::memory::Memory;
use crate::crypto::random;

/// `N` bytes that must not leak: no `Clone`, `Debug`, `PartialEq` or encoding; locked in memory
/// where the system allows; wiped when dropped.
pub struct Secret<const N: usize>(Memory);

impl<const N: usize> Secret<N> {
    /// `N` bytes from the operating system's generator.
    #[must_use]
    pub fn generate() -> Self {
        Self::filled(|bytes| random::fill(bytes))
    }

    /// `N` bytes that `fill` writes in place, over zeros.
    pub fn filled(fill: impl FnOnce(&mut [u8; N])) -> Self {
        let mut memory = Memory::zeroed(N);
        fill(memory.as_mut_slice().try_into().expect("a secret has the length of its type"));
        Self(memory)
    }

    /// A copy of `bytes`, or nothing unless there are exactly `N`. The source is left as it is.
    #[must_use]
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        <&[u8; N]>::try_from(bytes).ok().map(|bytes| Self::filled(|place| place.copy_from_slice(bytes)))
    }

    /// Takes the bytes over and wipes where they stood.
    pub fn take(source: &mut [u8; N]) -> Self {
        let secret = Self::filled(|place| place.copy_from_slice(source));
        source.zeroize();
        secret
    }

    /// `parts` one after the other.
    ///
    /// # Panics
    /// If their lengths don't sum to `N`.
    #[must_use]
    pub fn concat(parts: &[&[u8]]) -> Self {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        assert!(length == N, "the parts of a secret of {N} bytes have {length}");
        Self::filled(|place| {
            let mut rest = &mut place[..];
            for part in parts {
                let (head, tail) = rest.split_at_mut(part.len());
                head.copy_from_slice(part);
                rest = tail;
            }
        })
    }

    /// Lends the bytes to `read`; each call of `expose` is a place for a reviewer to look at.
    pub fn expose<T>(&self, read: impl FnOnce(&[u8; N]) -> T) -> T {
        read(self.0.as_slice().try_into().expect("a secret has the length of its type"))
    }

    /// A second copy, for a second owner.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        self.part(0)
    }

    /// The `M` bytes from `at` as a secret of their own.
    ///
    /// # Panics
    /// If they reach past the end.
    #[must_use]
    pub fn part<const M: usize>(&self, at: usize) -> Secret<M> {
        self.expose(|bytes| Secret::filled(|place| place.copy_from_slice(&bytes[at..at + M])))
    }
}

/// Bytes of any length that must not leak: as [`Secret`].
pub struct SecretBytes(Memory);

impl SecretBytes {
    /// Takes `bytes` over and wipes where they stood.
    #[must_use]
    pub fn new(mut bytes: Vec<u8>) -> Self {
        let secret = Self::from_slice(&bytes);
        bytes.zeroize();
        secret
    }

    /// A copy of `bytes`. The source is left as it is.
    #[must_use]
    pub fn from_slice(bytes: &[u8]) -> Self {
        Self::filled(bytes.len(), |place| place.copy_from_slice(bytes))
    }

    /// `length` bytes that `fill` writes in place, over zeros.
    pub fn filled(length: usize, fill: impl FnOnce(&mut [u8])) -> Self {
        let mut memory = Memory::zeroed(length);
        fill(memory.as_mut_slice());
        Self(memory)
    }

    /// Lends the bytes to `read`; each call of `expose` is a place for a reviewer to look at.
    pub fn expose<T>(&self, read: impl FnOnce(&[u8]) -> T) -> T {
        read(self.0.as_slice())
    }

    /// Lends the bytes to be changed in place.
    pub fn expose_mut<T>(&mut self, write: impl FnOnce(&mut [u8]) -> T) -> T {
        write(self.0.as_mut_slice())
    }

    /// How many bytes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.as_slice().len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A second copy, for a second owner.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        self.expose(Self::from_slice)
    }

    /// All of it as a secret of `N` bytes, or nothing if it has another length.
    #[must_use]
    pub fn to_secret<const N: usize>(&self) -> Option<Secret<N>> {
        self.expose(Secret::from_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn take_wipes_its_source() {
        let mut source = [7; 32];
        let secret = Secret::take(&mut source);
        assert_eq!(source, [0; 32]);
        secret.expose(|bytes| assert_eq!(bytes, &[7; 32]));
    }

    #[test]
    fn a_slice_of_another_length_is_no_secret() {
        assert!(Secret::<32>::from_slice(&[0; 31]).is_none());
        assert!(Secret::<32>::from_slice(&[0; 33]).is_none());
        assert!(Secret::<32>::from_slice(&[0; 32]).is_some());
    }

    #[test]
    fn parts_of_what_was_joined_are_what_was_joined() {
        let joined = Secret::<5>::concat(&[&[1, 2], &[], &[3, 4, 5]]);
        joined.expose(|bytes| assert_eq!(bytes, &[1, 2, 3, 4, 5]));
        joined.part::<3>(2).expose(|bytes| assert_eq!(bytes, &[3, 4, 5]));
        joined.duplicate().expose(|bytes| assert_eq!(bytes, &[1, 2, 3, 4, 5]));
    }

    #[test]
    #[should_panic(expected = "the parts of a secret of 4 bytes have 3")]
    fn joined_parts_must_fill_the_secret() {
        let _ = Secret::<4>::concat(&[&[1, 2, 3]]);
    }

    #[test]
    fn bytes_of_any_length_are_kept_whole() {
        for length in [0, 1, 64, 65, 5000] {
            let secret = SecretBytes::new(vec![3; length]);
            assert_eq!(secret.len(), length);
            secret.duplicate().expose(|bytes| assert_eq!(bytes, vec![3; length]));
        }
        assert!(SecretBytes::new(vec![1; 32]).to_secret::<32>().is_some());
        assert!(SecretBytes::new(vec![1; 31]).to_secret::<32>().is_none());
    }
}
