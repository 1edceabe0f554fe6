//! A home of its own for each test, and the program in it.

use std::fs;
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;

use expectrl::Expect as _;
use expectrl::session::OsSession;
use serde_json::Value;
use strongroom::seal::pseal;

const PROGRAM: &str = env!("CARGO_BIN_EXE_strongroom");

/// What a run of the program gave.
pub struct Run {
    pub code: i32,
    /// Standard output and error, with what differs from run to run replaced.
    pub out: String,
    pub err: String,
    pub raw: Vec<u8>,
}

impl Run {
    /// The run, if it ended like this.
    #[track_caller]
    pub fn ends(self, code: i32) -> Self {
        assert_eq!(self.code, code, "\n--- out\n{}--- err\n{}", self.out, self.err);
        self
    }

    #[track_caller]
    pub fn says(self, out: &str) -> Self {
        assert_eq!(self.out, out, "--- err\n{}", self.err);
        self
    }

    #[track_caller]
    pub fn complains(self, err: &str) -> Self {
        assert_eq!(self.err, err, "--- out\n{}", self.out);
        self
    }

    /// Each line of standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> Vec<Value> {
        let text = std::str::from_utf8(&self.raw).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// A fresh home.
pub struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    pub fn new() -> Self {
        let bench = Self { folder: tempfile::tempdir().unwrap() };
        fs::create_dir(bench.path("home")).unwrap();
        bench
    }

    /// With a vault that a key file opens.
    pub fn with_vault() -> Self {
        let bench = Self::new();
        bench.run(&["init", "--key-file", "key", "--recovery-code-out", "code"]).ends(0);
        bench
    }

    /// With a vault and two snapshots of a small tree.
    pub fn with_snapshots() -> Self {
        let bench = Self::with_vault();
        bench.write("source/a.txt", b"alpha\n");
        bench.write("source/sub/b.bin", &[7; 100_000]);
        std::os::unix::fs::symlink("a.txt", bench.path("source/link")).unwrap();
        bench.run(&["backup", "source", "--host", "alice", "--tag", "one"]).ends(0);
        bench.write("source/a.txt", b"alpha, changed\n");
        bench.write("source/c.txt", b"new\n");
        fs::remove_file(bench.path("source/link")).unwrap();
        bench.run(&["backup", "source", "--host", "alice", "--tag", "two"]).ends(0);
        bench
    }

    /// Flips a bit in every index of the vault.
    pub fn damage_indexes(&self) {
        let mut waiting = vec![self.path("vault/p")];
        while let Some(path) = waiting.pop() {
            if path.is_dir() {
                waiting.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
                continue;
            }
            let mut bytes = fs::read(&path).unwrap();
            if pseal::peek(&bytes).unwrap().kind == pseal::Kind::Index {
                bytes[2_000] ^= 1;
                fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
                fs::write(&path, bytes).unwrap();
            }
        }
    }

    /// Flips bits in all that is longer than the smallest pack.
    pub fn damage_packs(&self) {
        let vault = self.path("vault");
        for (path, mut bytes) in tree(&vault) {
            if path.starts_with("p") && bytes.len() > 2_000 {
                for byte in &mut bytes[1_500..] {
                    *byte ^= 1;
                }
                let path = vault.join(path);
                fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
                fs::write(path, bytes).unwrap();
            }
        }
    }

    /// A path in the folder of this test, which is also where the program runs.
    pub fn path(&self, below: &str) -> PathBuf {
        self.folder.path().canonicalize().unwrap().join(below)
    }

    pub fn write(&self, below: &str, bytes: &[u8]) {
        let path = self.path(below);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// A file that only this user can read.
    pub fn write_secret(&self, below: &str, bytes: &[u8]) {
        self.write(below, bytes);
        set_mode(&self.path(below), 0o600);
    }

    /// Where the sources are in a snapshot.
    pub fn inner(&self, below: &str) -> String {
        self.path(below).to_str().unwrap().to_owned()
    }

    /// The vault's files but those that tell who did what.
    pub fn but_for_the_log(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut files = tree(&self.path("vault"));
        files.retain(|(path, _)| !path.starts_with("u") && !path.starts_with("2/u"));
        files
    }

    fn command(&self, args: &[&str]) -> Command {
        self.command_of(Path::new(PROGRAM), args)
    }

    fn command_of(&self, program: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(args)
            .current_dir(self.folder.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("TZ", "UTC")
            .env("TERM", "xterm")
            .env("HOME", self.path("home"))
            .env("STRONGROOM_VAULT", self.path("vault"));
        command
    }

    pub fn run(&self, args: &[&str]) -> Run {
        self.run_with(args, &[], b"")
    }

    /// With the key file.
    pub fn keyed(&self, args: &[&str]) -> Run {
        self.run_with(args, &[("STRONGROOM_KEY_FILE", "key")], b"")
    }

    pub fn run_with(&self, args: &[&str], environment: &[(&str, &str)], input: &[u8]) -> Run {
        self.run_command(self.command(args), environment, input)
    }

    /// Run by another user, whose home is `home`, below the folder of this test; only root can do that.
    pub fn run_as(&self, user: u32, home: &str, args: &[&str]) -> Run {
        let (program, home) = (self.path("program"), self.path(home));
        if !program.exists() {
            // Where another user gets at it.
            fs::copy(PROGRAM, &program).unwrap();
            set_mode(&self.path(""), 0o755);
            fs::create_dir(&home).unwrap();
            std::os::unix::fs::chown(&home, Some(user), Some(user)).unwrap();
        }
        let mut command = self.command_of(&program, args);
        std::os::unix::process::CommandExt::uid(&mut command, user);
        std::os::unix::process::CommandExt::gid(&mut command, user);
        self.run_command(command, &[("HOME", home.to_str().unwrap())], b"")
    }

    fn run_command(&self, mut command: Command, environment: &[(&str, &str)], input: &[u8]) -> Run {
        for (name, value) in environment {
            if value.is_empty() {
                command.env_remove(name);
            } else {
                command.env(name, value);
            }
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // Without a terminal of its own, the program can't find this one either.
        let mut child = command.spawn().unwrap();
        // A program that doesn't read its input closes it.
        let _ = child.stdin.take().unwrap().write_all(input);
        let output = child.wait_with_output().unwrap();
        let code = output.status.code().unwrap_or_else(|| 1000 + output.status.signal().unwrap());
        Run {
            code,
            out: self.normal(&String::from_utf8_lossy(&output.stdout)),
            err: self.normal(&String::from_utf8_lossy(&output.stderr)),
            raw: output.stdout,
        }
    }

    /// The program at a terminal of its own.
    pub fn at_terminal(&self, args: &[&str], environment: &[(&str, &str)]) -> Terminal {
        let mut command = self.command(args);
        for (name, value) in environment {
            if value.is_empty() {
                command.env_remove(name);
            } else {
                command.env(name, value);
            }
        }
        let mut session = OsSession::spawn(command).unwrap();
        session.set_expect_timeout(Some(std::time::Duration::from_secs(60)));
        Terminal { session }
    }

    /// Replaces what differs from run to run.
    pub fn normal(&self, text: &str) -> String {
        let text = text.replace(self.path("").to_str().unwrap().trim_end_matches('/'), "DIR");
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let mut normal = String::new();
        for line in text.split_inclusive('\n') {
            let mut words: Vec<String> = Vec::new();
            for word in line.split(' ') {
                let bare = word.trim_matches(|each: char| !each.is_ascii_alphanumeric());
                let replaced = if bare.starts_with("strongroom1:") {
                    "RECEIPT"
                } else if is_hex(bare) {
                    "ID"
                } else if is_base32(bare) {
                    "FINGERPRINT"
                } else if is_date(bare) {
                    "DATE"
                } else if is_clock(bare) {
                    "TIME"
                } else if bare == host {
                    "HOST"
                } else {
                    bare
                };
                words.push(word.replacen(bare, replaced, usize::from(!bare.is_empty())));
            }
            normal.push_str(&words.join(" "));
        }
        normal
    }
}

fn is_hex(word: &str) -> bool {
    [8, 32, 64].contains(&word.len()) && word.bytes().all(|byte| b"0123456789abcdef".contains(&byte))
}

fn is_base32(word: &str) -> bool {
    word.len() == 52 && word.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

fn is_date(word: &str) -> bool {
    word.len() == 10 && word.starts_with("20") && word.matches('-').count() == 2
}

fn is_clock(word: &str) -> bool {
    word.len() == 8 && word.matches(':').count() == 2
}

/// A program at its terminal.
pub struct Terminal {
    session: OsSession,
}

impl Terminal {
    /// Waits for `text` and returns what came before it.
    #[track_caller]
    pub fn sees(&mut self, text: &str) -> String {
        let found = self.session.expect(text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
        String::from_utf8_lossy(found.before()).into_owned()
    }

    pub fn types(&mut self, line: &str) {
        self.session.send_line(line).unwrap();
    }

    /// Sends Ctrl-C.
    pub fn breaks(&mut self) {
        self.session.send("\x03").unwrap();
    }

    /// Waits for the end: all that was said, and the exit code.
    #[track_caller]
    pub fn ends(mut self) -> (String, i32) {
        let rest = self.session.expect(expectrl::Eof).unwrap();
        let text = String::from_utf8_lossy(rest.as_bytes()).into_owned();
        let code = match self.session.get_process().wait().unwrap() {
            expectrl::process::unix::WaitStatus::Exited(_, code) => code,
            expectrl::process::unix::WaitStatus::Signaled(_, signal, _) => 1000 + signal as i32,
            other => panic!("{other:?}"),
        };
        (text, code)
    }
}

pub fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
}

/// All files below a folder with their bytes.
pub fn tree(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(here) = folders.pop() {
        let Ok(entries) = fs::read_dir(&here) else { continue };
        for entry in entries.map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else {
                let bytes = fs::read(entry.path()).unwrap_or_default();
                found.push((entry.path().strip_prefix(folder).unwrap().to_owned(), bytes));
            }
        }
    }
    found.sort();
    found
}
