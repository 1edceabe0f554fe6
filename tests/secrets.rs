//! What was a secret is nowhere in memory once it was dropped. A process of its own, so that there is
//! not much to look through.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, as it should")]

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::FileExt as _;

use strongroom::cli::pages::write_new;
use strongroom::cli::secrets::read_password_fd;
use strongroom::cli::secrets::read_password_file;
use strongroom::cli::secrets::run_password_command;
use zeroize::Zeroize as _;
use zeroize::Zeroizing;

/// Whether the memory of this process holds what `masked` is when each of its bits is turned.
fn memory_holds(masked: &[u8]) -> bool {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let memory = File::open("/proc/self/mem").unwrap();
    // Large enough to come straight from the system, so that no earlier reading is read again.
    let mut bytes = vec![0; 4 << 20];
    for line in maps.lines().filter(|line| line.contains(" rw-p ")) {
        let (start, end) = line.split_once(' ').unwrap().0.split_once('-').unwrap();
        let number = |hex: &str| u64::from_str_radix(hex, 16).unwrap();
        let (mut at, end) = (number(start), number(end));
        while at < end {
            // What was given back meanwhile can't be read.
            let read = memory.read_at(&mut bytes, at).unwrap_or(0);
            if read == 0 {
                break;
            }
            let is_it = |window: &[u8]| window.iter().zip(masked).all(|(byte, turned)| *byte == !turned);
            if bytes[..read].windows(masked.len()).any(is_it) {
                bytes.fill(0);
                return true;
            }
            // What begins in one piece and ends in the next is found in the next.
            at += u64::try_from(read).unwrap();
            at -= if at < end { u64::try_from(masked.len()).unwrap() } else { 0 };
        }
    }
    false
}

/// 24 bytes from the system.
fn drawn() -> [u8; 24] {
    let mut bytes = [0; 24];
    std::io::Read::read_exact(&mut File::open("/dev/urandom").unwrap(), &mut bytes).unwrap();
    bytes
}

#[test]
fn a_passphrase_that_was_read_and_dropped_is_nowhere_in_memory() {
    // Turned, so that this test holds no copy of it. What it stands for is letters and the like.
    let masked: Vec<u8> = drawn().map(|byte| byte & 0x3f | 0x80).to_vec();
    let mut plain: Zeroizing<Vec<u8>> = Zeroizing::new(masked.iter().map(|byte| !byte).collect());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("password");
    write_new(&path, &plain).unwrap();
    plain.zeroize();
    assert!(!memory_holds(&masked), "the test itself has left a copy");

    let secret = read_password_file(&path).unwrap();
    assert!(memory_holds(&masked), "what is in memory is found");
    drop(secret);
    assert!(!memory_holds(&masked), "a file");
    for command in ["cat", "head -c 99"] {
        drop(run_password_command(&format!("{command} {}", path.display())).unwrap());
        assert!(!memory_holds(&masked), "{command}");
    }
    let file = File::open(&path).unwrap();
    drop(read_password_fd(u32::try_from(file.as_raw_fd()).unwrap()).unwrap());
    assert!(!memory_holds(&masked), "a descriptor");
}
