//! Keys and pages that are written before there is the file that they open: it could be whole, and nobody open it.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::path::PathBuf;

use crate::cli::failure::Exit;
use crate::cli::failure::Failure;
use crate::cli::pages;
use crate::cli::seal::Output;
use crate::cli::sealed;
use crate::crypto::secret::Secret;
use crate::crypto::text;
use crate::id::Fingerprint;
use crate::tree::path::printable;
use crate::vault::authority::Log;

/// What was written for a new file.
#[derive(Default)]
pub(super) struct Written {
    pub(super) key_file: Option<PathBuf>,
    pub(super) page: Option<PathBuf>,
}

impl Written {
    /// Writes a key file that isn't there.
    pub(super) fn key_file(&mut self, path: &Path, secret: &Secret<32>) -> Result<(), Failure> {
        pages::write_new(path, text::encode_key_file(secret).as_bytes())?;
        self.key_file = Some(path.to_owned());
        Ok(())
    }

    /// Writes the page of a recovery code.
    pub(super) fn page(
        &mut self,
        path: &Path,
        output: &Output,
        fingerprint: &Fingerprint,
        code: &Secret<20>,
    ) -> Result<(), Failure> {
        let place = match output {
            Output::File(file) => file.to_string_lossy().into_owned(),
            Output::Pipe => "a sealed file".to_owned(),
        };
        pages::write_new(path, pages::file_recovery_page(&place, fingerprint, code).as_bytes())?;
        self.page = Some(path.to_owned());
        Ok(())
    }

    /// Removes what was written, as sealing failed and it opens nothing. If the file may be there all the same,
    /// it stays and is named.
    pub(super) fn take_back(self, output: &Output, fingerprint: &Fingerprint, failure: Failure) -> Failure {
        let files: Vec<PathBuf> = self.key_file.into_iter().chain(self.page).collect();
        if files.is_empty() {
            return failure;
        }
        if !may_be_there(output, fingerprint) {
            // One that stays is refused by name when the command is run again.
            files.iter().for_each(|file| drop(std::fs::remove_file(file)));
            return failure;
        }
        let files: Vec<String> = files.iter().map(|file| shown(file)).collect();
        let kept =
            format!("if the file is whole all the same, it opens with what was made: {}", files.join(", "));
        let hint = failure.hint.as_deref().map_or_else(|| kept.clone(), |hint| format!("{hint}; {kept}"));
        failure.hint(hint)
    }
}

/// Whether a file with this fingerprint may have come to its place.
fn may_be_there(output: &Output, fingerprint: &Fingerprint) -> bool {
    // Nobody can tell what came of it at the other end of a pipe.
    let Output::File(file) = output else { return true };
    match sealed::load(file) {
        Ok(found) => Log::find_fingerprint(&*found).is_ok_and(|found| found == *fingerprint),
        Err(failure) => failure.exit != Exit::NoVault,
    }
}

fn shown(path: &Path) -> String {
    printable(path.as_os_str().as_bytes())
}
