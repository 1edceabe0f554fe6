//! A folder with something to seal in it, and beside it the file.

use std::cell::RefCell;
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering;

use strongroom::cli::failure::Exit;
use strongroom::cli::failure::Failure;
use strongroom::crypto::kdf::Argon2Settings;
use strongroom::id::Fingerprint;
use strongroom::observe::Event;
use strongroom::observe::Observer;
use strongroom::observe::Silent;
use strongroom::store::SealedDraft;
use strongroom::store::SealedFile;
use strongroom::store::Store;
use strongroom::store::Target;
use strongroom::store::state::StateDir;
use strongroom::task::backup;
use strongroom::task::backup::Input;
use strongroom::task::backup::Sealing;
use strongroom::task::error::Error;
use strongroom::task::lost::Lost;
use strongroom::task::restore;
use strongroom::task::seal;
use strongroom::task::seal::Summary;
use strongroom::task::verify::ReadData;
use strongroom::task::verify::verify_private;
use strongroom::tree::path::TreePath;
use strongroom::vault::LockedVault;
use strongroom::vault::Vault;
use strongroom::vault::body::Body;
use strongroom::vault::device::DeviceKeys;
use strongroom::vault::history::History;
use strongroom::vault::init::DeviceHome;
use strongroom::vault::init::NewSlot;
use strongroom::vault::init::NewVault;
use strongroom::vault::init::Opens;
use strongroom::vault::read::SnapshotReader;
use strongroom::vault::sender::Signer;
use strongroom::vault::slot::Role;
use strongroom::vault::slot::Way;

use crate::harness;
use crate::harness::noise;
use crate::harness::now;
use crate::harness::way;

/// What is sealed is called this.
pub const NAME: &str = "Customers";

/// A folder for one test.
pub struct Desk {
    folder: tempfile::TempDir,
    /// What the machine remembers of what was sealed: nothing, unless a test gives it a folder.
    pub memory: StateDir,
    /// The level of compression.
    pub level: i32,
    /// The folder in the source that is sealed; if it is none, the source.
    pub below: &'static str,
}

impl Desk {
    /// With a small folder of each kind of entry.
    pub fn new() -> Self {
        let desk = Self::empty();
        let path = |name: &str| desk.source().join(name);
        fs::create_dir_all(path("2026/empty")).unwrap();
        fs::write(path("letter.txt"), b"Dear customer,\n").unwrap();
        fs::write(path("none"), b"").unwrap();
        fs::write(path("2026/scan.tif"), noise(1, 150_000)).unwrap();
        fs::write(path("2026/table.csv"), "name,amount\n".repeat(9_000)).unwrap();
        fs::hard_link(path("2026/table.csv"), path("same.csv")).unwrap();
        std::os::unix::fs::symlink("2026/scan.tif", path("newest")).unwrap();
        let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR);
        rustix::fs::mknodat(rustix::fs::CWD, path("pipe"), kind, mode, 0).unwrap();
        let holes = fs::File::create(path("holes")).unwrap();
        holes.set_len(1 << 20).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&holes, b"in the middle", 600_000).unwrap();
        fs::set_permissions(path("2026"), std::os::unix::fs::PermissionsExt::from_mode(0o711)).unwrap();
        desk
    }

    /// With a folder that nothing is in.
    pub fn empty() -> Self {
        let desk =
            Self { folder: tempfile::tempdir().unwrap(), memory: StateDir::forgetful(), level: 3, below: "" };
        fs::create_dir(desk.source()).unwrap();
        desk
    }

    /// With files of three megabytes each, which fill several packs.
    pub fn of_large_files(count: u64) -> Self {
        let desk = Self::empty();
        (0..count).for_each(|number| desk.write_large(number, number));
        desk
    }

    /// With 3,000 files of one chunk each, and a memory of them.
    pub fn of_small_files() -> Self {
        let mut desk = Self::empty();
        desk.memory = StateDir::new(&desk.path("memory"));
        (0..10).for_each(|folder| fs::create_dir(desk.source().join(folder.to_string())).unwrap());
        (0..3_000).for_each(|number| desk.write_small(number, number));
        desk
    }

    /// Writes what shrinks by half.
    pub fn write_text(&self, name: &str, seed: u64, length: usize) {
        let text: String = noise(seed, length / 2).iter().map(|byte| format!("{byte:02x}")).collect();
        fs::write(self.source().join(name), text).unwrap();
    }

    pub fn write_small(&self, number: u64, seed: u64) {
        fs::write(self.small(number), noise(10_000 + seed, 2_000)).unwrap();
    }

    pub fn small(&self, number: u64) -> PathBuf {
        self.source().join(format!("{}/small{number}", number % 10))
    }

    pub fn write_large(&self, number: u64, seed: u64) {
        fs::write(self.source().join(format!("large{number}")), noise(seed + 1, 3_000_000)).unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn source(&self) -> PathBuf {
        self.path(NAME)
    }

    pub fn file(&self) -> PathBuf {
        self.path(&format!("{NAME}.strongroom"))
    }

    pub fn bytes(&self) -> Vec<u8> {
        fs::read(self.file()).unwrap()
    }

    /// What lies in the folder of this test.
    pub fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path()).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Seals the folder for an owner (key 1) and a reader (key 2).
    pub fn seal(&self) -> Summary {
        let (owner, reader) = (way(1), way(2));
        let slots = [
            NewSlot { opens: Opens::Way(&owner), label: "you", role: Role::Owner },
            NewSlot { opens: Opens::Way(&reader), label: "colleague", role: Role::Reader },
        ];
        self.seal_for(&slots, None, Target::file(&self.file())).unwrap()
    }

    pub fn seal_for(
        &self,
        slots: &[NewSlot<'_>],
        signer: Option<Signer>,
        target: Target,
    ) -> Result<Summary, Error> {
        let device = DeviceKeys::generate();
        let settings = Argon2Settings::LEAST;
        let new =
            NewVault::generate(slots, &settings, (&device, "sealed file"), DeviceHome::Ring, now()).unwrap();
        let draft = Arc::new(SealedDraft::stream(target).unwrap());
        seal::seal(&draft, new, device, self.input(), &self.options(signer), &Silent)
    }

    /// Seals the folder again into its file, with the owner's key.
    pub fn seal_again(&self) -> Result<Summary, Error> {
        self.seal_again_as(&way(1), None, &Silent)
    }

    pub fn seal_again_as(
        &self,
        way: &Way,
        signer: Option<Signer>,
        observer: &dyn Observer,
    ) -> Result<Summary, Error> {
        let (vault, draft) = self.unlock_draft(way)?;
        seal::seal_again(vault, &draft, self.input(), self.options(signer), observer)
    }

    /// Seals the folder again, and says what it was told of files that go, if it was told anything.
    pub fn seal_again_told(&self) -> Option<Lost> {
        let (vault, draft) = self.unlock_draft(&way(1)).unwrap();
        let told = RefCell::new(None);
        let check = |lost: &Lost| {
            told.replace(Some(lost.clone()));
            Ok::<_, Error>(())
        };
        seal::seal_again_if(vault, &draft, self.input(), self.options(None), &check, &Silent).unwrap();
        told.into_inner()
    }

    /// The file, opened over a draft of the one that is to take its place.
    pub fn unlock_draft(&self, way: &Way) -> Result<(Vault, Arc<SealedDraft>), Error> {
        let file = SealedFile::load(&self.file()).map_err(strongroom::vault::error::Error::from)?;
        let file = Arc::new(file);
        let fingerprint = LockedVault::load_sealed_file(Arc::clone(&file))?.log().fingerprint();
        let target = Target::file(&self.file()).replacing();
        let draft = Arc::new(SealedDraft::over(file, self.folder.path(), target).unwrap());
        let store: Arc<dyn Store> = Arc::<SealedDraft>::clone(&draft);
        Ok((LockedVault::load(store, Some(&fingerprint))?.unlock(way)?, draft))
    }

    fn options(&self, signer: Option<Signer>) -> backup::Options<'static> {
        backup::Options {
            host: String::new(),
            // So that a test can change a file behind its times.
            ignore_ctime: true,
            level: self.level,
            sealing: Some(Sealing { signer, ..Sealing::new(self.memory.clone()) }),
            ..harness::options()
        }
    }

    fn input(&self) -> Input {
        Input { paths: vec![self.source().join(self.below)], stream: None }
    }

    /// Opens the file into a new folder of that name.
    pub fn open(&self, way: &Way, target: &str) -> Result<PathBuf, Failure> {
        self.open_watched(way, target, &Silent)
    }

    pub fn open_watched(&self, way: &Way, target: &str, observer: &dyn Observer) -> Result<PathBuf, Failure> {
        let locked = admit(&self.bytes())?;
        let vault = locked.unlock(way)?;
        let snapshot = Newest::of(&vault);
        let reader = snapshot.reader(&vault);
        let target = self.path(target);
        let options = restore::Options {
            subpath: TreePath::parse(NAME.as_bytes()).unwrap(),
            all_or_nothing: true,
            ..restore::Options::default()
        };
        let summary = restore::restore(&reader, &target, &options, observer)?;
        assert_eq!((summary.damaged_count, summary.problems), (0, 0));
        Ok(target)
    }

    /// Opens the file and holds it against the folder.
    #[track_caller]
    pub fn opens_to_the_source(&self, way: &Way) {
        let target = self.open(way, "opened").unwrap();
        assert_eq!(harness::describe(&target), harness::describe(&self.source()));
        fs::remove_dir_all(target).unwrap();
    }

    /// Reads all of the file with an owner's key; nothing may be wrong with it.
    #[track_caller]
    pub fn is_sound(&self) {
        let vault = admit(&self.bytes()).unwrap().unlock(&way(1)).unwrap();
        let report = verify_private(&vault, None, &[], &ReadData::All, &Silent).unwrap();
        assert!(report.is_sound(), "{:?}", report.findings.list());
    }
}

/// What a person may do with a file before any of it is released: its layout, its end, its log and every
/// part are checked.
pub fn admit(bytes: &[u8]) -> Result<LockedVault, Failure> {
    let file = SealedFile::from_stream(bytes, &std::env::temp_dir())?;
    let locked = LockedVault::load_sealed_file(Arc::new(file))?;
    seal::check(&locked, &Silent)?;
    Ok(locked)
}

/// How the program would end if it were given such a file.
pub fn exit(bytes: &[u8]) -> Exit {
    admit(bytes).map_or_else(|failure| failure.exit, |_| Exit::Done)
}

/// The one snapshot that a file shows.
pub struct Newest {
    pub history: Arc<History>,
    at: usize,
}

impl Newest {
    pub fn of(vault: &Vault) -> Self {
        let device = *vault.log().devices().keys().next().unwrap();
        let history = Arc::new(vault.locked().history(device).unwrap());
        let seq = seal::newest(vault, &history).unwrap().header.seq;
        let at = history.snapshots().iter().position(|each| each.header.seq == seq).unwrap();
        Self { history, at }
    }

    pub fn body(&self, vault: &Vault) -> Body {
        vault.body(&self.history, &self.history.snapshots()[self.at]).unwrap()
    }

    pub fn reader<'v>(&self, vault: &'v Vault) -> SnapshotReader<'v> {
        let history = Arc::clone(&self.history);
        SnapshotReader::new(vault, history, &self.history.snapshots()[self.at], self.body(vault))
    }
}

/// A stream that can be looked at afterwards.
#[derive(Clone, Default)]
pub struct Pipe(pub Arc<Mutex<Vec<u8>>>);

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Has enough once so many events came.
pub struct Impatient(AtomicI64);

impl Impatient {
    pub fn after(events: i64) -> Self {
        Self(AtomicI64::new(events))
    }
}

impl Observer for Impatient {
    fn event(&self, _: &Event<'_>) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    fn interrupted(&self) -> bool {
        self.0.load(Ordering::Relaxed) <= 0
    }
}

/// The vault that a file is.
pub fn fingerprint(bytes: &[u8]) -> Fingerprint {
    admit(bytes).unwrap().log().fingerprint()
}
