//! What a run has put into the vault, written down after each pack, so that the next run need not send it again.

use std::fs::File;
use std::io::Write;

use crate::codec;
use crate::codec::Reader;
use crate::codec::Writer;
use crate::id::Digest;
use crate::id::Epoch;
use crate::task::backup::table::read_sized;
use crate::task::error::Error;
use crate::vault::device::DeviceVault;
use crate::vault::device::io_error;
use crate::vault::header::NewObject;
use crate::vault::index::PREFIX_BYTES;
use crate::vault::index::Prefix;

const JOURNAL_FILE: &str = "journal";

/// A pack that this device has put into the vault.
pub struct StoredPack {
    /// Its name and length.
    pub object: NewObject,
    /// The epoch that it is sealed under.
    pub epoch: Epoch,
    /// The device's newest snapshot when it was put; only one after it can list it.
    pub after: u64,
    /// The beginnings of the ids of the chunks in it.
    pub chunks: Vec<Prefix>,
}

/// The packs of this run and of the one before it that was cut off, one sealed record each.
pub struct Journal<'a> {
    vault: &'a DeviceVault,
    file: File,
}

impl<'a> Journal<'a> {
    /// Begins a journal with what an interrupted run's had: anew, as that may have been cut off
    /// within a record.
    ///
    /// # Errors
    /// [`State`](crate::vault::error::Error::State).
    pub fn begin(vault: &'a DeviceVault, resumed: &[StoredPack]) -> Result<Self, Error> {
        let state = vault.state();
        let mut records = Vec::new();
        for pack in resumed {
            records.extend(Self::record(vault, pack));
        }
        let failed = |error: std::io::Error| Error::Vault(io_error(state, JOURNAL_FILE, &error));
        state.replace(JOURNAL_FILE, &records).map_err(failed)?;
        let file = state.appender(JOURNAL_FILE).map_err(failed)?;
        Ok(Self { vault, file })
    }

    /// Writes down a pack that the vault has acknowledged.
    ///
    /// # Errors
    /// [`State`](crate::vault::error::Error::State).
    pub fn add(&mut self, pack: &StoredPack) -> Result<(), Error> {
        let state = self.vault.state();
        let record = Self::record(self.vault, pack);
        self.file.write_all(&record).map_err(|error| io_error(state, JOURNAL_FILE, &error).into())
    }

    fn record(vault: &DeviceVault, pack: &StoredPack) -> Vec<u8> {
        let mut out = Writer::with_capacity(52 + pack.chunks.len() * PREFIX_BYTES);
        out.bytes(&pack.object.name.0).u32(pack.object.length).u32(pack.epoch.0).u64(pack.after);
        out.count(pack.chunks.len());
        for id in &pack.chunks {
            out.bytes(id);
        }
        let sealed = vault.protect(JOURNAL_FILE, out.as_slice());
        let mut record = Vec::with_capacity(sealed.len() + 4);
        let length = u32::try_from(sealed.len()).expect("a pack has at most 65,536 chunks");
        record.extend_from_slice(&length.to_le_bytes());
        record.extend_from_slice(&sealed);
        record
    }

    /// All packs written down; a record that was cut off ends the reading.
    ///
    /// # Errors
    /// [`State`](crate::vault::error::Error::State).
    pub fn load(vault: &DeviceVault) -> Result<Vec<StoredPack>, Error> {
        let state = vault.state();
        let failed = |error: std::io::Error| Error::Vault(io_error(state, JOURNAL_FILE, &error));
        let Some(mut file) = state.reader(JOURNAL_FILE).map_err(failed)? else { return Ok(Vec::new()) };
        let mut packs = Vec::new();
        while let Some(sealed) = read_sized(&mut file).map_err(failed)? {
            let Some(opened) = vault.unprotect(JOURNAL_FILE, &sealed) else { break };
            let pack = opened.expose(|bytes| -> Result<StoredPack, codec::Error> {
                let mut from = Reader::new(bytes);
                let object = NewObject { name: Digest(from.array()?), length: from.u32()? };
                let (epoch, after) = (Epoch(from.u32()?), from.u64()?);
                let count = from.count(PREFIX_BYTES)?;
                let chunks = (0..count).map(|_| from.array()).collect::<Result<_, codec::Error>>()?;
                Ok(StoredPack { object, epoch, after, chunks })
            });
            packs.extend(pack);
        }
        Ok(packs)
    }

    /// Ends the journal: a header lists all that it says.
    ///
    /// # Errors
    /// [`State`](crate::vault::error::Error::State).
    pub fn clear(vault: &DeviceVault) -> Result<(), Error> {
        let state = vault.state();
        state.remove(JOURNAL_FILE).map_err(|error| io_error(state, JOURNAL_FILE, &error).into())
    }
}
