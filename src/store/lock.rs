//! Files that one run at a time holds.

use std::fs::File;
use std::fs::TryLockError;
use std::io;
use std::thread;
use std::time::Duration;

/// How often a lock that somebody holds is tried again.
const TRIES: u32 = 6;
/// How long it takes from one try to the next.
const BETWEEN: Duration = Duration::from_millis(20);

/// Locks a file for this run alone; false if another one holds it.
///
/// A run that was killed, or a child of another thread that hasn't come to execute its program, holds a lock a
/// moment longer than anybody is at work. So it is tried for a tenth of a second.
pub(super) fn take(file: &File) -> io::Result<bool> {
    for turn in 1..=TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if turn < TRIES => thread::sleep(BETWEEN),
            Err(TryLockError::WouldBlock) => {}
        }
    }
    Ok(false)
}
