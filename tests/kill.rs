//! The real program, killed at many instants: every committed snapshot stays whole, and the next run
//! goes on without sending again what was acknowledged.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, as it should")]

mod harness;

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;

use harness::noise;

fn program(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_strongroom"));
    command.env_clear().env("HOME", home).env("PATH", "/usr/bin:/bin").stdin(Stdio::null());
    command.arg("--vault").arg(home.join("vault")).args(["--json", "--key-file"]).arg(home.join("key"));
    command
}

fn ends_well(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{:?}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    output
}

/// The last line of what a run said.
fn summary(output: &Output) -> serde_json::Value {
    serde_json::from_slice(output.stdout.split(|byte| *byte == b'\n').rfind(|line| !line.is_empty()).unwrap())
        .unwrap()
}

/// The lengths of the packs that stand whole in the vault. Indexes and bodies are far shorter here.
fn packs(home: &Path) -> Vec<u64> {
    let mut folders = vec![home.join("vault/p")];
    let mut lengths = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let about = entry.metadata().unwrap();
            if about.is_dir() {
                folders.push(entry.path());
            } else if entry.file_name().len() == 62 && about.len() > 1 << 20 {
                lengths.push(about.len());
            }
        }
    }
    lengths
}

fn backup_stream(home: &Path, bytes: &[u8]) -> serde_json::Value {
    let mut command = program(home);
    command.args(["backup", "--stdin"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut running = command.spawn().unwrap();
    running.stdin.take().unwrap().write_all(bytes).unwrap();
    let output = running.wait_with_output().unwrap();
    assert!(output.status.success());
    summary(&output)
}

fn snapshots(home: &Path) -> usize {
    let output = ends_well(program(home).arg("snapshots"));
    String::from_utf8(output.stdout).unwrap().matches("\"short_id\"").count()
}

/// How many files there are below a folder, those being written among them.
fn objects(folder: &Path) -> usize {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    entries.flatten().map(|entry| if entry.path().is_dir() { objects(&entry.path()) } else { 1 }).sum()
}

#[test]
fn a_backup_killed_at_any_instant_leaves_every_snapshot_whole_and_the_next_one_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path();
    let source = home.join("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("first"), noise(1, 200_000)).unwrap();
    let code = home.join("code");
    ends_well(program(home).args(["backup", "--init", "--recovery-code-out"]).arg(&code).arg(&source));
    let mut before = snapshots(home);
    assert_eq!(before, 1);
    for round in 0..12_u64 {
        for file in 0..6 {
            let seed = 100 + round * 10 + file;
            fs::write(source.join(format!("file {file}")), noise(seed, 7_000_000)).unwrap();
        }
        let mut running = program(home)
            .arg("backup")
            .arg(&source)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Each round ends when one object more is in the vault than in the round before it.
        let wanted = objects(&home.join("vault")) + usize::try_from(round / 2).unwrap();
        while objects(&home.join("vault")) < wanted && running.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        running.kill().unwrap();
        running.wait().unwrap();

        let now = snapshots(home);
        assert!(now == before || now == before + 1, "round {round}: {before} and then {now}");
        before = now;
        ends_well(program(home).args(["verify", "--read-all"]));
    }
    ends_well(program(home).arg("backup").arg(&source));
    let target = home.join("restored");
    let subpath = format!("latest:{}", source.canonicalize().unwrap().display());
    ends_well(program(home).arg("restore").arg(subpath).arg("--target").arg(&target));
    for file in 0..6 {
        let name = format!("file {file}");
        assert!(fs::read(source.join(&name)).unwrap() == fs::read(target.join(&name)).unwrap(), "{name}");
    }
}

#[test]
fn an_init_killed_at_any_object_can_be_run_again_and_the_vault_is_whole() {
    let mut finished = 0;
    for wanted in 0..24 {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path();
        let vault = home.join("vault");
        let mut running = program(home)
            .args(["init", "--without-recovery-code"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        while objects(&vault) < wanted && running.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        running.kill().unwrap();
        running.wait().unwrap();
        // What a file manager leaves where it has looked.
        if vault.join("README.txt").exists() {
            fs::write(vault.join(".DS_Store"), "x").unwrap();
        }
        let again = program(home).args(["init", "--without-recovery-code"]).output().unwrap();
        let text = String::from_utf8_lossy(&again.stderr).into_owned();
        match again.status.code() {
            Some(0) => {}
            // It got as far as its device: then it is finished, and must be as good as any.
            Some(26) if text.contains("there is a vault in") => finished += 1,
            other => panic!("{wanted}: {other:?}\n{text}"),
        }
        fs::write(home.join("file"), "x").unwrap();
        ends_well(program(home).arg("backup").arg(home.join("file")));
        ends_well(program(home).args(["verify", "--read-all"]));
        assert_eq!(snapshots(home), 1);
    }
    assert!(finished > 0, "at the end the program had finished before it was killed");
}

#[test]
fn what_was_acknowledged_before_a_kill_is_never_sent_again() {
    /// A pack of data that doesn't compress, with its padding.
    const PACK_BYTES: u64 = 10 << 20;
    let bytes = noise(7, 60_000_000);
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [whole, cut] = folders.each_ref().map(|folder| folder.path());
    for home in [whole, cut] {
        ends_well(program(home).args(["init", "--recovery-code-out"]).arg(home.join("code")));
    }
    let number = |summary: &serde_json::Value, name: &str| summary[name].as_u64().unwrap();
    let uninterrupted = number(&backup_stream(whole, &bytes), "data_added_packed");
    assert!(uninterrupted > 60_000_000);

    for (given, packs_wanted) in [(25_000_000, 1), (45_000_000, 3)] {
        // The program waits for what this pipe doesn't give, until it is killed.
        let mut command = program(cut);
        command.args(["backup", "--stdin"]).stdin(Stdio::piped()).stdout(Stdio::null());
        let mut running = command.spawn().unwrap();
        let mut pipe = running.stdin.take().unwrap();
        pipe.write_all(&bytes[..given]).unwrap();
        while packs(cut).len() < packs_wanted {
            std::thread::yield_now();
            assert!(running.try_wait().unwrap().is_none(), "it ended by itself");
        }
        running.kill().unwrap();
        running.wait().unwrap();
    }
    assert_eq!(snapshots(cut), 0);
    let (acknowledged, sent) = (packs(cut).len() as u64, packs(cut).iter().sum::<u64>());
    assert!((3..=5).contains(&acknowledged), "{acknowledged}");

    let next = backup_stream(cut, &bytes);
    let report = summary(&ends_well(program(cut).args(["verify", "--read-all"])));
    // Of each run that was killed, one pack may have been put and not written down.
    let (resumed, strays) = (number(&next, "resumed_packs"), number(&report, "stray_objects"));
    assert!(strays <= 2, "{report}");
    assert_eq!(resumed + strays, acknowledged, "{next} {report}");
    let all = sent + number(&next, "data_added_packed") - number(&report, "stray_bytes");
    assert!(all.abs_diff(uninterrupted) < PACK_BYTES, "{all} and {uninterrupted}");
    ends_well(program(cut).args(["dump", "latest", "stdin", "--target"]).arg(cut.join("dumped")));
    assert!(fs::read(cut.join("dumped")).unwrap() == bytes);
}
