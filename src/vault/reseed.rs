//! What gives a device its memory back: where its chain ends, and which chunks the newest snapshot of a
//! job uses and where they are. An owner seals it to the device, which keeps it until the job runs.

use crate::codec;
use crate::codec::Reader;
use crate::codec::Writer;
use crate::id::DeviceId;
use crate::id::Digest;
use crate::id::JobId;
use crate::vault::body::IndexRef;
use crate::vault::index::PREFIX_BYTES;
use crate::vault::index::Prefix;
use crate::vault::record::Head;

/// The most that a reseed has, in bytes: padded and sealed it is still shorter than any object may be.
pub const RESEED_BYTES_MAX: usize = 60 << 20;
/// The bytes beside objects and rows: newest header, job, its snapshot, the number of rows, and what says
/// that a message is a reseed.
const HEAD_BYTES: usize = 8 + 32 + 16 + 8 + 4 + 1;
/// The bytes of a row.
const ROW_BYTES: usize = PREFIX_BYTES + 8;
/// The index of a chunk that no index holds.
pub const NO_INDEX: u32 = u32::MAX;
/// How the files begin in which a device keeps what it was given.
pub const FILE_PREFIX: &str = "reseed-";

/// A pack, and the snapshot whose header lists it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ListedPack {
    /// As its header lists it.
    pub name: Digest,
    /// As its header lists it.
    pub length: u32,
    /// The header's place in the chain.
    pub listed: u64,
}

/// A part of an index as a body names it, and its length.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IndexPart {
    /// As a body has it.
    pub reference: IndexRef,
    /// As its header lists it.
    pub length: u32,
}

/// An index in all its parts, and the snapshot whose header lists it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IndexGroup {
    /// The header's place in the chain; 0 if none does yet.
    pub listed: u64,
    /// Ascending by their first ids.
    pub parts: Vec<IndexPart>,
}

/// A chunk, and where it is: its pack and its index by their numbers, [`NO_INDEX`] if none holds it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Row {
    /// The beginning of its id.
    pub id: Prefix,
    /// Its pack.
    pub pack: u32,
    /// Its index.
    pub index: u32,
}

impl Row {
    /// Appends it to `out`.
    pub fn write(&self, out: &mut Writer) {
        out.bytes(&self.id).u32(self.pack).u32(self.index);
    }

    /// Reads one.
    ///
    /// # Errors
    /// If there is none.
    pub fn read(from: &mut Reader<'_>) -> Result<Self, codec::Error> {
        Ok(Self { id: from.array()?, pack: from.u32()?, index: from.u32()? })
    }
}

/// What rows refer to by number.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Objects {
    /// The packs.
    pub packs: Vec<ListedPack>,
    /// The indexes.
    pub indexes: Vec<IndexGroup>,
}

impl Objects {
    /// Appends them to `out`.
    pub fn write(&self, out: &mut Writer) {
        out.count(self.packs.len());
        for pack in &self.packs {
            out.bytes(&pack.name.0).u32(pack.length).u64(pack.listed);
        }
        out.count(self.indexes.len());
        for group in &self.indexes {
            out.u64(group.listed).count(group.parts.len());
            for part in &group.parts {
                out.bytes(&part.reference.name.0).bytes(&part.reference.first).u32(part.length);
            }
        }
    }

    /// Reads them.
    ///
    /// # Errors
    /// If the layout is broken.
    pub fn read(from: &mut Reader<'_>) -> Result<Self, codec::Error> {
        let count = from.count(44)?;
        let packs = (0..count)
            .map(|_| Ok(ListedPack { name: Digest(from.array()?), length: from.u32()?, listed: from.u64()? }))
            .collect::<Result<_, codec::Error>>()?;
        let count = from.count(12)?;
        let mut indexes = Vec::with_capacity(count);
        for _ in 0..count {
            let listed = from.u64()?;
            let parts = from.count(52)?;
            let parts = (0..parts)
                .map(|_| {
                    let reference = IndexRef { name: Digest(from.array()?), first: from.array()? };
                    Ok(IndexPart { reference, length: from.u32()? })
                })
                .collect::<Result<_, codec::Error>>()?;
            indexes.push(IndexGroup { listed, parts });
        }
        Ok(Self { packs, indexes })
    }
}

/// One job's chunk list, and the end of the device's chain as the owner saw it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reseed {
    /// The place of the device's newest header.
    pub newest: u64,
    /// That header's digest.
    pub digest: Digest,
    /// The job.
    pub job: JobId,
    /// The place of the job's newest snapshot.
    pub seq: u64,
    /// What the rows refer to.
    pub objects: Objects,
    /// Every chunk that this snapshot uses, and no other.
    pub rows: Vec<Row>,
}

impl Reseed {
    /// The end of the device's chain.
    #[must_use]
    pub fn head(&self, device: DeviceId) -> Head {
        Head { device, seq: self.newest, digest: self.digest }
    }

    /// Where a device keeps what it was given for a job.
    #[must_use]
    pub fn file_name(job: &JobId) -> String {
        format!("{FILE_PREFIX}{job}")
    }

    /// Leaves out the last rows if it would be longer than `bytes_max`, and says how many.
    pub fn shorten(&mut self, bytes_max: usize) -> usize {
        let mut objects = Writer::new();
        self.objects.write(&mut objects);
        let room = bytes_max.saturating_sub(HEAD_BYTES + objects.len()) / ROW_BYTES;
        let left_out = self.rows.len().saturating_sub(room);
        self.rows.truncate(room);
        left_out
    }

    /// Appends it to `out`.
    pub fn write(&self, out: &mut Writer) {
        out.u64(self.newest).bytes(&self.digest.0).bytes(&self.job.0).u64(self.seq);
        self.objects.write(out);
        out.count(self.rows.len());
        for row in &self.rows {
            row.write(out);
        }
    }

    /// Reads one; what follows it is left.
    ///
    /// # Errors
    /// If the layout is broken.
    pub fn read(from: &mut Reader<'_>) -> Result<Self, codec::Error> {
        let (newest, digest) = (from.u64()?, Digest(from.array()?));
        let (job, seq) = (JobId(from.array()?), from.u64()?);
        let objects = Objects::read(from)?;
        let count = from.count(ROW_BYTES)?;
        let rows = (0..count).map(|_| Row::read(from)).collect::<Result<_, codec::Error>>()?;
        Ok(Self { newest, digest, job, seq, objects, rows })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reseed() -> Reseed {
        let part = |byte: u8| IndexPart {
            reference: IndexRef { name: Digest([byte; 32]), first: [byte - 5; 16] },
            length: 9,
        };
        Reseed {
            newest: 4,
            digest: Digest([1; 32]),
            job: JobId([2; 16]),
            seq: 3,
            objects: Objects {
                packs: vec![ListedPack { name: Digest([3; 32]), length: 7, listed: 2 }],
                indexes: vec![IndexGroup { listed: 3, parts: vec![part(5), part(6)] }],
            },
            rows: (0..10).map(|at| Row { id: [at; 16], pack: 0, index: NO_INDEX }).collect(),
        }
    }

    #[test]
    fn a_reseed_reads_back_and_no_beginning_of_it_is_one() {
        let mut out = Writer::new();
        reseed().write(&mut out);
        let bytes = out.finish();
        assert_eq!(Reseed::read(&mut Reader::new(&bytes)), Ok(reseed()));
        for length in 0..bytes.len() {
            assert!(Reseed::read(&mut Reader::new(&bytes[..length])).is_err(), "{length}");
        }
    }

    #[test]
    fn rows_for_which_there_is_no_room_are_left_out_and_counted() {
        let whole = {
            let mut out = Writer::new();
            reseed().write(&mut out);
            out.len() + 1
        };
        for (bytes_max, left_out) in [(whole, 0), (whole - 1, 1), (whole - 24, 1), (whole - 25, 2), (0, 10)] {
            let mut short = reseed();
            assert_eq!(short.shorten(bytes_max), left_out, "{bytes_max}");
            assert_eq!(short.rows[..], reseed().rows[..10 - left_out]);
        }
    }
}
