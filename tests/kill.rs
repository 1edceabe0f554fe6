//! The real program, killed at many instants: every committed snapshot stays whole, and the next run
//! goes on without sending again what was acknowledged.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, as it should")]

mod harness;

use std::fs;
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
