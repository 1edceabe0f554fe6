//! What is looked at of the sources before anything is asked or sealed.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::path::PathBuf;

use crate::cli::args::SecretArgs;
use crate::cli::context::Context;
use crate::cli::failure::Exit;
use crate::cli::failure::Failure;
use crate::cli::seal::SealArgs;
use crate::cli::sealed;
use crate::crypto::random;
use crate::tree::path::printable;
use crate::tree::walk::Source;
use crate::tree::walk::remove;

/// How many digits a source's name gets while it is removed.
const ASIDE_DIGITS: usize = 12;
/// How the name of a source ends while it is removed.
const ASIDE_ENDING: &[u8] = b".removing";

/// Refuses sources that lie in each other, keys that would be sealed with what they open or removed with it, and
/// mounts below what is to be removed.
///
/// # Errors
/// [`Exit::Usage`] or [`Exit::Refused`].
pub(super) fn check(secrets: &SecretArgs, args: &SealArgs) -> Result<(), Failure> {
    let real = args
        .paths
        .iter()
        .map(|path| std::fs::canonicalize(path).map_err(|error| Failure::io(shown(path), &error)));
    let real = real.collect::<Result<Vec<_>, _>>()?;
    for (path, outer) in args.paths.iter().zip(&real) {
        let inside =
            args.paths.iter().zip(&real).find(|(_, inner)| *inner != outer && inner.starts_with(outer));
        if let Some((inside, _)) = inside {
            return Err(Failure::usage(format!("{} is in {} already", shown(inside), shown(path)))
                .hint("name the outer one alone"));
        }
    }
    let secrets = secrets.files();
    let new = args.recovery_code_out.iter().chain(secrets.iter().filter(|file| !is_there(file)));
    for file in new {
        if let Some(path) = holding(file, args, &real) {
            return Err(Failure::new(
                Exit::Refused,
                format!("{} would be made in {}, which it is to open", shown(file), shown(path)),
            )
            .hint("a key that is kept in what it locks is no key: name another place"));
        }
    }
    if !args.remove_source {
        return Ok(());
    }
    if let Some((file, path)) = secrets.iter().find_map(|file| Some((file, holding(file, args, &real)?))) {
        return Err(Failure::new(
            Exit::Refused,
            format!(
                "{} is in {} and would be removed with it: nothing would open the file",
                shown(file),
                shown(path)
            ),
        )
        .hint("move the key to another place first"));
    }
    for (path, real) in args.paths.iter().zip(&real) {
        let looked = Source::load(real)
            .map_err(remove::Error::from)
            .and_then(|found| remove::check_removable(&found, None));
        if let Err(error) = looked {
            return Err(Failure::new(Exit::Refused, format!("{} can't be removed: {error}", shown(path)))
                .hint("unmount it, or seal without `--remove-source`"));
        }
    }
    Ok(())
}

/// Refuses to make the file, what opens it, and what is to be made for it, under one name.
///
/// # Errors
/// [`Exit::Refused`].
pub(super) fn check_apart(secrets: &SecretArgs, args: &SealArgs, file: &Path) -> Result<(), Failure> {
    let keys = secrets.files();
    let page = args.recovery_code_out.as_deref();
    let by_key = |name: &Path| keys.iter().any(|key| place(key) == place(name));
    let twice = if by_key(file) || page.is_some_and(|page| place(page) == place(file)) {
        file
    } else if let Some(page) = page.filter(|page| by_key(page)) {
        page
    } else {
        return Ok(());
    };
    Err(Failure::new(
        Exit::Refused,
        format!("{} is named twice: a file and what opens it each have their own name", shown(twice)),
    )
    .hint("name another place for one of them"))
}

/// Where a file is, or would be.
fn place(file: &Path) -> PathBuf {
    let place = std::fs::canonicalize(file).or_else(|_| {
        let folder = std::fs::canonicalize(sealed::folder_of(file))?;
        Ok::<_, std::io::Error>(folder.join(file.file_name().unwrap_or_default()))
    });
    place.unwrap_or_else(|_| file.to_owned())
}

/// Tells of what runs that were killed while they removed a source have left.
pub(super) fn tell_leftovers(context: &Context, paths: &[PathBuf]) {
    for path in paths {
        let real = std::fs::canonicalize(path).unwrap_or_else(|_| path.clone());
        let Some(name) = real.file_name() else { continue };
        sealed::tell_leftovers(context, &real);
        let folder = sealed::folder_of(&real);
        let Ok(entries) = std::fs::read_dir(folder) else { continue };
        for entry in entries.filter_map(Result::ok).filter(|entry| is_aside(&entry.file_name(), name)) {
            context.warn(&format!(
                "{} is what a `--remove-source` that was cut off has left of {}: look whether the file has all of it, \
                 then delete it or give it its name back",
                shown(&folder.join(entry.file_name())),
                shown(path),
            ));
        }
    }
}

/// A name beside a source that nobody has, for as long as it is being removed.
pub(super) fn aside(path: &Path) -> PathBuf {
    let chance = data_encoding::HEXLOWER.encode(&random::bytes::<{ ASIDE_DIGITS / 2 }>());
    let name = path.file_name().map(|name| name.as_bytes().to_vec()).unwrap_or_default();
    let name = [b".", &name[..], b".", chance.as_bytes(), ASIDE_ENDING].concat();
    path.with_file_name(OsStr::from_bytes(&name))
}

/// Whether [`aside`] gives such a name to a source called `name`.
fn is_aside(found: &OsStr, name: &OsStr) -> bool {
    let digits = found.as_bytes().strip_prefix(b".").and_then(|rest| rest.strip_prefix(name.as_bytes()));
    let digits =
        digits.and_then(|rest| rest.strip_prefix(b".")).and_then(|rest| rest.strip_suffix(ASIDE_ENDING));
    digits.is_some_and(|digits| digits.len() == ASIDE_DIGITS && digits.iter().all(u8::is_ascii_hexdigit))
}

/// The source, as it was given, that a file is in or is.
fn holding<'a>(file: &Path, args: &'a SealArgs, real: &[PathBuf]) -> Option<&'a PathBuf> {
    let place = place(file);
    args.paths.iter().zip(real).find(|(_, real)| place.starts_with(real)).map(|(path, _)| path)
}

fn is_there(file: &Path) -> bool {
    file.symlink_metadata().is_ok()
}

fn shown(path: &Path) -> String {
    printable(path.as_os_str().as_bytes())
}
