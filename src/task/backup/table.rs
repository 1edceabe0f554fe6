//! What a job's last snapshot used, as its device remembers it: one file a job, in sealed pieces.

use std::fs::File;
use std::io;
use std::io::Read;
use std::io::Write;

use crate::codec;
use crate::codec::Reader;
use crate::codec::Writer;
use crate::crypto::secret::SecretBytes;
use crate::id::Digest;
use crate::id::JobId;
use crate::store::state::StateWriter;
use crate::task::error::Error;
use crate::vault::device::DeviceVault;
use crate::vault::device::io_error;
use crate::vault::device::state_error;
use crate::vault::header::NewObject;
use crate::vault::reseed::Objects;
use crate::vault::reseed::Row;

/// Rows of a table that are sealed together: about 650 KB.
const ROWS_A_PIECE: usize = 16_384;
/// The longest sealed piece that is read: a header naming a million packs.
pub const PIECE_BYTES_MAX: usize = 64 << 20;
/// How the names of tables begin in a machine's state.
const TABLE_PREFIX: &str = "chunks-";

/// The job whose table has this name.
#[must_use]
pub fn job_of(name: &str) -> Option<JobId> {
    name.strip_prefix(TABLE_PREFIX).and_then(JobId::from_hex)
}

/// What a job's table says of the job itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LastRun {
    /// The place of its last snapshot in the device's chain; 0 if none is known.
    pub seq: u64,
    /// The digest of that snapshot's header.
    pub header: Digest,
    /// The newest record of the log when it was made.
    pub knew: u64,
    /// Its body.
    pub body: NewObject,
    /// The packs and indexes that it rests on beside that, as headers list them; filled when it is read.
    pub objects: Vec<NewObject>,
    /// What its sources were, in a digest.
    pub sources: Digest,
    /// How many files the last snapshot has.
    pub files: u64,
    /// How many bytes.
    pub bytes: u64,
}

impl LastRun {
    /// Of a job that hasn't run yet, or isn't remembered.
    pub const NONE: Self = Self {
        seq: 0,
        header: Digest([0; 32]),
        knew: 0,
        body: NewObject { name: Digest([0; 32]), length: 0 },
        objects: Vec::new(),
        sources: Digest([0; 32]),
        files: 0,
        bytes: 0,
    };

    fn write(&self, out: &mut Writer) {
        out.u64(self.seq).bytes(&self.header.0).u64(self.knew);
        out.bytes(&self.body.name.0).u32(self.body.length).bytes(&self.sources.0);
        out.u64(self.files).u64(self.bytes);
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, codec::Error> {
        Ok(Self {
            seq: from.u64()?,
            header: Digest(from.array()?),
            knew: from.u64()?,
            body: NewObject { name: Digest(from.array()?), length: from.u32()? },
            objects: Vec::new(),
            sources: Digest(from.array()?),
            files: from.u64()?,
            bytes: from.u64()?,
        })
    }
}

/// A table that is being read.
pub struct Table<'a> {
    /// What it says of the job itself, the objects that its snapshot rests on included.
    pub run: LastRun,
    /// The packs and indexes that its rows refer to.
    pub objects: Objects,
    pieces_left: usize,
    pieces: Pieces<'a>,
}

impl<'a> Table<'a> {
    /// Begins to read the table of this name.
    ///
    /// # Errors
    /// [`State`](crate::vault::error::Error::State) if it can't be read, or isn't whole.
    pub fn load(vault: &'a DeviceVault, name: &'a str) -> Result<Self, Error> {
        let state = vault.state();
        let file = state.reader(name).map_err(|error| io_error(state, name, &error))?;
        let mut pieces = Pieces { vault, name, file, number: 0 };
        let head = pieces.next()?;
        let read = |bytes: &[u8]| -> Result<(LastRun, Objects, usize), codec::Error> {
            let mut from = Reader::new(bytes);
            let mut run = LastRun::read(&mut from)?;
            let objects = Objects::read(&mut from)?;
            let pieces = from.u32()? as usize;
            from.finish()?;
            let packs = objects.packs.iter().map(|pack| NewObject { name: pack.name, length: pack.length });
            let parts = objects.indexes.iter().flat_map(|group| &group.parts);
            let parts = parts.map(|part| NewObject { name: part.reference.name, length: part.length });
            run.objects = packs.chain(parts).collect();
            Ok((run, objects, pieces))
        };
        let (run, objects, pieces_left) = head.expose(read).map_err(|_| pieces.broken())?;
        Ok(Self { run, objects, pieces_left, pieces })
    }

    /// The next rows; none after the last.
    ///
    /// # Errors
    /// As [`Table::load`].
    pub fn rows(&mut self) -> Result<Option<Vec<Row>>, Error> {
        let Some(left) = self.pieces_left.checked_sub(1) else { return Ok(None) };
        self.pieces_left = left;
        let piece = self.pieces.next()?;
        let read = |bytes: &[u8]| -> Result<Vec<Row>, codec::Error> {
            let mut from = Reader::new(bytes);
            let mut rows = Vec::new();
            while from.remaining() > 0 {
                rows.push(Row::read(&mut from)?);
            }
            Ok(rows)
        };
        Ok(Some(piece.expose(read).map_err(|_| self.pieces.broken())?))
    }

    /// That it isn't as a table must be.
    #[must_use]
    pub fn broken(&self) -> Error {
        self.pieces.broken()
    }
}

/// A table that is being written; the old one stays until it is finished.
pub struct TableWriter<'a> {
    vault: &'a DeviceVault,
    name: String,
    file: StateWriter,
    number: usize,
    rows: Writer,
    rows_count: usize,
}

impl<'a> TableWriter<'a> {
    /// Begins a table of `rows` rows.
    ///
    /// # Errors
    /// [`State`](crate::vault::error::Error::State).
    pub fn begin(
        vault: &'a DeviceVault,
        job: &JobId,
        run: &LastRun,
        objects: &Objects,
        rows: usize,
    ) -> Result<Self, Error> {
        let name = format!("{TABLE_PREFIX}{job}");
        let state = vault.state();
        let file = state.writer(&name).map_err(|error| io_error(state, &name, &error))?;
        let mut writer = Self { vault, name, file, number: 0, rows: Writer::new(), rows_count: 0 };
        let mut head = Writer::new();
        run.write(&mut head);
        objects.write(&mut head);
        head.count(rows.div_ceil(ROWS_A_PIECE));
        writer.write(head.as_slice())?;
        Ok(writer)
    }

    /// Adds a row.
    ///
    /// # Errors
    /// As [`TableWriter::begin`].
    pub fn add(&mut self, row: Row) -> Result<(), Error> {
        row.write(&mut self.rows);
        self.rows_count += 1;
        if self.rows_count.is_multiple_of(ROWS_A_PIECE) { self.flush() } else { Ok(()) }
    }

    /// Puts it in the place of the old one.
    ///
    /// # Errors
    /// As [`TableWriter::begin`].
    pub fn finish(mut self) -> Result<(), Error> {
        if !self.rows.is_empty() {
            self.flush()?;
        }
        let (state, name) = (self.vault.state(), &self.name);
        self.file.finish().map_err(|error| io_error(state, name, &error).into())
    }

    fn flush(&mut self) -> Result<(), Error> {
        let rows = std::mem::take(&mut self.rows);
        self.write(rows.as_slice())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let sealed = self.vault.protect(&format!("{}/{}", self.name, self.number), bytes);
        self.number += 1;
        let length = u32::try_from(sealed.len()).expect("pieces are bounded far below 2^32");
        let written = self.file.write_all(&length.to_le_bytes()).and_then(|()| self.file.write_all(&sealed));
        written.map_err(|error| io_error(self.vault.state(), &self.name, &error).into())
    }
}

/// Sealed pieces of a file, one after the other.
struct Pieces<'a> {
    vault: &'a DeviceVault,
    name: &'a str,
    file: Option<File>,
    number: usize,
}

impl Pieces<'_> {
    /// The next piece, which has to be there.
    fn next(&mut self) -> Result<SecretBytes, Error> {
        let state = self.vault.state();
        let file = self.file.as_mut().map_or(Ok(None), read_sized);
        let sealed = file.map_err(|error| io_error(state, self.name, &error))?;
        let opened = sealed
            .and_then(|sealed| self.vault.unprotect(&format!("{}/{}", self.name, self.number), &sealed));
        self.number += 1;
        opened.ok_or_else(|| self.broken())
    }

    fn broken(&self) -> Error {
        state_error(self.vault.state(), self.name, "it is incomplete").into()
    }
}

/// Bytes behind their length, a `u32`; nothing at the end of the file or where it was cut off.
///
/// # Errors
/// What the system says.
pub fn read_sized(file: &mut File) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    let mut bytes = Vec::new();
    match file.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        result => result?,
    }
    let length = u32::from_le_bytes(length) as usize;
    if length > PIECE_BYTES_MAX {
        return Ok(None);
    }
    file.take(length as u64).read_to_end(&mut bytes)?;
    Ok((bytes.len() == length).then_some(bytes))
}
