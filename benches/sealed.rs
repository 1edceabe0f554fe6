//! Sealing, sealing again and opening a file on the disk of the temporary folder, beside
//! `tar | zstd -3 -T0 | age` where those are installed, in turn.
//!
//! `cargo bench --bench sealed` prints a row for each kind of data and each step, and the ratio to the pipeline.
//! Sealing again is after one file in a hundred, or the one large file in one place, was changed; the
//! pipeline has nothing like it and does everything anew. Both end when what was written is on the disk:
//! `seal` and `open` sync before they give a name, and the pipeline is followed by `sync -f`. The limits are those of a backup and a restore
//! (`whole`), and to open a file all of it is read twice: once to check every digest, BLAKE3 at 6 GB/s.
//!
//! Each round has a folder of its own, and nothing is removed before the last: ext4 doesn't give an inode away again
//! for minutes after its file was removed, and looks past all of these whenever it makes a file. Where 40,000 files
//! had just been removed, either took up to ten times as long to make 20,000, whichever came to look there. So give
//! it some six minutes after anything else removed many files there.
//!
//! As it stands, the system has most of what is read in memory. With `STRONGROOM_BENCH_COLD=1`, which only root may
//! do, it is told to forget everything before each step.

#![allow(clippy::print_stdout, clippy::unwrap_used, missing_docs, reason = "a bench prints and may panic")]

mod sample;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;
use std::time::Instant;

const PROGRAM: &str = env!("CARGO_BIN_EXE_strongroom");
const ROUNDS: usize = 3;

/// Has the system forget what it has read, if that was asked for.
fn forget_what_was_read() {
    if std::env::var_os("STRONGROOM_BENCH_COLD").is_some() {
        assert!(Command::new("sync").status().unwrap().success());
        fs::write("/proc/sys/vm/drop_caches", "3").expect("only root can have the system forget");
    }
}

/// Runs a line of shell in `folder` and says how long it took.
fn timed(folder: &Path, line: &str) -> f64 {
    forget_what_was_read();
    let begun = Instant::now();
    let status = Command::new("bash")
        .args(["-o", "pipefail", "-c", line])
        .current_dir(folder)
        .env("HOME", folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success(), "{line}");
    begun.elapsed().as_secs_f64()
}

fn is_there(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
}

fn measure(what: &str, make: impl FnOnce(&Path), change: impl Fn(&Path, usize)) {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let source = at.join("data");
    fs::create_dir(&source).unwrap();
    make(&source);
    let has_peer = ["tar", "zstd", "age"].iter().all(|program| is_there(program));
    if has_peer {
        timed(at, "age-keygen -o key");
        timed(at, "grep -o 'age1.*' key > recipient");
    }
    let told = |step: &str, own: f64, peer: f64| {
        println!(
            "{what:<22} {step:<11} {own:>6.2} s  pipeline {peer:>6.2} s  {:>5.2} times as fast",
            peer / own
        );
    };
    for round in 0..ROUNDS {
        let here = at.join(format!("round {round}"));
        fs::create_dir(&here).unwrap();
        let peer = |line: &str| if has_peer { timed(&here, line) } else { f64::NAN };
        let own = |line: &str| timed(&here, &format!("{PROGRAM} {line} --key-file ../own"));
        let tar = "tar cf - -C .. data | zstd -q -3 -T0 | age -R ../recipient > data.age && sync -f data.age";
        let seal = "seal ../data -o data.strongroom";

        let piped = peer(tar);
        told("seal", own(seal), piped);
        let piped = peer(
            "mkdir untarred && age -d -i ../key data.age | zstd -qd | tar xf - -C untarred && sync -f untarred",
        );
        told("open", own("open data.strongroom --target opened"), piped);
        change(&source, round);
        let piped = peer(tar);
        told("seal again", own(seal), piped);
        #[allow(clippy::cast_precision_loss, reason = "megabytes")]
        let mb = |name: &str| fs::metadata(here.join(name)).map_or(f64::NAN, |meta| meta.len() as f64 / 1e6);
        println!("{what:<22} {:>8.1} MB  pipeline {:.1} MB", mb("data.strongroom"), mb("data.age"));
    }
}

fn main() {
    // `cargo test --benches` asks only whether this builds.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    measure(
        "tables, 400 MB",
        |source| {
            for at in 0..8_usize {
                let rows = sample::table_rows(50_000_000 + at);
                fs::write(source.join(format!("table {at}.csv")), &rows[at..]).unwrap();
            }
        },
        |source, round| {
            fs::write(source.join("table 3.csv"), sample::table_rows(50_000_000 + round)).unwrap()
        },
    );
    measure(
        "random, 400 MB",
        |source| {
            let noise = sample::noise(400_000_000);
            for (at, part) in noise.chunks(100_000_000).enumerate() {
                fs::write(source.join(format!("photos {at}.bin")), part).unwrap();
            }
        },
        |source, round| {
            let path = source.join("photos 1.bin");
            let mut bytes = fs::read(&path).unwrap();
            bytes[50_000_000 + round * 4096..][..4096].fill(7);
            fs::write(&path, bytes).unwrap();
        },
    );
    measure(
        "20,000 small, 80 MB",
        |source| {
            for at in 0..20_000_usize {
                let folder = source.join(format!("{}", at / 200));
                fs::create_dir_all(&folder).unwrap();
                fs::write(folder.join(format!("{at}.txt")), &sample::table_rows(4_000 + at)[at..]).unwrap();
            }
        },
        |source, round| {
            for at in (0..20_000_usize).step_by(100) {
                let path = source.join(format!("{}/{at}.txt", at / 200));
                fs::write(path, sample::table_rows(4_000 + round)).unwrap();
            }
        },
    );
}
