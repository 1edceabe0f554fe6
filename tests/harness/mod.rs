//! A vault, a device and a person with a key file, for tests that go the whole way.

#![allow(dead_code, reason = "each test uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test that panics has failed, as it should")]

#[path = "../samples/mod.rs"]
mod samples;

#[allow(unused_imports, reason = "each test uses a part of it")]
pub use samples::noise;

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use strongroom::crypto::kdf::Argon2Settings;
use strongroom::crypto::secret::Secret;
use strongroom::id::Fingerprint;
use strongroom::observe::Silent;
use strongroom::store::Store;
use strongroom::task::backup;
use strongroom::task::backup::Input;
use strongroom::task::backup::Summary;
use strongroom::task::browse;
use strongroom::task::error::Error;
use strongroom::task::restore;
use strongroom::tree::filter::FilterBuilder;
use strongroom::vault::LockedVault;
use strongroom::vault::Vault;
use strongroom::vault::device::DeviceKeys;
use strongroom::vault::device::DeviceVault;
use strongroom::vault::error;
use strongroom::vault::init::DeviceHome;
use strongroom::vault::init::NewSlot;
use strongroom::vault::init::NewVault;
use strongroom::vault::init::Opens;
use strongroom::vault::machine::Machine;
use strongroom::vault::slot::Role;
use strongroom::vault::slot::Way;

/// A key file's way in: opens at once, without stretching.
pub fn way(byte: u8) -> Way {
    Way { key_file: Secret::from_slice(&[byte; 32]), ..Way::default() }
}

static CLOCK: AtomicU64 = AtomicU64::new(2_000_000_000_000_000_000);

/// A clock that only ever goes forward, far ahead of the files' times, so that they count as settled.
pub fn now() -> u64 {
    CLOCK.fetch_add(1_000_000_000, Ordering::Relaxed)
}

/// A machine that is a device of a vault.
pub struct Site {
    pub store: Arc<dyn Store>,
    pub machine: Machine,
    pub fingerprint: Fingerprint,
    pub home: tempfile::TempDir,
}

impl Site {
    /// Makes a vault in `store`, with one owner's slot.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self::with_way(store, &way(1))
    }

    pub fn with_way(store: Arc<dyn Store>, way: &Way) -> Self {
        let home = tempfile::tempdir().unwrap();
        let machine = Machine::new(&home.path().join("state"));
        let device = DeviceKeys::generate();
        let slots = [NewSlot { opens: Opens::Way(way), label: "owner", role: Role::Owner }];
        let new = NewVault::generate(
            &slots,
            &Argon2Settings::DEFAULT,
            (&device, "laptop"),
            DeviceHome::Machine,
            now(),
        )
        .unwrap();
        let fingerprint = new.fingerprint();
        new.put(&store, &device, &machine.vault_state(&fingerprint), now()).unwrap();
        Self { store, machine, fingerprint, home }
    }

    pub fn device(&self) -> Result<DeviceVault, error::Error> {
        let state = self.machine.vault_state(&self.fingerprint);
        DeviceVault::load(Arc::clone(&self.store), &self.fingerprint, &state)
    }

    pub fn backup(&self, path: &Path) -> Result<Summary, Error> {
        self.backup_with(path, |_| {})
    }

    pub fn backup_with(
        &self,
        path: &Path,
        change: impl FnOnce(&mut backup::Options),
    ) -> Result<Summary, Error> {
        let mut options = options();
        change(&mut options);
        let input = Input { paths: vec![path.to_owned()], stream: None };
        backup::backup(&mut self.device()?, input, &options, &Silent)
    }

    pub fn unlock(&self) -> Vault {
        self.unlock_with(&way(1)).unwrap()
    }

    pub fn unlock_with(&self, way: &Way) -> Result<Vault, error::Error> {
        LockedVault::load(Arc::clone(&self.store), Some(&self.fingerprint))?.unlock(way)
    }

    /// How many snapshots the vault lists; every chain must be whole.
    pub fn snapshots(&self) -> usize {
        let vault = self.unlock();
        let listing = browse::snapshots(&vault);
        assert!(listing.broken.is_empty());
        listing.snapshots.len()
    }

    /// Restores the part of the newest snapshot that came from `source` to a new place below this
    /// site's home.
    pub fn restore_latest(&self, source: &Path, name: &str) -> (restore::Summary, PathBuf) {
        let vault = self.unlock();
        let listing = browse::snapshots(&vault);
        let which = browse::Which::parse("latest").unwrap();
        let listed = browse::choose(&listing.snapshots, &which, &browse::Filters::default()).unwrap();
        let reader = browse::reader(&vault, listed).unwrap();
        let target = self.home.path().join(name);
        let source = source.canonicalize().unwrap();
        let subpath = source.to_str().unwrap().trim_start_matches('/');
        let options = restore::Options {
            subpath: strongroom::tree::path::TreePath::parse(subpath.as_bytes()).unwrap(),
            ..restore::Options::default()
        };
        let summary = restore::restore(&reader, &target, &options, &Silent).unwrap();
        (summary, target)
    }
}

pub fn options() -> backup::Options<'static> {
    backup::Options {
        host: "laptop".to_owned(),
        tags: Vec::new(),
        time: None,
        now: now(),
        clock: now,
        level: 3,
        dry_run: false,
        skip_if_unchanged: false,
        paranoid: false,
        force: false,
        ignore_ctime: false,
        ignore_inode: false,
        filter: FilterBuilder::new().build().unwrap(),
        profile: String::new(),
        left_out: Vec::new(),
        program: "strongroom test".to_owned(),
        sealing: None,
    }
}

/// Everything below `root` that a restore must bring back, as lines: kind, mode, time, size, content.
pub fn describe(root: &Path) -> Vec<String> {
    use std::os::unix::fs::FileTypeExt;
    use std::os::unix::fs::MetadataExt;
    let mut lines = Vec::new();
    let mut waiting = vec![root.to_owned()];
    while let Some(path) = waiting.pop() {
        let meta = path.symlink_metadata().unwrap();
        let kind = meta.file_type();
        let what = if kind.is_dir() {
            let mut below: Vec<PathBuf> =
                std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()).collect();
            below.sort();
            waiting.extend(below);
            "directory".to_owned()
        } else if kind.is_symlink() {
            format!("link to {:?}", std::fs::read_link(&path).unwrap())
        } else if kind.is_fifo() {
            "pipe".to_owned()
        } else {
            let digest = strongroom::crypto::digest::digest(&std::fs::read(&path).unwrap());
            format!("file of {} bytes, {digest}, {} names", meta.len(), meta.nlink())
        };
        let name = path.strip_prefix(root).unwrap();
        let mode = meta.mode() & 0o777;
        lines.push(format!("{name:?}: {what}, {mode:o}, {}.{:09}", meta.mtime(), meta.mtime_nsec()));
    }
    lines.sort();
    lines
}

/// Copies a folder with all that is in it.
pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
