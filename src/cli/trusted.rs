//! Files that decide what the program does, opened only if nobody else could have written them.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::cli::failure::Exit;
use crate::cli::failure::Failure;
use crate::cli::failure::one_line;

/// What other users may not do with a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kept {
    /// Read or change it: it holds a secret.
    Secret,
    /// Change it: it says what is done.
    Unchanged,
}

/// Opens a file, or a pipe such as a shell's `<(..)`, that is this user's or root's and kept from others.
///
/// # Errors
/// [`Exit::Refused`] if it isn't; [`Exit::Usage`] if it is neither; [`Exit::Failed`] if it can't be opened.
pub fn open(path: &Path, kept: Kept) -> Result<File, Failure> {
    let shown = shown(path);
    let failed = |error: io::Error| Failure::io(format!("{shown} could not be read"), &error);
    let file = File::open(path).map_err(failed)?;
    // Asked of what was opened, so that nobody can put something else there in between.
    let meta = file.metadata().map_err(failed)?;
    if !meta.is_file() && !meta.file_type().is_fifo() {
        return Err(Failure::usage(format!("{shown} is neither a file nor a pipe")));
    }
    if meta.uid() != 0 && meta.uid() != rustix::process::geteuid().as_raw() {
        return Err(Failure::new(Exit::Refused, format!("{shown} belongs to another user")).hint(
            match kept {
                Kept::Secret => "a file with a secret must be yours or root's",
                Kept::Unchanged => "what its owner writes there would hold for you: use a copy of your own",
            },
        ));
    }
    let (rights, can, chmod) = match kept {
        Kept::Secret => (0o077, "can be read or changed by other users", "take their rights away: chmod 600"),
        Kept::Unchanged => (0o022, "can be changed by other users", "take that right away: chmod go-w"),
    };
    if meta.mode() & rights != 0 {
        return Err(
            Failure::new(Exit::Refused, format!("{shown} {can}")).hint(format!("{chmod} {}", quoted(&shown)))
        );
    }
    Ok(file)
}

/// A path as messages show it.
#[must_use]
pub fn shown(path: &Path) -> String {
    one_line(&path.to_string_lossy())
}

/// As a shell takes it, if it has to be quoted.
#[must_use]
pub fn quoted(shown: &str) -> String {
    let is_plain = shown.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-+,:@".contains(&byte));
    if is_plain { shown.to_owned() } else { format!("'{}'", shown.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_others_could_have_written_is_refused_and_how_to_mend_it_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("it's a list");
        fs::write(&path, "*.tmp\n").unwrap();
        for mode in [0o600, 0o644, 0o444, 0o620, 0o602, 0o666] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let opened = open(&path, Kept::Unchanged).err();
            assert_eq!(
                opened.as_ref().map(|failure| failure.exit),
                (mode & 0o022 != 0).then_some(Exit::Refused)
            );
            if let Some(failure) = opened {
                let hint = failure.hint.unwrap();
                assert!(hint.starts_with("take that right away: chmod go-w '/"), "{hint}");
                assert!(hint.ends_with("/it'\\''s a list'"), "{hint}");
            }
            let secret = open(&path, Kept::Secret).err().map(|failure| failure.exit);
            assert_eq!(secret, (mode & 0o077 != 0).then_some(Exit::Refused), "{mode:o}");
        }
        assert_eq!(open(folder.path(), Kept::Unchanged).err().map(|failure| failure.exit), Some(Exit::Usage));
    }
}
