//! What a new sealed file will hold, while it is put together: a store that ends in being written out.

use std::collections::BTreeMap;
use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use crate::id::ObjectName;

use super::super::Error;
use super::super::Listed;
use super::super::Store;
use super::file::SealedFile;
use super::header;
use super::header::BLOCK_BYTES;
use super::header::BLOCK_STEP;
use super::header::Order;
use super::header::Rank;
use super::joined::Joined;
use super::joined::length_of;
use super::joined::within;
use super::spool;
use super::target::Sink;
use super::target::Target;

/// How much of a pack is copied at a time.
const COPY_BYTES: usize = 1 << 20;

/// A sealed file in the making. Dropped before [`SealedDraft::finish`] it leaves nothing behind.
pub struct SealedDraft {
    place: String,
    /// The file that this one is to follow.
    base: Option<Arc<SealedFile>>,
    state: Mutex<State>,
}

/// What changes while the file is put together.
struct State {
    phase: Phase,
    /// All that isn't a pack, and isn't of the base.
    small: BTreeMap<ObjectName, Arc<Vec<u8>>>,
    /// Packs that aren't of the base.
    packs: BTreeMap<ObjectName, Pack>,
    /// How many packs were put, those that were removed again included.
    packs_put: u64,
    /// What is no longer wanted of the base.
    hidden: HashSet<ObjectName>,
    /// Where packs wait for the end; nothing if they go straight to the target.
    spool: Option<Spool>,
    writer: Writer,
}

/// How far the file has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// Nothing of it is written.
    Open,
    /// What stands before packs is written, and packs are.
    Packs,
    /// It is written, or that failed.
    Over,
}

/// A pack that was put.
#[derive(Clone, Copy)]
struct Pack {
    /// The how manyth it was.
    number: u64,
    /// Where in the spool or in the target its bytes begin.
    offset: u64,
    bytes: u64,
}

/// A file for packs without a name.
struct Spool {
    folder: PathBuf,
    files: Joined,
    bytes: u64,
}

/// Where the bytes of a member are.
enum Source {
    Memory(Arc<Vec<u8>>),
    Base(u64),
    Spool(u64),
    /// In the target already.
    Written,
}

/// A member of the file to come.
struct Member {
    rank: Rank,
    listed: Listed,
    source: Source,
}

impl SealedDraft {
    /// A new file that is written while it grows.
    ///
    /// Packs go straight to the target. All else is kept in memory; with the first pack what stands before
    /// packs is written, so nothing of that can be put or removed from then on.
    ///
    /// # Errors
    /// [`Error::Occupied`] if the target is there; [`Error::PartSize`]; [`Error::Denied`],
    /// [`Error::ReadOnly`] or [`Error::Place`] if its folder can't be used.
    pub fn stream(target: Target) -> Result<Self, Error> {
        Self::new(None, None, target)
    }

    /// A new file of which packs are put aside in `spool_folder`, in a file without a name, until the end.
    ///
    /// So all of them can be read back whatever the target is, and everything can be changed until then.
    ///
    /// # Errors
    /// As [`SealedDraft::stream`], and of `spool_folder`.
    pub fn spooled(spool_folder: &Path, target: Target) -> Result<Self, Error> {
        Self::new(None, Some(spool_folder), target)
    }

    /// A file that holds what `base` does, but for what is put here and removed here.
    ///
    /// New packs are put aside in `spool_folder`, in a file without a name, until the end. The `end` of the
    /// base isn't taken over. A target that replaces something is the base's own place: it is locked for other
    /// drafts as long as this one is there, and replaced only if it is still what was loaded.
    ///
    /// # Errors
    /// As [`SealedDraft::stream`], and of `spool_folder`; [`Error::Busy`] if another draft has the lock;
    /// [`Error::Changed`] if something else is there by now.
    pub fn over(base: Arc<SealedFile>, spool_folder: &Path, target: Target) -> Result<Self, Error> {
        Self::new(Some(base), Some(spool_folder), target)
    }

    fn new(
        base: Option<Arc<SealedFile>>,
        spool_folder: Option<&Path>,
        target: Target,
    ) -> Result<Self, Error> {
        let before = base.as_ref().map_or(&[][..], |base| base.stamps());
        let sink = Sink::new(target, before)?;
        let spool = spool_folder.map(Spool::new).transpose()?;
        Ok(Self {
            place: sink.place(),
            base,
            state: Mutex::new(State {
                phase: Phase::Open,
                small: BTreeMap::new(),
                packs: BTreeMap::new(),
                packs_put: 0,
                hidden: HashSet::new(),
                spool,
                writer: Writer { sink, order: Order::default(), at: 0 },
            }),
        })
    }

    /// The names and lengths of all members but `end`, in the order in which the file will have them.
    #[must_use]
    pub fn members(&self) -> Vec<Listed> {
        self.plan(&self.lock()).into_iter().map(|member| member.listed).collect()
    }

    /// How long the file will be if nothing changes any more and its `end` has `end_bytes` bytes.
    #[must_use]
    pub fn file_bytes(&self, end_bytes: u64) -> u64 {
        let members = self.members();
        let lengths = members.iter().map(|member| member.bytes).chain([end_bytes]);
        lengths.map(|bytes| BLOCK_STEP + padded(bytes)).sum::<u64>() + 2 * BLOCK_STEP
    }

    /// How much of that isn't written yet.
    #[must_use]
    pub fn bytes_left(&self, end_bytes: u64) -> u64 {
        let written = self.lock().writer.at;
        self.file_bytes(end_bytes).saturating_sub(written)
    }

    /// Writes all that isn't written yet and then `end`, and gives the file its name.
    ///
    /// `progress` is told again and again how many bytes were written since it was told last, and must not
    /// use the draft. Whatever comes of it, nothing can be put, removed or finished any more.
    ///
    /// # Errors
    /// [`Error::NoPlace`] if the members don't make up a sealed file, which begins with GENESIS;
    /// [`Error::ReadOnly`] if it is finished, or a write failed before; [`Error::Occupied`], [`Error::NoRoom`], [`Error::PartSize`], [`Error::Denied`] or
    /// [`Error::Place`] of the target; [`Error::Short`] or [`Error::Io`] if a pack can't be read any more.
    /// Nothing of the target is left then, but for a stream, which isn't a sealed file without its end, and
    /// what was to be replaced is as it was. [`Error::Changed`] if it was replaced or written to meanwhile;
    /// [`Error::Unfinished`] if parts of it were set aside and can't be put back.
    pub fn finish(&self, end: &[u8], progress: &dyn Fn(u64)) -> Result<(), Error> {
        let mut state = self.lock();
        self.check_going(&state)?;
        let finished = self.write_out(&mut state, end, progress);
        if finished.is_err() {
            state.writer.sink.abandon();
        }
        finished
    }

    /// Does what [`SealedDraft::finish`] says, but for removing what failed.
    fn write_out(&self, state: &mut State, end: &[u8], progress: &dyn Fn(u64)) -> Result<(), Error> {
        let plan = self.plan(state);
        let phase = state.phase;
        state.phase = Phase::Over;
        let end_name = ObjectName::parse(header::END).expect("the end has a name");
        let writer = &mut state.writer;

        let rest = plan.iter().filter(|member| match phase {
            Phase::Open => true,
            // The rest went out before.
            _ => member.rank > Rank::Packs,
        });
        let bytes_to_write: u64 = rest.clone().map(|member| BLOCK_STEP + padded(member.listed.bytes)).sum();
        let bytes_of_end = BLOCK_STEP + padded(length_of(end)) + 2 * BLOCK_STEP;
        writer.sink.check_length(writer.at + bytes_to_write + bytes_of_end)?;
        for member in rest {
            let Listed { name, bytes } = &member.listed;
            match &member.source {
                Source::Memory(content) => writer.member(name, content, progress)?,
                Source::Base(offset) => {
                    let base = self.base.as_ref().expect("what is of the base has one");
                    writer.copy(name, base.files(), *offset..*offset + bytes, progress)?;
                }
                Source::Spool(offset) => {
                    let spool = state.spool.as_ref().expect("what is in the spool has one");
                    writer.copy(name, &spool.files, *offset..*offset + bytes, progress)?;
                }
                Source::Written => (),
            }
        }
        writer.member(&end_name, end, progress)?;
        writer.write(&[0; 2 * BLOCK_BYTES], progress)?;
        writer.sink.finish()
    }

    /// All members in their order.
    fn plan(&self, state: &State) -> Vec<Member> {
        let ranked = |listed: Listed, source| {
            let rank = Rank::of(&listed.name).expect("what was put or read has a rank");
            Member { rank, listed, source }
        };
        let base = self.base.iter().flat_map(|base| base.entries());
        let base = base.filter(|(listed, _)| !is_hidden(state, &listed.name));
        let mut plan: Vec<Member> =
            base.map(|(listed, offset)| ranked(listed.clone(), Source::Base(offset))).collect();
        plan.extend(state.small.iter().map(|(name, content)| {
            let listed = Listed { name: name.clone(), bytes: length_of(content) };
            ranked(listed, Source::Memory(Arc::clone(content)))
        }));
        let mut packs: Vec<(&ObjectName, &Pack)> = state.packs.iter().collect();
        packs.sort_unstable_by_key(|(_, pack)| pack.number);
        plan.extend(packs.into_iter().map(|(name, pack)| {
            let listed = Listed { name: name.clone(), bytes: pack.bytes };
            ranked(listed, if state.spool.is_some() { Source::Spool(pack.offset) } else { Source::Written })
        }));
        // Stable, so packs stay as they are: those of the base first, then those that were put.
        plan.sort_by(|a, b| {
            let by_name =
                || if a.rank == Rank::Packs { None } else { Some(a.listed.name.cmp(&b.listed.name)) };
            a.rank.cmp(&b.rank).then_with(|| by_name().unwrap_or(std::cmp::Ordering::Equal))
        });
        plan
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic within leaves the phase at one from which nothing half-written is finished.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses changes of what is written out, or can't be any more.
    fn check_going(&self, state: &State) -> Result<(), Error> {
        match state.phase {
            Phase::Over => Err(Error::ReadOnly { place: self.place.clone() }),
            _ => Ok(()),
        }
    }

    /// Where the base has an object that is still wanted, and how long it is.
    fn in_base(&self, state: &State, name: &ObjectName) -> Option<(u64, u64)> {
        let base = self.base.as_ref()?;
        base.find(name).filter(|_| !is_hidden(state, name))
    }

    /// The bytes of an object that `wanted` picks, given how many there are.
    fn read(
        &self,
        name: &ObjectName,
        wanted: impl FnOnce(u64) -> Result<Range<u64>, Error>,
    ) -> Result<Vec<u8>, Error> {
        let state = self.lock();
        if let Some(content) = state.small.get(name).cloned() {
            drop(state);
            let range = wanted(length_of(&content))?;
            let index = |at| usize::try_from(at).expect("it was held against a length in memory");
            return Ok(content[index(range.start)..index(range.end)].to_vec());
        }
        let (files, offset, bytes) = if let Some(pack) = state.packs.get(name).copied() {
            let files = match &state.spool {
                Some(spool) => Some(spool.files.clone()),
                None => state.writer.sink.written(),
            };
            let unreadable =
                || Error::Io { name: name.clone(), source: io::Error::from(io::ErrorKind::Unsupported) };
            (files.ok_or_else(unreadable)?, pack.offset, pack.bytes)
        } else {
            let missing = || Error::Missing { name: name.clone() };
            let (offset, bytes) = self.in_base(&state, name).ok_or_else(missing)?;
            let base = self.base.as_ref().expect("what is of the base has one");
            (base.files().clone(), offset, bytes)
        };
        drop(state);
        let range = wanted(bytes)?;
        files.read(name, offset + range.start..offset + range.end)
    }
}

/// Whether this isn't to be taken over from the base.
fn is_hidden(state: &State, name: &ObjectName) -> bool {
    name.as_str() == header::END || state.hidden.contains(name)
}

/// A length up to the end of its last block.
fn padded(bytes: u64) -> u64 {
    bytes.next_multiple_of(BLOCK_STEP)
}

impl State {
    /// Takes a pack to where packs go, and tells where its bytes are.
    fn put_pack(&mut self, name: &ObjectName, bytes: &[u8]) -> Result<u64, Error> {
        if let Some(spool) = &mut self.spool {
            return spool.append(bytes);
        }
        let mut before: Vec<(Rank, &ObjectName)> = Vec::new();
        if self.phase == Phase::Open {
            let ranked = self.small.keys().filter_map(|name| Some((Rank::of(name)?, name)));
            before.extend(ranked.filter(|(rank, _)| *rank < Rank::Packs));
            before.sort_unstable();
            if before.first().is_none_or(|(rank, _)| *rank != Rank::Genesis) {
                return Err(Error::NoPlace { name: name.clone() });
            }
        }
        // Lest anything be written after a part of something.
        self.phase = Phase::Over;
        for (_, name) in before {
            self.writer.member(name, &self.small[name], &|_| ())?;
        }
        let offset = self.writer.at + BLOCK_STEP;
        self.writer.member(name, bytes, &|_| ())?;
        self.phase = Phase::Packs;
        Ok(offset)
    }

    /// Whether an object of this rank is written, or what comes before it is.
    fn is_past(&self, rank: Rank) -> bool {
        self.phase == Phase::Packs && rank < Rank::Packs
    }
}

impl Spool {
    fn new(folder: &Path) -> Result<Self, Error> {
        let file = spool::unnamed(folder)?;
        Ok(Self { folder: folder.to_owned(), files: Joined::one(file), bytes: 0 })
    }

    /// Appends `bytes` and tells where they begin.
    fn append(&mut self, bytes: &[u8]) -> Result<u64, Error> {
        let file: &File = &self.files.files()[0];
        let offset = self.bytes;
        // What a failed write left is written over by the next one.
        file.write_all_at(bytes, offset).map_err(|error| spool::failure(&self.folder, &error))?;
        self.bytes += length_of(bytes);
        Ok(offset)
    }
}

/// Writes members one after another, each in its place.
struct Writer {
    sink: Sink,
    order: Order,
    at: u64,
}

impl Writer {
    /// Writes bytes of whatever kind.
    fn write(&mut self, bytes: &[u8], progress: &dyn Fn(u64)) -> Result<(), Error> {
        self.sink.write(bytes)?;
        self.at += length_of(bytes);
        progress(length_of(bytes));
        Ok(())
    }

    /// Writes the header of a member.
    fn header(&mut self, name: &ObjectName, bytes: u64, progress: &dyn Fn(u64)) -> Result<(), Error> {
        let no_place = || Error::NoPlace { name: name.clone() };
        self.order.take(name).map_err(|_| no_place())?;
        let block = header::encode(name, bytes).ok_or_else(no_place)?;
        self.write(&block, progress)
    }

    /// Fills up the last block of a member of `bytes` bytes.
    fn pad(&mut self, bytes: u64, progress: &dyn Fn(u64)) -> Result<(), Error> {
        let missing = usize::try_from(padded(bytes) - bytes).expect("less than a block");
        self.write(&[0; BLOCK_BYTES][..missing], progress)
    }

    /// Writes a whole member.
    fn member(&mut self, name: &ObjectName, content: &[u8], progress: &dyn Fn(u64)) -> Result<(), Error> {
        let bytes = length_of(content);
        self.header(name, bytes, progress)?;
        self.write(content, progress)?;
        self.pad(bytes, progress)
    }

    /// Writes a member whose bytes stand at `range` of `files`.
    fn copy(
        &mut self,
        name: &ObjectName,
        files: &Joined,
        range: Range<u64>,
        progress: &dyn Fn(u64),
    ) -> Result<(), Error> {
        let bytes = range.end - range.start;
        self.header(name, bytes, progress)?;
        let step = u64::try_from(COPY_BYTES).expect("a constant that fits");
        let mut at = range.start;
        while at < range.end {
            let next = range.end.min(at + step);
            self.write(&files.read(name, at..next)?, progress)?;
            at = next;
        }
        self.pad(bytes, progress)
    }
}

impl Store for SealedDraft {
    /// Takes an object for the file.
    ///
    /// Beside what the trait tells, [`Error::NoPlace`] if a sealed file holds nothing of that name, or what
    /// stands before packs is written and this belongs there; [`Error::TooLarge`] if it has 8 GiB or more;
    /// [`Error::NoRoom`] or [`Error::Place`] if a pack can't be written, and if it was to go straight to
    /// the target, then nothing more can.
    fn put(&self, name: &ObjectName, bytes: &[u8]) -> Result<(), Error> {
        let no_place = || Error::NoPlace { name: name.clone() };
        let rank = Rank::of(name).filter(|rank| *rank != Rank::End).ok_or_else(no_place)?;
        if length_of(bytes) > header::MEMBER_BYTES_MAX {
            return Err(Error::TooLarge { name: name.clone() });
        }
        header::encode(name, length_of(bytes)).ok_or_else(no_place)?;
        let content = (rank != Rank::Packs).then(|| Arc::new(bytes.to_vec()));

        let mut state = self.lock();
        self.check_going(&state)?;
        let is_there = state.small.contains_key(name)
            || state.packs.contains_key(name)
            || self.in_base(&state, name).is_some();
        if is_there {
            return Err(Error::Exists { name: name.clone() });
        }
        if state.is_past(rank) {
            return Err(no_place());
        }
        if let Some(content) = content {
            state.small.insert(name.clone(), content);
            return Ok(());
        }
        let offset = state.put_pack(name, bytes)?;
        let number = state.packs_put;
        state.packs_put += 1;
        state.packs.insert(name.clone(), Pack { number, offset, bytes: length_of(bytes) });
        Ok(())
    }

    fn get(&self, name: &ObjectName, bytes_max: u64) -> Result<Vec<u8>, Error> {
        self.read(name, |bytes| {
            if bytes > bytes_max { Err(Error::TooLarge { name: name.clone() }) } else { Ok(0..bytes) }
        })
    }

    fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Vec<u8>, Error> {
        self.read(name, |bytes| within(name, &range, 0, bytes))
    }

    fn size(&self, name: &ObjectName) -> Result<u64, Error> {
        let state = self.lock();
        let own = state.small.get(name).map(|content| length_of(content));
        let own = own.or_else(|| state.packs.get(name).map(|pack| pack.bytes));
        let bytes = own.or_else(|| self.in_base(&state, name).map(|(_, bytes)| bytes));
        bytes.ok_or_else(|| Error::Missing { name: name.clone() })
    }

    fn list(&self, prefix: &str) -> Result<Vec<Listed>, Error> {
        let state = self.lock();
        let mut listed = self.base.as_ref().map_or(Ok(Vec::new()), |base| base.list(prefix))?;
        listed.retain(|each| !is_hidden(&state, &each.name));
        let small = state.small.iter().map(|(name, content)| (name, length_of(content)));
        let own = small.chain(state.packs.iter().map(|(name, pack)| (name, pack.bytes)));
        let own = own.filter(|(name, _)| name.as_str().starts_with(prefix));
        listed.extend(own.map(|(name, bytes)| Listed { name: name.clone(), bytes }));
        listed.sort_unstable();
        Ok(listed)
    }

    /// Leaves an object out of the file.
    ///
    /// Beside what the trait tells, [`Error::NoPlace`] if it is written already.
    fn remove(&self, name: &ObjectName) -> Result<(), Error> {
        let mut state = self.lock();
        self.check_going(&state)?;
        let no_place = || Error::NoPlace { name: name.clone() };
        let missing = || Error::Missing { name: name.clone() };
        if state.packs.contains_key(name) {
            // Its bytes stay in the spool, which goes with the draft.
            return if state.spool.is_none() {
                Err(no_place())
            } else {
                state.packs.remove(name).map(drop).ok_or_else(missing)
            };
        }
        if state.small.contains_key(name) {
            if Rank::of(name).is_some_and(|rank| state.is_past(rank)) {
                return Err(no_place());
            }
            return state.small.remove(name).map(drop).ok_or_else(missing);
        }
        self.in_base(&state, name).ok_or_else(missing)?;
        state.hidden.insert(name.clone());
        Ok(())
    }

    fn place(&self) -> String {
        self.place.clone()
    }

    fn writable(&self) -> Result<(), Error> {
        self.check_going(&self.lock())
    }

    fn is_sealed_file(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;
    use std::sync::atomic::AtomicU64;
    use std::sync::atomic::Ordering;
    use std::thread;

    use rustix::io::Errno;

    use super::super::file::part_of;
    use super::super::samples::ADMIN_RING;
    use super::super::samples::END;
    use super::super::samples::GENESIS;
    use super::super::samples::READ_RING;
    use super::super::samples::Sample;
    use super::super::samples::TABLE;
    use super::super::samples::file;
    use super::super::samples::name;
    use super::super::samples::names;
    use super::super::samples::new;
    use super::super::target::PART_BYTES_MIN;
    use super::*;

    fn put(draft: &SealedDraft, members: &[Sample<'_>]) {
        for (text, content) in members {
            draft.put(&name(text), content).unwrap();
        }
    }

    fn finish(draft: &SealedDraft) -> Result<(), Error> {
        draft.finish(END.1, &|_| ())
    }

    /// A file with these members, and the draft that they were put to.
    fn write(target: Target, members: &[Sample<'_>]) -> SealedDraft {
        let draft = SealedDraft::stream(target).unwrap();
        put(&draft, members);
        finish(&draft).unwrap();
        draft
    }

    fn texts(members: &[Listed]) -> Vec<&str> {
        members.iter().map(|each| each.name.as_str()).collect()
    }

    /// As they are put, and as they stand in the file.
    const PUT: [Sample<'_>; 12] = [
        ("u/00/0000000000000000-00", b"log"),
        ("m/00/1", b"message"),
        ("r/00000001-bb.read", b"read"),
        ("k/00000001-aa", b"table"),
        ("r/00000001-bb.admin", b""),
        ("a/0000000000000001-00", &[3; 513]),
        ("c/00", b"list"),
        GENESIS,
        ("p/00/ff/1", &[1; 3000]),
        ("p/00/aa/2", &[2; 1024]),
        ("s/00/0000000000000000-dd", b"header"),
        ("p/00/cc/3", b""),
    ];
    const ORDER: [usize; 12] = [7, 3, 4, 2, 5, 6, 1, 8, 9, 11, 10, 0];

    fn expected() -> Vec<Sample<'static>> {
        ORDER.into_iter().map(|index| PUT[index]).chain([END]).collect()
    }

    /// A stream that others can look at.
    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn whichever_way_it_is_written_a_file_is_the_same_byte_for_byte() {
        let expected = file(&expected());
        for spooled in [false, true] {
            let (folder, path) = new();
            let stream = Shared::default();
            let targets = [
                Target::file(&path),
                Target::stream(Box::new(stream.clone())),
                Target::parts(&folder.path().join("parts"), PART_BYTES_MIN),
            ];
            for target in targets {
                let draft = if spooled {
                    SealedDraft::spooled(folder.path(), target).unwrap()
                } else {
                    SealedDraft::stream(target).unwrap()
                };
                assert!(draft.is_sealed_file());
                put(&draft, &PUT);
                let members = draft.members();
                assert_eq!(texts(&members), ORDER.map(|index| PUT[index].0));
                let left = draft.bytes_left(length_of(END.1));
                assert_eq!(left < length_of(&expected), !spooled);
                for (member, index) in members.iter().zip(ORDER) {
                    assert_eq!(member.bytes, length_of(PUT[index].1));
                }
                assert_eq!(draft.file_bytes(length_of(END.1)), length_of(&expected));
                let told = AtomicU64::new(0);
                let progress = |bytes| assert!(told.fetch_add(bytes, Ordering::Relaxed) < u64::MAX);
                draft.finish(END.1, &progress).unwrap();
                assert_eq!(told.into_inner(), left);
            }
            assert!(fs::read(&path).unwrap() == expected);
            assert!(*stream.0.lock().unwrap() == expected);
            assert!(fs::read(folder.path().join("parts.001")).unwrap() == expected);
            assert_eq!(names(&folder), ["parts.001", "x.strongroom"]);
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            assert_eq!(SealedFile::load(&path).unwrap().members().len(), 13);
        }
    }

    #[test]
    fn what_is_not_finished_leaves_nothing() {
        let (folder, path) = new();
        drop(SealedDraft::stream(Target::file(&path)).unwrap());
        let draft = SealedDraft::stream(Target::file(&path)).unwrap();
        assert_eq!(names(&folder), [""; 0]);
        put(&draft, &PUT);
        let [partial] = &names(&folder)[..] else { panic!("one file is being written") };
        assert!(partial.starts_with(".x.strongroom.") && partial.ends_with(".partial"));
        let mode = fs::metadata(folder.path().join(partial)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        drop(draft);
        assert_eq!(names(&folder), [""; 0]);
    }

    #[test]
    fn packs_are_read_back_from_a_file_and_not_from_a_pipe() {
        let (folder, path) = new();
        let drafts = [
            SealedDraft::stream(Target::file(&path)).unwrap(),
            SealedDraft::stream(Target::parts(&path, PART_BYTES_MIN)).unwrap(),
            SealedDraft::spooled(folder.path(), Target::stream(Box::new(io::sink()))).unwrap(),
        ];
        let large: Vec<u8> = (0..=250).cycle().take(200_000).collect();
        for draft in drafts {
            put(&draft, &[GENESIS, TABLE, ADMIN_RING, READ_RING, ("p/1", &large), ("p/2", b"0123456789")]);
            assert!(draft.get(&name("p/1"), 200_000).unwrap() == large);
            assert_eq!(draft.get_range(&name("p/1"), 65_000..67_000).unwrap(), &large[65_000..67_000]);
            assert_eq!(draft.get_range(&name("p/2"), 3..5).unwrap(), b"34");
            assert!(matches!(draft.get_range(&name("p/2"), 3..11), Err(Error::Short { .. })));
            assert!(matches!(draft.get(&name("p/2"), 9), Err(Error::TooLarge { .. })));
        }
        let pipe = SealedDraft::stream(Target::stream(Box::new(io::sink()))).unwrap();
        put(&pipe, &[GENESIS, TABLE, ADMIN_RING, READ_RING, ("p/1", b"pack")]);
        assert!(matches!(pipe.get(&name("p/1"), 9), Err(Error::Io { .. })));
        assert_eq!(pipe.size(&name("p/1")).unwrap(), 4);
        assert_eq!(pipe.get(&name(GENESIS.0), 9).unwrap(), GENESIS.1);
    }

    #[test]
    fn with_the_first_pack_what_comes_before_is_written() {
        let (_folder, path) = new();
        let draft = SealedDraft::stream(Target::file(&path)).unwrap();
        // There is nothing yet that a file could begin with.
        assert!(matches!(draft.put(&name("p/1"), b"x"), Err(Error::NoPlace { .. })));
        put(&draft, &[GENESIS, ADMIN_RING, READ_RING, ("k/1", b"old"), ("k/2", b"new")]);
        draft.remove(&name("k/1")).unwrap();
        put(&draft, &[("p/1", b"x"), ("s/1", b"gone"), ("s/2", b"stays")]);
        for before in ["a/1", "k/3", "r/3", "c/1", "m/1"] {
            assert!(matches!(draft.put(&name(before), b""), Err(Error::NoPlace { .. })), "{before}");
        }
        for written in [GENESIS.0, "k/2", "p/1"] {
            assert!(matches!(draft.remove(&name(written)), Err(Error::NoPlace { .. })), "{written}");
        }
        assert!(matches!(draft.put(&name("k/2"), b""), Err(Error::Exists { .. })));
        draft.remove(&name("s/1")).unwrap();
        put(&draft, &[("p/0", b"y"), ("u/1", b"log")]);
        finish(&draft).unwrap();
        let members = [
            GENESIS,
            ("k/2", b"new"),
            ADMIN_RING,
            READ_RING,
            ("p/1", b"x"),
            ("p/0", b"y"),
            ("s/2", b"stays"),
            ("u/1", b"log"),
            END,
        ];
        assert_eq!(fs::read(&path).unwrap(), file(&members));
    }

    #[test]
    fn only_what_the_format_knows_is_taken() {
        let (folder, path) = new();
        let draft = SealedDraft::spooled(folder.path(), Target::file(&path)).unwrap();
        for stranger in ["README.txt", "2/a/1", "q/1", "end", "k", "x/1"] {
            assert!(matches!(draft.put(&name(stranger), b""), Err(Error::NoPlace { .. })), "{stranger}");
        }
        let long = name(&format!("p/{}", "a".repeat(99)));
        assert!(matches!(draft.put(&long, b""), Err(Error::NoPlace { .. })));
        assert_eq!(draft.list("").unwrap(), []);
    }

    #[test]
    fn a_file_without_a_first_record_or_with_two_is_not_written() {
        for members in [&[("k/1", &b"table"[..])][..], &[GENESIS, ("a/0000000000000000-01", b"")], &[]] {
            let (folder, path) = new();
            let draft = SealedDraft::stream(Target::file(&path)).unwrap();
            put(&draft, members);
            assert!(matches!(finish(&draft), Err(Error::NoPlace { .. })));
            assert_eq!(names(&folder), [""; 0]);
        }
    }

    #[test]
    fn what_is_over_stays_as_it_is() {
        let (_folder, path) = new();
        let draft = write(Target::file(&path), &PUT);
        assert!(matches!(draft.put(&name("s/9"), b""), Err(Error::ReadOnly { .. })));
        assert!(matches!(draft.remove(&name(GENESIS.0)), Err(Error::ReadOnly { .. })));
        assert!(matches!(draft.writable(), Err(Error::ReadOnly { .. })));
        assert!(matches!(finish(&draft), Err(Error::ReadOnly { .. })));
        assert_eq!(draft.get(&name("p/00/ff/1"), 3000).unwrap(), [1; 3000]);
    }

    #[test]
    fn a_changed_file_keeps_what_was_not_removed_in_its_order_and_takes_the_place_of_the_old() {
        let (folder, path) = new();
        write(Target::file(&path), &PUT);
        let base = Arc::new(SealedFile::load(&path).unwrap());
        assert!(matches!(
            SealedDraft::over(Arc::clone(&base), folder.path(), Target::file(&path)),
            Err(Error::Occupied { .. })
        ));
        let draft =
            SealedDraft::over(Arc::clone(&base), folder.path(), Target::file(&path).replacing()).unwrap();
        assert!(matches!(draft.get(&name("end"), 99), Err(Error::Missing { .. })));
        assert_eq!(texts(&draft.members()), ORDER.map(|index| PUT[index].0));
        assert_eq!(draft.list("").unwrap().len(), 12);

        put(&draft, &[("k/00000002-00", b"table 2"), ("p/00/bb/4", &[4; 700])]);
        for removed in ["k/00000001-aa", "p/00/ff/1", "s/00/0000000000000000-dd"] {
            draft.remove(&name(removed)).unwrap();
            assert!(matches!(draft.remove(&name(removed)), Err(Error::Missing { .. })));
            assert!(matches!(draft.get(&name(removed), 9), Err(Error::Missing { .. })));
            assert!(matches!(draft.get_range(&name(removed), 0..0), Err(Error::Missing { .. })));
            assert!(matches!(draft.size(&name(removed)), Err(Error::Missing { .. })));
        }
        assert!(matches!(draft.put(&name("p/00/aa/2"), b""), Err(Error::Exists { .. })));
        // Own ones may be dropped, and what was removed put anew.
        put(
            &draft,
            &[("s/00/0000000000000001-ee", b"second"), ("p/00/00/5", b"dropped"), ("p/00/ff/1", b"anew")],
        );
        draft.remove(&name("p/00/00/5")).unwrap();
        assert_eq!(draft.get(&name("p/00/ff/1"), 9).unwrap(), b"anew");
        assert_eq!(draft.get(&name("p/00/aa/2"), 1024).unwrap(), [2; 1024]);
        assert_eq!(draft.get_range(&name("p/00/bb/4"), 699..700).unwrap(), [4]);
        assert_eq!(
            draft.list("p/").unwrap().iter().map(|each| each.name.as_str()).collect::<Vec<_>>(),
            ["p/00/aa/2", "p/00/bb/4", "p/00/cc/3", "p/00/ff/1"]
        );
        assert_eq!(names(&folder), ["x.strongroom"]);
        finish(&draft).unwrap();

        let members = [
            GENESIS,
            ("k/00000002-00", b"table 2"),
            ("r/00000001-bb.admin", b""),
            ("r/00000001-bb.read", b"read"),
            ("a/0000000000000001-00", &[3; 513]),
            ("c/00", b"list"),
            ("m/00/1", b"message"),
            ("p/00/aa/2", &[2; 1024]),
            ("p/00/cc/3", b""),
            ("p/00/bb/4", &[4; 700]),
            ("p/00/ff/1", b"anew"),
            ("s/00/0000000000000001-ee", b"second"),
            ("u/00/0000000000000000-00", b"log"),
            END,
        ];
        assert!(fs::read(&path).unwrap() == file(&members));
        assert_eq!(names(&folder), ["x.strongroom"]);
        // Who still reads the old one goes on.
        assert_eq!(base.get(&name("p/00/ff/1"), 3000).unwrap(), [1; 3000]);
    }

    #[test]
    fn of_two_writers_one_waits_and_nothing_that_was_changed_meanwhile_is_replaced() {
        for target in [Target::file, |path: &Path| Target::parts(path, PART_BYTES_MIN)] {
            let (folder, path) = new();
            let large = vec![7; 200_000];
            write(target(&path), &[GENESIS, TABLE, ADMIN_RING, READ_RING, ("p/1", &large)]);
            let load = || Arc::new(SealedFile::load(&path).unwrap());
            let over = |base| SealedDraft::over(base, folder.path(), target(&path).replacing());

            let (first, second) = (over(load()).unwrap(), load());
            assert!(matches!(over(Arc::clone(&second)), Err(Error::Busy { .. })));
            put(&first, &[("p/2", b"new")]);
            finish(&first).unwrap();
            drop(first);
            // The lock is free, but what the second one knows is gone.
            assert!(matches!(over(second), Err(Error::Changed { .. })));

            let draft = over(load()).unwrap();
            let changed = if path.exists() { path.clone() } else { part_of(&path, 3) };
            let same = fs::read(&changed).unwrap();
            fs::write(folder.path().join("moved"), &same).unwrap();
            fs::rename(folder.path().join("moved"), &changed).unwrap();
            let before = names(&folder);
            let place = changed.display().to_string();
            assert!(matches!(finish(&draft), Err(Error::Changed { place: told }) if told == place));
            assert_eq!(names(&folder), before);
            assert!(fs::read(&changed).unwrap() == same);

            let base = load();
            fs::OpenOptions::new().append(true).open(&changed).unwrap().write_all(b"more").unwrap();
            drop(draft);
            assert!(matches!(over(base), Err(Error::Changed { .. })));
        }
    }

    #[test]
    fn large_packs_are_copied_from_file_and_spool() {
        let (folder, path) = new();
        let large: Vec<u8> = (0..=250).cycle().take(2 * COPY_BYTES + 77).collect();
        write(Target::file(&path), &[GENESIS, TABLE, ADMIN_RING, READ_RING, ("p/2", &large)]);
        let base = Arc::new(SealedFile::load(&path).unwrap());
        let draft = SealedDraft::over(base, folder.path(), Target::file(&path).replacing()).unwrap();
        put(&draft, &[("p/1", &large[1..])]);
        finish(&draft).unwrap();
        assert!(
            fs::read(&path).unwrap()
                == file(&[GENESIS, TABLE, ADMIN_RING, READ_RING, ("p/2", &large), ("p/1", &large[1..]), END])
        );
    }

    #[test]
    fn many_threads_put_packs_and_each_stays_whole() {
        for spooled in [false, true] {
            let (folder, path) = new();
            let draft = if spooled {
                SealedDraft::spooled(folder.path(), Target::parts(&path, PART_BYTES_MIN)).unwrap()
            } else {
                SealedDraft::stream(Target::parts(&path, PART_BYTES_MIN)).unwrap()
            };
            put(&draft, &[GENESIS, TABLE, ADMIN_RING, READ_RING]);
            let content = |thread: u8, number: u8| vec![thread ^ number; 997 * usize::from(number) + 1];
            thread::scope(|scope| {
                for thread in 0..8 {
                    let draft = &draft;
                    scope.spawn(move || {
                        for number in 0..20 {
                            let object = name(&format!("p/{number}/{thread}"));
                            draft.put(&object, &content(thread, number)).unwrap();
                            assert!(draft.get(&object, 99_999).unwrap() == content(thread, number));
                            assert!(matches!(draft.put(&object, b""), Err(Error::Exists { .. })));
                        }
                    });
                }
            });
            let members = draft.members();
            finish(&draft).unwrap();
            let sealed = SealedFile::load(&path).unwrap();
            assert_eq!(sealed.members()[..164], members);
            for thread in 0..8 {
                for number in 0..20 {
                    let read = sealed.get(&name(&format!("p/{number}/{thread}")), 99_999).unwrap();
                    assert!(read == content(thread, number));
                }
            }
        }
    }

    #[test]
    fn a_name_that_is_taken_is_not_touched_before_or_after() {
        let (folder, path) = new();
        fs::write(&path, "mine").unwrap();
        assert!(matches!(SealedDraft::stream(Target::file(&path)), Err(Error::Occupied { .. })));
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("nowhere", &path).unwrap();
        assert!(matches!(SealedDraft::stream(Target::file(&path)), Err(Error::Occupied { .. })));
        fs::remove_file(&path).unwrap();

        let draft = SealedDraft::stream(Target::file(&path)).unwrap();
        put(&draft, &PUT);
        fs::write(&path, "mine").unwrap();
        let place = path.display().to_string();
        assert!(matches!(finish(&draft), Err(Error::Occupied { place: told }) if told == place));
        assert_eq!(names(&folder), ["x.strongroom"]);
        assert_eq!(fs::read(&path).unwrap(), b"mine");
        drop(draft);
        assert_eq!(fs::read(&path).unwrap(), b"mine");
    }

    #[test]
    fn a_place_that_cannot_hold_a_file_is_refused_at_first() {
        let (folder, _) = new();
        for path in [Path::new("/"), Path::new(".."), &folder.path().join("none/x")] {
            assert!(matches!(SealedDraft::stream(Target::file(path)), Err(Error::Place { .. })), "{path:?}");
        }
    }

    #[test]
    fn a_full_stream_says_so_and_nothing_goes_on() {
        let full = fs::OpenOptions::new().write(true).open("/dev/full");
        // Only some systems have one.
        let Ok(full) = full else { return };
        let draft = SealedDraft::stream(Target::stream(Box::new(full))).unwrap();
        put(&draft, &[GENESIS, TABLE, ADMIN_RING, READ_RING]);
        assert!(matches!(draft.put(&name("p/1"), b"x"), Err(Error::NoRoom { .. })));
        assert!(matches!(draft.put(&name("p/2"), b"x"), Err(Error::ReadOnly { .. })));
        assert!(matches!(finish(&draft), Err(Error::ReadOnly { .. })));
    }

    #[test]
    fn what_fails_in_the_middle_leaves_nothing_new_and_the_old_as_it_was() {
        let (folder, path) = new();
        write(Target::file(&path), &PUT);
        let target = || Target::parts(&folder.path().join("new"), PART_BYTES_MIN);
        let base = Arc::new(SealedFile::load(&path).unwrap());
        let draft = SealedDraft::over(base, folder.path(), target()).unwrap();
        put(&draft, &[("p/00/0", &[0; 200_000])]);
        let whole = fs::read(&path).unwrap();
        fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(8000).unwrap();
        assert!(matches!(finish(&draft), Err(Error::Short { .. })));
        assert_eq!(names(&folder), ["x.strongroom"]);

        fs::write(&path, whole).unwrap();
        let fails: [fn(std::os::fd::BorrowedFd<'_>) -> Result<(), Errno>; 2] = [
            |_| Err(Errno::IO),
            |handle| {
                if rustix::fs::fstat(handle)?.st_mode & 0o040_000 == 0 { Ok(()) } else { Err(Errno::IO) }
            },
        ];
        for fail in fails {
            let draft = SealedDraft::stream(target()).unwrap();
            put(&draft, &[GENESIS, TABLE, ADMIN_RING, READ_RING, ("p/00/0", &[0; 200_000])]);
            match &mut draft.lock().writer.sink {
                Sink::Files(files) => files.disk.sync = fail,
                Sink::Stream(_) => panic!("it goes to files"),
            }
            assert!(matches!(finish(&draft), Err(Error::Place { .. })));
            assert_eq!(names(&folder), ["x.strongroom"]);
        }
    }

    #[test]
    fn parts_are_of_one_length_and_the_last_is_never_empty() {
        // What comes before packs, a pack, `end` and two blocks take 5,120 bytes beside the bytes of the pack.
        for (bytes, parts) in
            [(1, 1), (65_536 - 5120, 1), (65_536 - 5119, 2), (131_072 - 5120, 2), (300_000, 5)]
        {
            let (folder, path) = new();
            write(
                Target::parts(&path, PART_BYTES_MIN),
                &[GENESIS, TABLE, ADMIN_RING, READ_RING, ("p/1", &vec![9; bytes])],
            );
            assert_eq!(names(&folder).len(), parts, "{bytes}");
            for number in 1..parts {
                assert_eq!(fs::metadata(part_of(&path, number)).unwrap().len(), PART_BYTES_MIN);
            }
            assert_eq!(SealedFile::load(&path).unwrap().size(&name("p/1")).unwrap(), bytes as u64);
        }
    }

    #[test]
    fn parts_are_refused_if_one_is_there_and_replaced_with_what_is_left_over_of_the_old() {
        let (folder, path) = new();
        let small: [Sample<'_>; 5] = [GENESIS, TABLE, ADMIN_RING, READ_RING, ("p/1", &[1; 100_000])];
        let large: [Sample<'_>; 5] = [GENESIS, TABLE, ADMIN_RING, READ_RING, ("p/1", &[2; 300_000])];
        write(Target::parts(&path, PART_BYTES_MIN), &large);
        assert!(matches!(SealedDraft::stream(Target::parts(&path, 1 << 20)), Err(Error::Occupied { .. })));
        fs::write(folder.path().join("x.strongroom.note"), "mine").unwrap();
        write(Target::parts(&path, PART_BYTES_MIN).replacing(), &small);
        assert_eq!(names(&folder), ["x.strongroom.001", "x.strongroom.002", "x.strongroom.note"]);
        assert_eq!(SealedFile::load(&path).unwrap().get(&name("p/1"), 100_000).unwrap(), [1; 100_000]);

        fs::remove_file(part_of(&path, 1)).unwrap();
        fs::remove_file(part_of(&path, 2)).unwrap();
        for taken in [part_of(&path, 7), part_of(&path, 999), path.clone()] {
            fs::write(&taken, "mine").unwrap();
            let place = taken.display().to_string();
            let refused = SealedDraft::stream(Target::parts(&path, PART_BYTES_MIN)).err();
            assert!(matches!(refused, Some(Error::Occupied { place: told }) if told == place));
            fs::remove_file(&taken).unwrap();
        }
        // One that appears while the parts are written.
        let draft = SealedDraft::stream(Target::parts(&path, PART_BYTES_MIN)).unwrap();
        put(&draft, &large);
        fs::write(part_of(&path, 2), "mine").unwrap();
        assert!(matches!(finish(&draft), Err(Error::Occupied { .. })));
        assert_eq!(names(&folder), ["x.strongroom.002", "x.strongroom.note"]);
    }

    #[test]
    fn parts_that_would_be_too_small_or_too_many_are_refused() {
        let (folder, path) = new();
        let refused = SealedDraft::stream(Target::parts(&path, PART_BYTES_MIN - 1)).err();
        assert!(matches!(refused, Some(Error::PartSize { .. })));
        let pack = vec![0; 65_536 * 999 - 5119];
        let draft = SealedDraft::stream(Target::parts(&path, PART_BYTES_MIN)).unwrap();
        put(&draft, &[GENESIS, TABLE, ADMIN_RING, READ_RING, ("p/1", &pack)]);
        assert!(matches!(finish(&draft), Err(Error::PartSize { .. })));
        let draft = SealedDraft::stream(Target::parts(&path, PART_BYTES_MIN)).unwrap();
        put(&draft, &[GENESIS, TABLE, ADMIN_RING, READ_RING, ("p/1", &pack)]);
        assert!(matches!(draft.put(&name("p/2"), &pack), Err(Error::PartSize { .. })));
        drop(draft);
        assert_eq!(names(&folder), [""; 0]);
    }
}
