//! Randomness: the operating system's generator and nothing else.

/// Ends the process when dropped, so that nothing can catch the panic that drops it and go on.
struct Abort;

impl Drop for Abort {
    fn drop(&mut self) {
        std::process::abort();
    }
}

/// Fills `bytes` from the operating system's generator.
///
/// There is no buffer and no generator of our own: a fork or a restored machine can't repeat them.
/// If the generator fails, the process says so and aborts, as a key of zeros is worse than no backup.
pub fn fill(bytes: &mut [u8]) {
    if getrandom::fill(bytes).is_err() {
        let _abort = Abort;
        panic!("the operating system's random generator answers");
    }
}

/// `N` bytes from the operating system's generator; see [`fill`].
#[must_use]
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    fill(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_draws_differ_and_are_not_zero() {
        let (first, second) = (bytes::<32>(), bytes::<32>());
        assert_ne!(first, second);
        assert_ne!(first, [0; 32]);
    }
}
