//! Keys from keys: HKDF-SHA-256 under a label and a context.

use hkdf::Hkdf;
use sha2::Digest;
use sha2::Sha256;

use crate::crypto::secret::Secret;

/// Stands before every label, so that no key of ours is one of another program's or version's.
const PREFIX: &[u8] = b"strongroom/v1/";

/// The `N`-byte key for the purpose `label` in the place `context`.
///
/// HKDF-SHA-256 with `info = "strongroom/v1/" label 0x00 SHA-256(context)`. A label has one output
/// length and one fixed layout of context; an empty salt is none.
///
/// # Panics
/// If `label` has a zero byte, or `N` is over 8,160, the most that HKDF gives.
///
/// Source: RFC 5869.
#[must_use]
pub fn derive<const N: usize>(key: &[u8], salt: &[u8], label: &str, context: &[u8]) -> Secret<N> {
    assert!(!label.contains('\0'), "a label has no zero byte, as one ends it");
    let context = Sha256::digest(context);
    let expander = Hkdf::<Sha256>::new(Some(salt), key);
    Secret::filled(|out| {
        expander
            .expand_multi_info(&[PREFIX, label.as_bytes(), &[0], &context], out)
            .expect("a key is far shorter than the 8,160 bytes that HKDF gives");
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::vectors;

    #[test]
    fn hkdf_gives_the_published_keys() {
        for case in vectors::cases(include_str!("../../tests/vectors/hkdf-sha256.txt")) {
            let mut output = vec![0; case.bytes("output").len()];
            let expander = Hkdf::<Sha256>::new(Some(&case.bytes("salt")), &case.bytes("key"));
            expander.expand_multi_info(&[&case.bytes("info")], &mut output).unwrap();
            assert_eq!(output, case.bytes("output"));
        }
    }

    #[test]
    fn hkdf_gives_the_keys_of_wycheproof_and_none_that_is_too_long() {
        for case in vectors::cases(include_str!("../../tests/vectors/wycheproof/hkdf-sha256.txt")) {
            let mut output = vec![0; case.number("bytes")];
            let expander = Hkdf::<Sha256>::new(Some(&case.bytes("salt")), &case.bytes("key"));
            let expanded = expander.expand_multi_info(&[&case.bytes("info")], &mut output);
            assert_eq!(expanded.is_ok(), case.is_valid(), "{}", case.text("case"));
            assert!(!case.is_valid() || output == case.bytes("output"), "{}", case.text("case"));
        }
    }

    #[test]
    fn derived_keys_are_those_of_the_vectors() {
        for case in vectors::cases(include_str!("../../tests/vectors/derive.txt")) {
            let (key, salt, context) = (case.bytes("key"), case.bytes("salt"), case.bytes("context"));
            let derived = match case.bytes("output").len() {
                32 => derive::<32>(&key, &salt, case.text("label"), &context).expose(|key| key.to_vec()),
                64 => derive::<64>(&key, &salt, case.text("label"), &context).expose(|key| key.to_vec()),
                _ => derive::<76>(&key, &salt, case.text("label"), &context).expose(|key| key.to_vec()),
            };
            assert_eq!(derived, case.bytes("output"));
        }
    }

    #[test]
    fn another_key_salt_label_or_context_gives_another_key() {
        let derived = |key: &[u8], salt: &[u8], label, context: &[u8]| {
            derive::<32>(key, salt, label, context).expose(|key| *key)
        };
        let first = derived(b"key", b"salt", "label", b"context");
        assert_eq!(first, derived(b"key", b"salt", "label", b"context"));
        assert_ne!(first, derived(b"kez", b"salt", "label", b"context"));
        assert_ne!(first, derived(b"key", b"salz", "label", b"context"));
        assert_ne!(first, derived(b"key", b"salt", "labelc", b"ontext"));
        assert_ne!(first, derived(b"key", b"salt", "label", b"contexu"));
    }
}
