//! Sealing anew what an older epoch's keys open: the same plaintext, device and kind under the newest keys.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use crate::crypto::digest;
use crate::id::DeviceId;
use crate::id::Digest;
use crate::id::Epoch;
use crate::pack::unpacker::Directory;
use crate::seal::pseal;
use crate::seal::pseal::Check;
use crate::seal::pseal::Kind;
use crate::seal::pseal::Sealer;
use crate::store;
use crate::vault::LockedVault;
use crate::vault::Vault;
use crate::vault::authority::Current;
use crate::vault::authority::damaged;
use crate::vault::error::Error;
use crate::vault::fetch;
use crate::vault::history::Located;
use crate::vault::name::Place;
use crate::vault::record::ListRef;
use crate::vault::record::Payload;
use crate::vault::record::Row;
use crate::vault::record::SupersedeRow;
use crate::vault::record::encode_list;

/// An object sealed anew, not yet put.
pub struct Resealed {
    /// The digest of its bytes.
    pub name: Digest,
    /// Its bytes; none if it is in the store already, from a run that was cut off.
    pub bytes: Option<Vec<u8>>,
}

/// Objects under the newest epoch that nothing names, by what they hold: a run that was cut off has sealed
/// them in place of others. Each stands for one at most.
#[derive(Default)]
pub struct Strays(Mutex<HashMap<(DeviceId, Kind, Digest), Digest>>);

impl Strays {
    fn by_plaintext(&self) -> MutexGuard<'_, HashMap<(DeviceId, Kind, Digest), Digest>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LockedVault {
    /// The epoch and kind that an object says it is sealed under: what any thief can see.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Damaged`] or [`Error::Newer`] naming it; [`Error::Store`].
    pub fn sealed_under(&self, device: DeviceId, name: Digest) -> Result<(Epoch, Kind), Error> {
        let name = Place::Pack { device, digest: name }.name();
        let head = match self.store().get_range(&name, 0..pseal::HEADER_BYTES as u64) {
            Err(store::Error::Short { .. }) => return Err(damaged(&name, "it is cut short")),
            result => result?,
        };
        let header = pseal::peek(&head).map_err(|error| match error {
            pseal::Error::NewerVersion => Error::Newer { name: name.clone() },
            error => damaged(&name, &error.to_string()),
        })?;
        Ok((header.epoch, header.kind))
    }

    /// All objects that the store lists below a device's name, with their lengths.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn stored(&self, device: DeviceId) -> Result<Vec<(Digest, u64)>, Error> {
        let stored = self.packs(&format!("p/{device}/"))?;
        Ok(stored.into_iter().map(|(_, digest, bytes)| (digest, bytes)).collect())
    }

    /// The same of all devices, of those too that the log doesn't know.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn all_stored(&self) -> Result<Vec<(DeviceId, Digest, u64)>, Error> {
        self.packs("p/")
    }

    fn packs(&self, prefix: &str) -> Result<Vec<(DeviceId, Digest, u64)>, Error> {
        let place = |listed: store::Listed| match Place::parse(&listed.name) {
            Some(Place::Pack { device, digest }) => Some((device, digest, listed.bytes)),
            _ => None,
        };
        Ok(self.store().list(prefix)?.into_iter().filter_map(place).collect())
    }
}

impl Vault {
    /// Opens an object that nothing names with all its checks, and notes what it holds. One that is of an
    /// older epoch, is damaged or gone can stand for nothing and is left out.
    pub fn note_stray(&self, strays: &Strays, device: DeviceId, name: Digest, length: u32) {
        let Ok((epoch, kind)) = self.locked().sealed_under(device, name) else { return };
        if epoch != self.log().keys().newest {
            return;
        }
        let there = Located { listed: name, name, length };
        if let Ok(plaintext) = self.whole_object(device, &there, kind) {
            strays.by_plaintext().insert((device, kind, digest::digest(&plaintext)), name);
        }
    }

    /// Opens an object with all its checks and seals its plaintext under the newest epoch.
    ///
    /// If one of `strays` holds this very plaintext, it is taken instead.
    ///
    /// # Errors
    /// As [`Vault::whole_object`]; [`Error::NotOwner`]; [`Error::Unfaithful`].
    pub fn reseal(&self, device: DeviceId, located: &Located, strays: &Strays) -> Result<Resealed, Error> {
        let (_, kind) = self.locked().sealed_under(device, located.name)?;
        let plaintext = self.whole_object(device, located, kind)?;
        let fingerprint = self.log().fingerprint();
        let epoch = self.log().keys().newest;
        let held = (device, kind, digest::digest(&plaintext));
        if let Some(name) = strays.by_plaintext().remove(&held) {
            return Ok(Resealed { name, bytes: None });
        }
        let name = Place::Pack { device, digest: located.name }.name();
        let commit_to = match kind {
            Kind::Data => Some(directory_digest(&plaintext).ok_or_else(|| damaged(&name, "no directory"))?),
            _ => None,
        };
        let keys = self.ring().epoch(epoch).ok_or(Error::EpochChanged)?;
        let psk = keys.device_psk(&fingerprint, device);
        let recipient = self.log().keys().newest_key.clone();
        let sealer = Sealer::new(fingerprint, recipient, psk, self.hedge()?);
        let header = pseal::Header { vault: fingerprint.vault_id(), device, epoch, kind };
        // The other object goes once this one stands for it, so all of it has to open.
        let sealed = sealer
            .seal(&header, &[&plaintext], commit_to.as_ref(), Check::Whole)
            .map_err(Error::Unfaithful)?;
        if sealed.bytes().len() as u64 != u64::from(located.length) {
            return Err(damaged(&name, "its padding is not that of its kind"));
        }
        Ok(Resealed { name: sealed.digest(), bytes: Some(sealed.into_bytes()) })
    }
}

impl Vault {
    /// Stores an object that was sealed anew.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn put_resealed(&self, device: DeviceId, resealed: &Resealed) -> Result<(), Error> {
        let Some(bytes) = &resealed.bytes else { return Ok(()) };
        let name = Place::Pack { device, digest: resealed.name }.name();
        match self.store().put(&name, bytes) {
            // An answer that was lost on its way: what is there under this digest is this.
            Err(store::Error::Exists { .. })
                if self.store().size(&name).is_ok_and(|size| size == bytes.len() as u64) =>
            {
                Ok(())
            }
            result => Ok(result?),
        }
    }

    /// Says in one record which objects stand for which, from here on.
    ///
    /// A row goes only while its name still means what it meant in `from`, which gives the object that
    /// was sealed anew: another owner may have been faster.
    ///
    /// # Errors
    /// [`Error::EpochChanged`] if another epoch has begun, under which all is to be sealed anew;
    /// as [`Vault::append`].
    pub fn supersede(
        &mut self,
        rows: &[(SupersedeRow, Digest)],
        epoch: Epoch,
        now: u64,
        wait: &dyn Fn(u32),
    ) -> Result<(), Error> {
        self.append(now, wait, &|vault| {
            if vault.log().keys().newest != epoch {
                return Err(Error::EpochChanged);
            }
            let still = |(row, from): &&(SupersedeRow, Digest)| {
                let current = vault.log().current(row.device, row.listed, row.length);
                current == Current::Object(*from, row.length)
            };
            let mut rows: Vec<SupersedeRow> = rows.iter().filter(still).map(|(row, _)| *row).collect();
            rows.sort_unstable();
            let list = vault.put_list(&rows)?;
            Ok(Payload::Supersede(list))
        })?;
        Ok(())
    }

    /// Puts a list for a record to name.
    pub(super) fn put_list<R: Row>(&self, rows: &[R]) -> Result<ListRef, Error> {
        let bytes = encode_list(self.log().fingerprint().vault_id(), rows);
        let digest = digest::digest(&bytes);
        fetch::put_twice(self.store(), &Place::List(digest).name(), &bytes)?;
        let count = |count: usize| u32::try_from(count).map_err(|_| Error::TooMuch { what: "rows" });
        Ok(ListRef { digest, length: count(bytes.len())?, rows: count(rows.len())? })
    }

    /// Removes an object that nothing names any more; true if the store did.
    #[must_use]
    pub fn remove_unnamed(&self, device: DeviceId, name: Digest) -> bool {
        let removed = self.store().remove(&Place::Pack { device, digest: name }.name());
        matches!(removed, Ok(()) | Err(store::Error::Missing { .. }))
    }
}

fn directory_digest(plaintext: &[u8]) -> Option<Digest> {
    let needed = Directory::bytes_needed(plaintext.first_chunk()?).ok()?;
    plaintext.get(..needed).map(digest::digest)
}
