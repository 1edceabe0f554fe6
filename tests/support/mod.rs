//! A vault in memory with trees laid out by hand, so that a test knows which chunk is where.

#![allow(dead_code, reason = "each test uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test that panics has failed, as it should")]

#[path = "../samples/mod.rs"]
mod samples;

#[allow(unused_imports, reason = "each test uses a part of it")]
pub use samples::noise;

use std::collections::BTreeMap;
use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;
use std::sync::Mutex;

use strongroom::crypto::digest;
use strongroom::crypto::kdf::Argon2Settings;
use strongroom::crypto::secret::Secret;
use strongroom::id::Digest;
use strongroom::id::Fingerprint;
use strongroom::id::JobId;
use strongroom::id::ObjectName;
use strongroom::pack::packer::Block;
use strongroom::pack::packer::Blocker;
use strongroom::pack::packer::ChunkKind;
use strongroom::pack::packer::Pack;
use strongroom::pack::packer::Packer;
use strongroom::pack::packer::RawBlock;
use strongroom::seal::pseal;
use strongroom::seal::pseal::Kind;
use strongroom::store;
use strongroom::store::Memory;
use strongroom::store::Store;
use strongroom::store::state::StateDir;
use strongroom::task::browse;
use strongroom::tree::entry::ChunkRef;
use strongroom::tree::entry::Content;
use strongroom::tree::entry::DataRun;
use strongroom::tree::entry::Entry;
use strongroom::tree::entry::EntryKind;
use strongroom::tree::entry::Owner;
use strongroom::tree::entry::Time;
use strongroom::tree::entry::TreeRef;
use strongroom::tree::node::ListBuilder;
use strongroom::tree::node::NodeKind;
use strongroom::tree::node::TreeBuilder;
use strongroom::tree::path::Name;
use strongroom::tree::path::TreePath;
use strongroom::vault::LockedVault;
use strongroom::vault::Vault;
use strongroom::vault::body::Body;
use strongroom::vault::body::Counts;
use strongroom::vault::body::IndexRef;
use strongroom::vault::device::DeviceKeys;
use strongroom::vault::device::DeviceVault;
use strongroom::vault::header::NewObject;
use strongroom::vault::index;
use strongroom::vault::init::DeviceHome;
use strongroom::vault::init::NewSlot;
use strongroom::vault::init::NewVault;
use strongroom::vault::init::Opens;
use strongroom::vault::read::SnapshotReader;
use strongroom::vault::slot::Role;
use strongroom::vault::slot::Way;

/// How long the chunks of a file are.
pub const CHUNK_BYTES: usize = 64 << 10;

/// Contents up to this length stand in their entries.
pub const INLINE_BYTES: usize = 100;

/// Something to be put into a snapshot.
#[derive(Clone)]
pub struct Item {
    pub name: Name,
    pub what: What,
    pub mode: u32,
    pub modified: Time,
    pub link_group: Option<[u8; 16]>,
}

#[derive(Clone)]
pub enum What {
    File(Vec<u8>),
    /// Its size, and its runs of data.
    Sparse(u64, Vec<(u64, Vec<u8>)>),
    Symlink(&'static str),
    Fifo,
    Directory(Vec<Item>),
}

fn item(name: &str, what: What, mode: u32) -> Item {
    let modified = Time { seconds: 1_600_000_000 + name.len() as i64, nanos: 123_456_789 };
    Item { name: Name::new(name.as_bytes()).unwrap(), what, mode, modified, link_group: None }
}

pub fn file(name: &str, bytes: impl Into<Vec<u8>>) -> Item {
    item(name, What::File(bytes.into()), 0o640)
}

pub fn directory(name: &str, items: Vec<Item>) -> Item {
    item(name, What::Directory(items), 0o750)
}

pub fn symlink(name: &str, target: &'static str) -> Item {
    item(name, What::Symlink(target), 0o777)
}

pub fn fifo(name: &str) -> Item {
    item(name, What::Fifo, 0o600)
}

pub fn sparse(name: &str, size: u64, runs: Vec<(u64, Vec<u8>)>) -> Item {
    item(name, What::Sparse(size, runs), 0o600)
}

impl Item {
    /// The same as one name of several.
    pub fn linked(mut self, group: u8) -> Self {
        self.link_group = Some([group; 16]);
        self
    }
}

pub fn path(text: &str) -> TreePath {
    TreePath::parse(text.as_bytes()).unwrap()
}

/// A store that remembers which objects were read whole.
#[derive(Default)]
pub struct Watched {
    inner: Memory,
    names: Mutex<Vec<ObjectName>>,
}

impl Watched {
    /// Begins anew.
    pub fn forget(&self) {
        self.names.lock().unwrap().clear();
    }

    /// How many sealed objects of a kind were read since.
    pub fn read(&self, kind: Kind) -> usize {
        let is_such = |name: &&ObjectName| {
            let bytes = self.inner.get(name, u64::MAX).unwrap();
            name.as_str().starts_with("p/") && pseal::peek(&bytes).unwrap().kind == kind
        };
        self.names.lock().unwrap().iter().filter(is_such).count()
    }
}

impl Store for Watched {
    fn put(&self, name: &ObjectName, bytes: &[u8]) -> Result<(), store::Error> {
        self.inner.put(name, bytes)
    }

    fn get(&self, name: &ObjectName, bytes_max: u64) -> Result<Vec<u8>, store::Error> {
        self.names.lock().unwrap().push(name.clone());
        self.inner.get(name, bytes_max)
    }

    fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Vec<u8>, store::Error> {
        self.inner.get_range(name, range)
    }

    fn size(&self, name: &ObjectName) -> Result<u64, store::Error> {
        self.inner.size(name)
    }

    fn list(&self, prefix: &str) -> Result<Vec<store::Listed>, store::Error> {
        self.inner.list(prefix)
    }

    fn remove(&self, name: &ObjectName) -> Result<(), store::Error> {
        self.inner.remove(name)
    }

    fn place(&self) -> String {
        self.inner.place()
    }

    fn writable(&self) -> Result<(), store::Error> {
        self.inner.writable()
    }
}

/// A vault, and the device that adds to it.
pub struct TestVault {
    pub store: Arc<Memory>,
    shared: Arc<dyn Store>,
    pub device: DeviceVault,
    /// Whether each directory's tree gets a pack of its own, so that it alone can be damaged.
    pub trees_apart: bool,
    /// Who signed what is sealed, as the bodies have it.
    pub sender: Option<Vec<u8>>,
    fingerprint: Fingerprint,
    state: tempfile::TempDir,
    key: Secret<32>,
    held: HashSet<[u8; 32]>,
    packs: Vec<(Digest, Vec<[u8; 32]>)>,
    times: u64,
}

impl TestVault {
    pub fn new() -> Self {
        let store = Arc::new(Memory::new());
        Self { store: Arc::clone(&store), ..Self::with_store(store) }
    }

    /// In another store, where `store` then is one that nothing is in.
    pub fn with_store(shared: Arc<dyn Store>) -> Self {
        let state = tempfile::tempdir().unwrap();
        let folder = StateDir::new(state.path());
        let key = Secret::<32>::generate();
        let way = Way { key_file: Some(key.duplicate()), ..Way::default() };
        let keys = DeviceKeys::generate();
        let slots = [NewSlot { opens: Opens::Way(&way), label: "test", role: Role::Owner }];
        let new = NewVault::generate(&slots, &Argon2Settings::LEAST, (&keys, "here"), DeviceHome::Machine, 1)
            .unwrap();
        let fingerprint = new.fingerprint();
        new.put(&shared, &keys, &folder, 1).unwrap();
        let device = DeviceVault::load(Arc::clone(&shared), &fingerprint, &folder).unwrap();
        Self {
            store: Arc::new(Memory::new()),
            shared,
            device,
            trees_apart: false,
            sender: None,
            fingerprint,
            state,
            key,
            held: HashSet::new(),
            packs: Vec::new(),
            times: 1_700_000_000_000_000_000,
        }
    }

    /// The vault as a person opens it.
    pub fn open(&self) -> Vault {
        let shared = Arc::clone(&self.shared);
        let way = Way { key_file: Some(self.key.duplicate()), ..Way::default() };
        LockedVault::load(shared, Some(&self.fingerprint)).unwrap().unlock(&way).unwrap()
    }

    /// Adds a snapshot of a root with these entries.
    pub fn snapshot(&mut self, items: &[Item], host: &str, tags: &[&str]) {
        let mut writer = TreeWriter {
            vault: &self.device,
            trees_apart: self.trees_apart,
            held: &mut self.held,
            data: Blocker::new(),
            trees: Blocker::new(),
            data_packer: Packer::new(4 << 20),
            tree_packer: Packer::new(4 << 20),
            objects: Vec::new(),
            packs: &mut self.packs,
            counts: Counts::default(),
        };
        let root = writer.directory(items);
        let (mut objects, counts) = writer.finish();
        let mut entries = BTreeMap::new();
        for (number, (_, ids)) in (0_u32..).zip(&self.packs) {
            for id in ids {
                entries.insert(*id.first_chunk::<16>().unwrap(), number);
            }
        }
        let names: Vec<Digest> = self.packs.iter().map(|(name, _)| *name).collect();
        let entries: Vec<_> = entries.into_iter().collect();
        let encoded = index::encode(&names, &entries);
        let index = self.device.put(&self.device.seal(Kind::Index, &[&encoded], None).unwrap()).unwrap();
        objects.push(index);
        self.times += 1_000_000_000;
        let body = Body {
            job: JobId([1; 16]),
            paths: vec![b"/home".to_vec()],
            root,
            counts,
            errors: Vec::new(),
            host: host.to_owned(),
            begun: self.times,
            took: 1,
            program: "test".to_owned(),
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            indexes: vec![IndexRef { name: index.name, first: [0; 16] }],
            reused: Vec::new(),
            seen: Vec::new(),
            origin: None,
            sender: self.sender.clone(),
        };
        let body = self.device.put_body(&body).unwrap();
        objects.push(body);
        self.device.commit(body.name, objects, self.times).unwrap();
    }
}

struct TreeWriter<'d> {
    vault: &'d DeviceVault,
    trees_apart: bool,
    held: &'d mut HashSet<[u8; 32]>,
    data: Blocker,
    trees: Blocker,
    data_packer: Packer,
    tree_packer: Packer,
    objects: Vec<NewObject>,
    packs: &'d mut Vec<(Digest, Vec<[u8; 32]>)>,
    counts: Counts,
}

impl TreeWriter<'_> {
    fn chunk(&mut self, kind: ChunkKind, bytes: &[u8]) -> ChunkRef {
        let id = self.vault.namer().name(kind, bytes);
        let reference = ChunkRef { id, length: u32::try_from(bytes.len()).unwrap() };
        if self.held.insert(id.0) {
            let blocker = if kind == ChunkKind::Data { &mut self.data } else { &mut self.trees };
            if let Some(raw) = blocker.add(id, kind, bytes).unwrap() {
                self.block(raw, kind == ChunkKind::Data);
            }
        }
        reference
    }

    fn block(&mut self, raw: RawBlock, is_data: bool) {
        let namer = self.vault.namer();
        let block = Block::build(raw, 3, &|kind, bytes| namer.name(kind, bytes)).unwrap();
        let packer = if is_data { &mut self.data_packer } else { &mut self.tree_packer };
        if let Some(pack) = packer.add(block) {
            self.pack(&pack);
        }
    }

    fn pack(&mut self, pack: &Pack) {
        let commit_to = digest::digest(pack.directory());
        let sealed = self.vault.seal(Kind::Data, &pack.parts(), Some(&commit_to)).unwrap();
        let object = self.vault.put(&sealed).unwrap();
        self.objects.push(object);
        self.packs.push((object.name, pack.chunks().map(|(id, _)| id.0).collect()));
    }

    fn node(&mut self, kind: NodeKind, bytes: &[u8]) -> ChunkRef {
        let kind = match kind {
            NodeKind::Tree => ChunkKind::Tree,
            NodeKind::List => ChunkKind::List,
        };
        self.chunk(kind, bytes)
    }

    fn directory(&mut self, items: &[Item]) -> TreeRef {
        self.counts.directories += 1;
        let mut sorted: Vec<&Item> = items.iter().collect();
        sorted.sort_by(|a, b| a.name.cmp(&b.name));
        let entries: Vec<Entry> = sorted.into_iter().map(|item| self.entry(item)).collect();
        let mut builder = TreeBuilder::new(|name: &[u8]| {
            u64::from_le_bytes(*digest::digest(name).0.first_chunk().unwrap())
        });
        for entry in &entries {
            builder.add(entry, &mut |kind, bytes: Vec<u8>| Ok::<_, ()>(self.node(kind, &bytes))).unwrap();
        }
        let tree = builder.finish(&mut |kind, bytes: Vec<u8>| Ok::<_, ()>(self.node(kind, &bytes))).unwrap();
        if self.trees_apart
            && let Some(raw) = self.trees.finish()
        {
            self.block(raw, false);
            self.tree_packer.finish().iter().for_each(|pack| self.pack(pack));
        }
        tree
    }

    fn content(&mut self, bytes: &[u8]) -> Content {
        if bytes.len() <= INLINE_BYTES {
            return Content::Inline(bytes.into());
        }
        let mut list = ListBuilder::new();
        for part in bytes.chunks(CHUNK_BYTES) {
            let reference = self.chunk(ChunkKind::Data, part);
            list.add(reference, &mut |kind, bytes: Vec<u8>| Ok::<_, ()>(self.node(kind, &bytes))).unwrap();
        }
        list.finish(&mut |kind, bytes: Vec<u8>| Ok::<_, ()>(self.node(kind, &bytes))).unwrap()
    }

    fn entry(&mut self, item: &Item) -> Entry {
        let kind = match &item.what {
            What::File(bytes) => {
                self.counts.files += 1;
                self.counts.bytes += bytes.len() as u64;
                EntryKind::File { size: bytes.len() as u64, content: self.content(bytes), sparse: None }
            }
            What::Sparse(size, runs) => {
                self.counts.files += 1;
                self.counts.bytes += size;
                let data: Vec<u8> = runs.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
                let runs = runs
                    .iter()
                    .map(|(offset, bytes)| DataRun { offset: *offset, length: bytes.len() as u64 });
                let sparse = Some(runs.collect());
                EntryKind::File { size: *size, content: self.content(&data), sparse }
            }
            What::Symlink(target) => EntryKind::Symlink { target: target.as_bytes().into() },
            What::Fifo => EntryKind::Fifo,
            What::Directory(items) => EntryKind::Directory { tree: self.directory(items) },
        };
        let owner = Owner {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            user: "".into(),
            group: "".into(),
        };
        Entry {
            name: item.name.clone(),
            kind,
            mode: item.mode,
            owner,
            modified: item.modified,
            xattrs: Vec::new(),
            link_group: item.link_group,
        }
    }

    fn finish(mut self) -> (Vec<NewObject>, Counts) {
        if let Some(raw) = self.data.finish() {
            self.block(raw, true);
        }
        if let Some(raw) = self.trees.finish() {
            self.block(raw, false);
        }
        for pack in [self.data_packer.finish(), self.tree_packer.finish()].into_iter().flatten() {
            self.pack(&pack);
        }
        (self.objects, self.counts)
    }
}

/// The newest snapshot, ready to be read.
pub fn latest(vault: &Vault) -> SnapshotReader<'_> {
    let listing = browse::snapshots(vault);
    assert!(listing.broken.is_empty());
    let which = browse::Which::Latest { back: 0 };
    let listed = browse::choose(&listing.snapshots, &which, &browse::Filters::default()).unwrap();
    browse::reader(vault, listed).unwrap()
}

/// Flips a bit in the middle of the block that holds a chunk.
pub fn damage(store: &Memory, reader: &SnapshotReader<'_>, chunk: &ChunkRef) {
    let (pack, place) = reader.find(&chunk.id).unwrap();
    let range = pack.directory().block(place.block).range;
    let middle = (range.start + range.end) / 2;
    let (segment, rest) = (middle / 65_536, middle % 65_536);
    let at = 1232 + segment * 65_552 + rest;
    store.flip(pack.name(), usize::try_from(at).unwrap() * 8);
}

/// The chunks of the file at `path`.
pub fn chunks(reader: &SnapshotReader<'_>, at: &str) -> Vec<ChunkRef> {
    let browse::At::Entry(entry) = browse::entry_at(reader, &path(at)).unwrap() else {
        panic!("{at} is no entry")
    };
    match entry.kind {
        EntryKind::File { content: Content::Refs(refs), .. } => refs.into_vec(),
        EntryKind::Directory { tree } => vec![tree.reference],
        _ => Vec::new(),
    }
}
