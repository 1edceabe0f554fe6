//! Secrets that are written once, for people to keep: recovery pages and key files.

use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use zeroize::Zeroizing;

use crate::cli::failure::Exit;
use crate::cli::failure::Failure;
use crate::cli::failure::one_line;
use crate::cli::trusted::shown;
use crate::crypto::secret::Secret;
use crate::crypto::text;
use crate::id::Fingerprint;

/// The page that goes with a recovery code: what it is for, which vault it opens, and the code.
#[must_use]
pub fn recovery_page(place: &str, fingerprint: &Fingerprint, code: &Secret<20>) -> Zeroizing<String> {
    let head = "Whoever has this code can open the vault named below and read all backups in it,\n\
                and, if it is an owner's code, change who else can and what is kept.\n\
                Print this page or copy it by hand, keep it apart from the machine and from the\n\
                vault, and then delete this file.\n\n\
                vault:        ";
    let how = "To get everything back, type the code into a file of its own, which only you can read,\n\
               and run:\n\n    \
               strongroom --vault VAULT --recovery-code-file FILE recover\n\n\
               It lists what there is, offers to restore it, and with an owner's code makes a new one:\n\
               then this one opens nothing any more.\n";
    page(head, place, fingerprint, code, how)
}

/// The same of a sealed file.
#[must_use]
pub fn file_recovery_page(place: &str, fingerprint: &Fingerprint, code: &Secret<20>) -> Zeroizing<String> {
    let head = "Whoever has this code can open the sealed file named below and read all that is in it,\n\
                and, if it is an owner's code, change who else can.\n\
                Print this page or copy it by hand, keep it apart from the machine and from the\n\
                sealed file, and then delete it here.\n\n\
                sealed file:  ";
    let how = "To get back what is in it, type the code into a file CODE, which only you can read, and\n\
               run, with the sealed file in the place of FILE:\n\n    \
               strongroom open FILE --recovery-code-file CODE\n\n\
               The code opens it after that as before.\n";
    page(head, place, fingerprint, code, how)
}

fn page(
    head: &str,
    place: &str,
    fingerprint: &Fingerprint,
    code: &Secret<20>,
    how: &str,
) -> Zeroizing<String> {
    let place = one_line(place);
    let words = text::fingerprint_words(fingerprint);
    let base32 = text::fingerprint_base32(fingerprint);
    let code = text::encode_recovery_code(code);
    let parts = [
        "strongroom recovery code\n\n",
        head,
        &place,
        "\nfingerprint:  ",
        &words,
        "\n              ",
        &base32,
        "\n\nrecovery code:\n\n    ",
        &code,
        "\n\n",
        how,
    ];
    // With its whole room from the start, so that the code is not left behind when it grows.
    let mut page = Zeroizing::new(String::with_capacity(parts.iter().map(|part| part.len()).sum()));
    for part in parts {
        page.push_str(part);
    }
    page
}

/// Makes a key file; never over another file.
///
/// # Errors
/// If it exists or can't be written.
pub fn create_key_file(path: &Path) -> Result<Secret<32>, Failure> {
    let secret = Secret::<32>::generate();
    write_new(path, text::encode_key_file(&secret).as_bytes())?;
    Ok(secret)
}

/// Refuses a file that is there, before anything is asked or made for it.
///
/// # Errors
/// [`Exit::Refused`].
pub fn check_absent(file: &Path) -> Result<(), Failure> {
    if file.symlink_metadata().is_err() {
        return Ok(());
    }
    Err(Failure::new(Exit::Refused, format!("{} exists already", shown(file)))
        .hint("nothing is ever overwritten: name a new file"))
}

/// Writes a secret to a new file that only this user can read, and makes it last.
///
/// # Errors
/// [`Exit::Refused`] if the file exists. If it can't be written, and then nothing is left of it.
pub fn write_new(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(|error| {
            if error.kind() == io::ErrorKind::AlreadyExists {
                Failure::new(
                    Exit::Refused,
                    format!("{} exists already, and a secret is never written over a file", shown(path)),
                )
                .hint("name a file that isn't there yet")
            } else {
                Failure::io(format!("{} could not be made", shown(path)), &error)
            }
        })?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    written.map_err(|error| {
        // It is ours, and half a secret helps nobody.
        let _ = std::fs::remove_file(path);
        Failure::io(format!("{} could not be written", shown(path)), &error)
    })?;
    // The name must survive a power cut too; a file system that can't promise that is no reason to stop.
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let _ = File::open(parent).and_then(|parent| parent.sync_all());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::secrets::read_key_file;
    use crate::cli::secrets::read_recovery_code;
    use std::os::unix::fs::MetadataExt as _;

    fn exit<T>(result: Result<T, Failure>) -> Option<Exit> {
        result.err().map(|failure| failure.exit)
    }

    #[test]
    fn a_key_file_is_only_its_owners_and_never_written_over_another() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let made = create_key_file(&path).unwrap();
        assert_eq!(path.metadata().unwrap().mode() & 0o7777, 0o600);
        assert!(read_key_file(&path).unwrap().expose(|read| made.expose(|made| read == made)));
        assert_eq!(exit(create_key_file(&path)), Some(Exit::Refused));
        assert!(read_key_file(&path).is_ok());
        assert_eq!(exit(create_key_file(&folder.path().join("none/key"))), Some(Exit::Failed));
    }

    #[test]
    fn a_recovery_page_names_what_it_opens_and_its_code_is_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("page");
        let code = Secret::<20>::generate();
        let fingerprint = Fingerprint([7; 32]);
        let of_vault = recovery_page("/srv/x\x1b[2J", &fingerprint, &code);
        assert!(of_vault.contains("vault:        /srv/x\\x1b[2J\n"), "{}", *of_vault);
        let of_file = file_recovery_page("/srv/x\x1b[2J", &fingerprint, &code);
        assert!(of_file.contains("sealed file:  /srv/x\\x1b[2J\n"), "{}", *of_file);
        assert!(!of_file.contains("vault") && !of_file.contains(" recover\n"), "{}", *of_file);
        for page in [of_vault, of_file] {
            assert!(page.contains(&text::fingerprint_words(&fingerprint)));
            assert!(page.lines().all(|line| line.len() <= 100));
            write_new(&path, page.as_bytes()).unwrap();
            assert!(read_recovery_code(&path).unwrap().expose(|read| code.expose(|code| read == code)));
            std::fs::remove_file(&path).unwrap();
        }
    }
}
