//! A machine's own folder for what it remembers of a vault: device key, pins, caches, journal.
//!
//! Unlike a vault's objects these files are replaced. All are 0600 in a 0700 folder; all but the
//! device key can be lost without losing data.

use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::Read;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::time::SystemTime;

/// A folder of small files that one run at a time may change.
#[derive(Clone, Debug)]
pub struct StateDir {
    path: PathBuf,
    keeps: bool,
}

/// Where what isn't kept is written to.
const NOWHERE: &str = "/dev/null";

/// Held while a run changes the state; ends with the process at the latest.
#[derive(Debug)]
pub struct StateLock {
    _file: File,
}

/// A file being written anew: it takes its name when it is whole. Dropped before that, it goes, lest
/// what couldn't be finished on a full disk keep it full.
pub struct StateWriter {
    file: io::BufWriter<File>,
    /// The one that it has and the one that it will have; none if it isn't kept.
    names: Option<(Temporary, PathBuf)>,
}

/// The name of a file that isn't whole.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // Nothing is there once the file was given its name.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl StateDir {
    /// Names a folder; nothing is made before the first write.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), keeps: true }
    }

    /// A folder that forgets: whatever is written is gone, and there never is anything to read.
    ///
    /// For the device of a sealed file, whose every run has all that it needs in the file.
    #[must_use]
    pub fn forgetful() -> Self {
        Self { path: PathBuf::from(NOWHERE), keeps: false }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder `name` in this one.
    #[must_use]
    pub fn folder(&self, name: &str) -> Self {
        Self { path: self.path.join(name), keeps: self.keeps }
    }

    /// Whether a file is there.
    #[must_use]
    pub fn holds(&self, name: &str) -> bool {
        self.keeps && self.path.join(name).symlink_metadata().is_ok()
    }

    /// All bytes of a file, or nothing if there is no such file.
    ///
    /// # Errors
    /// What the system says; [`io::ErrorKind::FileTooLarge`] beyond `bytes_max`.
    pub fn read(&self, name: &str, bytes_max: u64) -> io::Result<Option<Vec<u8>>> {
        let Some(file) = self.reader(name)? else { return Ok(None) };
        let mut bytes = Vec::new();
        file.take(bytes_max + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > bytes_max {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(Some(bytes))
    }

    /// A file to be read piece by piece, or nothing if there is no such file.
    ///
    /// # Errors
    /// What the system says.
    pub fn reader(&self, name: &str) -> io::Result<Option<File>> {
        if !self.keeps {
            return Ok(None);
        }
        let flags = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
        match OpenOptions::new().read(true).custom_flags(flags).open(self.path.join(name)) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Puts `bytes` in place of whatever the file held, whole or not at all, durably.
    ///
    /// # Errors
    /// What the system says.
    pub fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        if !self.keeps {
            return Ok(());
        }
        let mut writer = self.writer(name)?;
        // Past the buffer, which is not wiped: this may be a device's key.
        writer.file.get_mut().write_all(bytes)?;
        writer.finish()
    }

    /// Begins a file that will take the place of `name` when finished.
    ///
    /// # Errors
    /// What the system says.
    pub fn writer(&self, name: &str) -> io::Result<StateWriter> {
        if !self.keeps {
            return Ok(StateWriter { file: buffered(nowhere()?), names: None });
        }
        self.make()?;
        let temporary = self.path.join(format!("{name}.new"));
        match std::fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        Ok(StateWriter { file: buffered(file), names: Some((Temporary(temporary), self.path.join(name))) })
    }

    /// A file to be written at its end.
    ///
    /// # Errors
    /// What the system says.
    pub fn appender(&self, name: &str) -> io::Result<File> {
        if !self.keeps {
            return nowhere();
        }
        self.make()?;
        let flags = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
        OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags(flags)
            .open(self.path.join(name))
    }

    /// Removes a file, if it is there.
    ///
    /// # Errors
    /// What the system says.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        if !self.keeps {
            return Ok(());
        }
        match std::fs::remove_file(self.path.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }

    /// Removes every file that was last written before `time`.
    ///
    /// # Errors
    /// What the system says.
    pub fn forget_older(&self, time: SystemTime) -> io::Result<()> {
        for name in self.names()? {
            match self.path.join(&name).symlink_metadata() {
                Ok(found) if found.modified()? < time => self.remove(&name)?,
                // Another run may have removed it.
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// The names of all files, sorted.
    ///
    /// # Errors
    /// What the system says.
    pub fn names(&self) -> io::Result<Vec<String>> {
        if !self.keeps {
            return Ok(Vec::new());
        }
        let folder = match std::fs::read_dir(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            result => result?,
        };
        let mut names = Vec::new();
        for entry in folder {
            names.extend(entry?.file_name().into_string());
        }
        names.sort();
        Ok(names)
    }

    /// Takes the folder for this run alone, or nothing if another run holds it.
    ///
    /// # Errors
    /// What the system says.
    pub fn lock(&self) -> io::Result<Option<StateLock>> {
        if !self.keeps {
            return Ok(Some(StateLock { _file: nowhere()? }));
        }
        self.make()?;
        let file = self.appender("lock")?;
        Ok(super::lock::take(&file)?.then_some(StateLock { _file: file }))
    }

    /// Waits until no other run is in here, and keeps others waiting: for as long as it takes to read something,
    /// change it, and write it.
    ///
    /// # Errors
    /// What the system says.
    pub fn alone(&self) -> io::Result<StateLock> {
        let file = self.appender("alone")?;
        match file.lock() {
            // Where nothing can be locked, being quick has to do.
            Err(error) if error.kind() != io::ErrorKind::Unsupported => Err(error),
            _ => Ok(StateLock { _file: file }),
        }
    }

    fn make(&self) -> io::Result<()> {
        super::local::make_folders(&self.path)
    }
}

fn nowhere() -> io::Result<File> {
    OpenOptions::new().append(true).open(NOWHERE)
}

fn buffered(file: File) -> io::BufWriter<File> {
    io::BufWriter::with_capacity(1 << 16, file)
}

impl Write for StateWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl StateWriter {
    /// Makes the file durable and gives it its name.
    ///
    /// # Errors
    /// What the system says; the old file stays then.
    pub fn finish(self) -> io::Result<()> {
        let Some(path) = self.end(true)? else { return Ok(()) };
        // The rename itself must last, or a pin could fall back to its former state.
        match path.parent() {
            Some(folder) => File::open(folder)?.sync_all(),
            None => Ok(()),
        }
    }

    /// Gives the file its name without waiting for the disk: for what costs some time if a power cut takes it, or
    /// leaves a part of it, and nothing else.
    ///
    /// # Errors
    /// As [`StateWriter::finish`].
    pub fn finish_cache(self) -> io::Result<()> {
        self.end(false).map(drop)
    }

    fn end(self, is_durable: bool) -> io::Result<Option<PathBuf>> {
        let file = self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        let Some((temporary, path)) = self.names else { return Ok(None) };
        if is_durable {
            file.sync_all()?;
        }
        std::fs::rename(&temporary.0, &path)?;
        Ok(Some(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_private() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::new(&folder.path().join("deep/er"));
        assert_eq!(state.read("pins", 10).unwrap(), None);
        state.replace("pins", b"one").unwrap();
        state.replace("pins", b"two").unwrap();
        assert_eq!(state.read("pins", 10).unwrap().as_deref(), Some(&b"two"[..]));
        assert!(state.read("pins", 2).is_err());
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(state.path()), 0o700);
        assert_eq!(mode(&state.path().join("pins")), 0o600);
    }

    #[test]
    fn a_file_that_is_not_finished_goes_and_the_old_one_stays() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::new(folder.path());
        state.replace("table", b"old").unwrap();
        let mut writer = state.writer("table").unwrap();
        writer.write_all(b"new").unwrap();
        drop(writer);
        assert_eq!(state.names().unwrap(), ["table"]);
        assert_eq!(state.read("table", 10).unwrap().as_deref(), Some(&b"old"[..]));
    }

    #[test]
    fn what_was_written_before_a_time_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::new(folder.path());
        for name in ["old", "new"] {
            state.replace(name, b"1").unwrap();
        }
        let now = SystemTime::now();
        let day = std::time::Duration::from_secs(86_400);
        let old = File::options().write(true).open(folder.path().join("old")).unwrap();
        old.set_modified(now - 2 * day).unwrap();
        state.forget_older(now - day).unwrap();
        assert_eq!(state.names().unwrap(), ["new"]);
        StateDir::new(&folder.path().join("none")).forget_older(now).unwrap();
    }

    #[test]
    fn a_forgetful_folder_takes_everything_and_gives_nothing() {
        let state = StateDir::forgetful();
        state.replace("pins", b"one").unwrap();
        let mut writer = state.writer("table").unwrap();
        writer.write_all(b"new").unwrap();
        writer.finish().unwrap();
        state.appender("journal").unwrap().write_all(b"pack").unwrap();
        assert_eq!(state.read("pins", 10).unwrap(), None);
        assert!(!state.holds("pins") && state.names().unwrap().is_empty());
        let locks = [state.lock().unwrap(), state.lock().unwrap()];
        assert!(locks.iter().all(Option::is_some));
        state.remove("pins").unwrap();
    }

    #[test]
    fn a_second_run_does_not_get_the_lock() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::new(folder.path());
        let first = state.lock().unwrap();
        assert!(first.is_some());
        assert!(state.lock().unwrap().is_none());
        drop(first);
        assert!(state.lock().unwrap().is_some());
    }
}
