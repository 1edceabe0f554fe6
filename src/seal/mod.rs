//! Plaintext to sealed bytes and back: [`pseal`] for packs and their like, to a public key;
//! [`cseal`] for small secrets, under a key.

pub mod cseal;
pub mod pseal;
