//! Removing what was sealed, once it is certain that the file has all of it.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use crate::cli::context::Context;
use crate::cli::diff::plural;
use crate::cli::failure::Exit;
use crate::cli::failure::Failure;
use crate::cli::seal::SealArgs;
use crate::cli::seal::name_of;
use crate::cli::seal::sources::aside;
use crate::cli::seal::taken;
use crate::cli::sealed;
use crate::store;
use crate::task::error::Error;
use crate::task::seal;
use crate::task::verify::ReadData;
use crate::task::verify::verify_private;
use crate::tree::entry::Time;
use crate::tree::path::TreePath;
use crate::tree::path::printable;
use crate::tree::walk::Source;
use crate::tree::walk::remove;
use crate::vault::LockedVault;
use crate::vault::slot::Way;

/// How far the clock by which a kernel sets the time of a change may lag: twice the longest of its ticks.
const TICK: Duration = Duration::from_millis(20);
/// How far that of a file system may lag that counts whole seconds, or two.
const WHOLE_SECONDS: Duration = Duration::from_millis(2_100);

/// A source that was moved aside, so that nobody changes it by its name between the comparison and the end.
struct Aside<'a> {
    /// As it was given.
    path: &'a Path,
    /// What it is called in the file.
    name: Vec<u8>,
    real: PathBuf,
    aside: PathBuf,
    source: Source,
    /// When it was moved, by its file system's own clock: what is newer was not compared.
    since: Time,
}

/// Removes what was sealed, once the file on the disk was read, opened and held against it.
///
/// All sources are compared before any is removed.
///
/// # Errors
/// [`Exit::Refused`] if something is not in the file as it is on the disk, or can't be removed: the message says
/// what went and what stays. What reading the file says.
pub(super) fn remove_sources(
    context: &Context,
    args: &SealArgs,
    file: &Path,
    way: &Way,
) -> Result<(), Failure> {
    // What the disk has is to be read back, not what is still in memory.
    store::forget_cached(file);
    let opened = sealed::load(file)?;
    let locked = LockedVault::load_sealed_file(opened)?;
    let bars = context.watched_bars();
    seal::check(&locked, &bars).map_err(|error| kept(error.into()))?;
    let vault = locked.unlock(way)?;
    let report = verify_private(&vault, None, &[], &ReadData::All, &bars)?;
    if let Some(problem) = report.findings.into_first() {
        return Err(kept(Error::from(problem).into()));
    }
    let reader = seal::reader(&vault)?.ok_or_else(|| taken(file, "holds nothing"))?;

    let mut moved = Vec::new();
    let compared = move_aside(args, &mut moved).and_then(|()| {
        for each in &moved {
            let name = TreePath::parse(&each.name)
                .map_err(|_| Failure::usage("a source without a name can't be removed"))?;
            seal::check_source(&reader, &each.aside, &name, &bars)?;
        }
        for each in &moved {
            remove::check_removable(&each.source, Some(each.since)).map_err(refused)?;
        }
        Ok(())
    });
    if let Err(failure) = compared {
        return Err(put_back(&moved, kept(failure)));
    }
    for (at, each) in moved.iter().enumerate() {
        let (removed, ended) = remove::remove(&each.source, each.since);
        if let Err(error) = ended {
            let went = plural(removed, "entry", "entries");
            let before = match at {
                0 => String::new(),
                _ => format!("{} removed; ", plural(at as u64, "source was", "sources were")),
            };
            let failure = refused(error);
            let message = format!(
                "{}; the file was sealed and holds everything; {before}{went} of {} went, and the rest stays",
                failure.message,
                shown(each.path)
            );
            return Err(put_back(&moved[at..], Failure { message, ..failure }));
        }
    }
    Ok(())
}

/// Gives every source another name, and waits until whatever happens to them is seen to be later.
fn move_aside<'a>(args: &'a SealArgs, moved: &mut Vec<Aside<'a>>) -> Result<(), Failure> {
    let mut wait = TICK;
    for path in &args.paths {
        let name = name_of(path)?;
        let real = std::fs::canonicalize(path).map_err(|error| Failure::io(shown(path), &error))?;
        let aside = aside(&real);
        std::fs::rename(&real, &aside)
            .map_err(|error| Failure::io(format!("{} can't be moved", shown(path)), &error))?;
        let found = Source::load(&aside).and_then(|source| Ok((source.examine()?, source)));
        let (stat, source) = match found {
            Ok(found) => found,
            Err(error) => {
                let _ = std::fs::rename(&aside, &real);
                return Err(error.into());
            }
        };
        if stat.changed.nanos == 0 {
            wait = WHOLE_SECONDS;
        }
        moved.push(Aside { path, name, real, aside, source, since: stat.changed });
    }
    std::thread::sleep(wait);
    Ok(())
}

/// Gives the sources their names back.
fn put_back(moved: &[Aside<'_>], failure: Failure) -> Failure {
    let mut elsewhere = Vec::new();
    for each in moved {
        let is_free = each.real.symlink_metadata().is_err();
        if !is_free || std::fs::rename(&each.aside, &each.real).is_err() {
            elsewhere.push(format!("{} is now called {}", shown(each.path), shown(&each.aside)));
        }
    }
    if elsewhere.is_empty() { failure } else { failure.hint(elsewhere.join("; ")) }
}

fn refused(error: remove::Error) -> Failure {
    match std::error::Error::source(&error) {
        Some(source) => Failure::new(Exit::Refused, format!("{error}: {source}")),
        None => Failure::new(Exit::Refused, error.to_string()),
    }
}

fn kept(failure: Failure) -> Failure {
    let message = format!("{}; the file was sealed, and the source stays", failure.message);
    if failure.exit == Exit::Interrupted {
        return Failure::new(Exit::Interrupted, message)
            .hint("the same command seals what changed since, and removes the source");
    }
    Failure { message, exit: Exit::Refused, ..failure }
}

fn shown(path: &Path) -> String {
    printable(path.as_os_str().as_bytes())
}
