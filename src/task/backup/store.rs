//! The second half of a backup: blocks are compressed and checked on all cores, packed in their
//! order, sealed, put and written into the journal.
//!
//! Memory is bounded by the numbers below: a few blocks on their way, one pack that grows for each
//! kind of content, one that is sealed while another is put; at the end the two that grew are sealed
//! at once. Where a file is sealed again that may be twice as much: what is carried out of older packs
//! comes beside what is new.

use std::collections::VecDeque;
use std::sync::mpsc;
use std::sync::mpsc::Receiver;

use crate::crypto::digest;
use crate::observe::Event;
use crate::observe::Observer;
use crate::pack::packer::Block;
use crate::pack::packer::PACK_BYTES_TARGET;
use crate::pack::packer::Pack;
use crate::pack::packer::Packer;
use crate::seal::pseal::Kind;
use crate::seal::pseal::Sealed;
use crate::task::backup::blocks::Material;
use crate::task::backup::caches::Caches;
use crate::task::backup::journal::Journal;
use crate::task::backup::journal::StoredPack;
use crate::task::error::Error;
use crate::vault;
use crate::vault::device::DeviceVault;
use crate::vault::index;

/// Blocks that wait for the packer, of 1 MiB as a rule: enough that readers don't stop while a pack
/// is put.
pub const BLOCKS_WAITING: usize = 4;
/// Blocks being compressed, for each core: one at work and one ready.
const BLOCKS_PER_CORE: usize = 2;
/// Packs being sealed while one is put.
const PACKS_SEALING: usize = 1;
/// How much nicer those are who compress and seal than those who read: a few small files are read at once then, rather
/// than after the block that is being compressed. Where it was measured, 10 gave no more.
const NICENESS: i32 = 5;

/// How blocks become objects.
#[derive(Clone, Copy)]
pub struct Packing<'a> {
    /// Who compresses and seals: not those who read, who would wait for it with whoever waits for them. Without such
    /// threads they do it all the same.
    pub threads: Option<&'a rayon::ThreadPool>,
    /// The level of compression.
    pub level: i32,
    /// Whether nothing is stored: everything is done up to sealing.
    pub dry_run: bool,
}

/// Threads to compress and seal with, one for each core, if the system gives them.
#[must_use]
pub fn threads() -> Option<rayon::ThreadPool> {
    let give_way = |_| {
        // Of this thread alone, on Linux. Where it may not be, they take turns as any do.
        let _ = rustix::process::nice(NICENESS);
    };
    rayon::ThreadPoolBuilder::new()
        .num_threads(rayon::current_num_threads())
        .start_handler(give_way)
        .build()
        .ok()
}

/// Packs and stores all `blocks`, and returns the packs that the vault holds because of it.
///
/// # Errors
/// The first that a block or the store gives; what was put until then is in the journal.
pub fn store(
    vault: &DeviceVault,
    blocks: &Receiver<Material>,
    packing: Packing<'_>,
    journal: Option<Journal<'_>>,
    caches: &Caches<'_>,
    observer: &dyn Observer,
) -> Result<Vec<StoredPack>, Error> {
    let line = Line {
        vault,
        packing,
        journal,
        caches,
        observer,
        data: Packer::new(PACK_BYTES_TARGET),
        trees: Packer::new(PACK_BYTES_TARGET),
        sealing: VecDeque::new(),
        stored: Vec::new(),
    };
    match packing.threads {
        Some(threads) => threads.in_place_scope(|scope| line.store(scope, blocks)),
        None => rayon::in_place_scope(|scope| line.store(scope, blocks)),
    }
}

fn received(block: &Receiver<Result<Block, crate::pack::Error>>) -> Result<Block, Error> {
    Ok(block.recv().expect("a compressing thread always answers")?)
}

/// What the packing thread holds.
struct Line<'a> {
    vault: &'a DeviceVault,
    packing: Packing<'a>,
    journal: Option<Journal<'a>>,
    caches: &'a Caches<'a>,
    observer: &'a dyn Observer,
    data: Packer,
    /// Trees and lists go into packs of their own, so that browsing fetches little else.
    trees: Packer,
    sealing: VecDeque<Receiver<Result<(Sealed, StoredPack), vault::error::Error>>>,
    stored: Vec<StoredPack>,
}

impl<'a> Line<'a> {
    fn store<'scope>(
        mut self,
        scope: &rayon::Scope<'scope>,
        blocks: &Receiver<Material>,
    ) -> Result<Vec<StoredPack>, Error>
    where
        'a: 'scope,
    {
        let in_work_max = rayon::current_num_threads() * BLOCKS_PER_CORE;
        let (vault, level) = (self.vault, self.packing.level);
        let mut in_work: VecDeque<(bool, Receiver<Result<Block, crate::pack::Error>>)> = VecDeque::new();
        for material in blocks {
            if in_work.len() >= in_work_max
                && let Some((is_data, block)) = in_work.pop_front()
            {
                self.pack(scope, is_data, received(&block)?)?;
            }
            let (done, block) = mpsc::sync_channel(1);
            let is_data = material.is_data();
            scope.spawn(move |_| {
                let namer = vault.namer();
                let recompute = |kind, bytes: &[u8]| namer.name(kind, bytes);
                let built = match material {
                    Material::Raw(raw) => Block::build(raw, level, &recompute),
                    Material::Stored(stored) => Block::keep(stored, &recompute),
                };
                // Nobody waits any more only if the whole task has failed.
                let _ = done.send(built);
            });
            in_work.push_back((is_data, block));
        }
        for (is_data, block) in in_work {
            self.pack(scope, is_data, received(&block)?)?;
        }
        self.finish(scope)
    }

    fn pack<'scope>(&mut self, scope: &rayon::Scope<'scope>, is_data: bool, block: Block) -> Result<(), Error>
    where
        'a: 'scope,
    {
        let packer = if is_data { &mut self.data } else { &mut self.trees };
        match packer.add(block) {
            Some(pack) => self.seal(scope, pack),
            None => Ok(()),
        }
    }

    fn seal<'scope>(&mut self, scope: &rayon::Scope<'scope>, pack: Pack) -> Result<(), Error>
    where
        'a: 'scope,
    {
        if self.sealing.len() >= PACKS_SEALING {
            self.put()?;
        }
        self.begin_sealing(scope, pack);
        Ok(())
    }

    fn begin_sealing<'scope>(&mut self, scope: &rayon::Scope<'scope>, pack: Pack)
    where
        'a: 'scope,
    {
        if self.packing.dry_run {
            return;
        }
        let (done, sealed) = mpsc::sync_channel(1);
        let vault = self.vault;
        scope.spawn(move |_| {
            let commit_to = digest::digest(pack.directory());
            let sealed = vault.seal(Kind::Data, &pack.parts(), Some(&commit_to)).map(|sealed| {
                let chunks = pack.chunks().map(|(id, _)| index::prefix(&id)).collect();
                let object = vault.object(&sealed);
                let after = vault.head().map_or(0, |head| head.seq);
                (sealed, StoredPack { object, epoch: vault.epoch(), after, chunks })
            });
            let _ = done.send(sealed);
        });
        self.sealing.push_back(sealed);
    }

    fn put(&mut self) -> Result<(), Error> {
        let Some(sealed) = self.sealing.pop_front() else { return Ok(()) };
        let (sealed, pack) = sealed.recv().expect("a sealing thread always answers")?;
        self.vault.put(&sealed)?;
        // After a record that may be cut off within, no other would be read.
        if let Some(mut journal) = self.journal.take() {
            self.journal = self.caches.keep(journal.add(&pack)).map(|()| journal);
        }
        self.observer.event(&Event::Stored { bytes: sealed.bytes().len() as u64 });
        self.stored.push(pack);
        Ok(())
    }

    fn finish<'scope>(mut self, scope: &rayon::Scope<'scope>) -> Result<Vec<StoredPack>, Error>
    where
        'a: 'scope,
    {
        self.put()?;
        // Both at once: nothing grows beside them any more.
        for pack in [self.data.finish(), self.trees.finish()].into_iter().flatten() {
            self.begin_sealing(scope, pack);
        }
        while !self.sealing.is_empty() {
            self.put()?;
        }
        Ok(self.stored)
    }
}
