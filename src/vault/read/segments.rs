//! Parts of a sealed object, each checked.

use std::sync::OnceLock;

use crate::id::DeviceId;
use crate::id::ObjectName;
use crate::seal::pseal;
use crate::seal::pseal::Kind;
use crate::seal::pseal::Opener;
use crate::seal::pseal::SEGMENT_BYTES;
use crate::vault::Vault;
use crate::vault::error::Error;
use crate::vault::history::Located;
use crate::vault::name::Place;

/// A sealed object of which segments can be read, each checked, without the rest.
pub(super) struct Segments {
    pub(super) name: ObjectName,
    device: DeviceId,
    located: Located,
    kind: Kind,
    opener: Opener,
    /// The same object where it went since this was loaded.
    moved: OnceLock<Box<Segments>>,
}

impl Segments {
    pub(super) fn load(
        vault: &Vault,
        device: DeviceId,
        located: &Located,
        kind: Kind,
    ) -> Result<Self, Error> {
        vault.follow(device, located, |vault, located| Self::load_there(vault, device, located, kind))
    }

    fn load_there(vault: &Vault, device: DeviceId, located: &Located, kind: Kind) -> Result<Self, Error> {
        let name = Place::Pack { device, digest: located.name }.name();
        let head_bytes = (pseal::HEAD_BYTES as u64).min(u64::from(located.length));
        let head = vault.store().get_range(&name, 0..head_bytes).map_err(|error| short(&name, error))?;
        let opener = vault.opener(&name, device, kind, &head)?;
        Ok(Self { name, device, located: *located, kind, opener, moved: OnceLock::new() })
    }

    fn object_bytes(&self) -> u64 {
        u64::from(self.located.length)
    }

    pub(super) fn plaintext_bytes(&self) -> Result<u64, Error> {
        pseal::plaintext_len(self.object_bytes()).map_err(|error| self.damaged(&error))
    }

    /// The plaintext of `range` and perhaps more on both sides: whole segments. Returns where
    /// the bytes begin.
    pub(super) fn read(
        &self,
        vault: &Vault,
        range: &std::ops::Range<u64>,
    ) -> Result<(Vec<u8>, usize), Error> {
        if let Some(moved) = self.moved.get() {
            return moved.read(vault, range);
        }
        match self.read_there(vault, range) {
            // It was here when it was loaded: under another name it is the same, segment for segment.
            Err(error @ Error::Missing { .. }) => {
                let moved = Self::load(vault, self.device, &self.located, self.kind)?;
                if moved.name == self.name {
                    return Err(error);
                }
                self.moved.get_or_init(|| Box::new(moved)).read(vault, range)
            }
            result => result,
        }
    }

    fn read_there(&self, vault: &Vault, range: &std::ops::Range<u64>) -> Result<(Vec<u8>, usize), Error> {
        let object_bytes = self.object_bytes();
        let (object_range, first) =
            pseal::segments_for(range, object_bytes).map_err(|error| self.damaged(&error))?;
        let sealed =
            vault.store().get_range(&self.name, object_range).map_err(|error| short(&self.name, error))?;
        let plaintext =
            self.opener.range(object_bytes, first, &sealed).map_err(|error| self.damaged(&error))?;
        let begins = range.start - first * SEGMENT_BYTES as u64;
        Ok((plaintext, usize::try_from(begins).unwrap_or(usize::MAX)))
    }

    /// Exactly the plaintext of `range`.
    pub(super) fn read_exactly(&self, vault: &Vault, range: &std::ops::Range<u64>) -> Result<Vec<u8>, Error> {
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let (mut plaintext, begins) = self.read(vault, range)?;
        plaintext.drain(..begins);
        plaintext.truncate(usize::try_from(range.end - range.start).unwrap_or(usize::MAX));
        Ok(plaintext)
    }

    pub(super) fn damaged(&self, error: &dyn std::fmt::Display) -> Error {
        Error::Damaged { name: self.name.clone(), what: error.to_string() }
    }
}

/// An object shorter than its signed length is damaged.
fn short(name: &ObjectName, error: crate::store::Error) -> Error {
    match error {
        crate::store::Error::Short { .. } => {
            Error::Damaged { name: name.clone(), what: "it is shorter than its signed length".to_owned() }
        }
        error => error.into(),
    }
}
