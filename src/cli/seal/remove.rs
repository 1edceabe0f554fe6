//! Removing what was sealed, once it is certain that the file has all of it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use crate::cli::failure::Exit;
use crate::cli::failure::Failure;
use crate::cli::open::Context;
use crate::cli::seal::SealArgs;
use crate::cli::seal::name_of;
use crate::cli::seal::taken;
use crate::cli::sealed;
use crate::crypto::random;
use crate::task::seal;
use crate::task::verify::ReadData;
use crate::task::verify::verify_private;
use crate::tree::path::TreePath;
use crate::tree::path::printable;
use crate::vault::LockedVault;
use crate::vault::error::Error;
use crate::vault::read::SnapshotReader;
use crate::vault::slot::Way;

/// Removes what was sealed, once the file on the disk was read, opened and held against it.
///
/// Each source is moved aside first, so that nobody changes it by its name between the comparison and the end.
pub(super) fn remove_sources(
    context: &Context,
    args: &SealArgs,
    file: &Path,
    way: &Way,
) -> Result<(), Failure> {
    let opened = sealed::load(file)?;
    let locked = LockedVault::load_sealed_file(opened)?;
    let bars = context.watched_bars();
    seal::check(&locked, &bars)?;
    let vault = locked.unlock(way)?;
    let report = verify_private(&vault, None, &[], &ReadData::All, &bars)?;
    if let Some(error) = report.findings.into_first() {
        return Err(kept_failure(Error::into(error)));
    }
    let device = vault.log().devices().keys().next().copied().ok_or_else(|| taken(file, "holds nothing"))?;
    let history = Arc::new(vault.locked().history(device)?);
    let snapshot = seal::newest(&vault, &history)?;
    let body = vault.body(&history, snapshot)?;
    let reader = SnapshotReader::new(&vault, Arc::clone(&history), snapshot, body);
    for path in &args.paths {
        let name = TreePath::parse(&name_of(path)?)
            .map_err(|_| Failure::usage("a source without a name can't be removed"))?;
        let real = std::fs::canonicalize(path)
            .map_err(|error| Failure::io(printable(path.as_os_str().as_bytes()), &error))?;
        let aside = aside(&real);
        let shown = printable(path.as_os_str().as_bytes());
        std::fs::rename(&real, &aside)
            .map_err(|error| kept_failure(Failure::io(format!("{shown} can't be moved"), &error)))?;
        if let Err(error) = seal::check_source(&reader, &aside, &name, &bars) {
            let back = std::fs::rename(&aside, &real);
            let failure = kept_failure(error.into());
            return Err(match back {
                Ok(()) => failure,
                Err(_) => {
                    failure.hint(format!("it is now called {}", printable(aside.as_os_str().as_bytes())))
                }
            });
        }
        let removed =
            if aside.is_dir() { std::fs::remove_dir_all(&aside) } else { std::fs::remove_file(&aside) };
        removed.map_err(|error| {
            let aside = printable(aside.as_os_str().as_bytes());
            Failure::io(
                format!("{shown} was sealed, and what is left of it in {aside} can't be removed"),
                &error,
            )
        })?;
    }
    Ok(())
}

fn kept_failure(failure: Failure) -> Failure {
    let message = format!("{}; the file was sealed, and the source stays", failure.message);
    Failure { message, exit: Exit::Refused, ..failure }
}

/// A name beside a source that nobody has.
fn aside(path: &Path) -> PathBuf {
    let chance = data_encoding::HEXLOWER.encode(&random::bytes::<6>());
    let name = path.file_name().map(|name| name.as_bytes().to_vec()).unwrap_or_default();
    let name = [b".", &name[..], b".", chance.as_bytes(), b".removing"].concat();
    path.with_file_name(OsStr::from_bytes(&name))
}
