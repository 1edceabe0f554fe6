//! Room for blocks. The system takes longer to give a mebibyte than zstd to fill it, so what is done with goes to whoever
//! needs the next.

use std::sync::Mutex;
use std::sync::PoisonError;

/// How many blocks' room is kept: about as many as are at work on a few cores.
const KEPT_MAX: usize = 8;

/// Longer blocks are given back to the system.
const BYTES_MAX: usize = 2 << 20;

static KEPT: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

/// An empty vector with room for `bytes` at least.
#[must_use]
pub fn take(bytes: usize) -> Vec<u8> {
    let kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let mut room = kept.unwrap_or_default();
    room.clear();
    room.reserve_exact(bytes);
    room
}

/// Takes back the room of a block that is done with.
pub fn give_back(block: Vec<u8>) {
    if block.capacity() <= BYTES_MAX {
        let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT_MAX {
            kept.push(block);
        }
    }
}
