//! Parts of a sealed object, each checked.

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
    object_bytes: u64,
    opener: Opener,
}

impl Segments {
    pub(super) fn load(
        vault: &Vault,
        device: DeviceId,
        located: &Located,
        kind: Kind,
    ) -> Result<Self, Error> {
        let name = Place::Pack { device, digest: located.name }.name();
        let object_bytes = u64::from(located.length);
        let head_bytes = (pseal::HEAD_BYTES as u64).min(object_bytes);
        let head = vault.store().get_range(&name, 0..head_bytes).map_err(|error| short(&name, error))?;
        let opener = vault.opener(&name, device, kind, &head)?;
        Ok(Self { name, object_bytes, opener })
    }

    pub(super) fn plaintext_bytes(&self) -> Result<u64, Error> {
        pseal::plaintext_len(self.object_bytes).map_err(|error| self.damaged(&error))
    }

    /// The plaintext of `range` and perhaps more on both sides: whole segments. Returns where
    /// the bytes begin.
    pub(super) fn read(
        &self,
        vault: &Vault,
        range: &std::ops::Range<u64>,
    ) -> Result<(Vec<u8>, usize), Error> {
        let (object_range, first) =
            pseal::segments_for(range, self.object_bytes).map_err(|error| self.damaged(&error))?;
        let sealed =
            vault.store().get_range(&self.name, object_range).map_err(|error| short(&self.name, error))?;
        let plaintext =
            self.opener.range(self.object_bytes, first, &sealed).map_err(|error| self.damaged(&error))?;
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
