//! Sealing again puts a folder in the place of what the file holds: what goes by that is told first, and much of it
//! goes only if that is what was meant.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use crate::cli::context::Context;
use crate::cli::diff::plural;
use crate::cli::failure::Exit;
use crate::cli::failure::Failure;
use crate::cli::seal::SealArgs;
use crate::cli::sealed::FIRST_PART;
use crate::cli::sealed::with_ending;
use crate::cli::terminal;
use crate::task::lost::Lost;
use crate::tree::path::printable;

/// Tells what goes, and asks if it is most of what the file holds.
///
/// # Errors
/// [`Exit::Refused`] if it is, and neither `--replace` nor a person says that it may go.
pub(super) fn check(context: &Context, may_replace: bool, file: &Path, lost: &Lost) -> Result<(), Failure> {
    if lost.files == 0 {
        return Ok(());
    }
    let shown = printable(file.as_os_str().as_bytes());
    let mut named = lost.named.iter().map(|path| printable(path.as_bytes())).collect::<Vec<_>>().join(", ");
    if lost.files > lost.named.len() as u64 {
        named.push_str(", ...");
    }
    let files = plural(lost.before, "file", "files");
    let told = match lost.files {
        _ if lost.before == 1 => format!("the 1 file in {shown} is not in what is sealed now"),
        all if all >= lost.before => format!("none of the {files} in {shown} is in what is sealed now"),
        1 => format!("1 of the {files} in {shown} is not in what is sealed now"),
        some => format!("{some} of the {files} in {shown} are not in what is sealed now"),
    };
    if may_replace || !lost.is_most() {
        context.note(&format!("{told}, and will no longer be in it: {named}"));
        return Ok(());
    }
    if terminal::is_there() && !context.output.json {
        terminal::tell(&format!("{told}: {named}"));
        let answer = terminal::ask_line("Type yes to seal all the same, and lose them: ")?;
        if answer.eq_ignore_ascii_case("yes") {
            return Ok(());
        }
    }
    Err(Failure::new(Exit::Refused, format!("{told}: {named}; the file stays as it is")).hint(
        "is this the right folder, and the drive mounted? `strongroom open FILE --target DIR` opens what the \
         file holds; `--replace` seals this in its place",
    ))
}

/// Refuses to make a whole file beside parts of an older one: of both, the whole one would be read.
///
/// # Errors
/// [`Exit::Refused`].
pub(super) fn check_parts(args: &SealArgs, file: &Path) -> Result<(), Failure> {
    let first = with_ending(file, FIRST_PART);
    if args.split.is_some() || file.symlink_metadata().is_ok() || first.symlink_metadata().is_err() {
        return Ok(());
    }
    let shown = printable(first.as_os_str().as_bytes());
    Err(Failure::new(Exit::Refused, format!("{shown} is a part of another file"))
        .hint("move all parts away, or give `--split` to write new ones in their place"))
}
