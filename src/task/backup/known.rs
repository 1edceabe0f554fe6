//! Which chunks this device may use again, and where they are: its own memory, sealed, and
//! bounded to what the last snapshots of its jobs hold.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;

use crate::codec::Reader;
use crate::id::ChunkId;
use crate::id::Digest;
use crate::id::Epoch;
use crate::id::IdMap;
use crate::id::JobId;
use crate::pack::packer::ChunkKind;
use crate::seal::pseal::Kind;
use crate::seal::pseal::Sealed;
use crate::task::backup::ages::Ages;
use crate::task::backup::caches::Caches;
use crate::task::backup::carry::Wanted;
use crate::task::backup::files::FILES_PREFIX;
use crate::task::backup::journal::Journal;
use crate::task::backup::journal::StoredPack;
use crate::task::backup::table;
use crate::task::backup::table::LastRun;
use crate::task::backup::table::PIECE_BYTES_MAX;
use crate::task::backup::table::Table;
use crate::task::backup::table::TableWriter;
use crate::task::error::Error;
use crate::vault::authority::Current;
use crate::vault::body::INDEXES_MAX;
use crate::vault::body::IndexRef;
use crate::vault::device::DeviceVault;
use crate::vault::device::io_error;
use crate::vault::error;
use crate::vault::header::NewObject;
use crate::vault::index;
use crate::vault::index::Prefix;
use crate::vault::reseed::FILE_PREFIX;
use crate::vault::reseed::IndexGroup;
use crate::vault::reseed::IndexPart;
use crate::vault::reseed::ListedPack;
use crate::vault::reseed::NO_INDEX;
use crate::vault::reseed::Objects;
use crate::vault::reseed::Reseed;
use crate::vault::reseed::Row;

/// The pack of a chunk that is on its way to one.
const PENDING: u32 = u32::MAX;
/// The table of a chunk that only the journal or this session knows.
const NO_TABLE: u16 = u16::MAX;

#[derive(Clone, Copy)]
struct Chunk {
    pack: u32,
    index: u32,
    /// Whose snapshot keeps the chunk in the vault.
    table: u16,
    /// As what this session uses it, if it does.
    used: Option<ChunkKind>,
}

impl Chunk {
    /// On its way into a pack; this session uses it as `kind`.
    fn pending(kind: ChunkKind) -> Self {
        Self { pack: PENDING, index: NO_INDEX, table: NO_TABLE, used: Some(kind) }
    }
}

struct Pack {
    name: Digest,
    length: u32,
    /// The snapshot whose header lists it; 0 if none does yet.
    listed: u64,
    /// What else is known of a pack that no header lists.
    loose: Option<Loose>,
    /// Whether what this session uses of it is taken out, as it also holds what nothing uses any more.
    spoilt: bool,
}

/// A pack that was put, and perhaps listed by a header whose writer then was cut off.
#[derive(Clone, Copy)]
struct Loose {
    epoch: Epoch,
    after: u64,
}

/// How a table's own numbers are numbered among all.
struct Numbers {
    table: u16,
    packs: Vec<u32>,
    first_index: u32,
    index_count: u32,
}

/// The chunks that may be used again, of all jobs.
#[derive(Default)]
pub struct Known {
    /// By the beginning of the id, as indexes have it: memory is what a backup has least of.
    chunks: IdMap<Prefix, Chunk>,
    packs: Vec<Pack>,
    pack_numbers: HashMap<Digest, u32>,
    indexes: Vec<IndexGroup>,
    /// The snapshots whose tables were read.
    tables: Vec<u64>,
    /// Chunks of spoilt packs that are to be taken out.
    wanted: Wanted,
}

impl Known {
    /// Reads the tables of all jobs run lately, and what an interrupted run has stored.
    ///
    /// A table that doesn't open or is out of date is left out, and removed if `cleans`: what it would
    /// have saved is uploaded again.
    pub fn load(
        vault: &DeviceVault,
        now: u64,
        job: &JobId,
        cleans: bool,
        caches: &Caches<'_>,
    ) -> (Self, LastRun, Vec<StoredPack>) {
        let mut known = Self::default();
        let mut last_run = LastRun::NONE;
        let state = vault.state();
        let mut ages = caches.keep(Ages::load(vault)).unwrap_or_default();
        ages.run(job, now);
        let names = state.names().map_err(|error| io_error(state, "", &error).into());
        let names = caches.keep(names).unwrap_or_default();
        let mut reseeds = load_reseeds(vault, &names);
        for name in &names {
            let Some(of) = table::job_of(name) else { continue };
            // A table older than what an owner gave is of a snapshot that isn't the job's last.
            let oldest = reseeds.get(&of).map_or(0, |reseed| reseed.seq);
            let table = if ages.is_old(of) { Ok(None) } else { known.load_table(vault, name, oldest) };
            if matches!(table, Ok(Some(_))) {
                reseeds.remove(&of);
            }
            match table {
                Ok(Some(run)) if of == *job => last_run = run,
                Ok(Some(_)) => {}
                Ok(None) | Err(_) if !cleans => {}
                Ok(None) | Err(_) => {
                    ages.forget(&of);
                    for stale in [name.clone(), format!("{FILES_PREFIX}{of}")] {
                        caches.keep(remove(vault, &stale));
                    }
                }
            }
        }
        reseeds.retain(|of, reseed| !ages.is_old(*of) && known.take_reseed(vault, reseed));
        if cleans {
            let jobs =
                names.iter().filter_map(|name| name.strip_prefix(FILE_PREFIX).and_then(JobId::from_hex));
            for of in jobs.filter(|of| !reseeds.contains_key(of)) {
                caches.keep(remove(vault, &Reseed::file_name(&of)));
            }
        }
        if cleans {
            caches.keep(ages.save(vault));
        }
        let mut resumed = caches.keep(Journal::load(vault)).unwrap_or_default();
        resumed.retain(|pack| {
            let loose = Loose { epoch: pack.epoch, after: pack.after };
            may_be_listed(vault, &pack.object.name, loose)
        });
        for pack in &resumed {
            known.add_pack(pack);
        }
        (known, last_run, resumed)
    }

    /// The chunks of a sealed file that is sealed again: what an owner read out of it.
    #[must_use]
    pub fn of_sealed_file(vault: &DeviceVault, before: &Reseed) -> Self {
        let mut known = Self::default();
        known.take_reseed(vault, before);
        known
    }

    /// A file no longer has this chunk. Unless something else uses it, it would stay in the file that is sealed
    /// again, with its pack; so what this session uses of that pack from here on is taken out of it.
    ///
    /// Should the chunk be used all the same later on, its pack was given up for nothing, and that is all.
    pub fn spoil(&mut self, id: &ChunkId) {
        if let Some(Chunk { pack, used: None, .. }) = self.chunks.get(&index::prefix(id))
            && let Some(pack) = self.packs.get_mut(*pack as usize)
        {
            pack.spoilt = true;
        }
    }

    /// What is to be taken out so far, if there are at least `chunks` of it.
    pub fn wanted(&mut self, chunks: usize) -> Option<Wanted> {
        (self.wanted.chunks() >= chunks.max(1)).then(|| std::mem::take(&mut self.wanted))
    }

    /// The rest that is to be taken out, once all that this session uses is known: what it used before its pack
    /// was spoilt, and what is in packs with chunks that nothing has asked for.
    pub fn wanted_at_last(&mut self) -> Wanted {
        let mut uses: Vec<(bool, bool)> = self.packs.iter().map(|pack| (false, pack.spoilt)).collect();
        for chunk in self.chunks.values() {
            if let Some((used, unused)) = uses.get_mut(chunk.pack as usize) {
                *used |= chunk.used.is_some();
                *unused |= chunk.used.is_none();
            }
        }
        let is_partly_used = |chunk: &Chunk| uses.get(chunk.pack as usize) == Some(&(true, true));
        self.chunks.retain(|id, chunk| match chunk.used {
            _ if !is_partly_used(chunk) => true,
            None => false,
            Some(kind) => {
                self.wanted.add(self.packs[chunk.pack as usize].name, kind, *id);
                *chunk = Chunk::pending(kind);
                true
            }
        });
        std::mem::take(&mut self.wanted)
    }

    /// Takes in the table of a job, if its snapshot stands and isn't before `oldest`.
    fn load_table(&mut self, vault: &DeviceVault, name: &str, oldest: u64) -> Result<Option<LastRun>, Error> {
        let mut table = Table::load(vault, name)?;
        let seq = table.run.seq;
        if seq < oldest || vault.log().is_forgotten(vault.device(), seq) || vault.is_late(seq) {
            return Ok(None);
        }
        let objects = std::mem::take(&mut table.objects);
        let numbers = self.begin_table(seq, objects).ok_or_else(|| table.broken())?;
        while let Some(rows) = table.rows()? {
            let taken = rows.iter().all(|row| self.take_row(&numbers, row).is_some());
            if !taken {
                return Err(table.broken());
            }
        }
        Ok(Some(table.run))
    }

    /// Takes in what an owner gave in place of a job's table; false if it is good for nothing any more.
    fn take_reseed(&mut self, vault: &DeviceVault, reseed: &Reseed) -> bool {
        if vault.log().is_forgotten(vault.device(), reseed.seq) {
            return false;
        }
        let Some(numbers) = self.begin_table(reseed.seq, reseed.objects.clone()) else { return false };
        reseed.rows.iter().all(|row| self.take_row(&numbers, row).is_some())
    }

    /// Takes in what the rows of a table refer to; nothing if there is more than can be numbered.
    fn begin_table(&mut self, seq: u64, objects: Objects) -> Option<Numbers> {
        let table = u16::try_from(self.tables.len()).ok()?;
        let first_index = u32::try_from(self.indexes.len()).ok()?;
        let index_count = u32::try_from(objects.indexes.len()).ok()?;
        let listed = |pack: &ListedPack| self.pack_number(pack.name, pack.length, pack.listed, None);
        let packs = objects.packs.iter().map(listed).collect();
        self.indexes.extend(objects.indexes);
        self.tables.push(seq);
        Some(Numbers { table, packs, first_index, index_count })
    }

    /// Takes in a row; nothing if it refers to no pack.
    fn take_row(&mut self, numbers: &Numbers, row: &Row) -> Option<()> {
        let pack = *numbers.packs.get(row.pack as usize)?;
        let index = if row.index < numbers.index_count { numbers.first_index + row.index } else { NO_INDEX };
        self.chunks.entry(row.id).or_insert(Chunk { pack, index, table: numbers.table, used: None });
        Some(())
    }

    fn pack_number(&mut self, name: Digest, length: u32, listed: u64, loose: Option<Loose>) -> u32 {
        *self.pack_numbers.entry(name).or_insert_with(|| {
            self.packs.push(Pack { name, length, listed, loose, spoilt: false });
            u32::try_from(self.packs.len() - 1).expect("fewer packs than 2^32 fit into a vault")
        })
    }

    /// Forgets every chunk that can't be relied on any more: its pack or index isn't in the vault as its
    /// list says, its snapshot or its pack is forgotten, or its pack's epoch is closed. Says how
    /// many of the chunks that this session uses are among them.
    pub fn retain_sound(&mut self, vault: &DeviceVault, stored: &HashMap<Digest, u64>) -> usize {
        let (log, device) = (vault.log(), vault.device());
        let there = |name: Digest, length: u32| is_there(vault, stored, NewObject { name, length });
        let is_sound = |pack: &Pack| {
            let listable = match pack.loose {
                Some(loose) if pack.listed == 0 => may_be_listed(vault, &pack.name, loose),
                // What a late header lists is listed nowhere, whatever else names it.
                _ => !vault.is_late(pack.listed),
            };
            listable && there(pack.name, pack.length)
        };
        let packs: Vec<bool> = self.packs.iter().map(is_sound).collect();
        let whole = |group: &IndexGroup| {
            (group.listed == 0 || !vault.is_late(group.listed))
                && group.parts.iter().all(|part| there(part.reference.name, part.length))
        };
        let indexes: Vec<bool> = self.indexes.iter().map(whole).collect();
        let tables: Vec<bool> =
            self.tables.iter().map(|seq| !log.is_forgotten(device, *seq) && !vault.is_late(*seq)).collect();
        let mut lost = 0;
        self.chunks.retain(|_, chunk| {
            let in_table = chunk.table == NO_TABLE || tables[usize::from(chunk.table)];
            let kept = chunk.pack != PENDING && packs[chunk.pack as usize] && in_table;
            let without_index = chunk.index != NO_INDEX && !indexes[chunk.index as usize];
            if without_index {
                chunk.index = NO_INDEX;
            }
            lost += usize::from(chunk.used.is_some() && (!kept || without_index));
            kept
        });
        for (pack, _) in self.packs.iter().zip(&packs).filter(|(_, sound)| !**sound) {
            // It may be stored again under the same number, but not be taken for listed.
            self.pack_numbers.remove(&pack.name);
        }
        lost
    }

    /// Forgets what a session before this one has stored and no header lists: a sealed file keeps a pack only if all
    /// of it is used, and takes chunks only out of packs that its last snapshot lists.
    pub fn forget_unlisted(&mut self) {
        let packs = &self.packs;
        self.chunks.retain(|_, chunk| packs.get(chunk.pack as usize).is_some_and(|pack| pack.listed > 0));
    }

    /// Begins a session: nothing is used, and nothing is on its way.
    ///
    /// An index that a session before this one stored and no header came to list counts for nothing:
    /// a body must not name it.
    pub fn begin(&mut self) {
        self.wanted = Wanted::default();
        for pack in &mut self.packs {
            pack.spoilt = false;
        }
        self.chunks.retain(|_, chunk| chunk.pack != PENDING);
        let indexes = &self.indexes;
        for chunk in self.chunks.values_mut() {
            chunk.used = None;
            if indexes.get(chunk.index as usize).is_none_or(|group| group.listed == 0) {
                chunk.index = NO_INDEX;
            }
        }
    }

    /// Whether the vault holds a chunk, or will; from here on this session relies on it.
    pub fn uses(&mut self, kind: ChunkKind, id: &ChunkId) -> bool {
        let prefix = index::prefix(id);
        let Some(chunk) = self.chunks.get_mut(&prefix) else { return false };
        if chunk.used.is_none()
            && let Some(Pack { name, spoilt: true, .. }) = self.packs.get(chunk.pack as usize)
        {
            self.wanted.add(*name, kind, prefix);
            *chunk = Chunk::pending(kind);
        }
        chunk.used = Some(kind);
        true
    }

    /// Whether the vault holds a chunk, or will.
    #[must_use]
    pub fn holds(&self, id: &ChunkId) -> bool {
        self.chunks.contains_key(&index::prefix(id))
    }

    /// A chunk is on its way into a pack.
    pub fn expect(&mut self, kind: ChunkKind, id: &ChunkId) {
        self.chunks.insert(index::prefix(id), Chunk::pending(kind));
    }

    /// A pack is in the vault; false if it was known.
    pub fn add_pack(&mut self, pack: &StoredPack) -> bool {
        let before = self.packs.len();
        let loose = Loose { epoch: pack.epoch, after: pack.after };
        let number = self.pack_number(pack.object.name, pack.object.length, 0, Some(loose));
        for id in &pack.chunks {
            let new = Chunk { pack: PENDING, index: NO_INDEX, table: NO_TABLE, used: None };
            let chunk = self.chunks.entry(*id).or_insert(new);
            if chunk.pack == PENDING {
                chunk.pack = number;
            }
        }
        self.packs.len() > before
    }

    /// The packs that this session relies on and that no header lists yet.
    #[must_use]
    pub fn unlisted(&self) -> Vec<NewObject> {
        let used = self.used_packs().into_iter().map(|at| &self.packs[at as usize]);
        used.filter(|pack| pack.listed == 0)
            .map(|pack| NewObject { name: pack.name, length: pack.length })
            .collect()
    }

    fn used(&self) -> impl Iterator<Item = (&Prefix, &Chunk)> {
        self.chunks.iter().filter(|(_, chunk)| chunk.used.is_some() && chunk.pack != PENDING)
    }

    /// The chain places of the snapshots whose packs this session relies on.
    #[must_use]
    pub fn reused(&self) -> Vec<u64> {
        let seqs = self.used_packs().into_iter().map(|at| self.packs[at as usize].listed);
        let seqs: BTreeSet<u64> = seqs.filter(|seq| *seq != 0).collect();
        seqs.into_iter().collect()
    }

    /// The numbers of the packs that this session relies on, ascending.
    fn used_packs(&self) -> Vec<u32> {
        let mut used = vec![false; self.packs.len()];
        self.used().for_each(|(_, chunk)| used[chunk.pack as usize] = true);
        (0..).zip(used).filter_map(|(at, used)| used.then_some(at)).collect()
    }

    /// Seals and stores an index of what no index holds yet, folding in every older one that is no
    /// larger, and returns what the body names, newest first, and the new objects.
    ///
    /// # Errors
    /// What storing says; [`error::Error::TooMuch`] if even one index has too many parts.
    pub fn put_indexes(&mut self, vault: &DeviceVault) -> Result<(Vec<IndexRef>, Vec<NewObject>), Error> {
        let mut counts = vec![0_usize; self.indexes.len()];
        let mut own = 0_usize;
        for chunk in self.chunks.values().filter(|chunk| chunk.used.is_some()) {
            match counts.get_mut(chunk.index as usize) {
                Some(count) => *count += 1,
                None => own += 1,
            }
        }
        let mut kept: Vec<usize> = (0..counts.len()).filter(|&at| counts[at] > 0).collect();
        kept.sort_by_key(|&at| std::cmp::Reverse(counts[at]));
        let mut folded = vec![false; counts.len()];
        let parts = |kept: &[usize], own: usize, indexes: &[IndexGroup]| -> usize {
            own.div_ceil(index::ENTRIES_MAX) + kept.iter().map(|&at| indexes[at].parts.len()).sum::<usize>()
        };
        while let Some(&smallest) = kept.last() {
            let small = own > 0 && counts[smallest] <= own;
            if !small && parts(&kept, own, &self.indexes) <= INDEXES_MAX {
                break;
            }
            own += counts[smallest];
            folded[smallest] = true;
            kept.pop();
        }
        if parts(&kept, own, &self.indexes) > INDEXES_MAX {
            return Err(error::Error::TooMuch { what: "chunks" }.into());
        }
        kept.sort_by_key(|&at| std::cmp::Reverse(self.indexes[at].listed));
        let mut parts = Vec::new();
        let mut objects = Vec::new();
        if own > 0 {
            let new_number = u32::try_from(self.indexes.len()).expect("a session makes one index more");
            let takes = |chunk: &Chunk| {
                chunk.used.is_some() && folded.get(chunk.index as usize).copied().unwrap_or(true)
            };
            let mut entries: Vec<(index::Prefix, u32)> = self
                .chunks
                .iter()
                .filter(|(_, chunk)| takes(chunk))
                .map(|(prefix, chunk)| (*prefix, chunk.pack))
                .collect();
            // As bytes are compared, but all of them at once.
            entries.sort_unstable_by_key(|(prefix, _)| u128::from_be_bytes(*prefix));
            for part in entries.chunks_mut(index::ENTRIES_MAX) {
                let first = if parts.is_empty() { [0; 16] } else { part[0].0 };
                let object = vault.put(&self.seal_index(vault, part)?)?;
                let reference = IndexRef { name: object.name, first };
                parts.push(IndexPart { reference, length: object.length });
                objects.push(object);
            }
            for chunk in self.chunks.values_mut().filter(|chunk| takes(chunk)) {
                chunk.index = new_number;
            }
            self.indexes.push(IndexGroup { listed: 0, parts: parts.clone() });
        }
        for at in kept {
            parts.extend(self.indexes[at].parts.iter().copied());
        }
        Ok((parts.into_iter().map(|part| part.reference).collect(), objects))
    }

    fn seal_index(
        &self,
        vault: &DeviceVault,
        entries: &mut [(index::Prefix, u32)],
    ) -> Result<Sealed, error::Error> {
        let mut held = vec![false; self.packs.len()];
        entries.iter().for_each(|(_, pack)| held[*pack as usize] = true);
        let mut names: Vec<Digest> = Vec::new();
        let mut places = Vec::with_capacity(self.packs.len());
        for (pack, held) in self.packs.iter().zip(held) {
            places.push(u32::try_from(names.len()).expect("a part has at most a million entries"));
            names.extend(held.then_some(pack.name));
        }
        entries.iter_mut().for_each(|(_, pack)| *pack = places[*pack as usize]);
        vault.seal(Kind::Index, &[&index::encode(&names, entries)], None)
    }

    /// Remembers what this session used as the table of its job: from now on the header of `run` lists it.
    /// What an owner gave in place of a table has done its work then.
    ///
    /// # Errors
    /// [`error::Error::State`].
    pub fn save(&mut self, vault: &DeviceVault, job: &JobId, run: &LastRun) -> Result<(), Error> {
        for pack in self.packs.iter_mut().filter(|pack| pack.listed == 0) {
            pack.listed = run.seq;
        }
        for group in self.indexes.iter_mut().filter(|group| group.listed == 0) {
            group.listed = run.seq;
        }
        let packs = self.used_packs();
        let indexes: BTreeSet<u32> = self.used().map(|(_, chunk)| chunk.index).collect();
        let indexes: Vec<u32> = indexes.into_iter().filter(|at| *at != NO_INDEX).collect();
        let listed = |at: &u32| {
            let Pack { name, length, listed, .. } = self.packs[*at as usize];
            ListedPack { name, length, listed }
        };
        let objects = Objects {
            packs: packs.iter().map(listed).collect(),
            indexes: indexes.iter().map(|at| self.indexes[*at as usize].clone()).collect(),
        };
        let mut table = TableWriter::begin(vault, job, run, &objects, self.used().count())?;
        for (id, chunk) in self.used() {
            let pack = packs.binary_search(&chunk.pack).expect("all packs in use are in the list");
            let pack = u32::try_from(pack).expect("fewer packs than 2^32 fit into a vault");
            let index = indexes
                .binary_search(&chunk.index)
                .map_or(NO_INDEX, |at| u32::try_from(at).expect("a table names few indexes"));
            table.add(Row { id: *id, pack, index })?;
        }
        table.finish()?;
        remove(vault, &Reseed::file_name(job))
    }
}

fn remove(vault: &DeviceVault, name: &str) -> Result<(), Error> {
    let state = vault.state();
    state.remove(name).map_err(|error| io_error(state, name, &error).into())
}

/// What an owner gave for each job. A file that doesn't open is worth no more than an upload.
fn load_reseeds(vault: &DeviceVault, names: &[String]) -> BTreeMap<JobId, Reseed> {
    let load = |name: &String| {
        let of = name.strip_prefix(FILE_PREFIX).and_then(JobId::from_hex)?;
        let sealed = vault.state().read(name, PIECE_BYTES_MAX as u64).ok()??;
        let opened = vault.unprotect(name, &sealed)?;
        let reseed = opened.expose(|bytes| Reseed::read(&mut Reader::new(bytes))).ok()?;
        (reseed.job == of).then_some((of, reseed))
    };
    names.iter().filter_map(load).collect()
}

/// Whether the store has an object under its current name.
#[must_use]
pub fn is_there(vault: &DeviceVault, stored: &HashMap<Digest, u64>, listed: NewObject) -> bool {
    match vault.log().current(vault.device(), listed.name, listed.length) {
        Current::Object(name, length) => stored.get(&name) == Some(&u64::from(length)),
        Current::Purged => false,
    }
}

/// Whether a header may list an object that was put and not listed yet, as far as is known.
fn may_be_listed(vault: &DeviceVault, name: &Digest, loose: Loose) -> bool {
    let (log, device) = (vault.log(), vault.device());
    let head = vault.head().map_or(0, |head| head.seq);
    vault.is_open(loose.epoch)
        && !log.is_forgotten_object(device, name)
        // If a run was cut off between its header and its end, the header lists it, and goes for it.
        && (loose.after + 1..=head).all(|seq| !log.is_forgotten(device, seq))
}
