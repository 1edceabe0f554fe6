//! Where secrets live: one arena of pages that are locked, left out of core dumps and wiped in a
//! forked child; ordinary heap, wiped all the same, where the system allows no such pages.
//!
//! This is the only file with unsafe code; `docs/decisions/locked-memory.md` says why. What it
//! rests on: the arena is mapped once and never unmapped; its slots are handed out under a lock,
//! each to one `Locked` at a time; a `Locked` reads and writes its own slots alone.
#![allow(unsafe_code, reason = "locked pages can't be had otherwise: docs/decisions/locked-memory.md")]

use std::ptr::NonNull;
use std::slice;
use std::sync::Mutex;
use std::sync::OnceLock;
use std::sync::PoisonError;

use rustix::mm::MapFlags;
use rustix::mm::ProtFlags;
use rustix::process::Resource;
use rustix::process::Rlimit;
use zeroize::Zeroize;

/// The unit in which the arena is handed out: a cache line, and no secret is shorter for long.
const SLOT_BYTES: usize = 64;

/// Arena sizes to try: the first fits the 8 MiB that most systems let a process lock and holds
/// 8,191 keys, the second the 64 KiB of older ones.
const ARENA_BYTES: [usize; 2] = [512 * 1024, 48 * 1024];

/// Longer secrets, such as a whole ring, go to the heap, so that they don't crowd out keys.
const LOCKED_BYTES_MAX: usize = 4096;

/// Fills the arena's first slot. A forked child finds zeros there, and knows that its keys are gone.
const CANARY: u8 = 0xa5;

/// The pages that are mapped and locked once for the life of the process.
struct Arena {
    start: NonNull<u8>,
    /// Whether each slot is taken.
    slots: Mutex<Vec<bool>>,
}

// SAFETY: once it is made, `start` is written through only by a `Locked` that owns the slots it writes,
// and the mapping outlives every thread.
unsafe impl Send for Arena {}
// SAFETY: as above; who owns which slot is decided under the mutex.
unsafe impl Sync for Arena {}

impl Arena {
    /// The arena of this process, if the system allowed one.
    fn get() -> Option<&'static Self> {
        static ARENA: OnceLock<Option<Arena>> = OnceLock::new();
        ARENA.get_or_init(|| ARENA_BYTES.iter().find_map(|&bytes| Self::map(bytes, true))).as_ref()
    }

    /// Pages are of use only if they are locked; tests take others, so that they don't depend on what
    /// the system lets them lock.
    fn map(bytes: usize, locked: bool) -> Option<Self> {
        // SAFETY: a new private anonymous mapping, at an address of the kernel's choice, touches no
        // memory that anybody else has.
        let start = unsafe {
            rustix::mm::mmap_anonymous(
                std::ptr::null_mut(),
                bytes,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )
        };
        let start = start.ok()?;
        // SAFETY: the range is exactly the mapping made above.
        if locked && unsafe { rustix::mm::mlock(start, bytes) }.is_err() {
            // SAFETY: the same range, to which nothing points yet. If it stays mapped, it is only lost.
            let _ = unsafe { rustix::mm::munmap(start, bytes) };
            return None;
        }
        #[cfg(target_os = "linux")]
        for advice in [rustix::mm::Advice::LinuxDontDump, rustix::mm::Advice::LinuxWipeOnFork] {
            // A kernel without one of them still locks the pages, so the answer is not looked at.
            // SAFETY: the range is the mapping made above, and holds nothing yet that could be lost.
            let _ = unsafe { rustix::mm::madvise(start, bytes, advice) };
        }
        let start = NonNull::new(start.cast::<u8>())?;
        // SAFETY: the mapping is longer than a slot, writable, and nothing else points to it.
        unsafe { start.as_ptr().write_bytes(CANARY, SLOT_BYTES) };
        let mut slots = vec![false; bytes / SLOT_BYTES];
        slots[0] = true;
        Some(Self { start, slots: Mutex::new(slots) })
    }

    /// The first run of free slots that holds `length` bytes. They are zero: new pages are, and
    /// [`Locked::drop`] wipes what it gives back.
    fn take(&'static self, length: usize) -> Option<Locked> {
        let count = length.div_ceil(SLOT_BYTES).max(1);
        // A panic elsewhere can't leave the flags half set: nothing here panics between two of them.
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free = 0;
        for at in 0..slots.len() {
            free = if slots[at] { 0 } else { free + 1 };
            if free == count {
                let first = at + 1 - count;
                slots[first..=at].fill(true);
                // SAFETY: `at` is a slot of the arena, so the result stays within its mapping.
                let start = unsafe { self.start.add(first * SLOT_BYTES) };
                return Some(Locked { arena: self, start, length, first, count });
            }
        }
        None
    }

    fn give_back(&self, first: usize, count: usize) {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots[first..first + count].fill(false);
    }
}

/// Some slots of the arena.
struct Locked {
    arena: &'static Arena,
    start: NonNull<u8>,
    length: usize,
    first: usize,
    count: usize,
}

// SAFETY: it owns its slots, and the arena is never unmapped.
unsafe impl Send for Locked {}
// SAFETY: through a shared reference its slots are only read.
unsafe impl Sync for Locked {}

impl Locked {
    /// # Panics
    /// In a forked child, where the kernel has wiped the arena: to go on with keys of zeros would be
    /// worse than to end.
    fn assert_not_forked(&self) {
        // SAFETY: the first byte of the arena is mapped, set before any `Locked` exists, and never
        // written again.
        let canary = unsafe { self.arena.start.as_ptr().read_volatile() };
        assert!(canary == CANARY, "secrets are not used in a forked child");
    }

    fn as_slice(&self) -> &[u8] {
        self.assert_not_forked();
        // SAFETY: `length` bytes from `start` are slots that `take` gave to this value alone; they are
        // initialised (new pages are zero) and, while `self` is borrowed, not written.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }

    fn as_mut_slice(&mut self) -> &mut [u8] {
        self.assert_not_forked();
        // SAFETY: as above, and `self` is borrowed mutably.
        unsafe { slice::from_raw_parts_mut(self.start.as_ptr(), self.length) }
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        // SAFETY: as in `as_mut_slice`, which isn't called because it may panic.
        unsafe { slice::from_raw_parts_mut(self.start.as_ptr(), self.length) }.zeroize();
        self.arena.give_back(self.first, self.count);
    }
}

/// A fixed number of bytes for a secret, wiped when dropped.
pub(super) struct Memory(Place);

enum Place {
    Locked(Locked),
    Heap(Box<[u8]>),
}

impl Memory {
    /// `length` zero bytes, locked if the arena has room.
    pub(super) fn zeroed(length: usize) -> Self {
        let locked = Arena::get().filter(|_| length <= LOCKED_BYTES_MAX).and_then(|arena| arena.take(length));
        match locked {
            Some(locked) => Self(Place::Locked(locked)),
            None => Self(Place::Heap(vec![0; length].into_boxed_slice())),
        }
    }

    /// The bytes, to read.
    pub(super) fn as_slice(&self) -> &[u8] {
        match &self.0 {
            Place::Locked(locked) => locked.as_slice(),
            Place::Heap(bytes) => bytes,
        }
    }

    /// The bytes, to write.
    pub(super) fn as_mut_slice(&mut self) -> &mut [u8] {
        match &mut self.0 {
            Place::Locked(locked) => locked.as_mut_slice(),
            Place::Heap(bytes) => bytes,
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        match &mut self.0 {
            Place::Locked(_) => {} // its own drop wipes it
            Place::Heap(bytes) => bytes.zeroize(),
        }
    }
}

/// Makes the process a poor source of secrets: no core dumps, not readable by other processes of the
/// same user, keys in locked memory. To be called first thing, before any secret is read.
///
/// Returns what the system refused, each as the words that complete "this process could not ...".
#[must_use]
pub fn harden_process() -> Vec<&'static str> {
    let mut refused = Vec::new();
    let nothing = Rlimit { current: Some(0), maximum: Some(0) };
    if rustix::process::setrlimit(Resource::Core, nothing).is_err() {
        refused.push("turn off core dumps");
    }
    #[cfg(target_os = "linux")]
    if rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable).is_err() {
        refused.push("hide its memory from other processes");
    }
    if Arena::get().is_none() {
        refused.push("lock its keys in memory");
    }
    refused
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arena() -> &'static Arena {
        Box::leak(Box::new(Arena::map(ARENA_BYTES[1], false).unwrap()))
    }

    #[test]
    fn memory_is_zero_when_taken_and_wiped_when_given_back() {
        let arena = arena();
        for _ in 0..3 {
            let mut taken = arena.take(100).unwrap();
            assert_eq!(taken.first, 1, "what was given back is taken again");
            assert_eq!(taken.as_slice(), [0; 100]);
            taken.as_mut_slice().fill(7);
        }
    }

    #[test]
    fn two_secrets_never_share_a_slot_and_a_full_arena_gives_none() {
        let arena = arena();
        let mut taken = Vec::new();
        while let Some(locked) = arena.take(SLOT_BYTES + 1) {
            taken.push(locked);
        }
        let slots = ARENA_BYTES[1] / SLOT_BYTES;
        assert_eq!(taken.len(), (slots - 1) / 2, "two slots each, and one for the canary");
        let fills = (1..=u8::MAX).cycle();
        for (fill, locked) in fills.clone().zip(&mut taken) {
            locked.as_mut_slice().fill(fill);
        }
        for (fill, locked) in fills.zip(&taken) {
            assert_eq!(locked.as_slice(), [fill; SLOT_BYTES + 1]);
        }
        drop(taken);
        assert!(arena.take(LOCKED_BYTES_MAX).is_some());
    }

    #[test]
    #[should_panic(expected = "forked child")]
    fn secrets_of_an_arena_that_a_fork_wiped_are_not_used() {
        let arena = arena();
        let taken = arena.take(32).unwrap();
        // SAFETY: the arena is this test's own; this is what the kernel does to a child's.
        unsafe { arena.start.as_ptr().write_bytes(0, ARENA_BYTES[1]) };
        let _ = taken.as_slice();
    }

    #[test]
    fn long_secrets_go_to_the_heap_and_hold_what_is_written() {
        let mut memory = Memory::zeroed(LOCKED_BYTES_MAX + 1);
        assert!(matches!(memory.0, Place::Heap(_)));
        memory.as_mut_slice().fill(9);
        assert!(memory.as_slice().iter().all(|&byte| byte == 9));
    }

    #[test]
    fn dropped_slots_are_used_again() {
        // The arena would be full long before the end if they weren't.
        for _ in 0..3 * ARENA_BYTES[0] / LOCKED_BYTES_MAX {
            let memory = Memory::zeroed(LOCKED_BYTES_MAX);
            assert!(Arena::get().is_none() || matches!(memory.0, Place::Locked(_)));
        }
    }
}
