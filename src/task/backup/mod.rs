//! A backup, from the source to the header that makes it a snapshot.
//!
//! The order of storing is packs, indexes, body, header, so at any instant nothing in the vault
//! refers to what isn't there. Before the header, the device looks once more whether all that the
//! snapshot relies on is in the store and not about to be removed; after it, whether an owner
//! announced something at the same moment that would make the header come too late.

pub mod ages;
mod blocks;
pub mod caches;
mod carry;
pub mod files;
pub mod journal;
pub mod known;
pub mod read;
pub mod store;
pub mod table;

use std::io::Read;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;

use crate::chunk::cut::Cutter;
use crate::chunk::cut::Sizes;
use crate::id::Digest;
use crate::id::Epoch;
use crate::id::JobId;
use crate::id::SnapshotId;
use crate::observe::Event;
use crate::observe::Observer;
use crate::observe::Phase;
use crate::store::state::StateDir;
use crate::task::backup::caches::Caches;
use crate::task::backup::carry::carry;
use crate::task::backup::files::FilesWriter;
use crate::task::backup::files::LastFiles;
use crate::task::backup::journal::Journal;
use crate::task::backup::journal::StoredPack;
use crate::task::backup::known::Known;
use crate::task::backup::read::Listing;
use crate::task::backup::read::Walker;
use crate::task::backup::store::BLOCKS_WAITING;
use crate::task::backup::store::Packing;
use crate::task::backup::table::LastRun;
use crate::task::error::Error;
use crate::tree::entry::Owner;
use crate::tree::filter::Filter;
use crate::tree::path::TreePath;
use crate::tree::walk::Source;
use crate::vault::body::Body;
use crate::vault::body::Counts;
use crate::vault::body::IndexRef;
use crate::vault::body::ReadError;
use crate::vault::device::Committed;
use crate::vault::device::DeviceVault;
use crate::vault::header::NewObject;
use crate::vault::read::SnapshotReader;
use crate::vault::reseed::Reseed;
use crate::vault::sender::Signer;

/// How long chunks are. Small ones cost little, as blocks and not chunks are compressed and sealed,
/// and a database with scattered changes doesn't upload itself anew: `docs/decisions/chunk-size.md`.
pub const CHUNK_SIZES: Sizes = match Sizes::around(32 << 10) {
    Some(sizes) => sizes,
    None => panic!("32 KiB is an average that chunkers take"),
};

/// How often a session is run again when objects that it relied on have gone meanwhile.
const TRIES: usize = 3;

/// What is backed up.
pub struct Input {
    /// Files and directories.
    pub paths: Vec<PathBuf>,
    /// In place of paths, what is read once, from its beginning to its end.
    pub stream: Option<Stream>,
}

/// A source that can't be read again.
pub struct Stream {
    /// Its bytes.
    pub bytes: Box<dyn Read + Send>,
    /// What they are.
    pub form: Form,
}

/// What becomes of a stream.
pub enum Form {
    /// One file.
    File {
        /// Its path in the snapshot.
        path: TreePath,
        /// Whose it is.
        owner: Owner,
    },
    /// The members of a tar archive.
    Tar {
        /// Where the snapshot came from, for people.
        origin: String,
        /// The paths that the snapshot shall be listed with.
        paths: Vec<TreePath>,
    },
}

impl Stream {
    /// The paths that the snapshot is listed with.
    fn paths(&self) -> &[TreePath] {
        match &self.form {
            Form::File { path, .. } => std::slice::from_ref(path),
            Form::Tar { paths, .. } => paths,
        }
    }

    /// Where the snapshot came from, if it isn't this machine.
    fn origin(&self) -> Option<&str> {
        match &self.form {
            Form::File { .. } => None,
            Form::Tar { origin, .. } => Some(origin),
        }
    }
}

/// How it is backed up.
pub struct Options<'a> {
    /// The name of the machine.
    pub host: String,
    /// What the person says of the snapshot.
    pub tags: Vec<String>,
    /// The time to give the snapshot in place of now, in nanoseconds since 1970 UTC.
    pub time: Option<u64>,
    /// Now.
    pub now: u64,
    /// Now, asked again at the end, to tell how long it took.
    pub clock: fn() -> u64,
    /// The level of compression.
    pub level: i32,
    /// Whether nothing is stored.
    pub dry_run: bool,
    /// Whether no snapshot is added if the sources are as the job's last one has them.
    pub skip_if_unchanged: bool,
    /// Whether all of each sealed object is opened again before it is put, not only a sample.
    pub paranoid: bool,
    /// Whether every file is read, known or not.
    pub force: bool,
    /// Whether a file counts as unchanged whatever its change time is.
    pub ignore_ctime: bool,
    /// Whether a file counts as unchanged whatever its inode is.
    pub ignore_inode: bool,
    /// What is left out.
    pub filter: Filter,
    /// The name of the profile, which keeps jobs with the same paths apart.
    pub profile: String,
    /// Folders whose contents are never backed up: the vault itself, which would hold itself, and this
    /// machine's state, whose device key must not be anywhere else.
    pub left_out: Vec<PathBuf>,
    /// Name and version of the program.
    pub program: String,
    /// What is different for a sealed file; none for a backup.
    pub sealing: Option<Sealing<'a>>,
}

/// What makes a snapshot that of a sealed file: its tree begins with what was sealed, by its own name, and
/// nothing that isn't in the source any more stays in the file.
pub struct Sealing<'a> {
    /// What the file's last snapshot uses, if it is sealed again.
    pub before: Option<Before<'a>>,
    /// Signs what is sealed, if somebody does.
    pub signer: Option<Signer>,
    /// Where this machine keeps what it knows of the files that were sealed, so that unchanged ones aren't read
    /// again.
    pub memory: StateDir,
}

impl Sealing<'_> {
    /// Of a new file, signed by nobody, with what this machine remembers in `memory`.
    #[must_use]
    pub fn new(memory: StateDir) -> Self {
        Self { before: None, signer: None, memory }
    }
}

/// What a sealed file holds before it is sealed again.
pub struct Before<'a> {
    /// The chunks that its snapshot uses and that may be taken over.
    pub reseed: Reseed,
    /// Reads that snapshot, for an owner.
    pub reader: &'a SnapshotReader<'a>,
}

/// What a backup did.
pub struct Summary {
    /// The new state of the vault; none of a dry run, or if nothing changed.
    pub committed: Option<Committed>,
    /// The new snapshot's id.
    pub id: Option<SnapshotId>,
    /// The job's last snapshot, if nothing changed since and so none was added.
    pub standing: Option<SnapshotId>,
    /// What was counted.
    pub counts: Counts,
    /// What could not be read, the first of it.
    pub errors: Vec<ReadError>,
    /// How long it took, in nanoseconds.
    pub took: u64,
    /// Packs of an interrupted run that were not sent again.
    pub resumed_packs: usize,
    /// Whether every file that a sealed file held is in it again, by its name; false if nobody looked.
    pub has_all_names: bool,
}

impl Summary {
    fn new(
        listing: Listing,
        committed: Option<Committed>,
        standing: Option<SnapshotId>,
        took: u64,
        resumed_packs: usize,
    ) -> Self {
        let Listing { counts, errors, .. } = listing;
        let id = committed.map(|committed| committed.head.digest.snapshot_id());
        Self { committed, id, standing, counts, errors, took, resumed_packs, has_all_names: false }
    }
}

/// What a session has read and stored, before anything refers to it.
struct Session {
    listing: Listing,
    packs: Vec<StoredPack>,
    has_all_names: bool,
}

/// Backs up `input`: walks, cuts and names, packs, seals and stores, and commits a snapshot.
///
/// # Errors
/// [`Error::Source`] if a path isn't there; [`Error::Vault`] if the vault can't be read or written;
/// [`Error::Interrupted`]: what was stored until then is not sent again.
pub fn backup(
    vault: &mut DeviceVault,
    mut input: Input,
    options: &Options<'_>,
    observer: &dyn Observer,
) -> Result<Summary, Error> {
    let sources = load_sources(&input)?;
    let job = job(vault, &sources, &input, options);
    let phase = if options.sealing.is_some() { Phase::Sealing } else { Phase::BackingUp };
    observer.event(&Event::Phase(phase));
    let caches = Caches::new(observer);
    if options.paranoid {
        vault.check_whole();
    }
    let (mut known, last_run, mut resumed) = match &options.sealing {
        None => Known::load(vault, options.now, &job, !options.dry_run, &caches),
        Some(Sealing { before, .. }) => {
            let known = before.as_ref().map(|before| Known::of_sealed_file(vault, &before.reseed));
            (known.unwrap_or_default(), LastRun::NONE, Vec::new())
        }
    };
    let stored = vault.stored()?;
    known.retain_sound(vault, &stored);
    resumed.retain(|pack| stored.get(&pack.object.name) == Some(&u64::from(pack.object.length)));
    drop(stored);
    let resumed_packs = resumed.len();
    let sealed_before = options.sealing.as_ref().and_then(|sealing| sealing.before.as_ref());
    let (items, bytes) = match sealed_before.map(|before| before.reader.body().counts) {
        Some(counts) => (counts.files, counts.bytes),
        None => (last_run.files, last_run.bytes),
    };
    observer.event(&Event::Total { items, bytes });
    let cutter = Cutter::new(&vault.namer().gear_bytes(), CHUNK_SIZES);
    let threads = store::threads();
    let packing = Packing { threads: threads.as_ref(), level: options.level, dry_run: options.dry_run };

    let mut unless =
        (options.skip_if_unchanged && !options.dry_run && last_run.seq > 0).then_some(last_run.sources);
    let (mut missing, mut bytes_stored) = (0, 0);
    for _ in 0..TRIES {
        known.begin();
        if options.sealing.is_some() {
            known.forget_unlisted();
        }
        let session = run(
            vault, &mut input, &job, options, packing, &cutter, &mut known, &resumed, unless, &caches,
            observer,
        )?;
        let Session { mut listing, packs, has_all_names } = session;
        for pack in &packs {
            known.add_pack(pack);
        }
        bytes_stored += packs.iter().map(|pack| u64::from(pack.object.length)).sum::<u64>();
        listing.counts.bytes_stored = bytes_stored;
        // Should the session have to run again, what it stored is not to be stored twice.
        resumed.extend(packs);
        if options.dry_run {
            let took = (options.clock)().saturating_sub(options.now);
            return Ok(Summary::new(listing, None, None, took, resumed_packs));
        }
        if unless == Some(listing.sources) {
            if stands(vault, &last_run)? {
                let took = (options.clock)().saturating_sub(options.now);
                let standing = Some(last_run.header.snapshot_id());
                return Ok(Summary::new(listing, None, standing, took, resumed_packs));
            }
            unless = None;
            if input.stream.is_none() {
                // What leads to the sources was held back.
                continue;
            }
        }
        observer.event(&Event::Phase(Phase::Committing));
        let sealed_under = vault.epoch();
        let (indexes, mut objects) = known.put_indexes(vault)?;
        let took = (options.clock)().saturating_sub(options.now);
        let body = body(vault, &listing, indexes, &known, job, &sources, &input, options, took);
        let body_object = vault.put_body(&body)?;
        objects.push(body_object);
        objects.extend(known.unlisted());

        vault.refresh()?;
        let mut committed = None;
        for _ in 0..TRIES {
            missing = not_sound(vault, &mut known, &objects, sealed_under)?;
            if missing > 0 {
                break;
            }
            // An owner may have announced something meanwhile that makes the header late: then all that
            // it relies on is looked at again before it is put once more.
            committed = commit(vault, body_object.name, &objects, options)?;
            if committed.is_some() {
                break;
            }
        }
        let Some(committed) = committed else {
            if input.stream.is_some() || missing == 0 {
                break;
            }
            continue;
        };
        let run = LastRun {
            seq: committed.head.seq,
            header: committed.head.digest,
            knew: u64::from(committed.receipt.authority_seq),
            body: body_object,
            objects: Vec::new(),
            sources: listing.sources,
            files: listing.counts.files,
            bytes: listing.counts.bytes,
        };
        if options.sealing.is_none() {
            // The snapshot stands, whatever becomes of what this machine remembers of it. The journal stays
            // where the table couldn't be kept: it still knows what was put.
            caches.keep(known.save(vault, &job, &run).and_then(|()| Journal::clear(vault)));
        }
        let summary = Summary::new(listing, Some(committed), None, took, resumed_packs);
        return Ok(Summary { has_all_names, ..summary });
    }
    Err(Error::Unsteady { missing })
}

fn load_sources(input: &Input) -> Result<Vec<Source>, Error> {
    if input.stream.is_none() && input.paths.is_empty() {
        return Err(Error::Nothing { what: "no path was given" });
    }
    input
        .paths
        .iter()
        .map(|path| {
            let source = Source::load(path).map_err(Error::Source)?;
            source.examine().map_err(Error::Source)?;
            Ok(source)
        })
        .collect()
}

/// The same paths and profile on the same device are the same job.
fn job(vault: &DeviceVault, sources: &[Source], input: &Input, options: &Options<'_>) -> JobId {
    if options.sealing.is_some() {
        return JobId(vault.namer().local_hash(b"job", b"sealed file"));
    }
    let mut paths: Vec<&[u8]> = sources.iter().map(|source| source.path().as_bytes()).collect();
    let stream = input.stream.as_ref();
    paths.extend(stream.iter().flat_map(|stream| stream.paths()).map(TreePath::as_bytes));
    paths.extend(stream.and_then(Stream::origin).map(str::as_bytes));
    paths.sort_unstable();
    let text = [paths.join(&0), options.profile.as_bytes().to_vec()].join(&b"\0\0"[..]);
    JobId(vault.namer().local_hash(b"job", &text))
}

/// Reads and stores: everything but what makes it a snapshot.
#[expect(clippy::too_many_arguments, reason = "the parts of a session, each used once")]
fn run(
    vault: &DeviceVault,
    input: &mut Input,
    job: &JobId,
    options: &Options<'_>,
    packing: Packing<'_>,
    cutter: &Cutter,
    known: &mut Known,
    resumed: &[StoredPack],
    unless: Option<Digest>,
    caches: &Caches<'_>,
    observer: &dyn Observer,
) -> Result<Session, Error> {
    // What a sealed file has is in the file, or nowhere.
    let goes_on = !options.dry_run && options.sealing.is_none();
    let journal = if goes_on { caches.keep(Journal::begin(vault, resumed)) } else { None };
    let memory = options.sealing.as_ref().map_or_else(|| vault.state(), |sealing| &sealing.memory);
    let last = LastFiles::load(vault, memory, job);
    let files = match (&input.stream, options.dry_run) {
        (None, false) => caches.keep(FilesWriter::begin(vault, memory, job)),
        _ => None,
    };
    // A second session opens its sources anew: the first has used them up.
    let sources = load_sources(input)?;
    let stream = &mut input.stream;
    let before = options.sealing.as_ref().and_then(|sealing| sealing.before.as_ref());
    let places = read::places(&sources);
    let remembered =
        before.map(|before| before.reader.body()).filter(|body| last.are_of(&places, &body.root));
    thread::scope(|scope| {
        let (to_packer, blocks) = mpsc::sync_channel(BLOCKS_WAITING);
        let storing = scope.spawn(move || store::store(vault, &blocks, packing, journal, caches, observer));
        let carrying = before.map(|before| {
            let (to_carrier, wanted) = mpsc::channel();
            let carry = move || carry(vault, before.reader, &wanted, packing, caches, observer);
            (to_carrier, scope.spawn(carry))
        });
        let walker = Walker::new(
            options,
            observer,
            vault.namer(),
            cutter,
            &mut *known,
            to_packer,
            carrying.as_ref().map(|(to_carrier, _)| to_carrier.clone()),
            last,
            files,
            unless,
            caches,
        );
        let read = match stream {
            Some(Stream { bytes, form: Form::File { path, owner } }) => {
                walker.stream(bytes, path, owner.clone())
            }
            Some(Stream { bytes, form: Form::Tar { .. } }) => walker.tar(bytes),
            // One of the threads that read walks, so that none has to be woken to go on. It waits for those who pack, so
            // these have to be others; and there has to be another one, to read what is carried meanwhile.
            None if packing.threads.is_some() && rayon::current_num_threads() > 1 => {
                rayon::scope(|_| walker.walk(sources))
            }
            None => walker.walk(sources),
        };
        let stored = storing.join().expect("the storing thread returns its errors and never panics");
        let carried = carrying.map_or(Ok(Vec::new()), |(to_carrier, carrying)| {
            if read.is_ok() {
                // Nobody takes it only if carrying has failed.
                let _ = to_carrier.send(known.wanted_at_last());
            }
            drop(to_carrier);
            carrying.join().expect("the carrying thread returns its errors and never panics")
        });
        // If storing or carrying failed, reading ended for that reason alone.
        let mut packs = stored?;
        packs.extend(carried?);
        let listing = read?;
        let has_all_names = remembered.is_some_and(|body| body.counts.files == listing.files_known);
        Ok(Session { listing, packs, has_all_names })
    })
}

#[expect(clippy::too_many_arguments, reason = "the parts of a body, each used once")]
fn body(
    vault: &DeviceVault,
    listing: &Listing,
    indexes: Vec<IndexRef>,
    known: &Known,
    job: JobId,
    sources: &[Source],
    input: &Input,
    options: &Options<'_>,
    took: u64,
) -> Body {
    let absolute = |path: &TreePath| [b"/", path.as_bytes()].concat();
    let placed = |source: &Source| match &options.sealing {
        None => absolute(source.path()),
        Some(_) => {
            source.path().last().map_or_else(|| b"/".to_vec(), |name| [b"/", name.as_bytes()].concat())
        }
    };
    let signer = options.sealing.as_ref().and_then(|sealing| sealing.signer.as_ref());
    let mut paths: Vec<Vec<u8>> = sources.iter().map(placed).collect();
    paths.extend(input.stream.iter().flat_map(Stream::paths).map(absolute));
    Body {
        job,
        paths,
        root: listing.root,
        counts: listing.counts,
        errors: match options.sealing {
            None => listing.errors.clone(),
            Some(_) => listing.errors.iter().map(|error| without_place(error, sources)).collect(),
        },
        host: options.host.clone(),
        begun: options.time.unwrap_or(options.now),
        took,
        program: options.program.clone(),
        tags: options.tags.clone(),
        indexes,
        reused: known.reused(),
        seen: vault.others().collect(),
        origin: input.stream.as_ref().and_then(Stream::origin).map(str::to_owned),
        sender: signer.map(|signer| signer.sign(&vault.log().fingerprint(), &listing.root)),
    }
}

/// What a sealed file tells of an entry that could not be read: not where the source lay.
fn without_place(error: &ReadError, sources: &[Source]) -> ReadError {
    let within = sources.iter().find_map(|source| {
        let parent = source.path().as_bytes().len() - source.path().last()?.as_bytes().len();
        let below = error.path.strip_prefix(b"/")?;
        below.starts_with(source.path().as_bytes()).then(|| [b"/", &below[parent..]].concat())
    });
    ReadError { path: within.unwrap_or_else(|| b"/".to_vec()), message: "it could not be read".to_owned() }
}

/// Whether a job's last snapshot counts, and all that it rests on is in the store.
fn stands(vault: &mut DeviceVault, last: &LastRun) -> Result<bool, Error> {
    vault.refresh()?;
    let (log, device) = (vault.log(), vault.device());
    if log.is_forgotten(device, last.seq) || vault.is_late(last.seq) {
        return Ok(false);
    }
    let stored = vault.stored()?;
    Ok(last.objects.iter().chain([&last.body]).all(|object| known::is_there(vault, &stored, *object)))
}

/// Looks whether all that the snapshot relies on is in the store and stays there; forgets what isn't or
/// doesn't, and counts it.
fn not_sound(
    vault: &DeviceVault,
    known: &mut Known,
    objects: &[NewObject],
    sealed_under: Epoch,
) -> Result<usize, Error> {
    let stored = vault.stored()?;
    // A header that was put before may have had them sealed anew since.
    let is_gone = |object: &&NewObject| {
        !known::is_there(vault, &stored, **object)
            || vault.log().is_forgotten_object(vault.device(), &object.name)
    };
    // Indexes and body were sealed before the log was read again.
    let closed = usize::from(!vault.is_open(sealed_under));
    Ok(objects.iter().filter(is_gone).count() + closed + known.retain_sound(vault, &stored))
}

/// Puts the header; nothing comes of it if an owner announced something meanwhile that makes it late.
fn commit(
    vault: &mut DeviceVault,
    body: Digest,
    objects: &[NewObject],
    options: &Options<'_>,
) -> Result<Option<Committed>, Error> {
    let knew = vault.log().head().seq;
    let committed = vault.commit(body, objects.to_vec(), options.time.unwrap_or(options.now))?;
    vault.refresh()?;
    // Whether the owner's list showed this header can't be known here: if he announced anything since, it
    // is committed again, knowing of that.
    let may_be_late = vault.log().is_announced_after(vault.device(), knew);
    Ok((!may_be_late).then_some(committed))
}
