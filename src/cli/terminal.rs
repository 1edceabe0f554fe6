//! Questions to a person, and what they type.

use std::io;
use std::io::IsTerminal as _;
use std::io::Write as _;

use zeroize::Zeroizing;

use crate::cli::failure::Exit;
use crate::cli::failure::Failure;
use crate::cli::progress;

/// How often something is asked again before giving up.
pub const TRIES: usize = 3;
/// Room for what is typed, in bytes, from the start.
const PASSPHRASE_BYTES_MAX: usize = 1_024;

/// Whether somebody can be asked.
#[must_use]
pub fn is_there() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks for a line that isn't shown.
///
/// # Errors
/// If the terminal gives none.
pub fn ask_hidden(prompt: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let typed = asking(|| rpassword::prompt_password(prompt))?;
    Ok(Zeroizing::new(typed.into_bytes()))
}

/// Asks for a line that is shown.
///
/// # Errors
/// If the terminal gives none.
pub fn ask_line(prompt: &str) -> Result<String, Failure> {
    ask_shown(prompt).map(|line| line.trim().to_owned())
}

/// The same, for a secret: as it was typed.
///
/// # Errors
/// If the terminal gives none.
pub fn ask_shown(prompt: &str) -> Result<Zeroizing<String>, Failure> {
    let mut line = Zeroizing::new(String::with_capacity(PASSPHRASE_BYTES_MAX));
    let read = asking(|| {
        let mut err = io::stderr();
        err.write_all(prompt.as_bytes())?;
        err.flush()?;
        io::stdin().read_line(&mut line)
    })?;
    if read == 0 {
        return Err(not_typed(&io::ErrorKind::UnexpectedEof.into()));
    }
    Ok(line)
}

/// Puts a question, unless the person has just said that all shall end.
fn asking<T>(ask: impl FnOnce() -> io::Result<T>) -> Result<T, Failure> {
    // Without a handler Ctrl-C would end the program before the terminal shows again what is typed.
    progress::watch_interrupts();
    let answer = progress::while_asking(|| {
        if progress::is_interrupted() { Err(io::ErrorKind::Interrupted.into()) } else { ask() }
    });
    answer.map_err(|error| not_typed(&error))
}

fn not_typed(error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::Interrupted => Failure::new(Exit::Interrupted, "interrupted"),
        io::ErrorKind::UnexpectedEof => Failure::new(Exit::Interrupted, "the input ended before an answer"),
        _ => Failure::io("nothing could be read from the terminal", error),
    }
}

/// Asks a question with yes as its default.
///
/// # Errors
/// If the terminal gives no answer.
pub fn ask_yes(question: &str) -> Result<bool, Failure> {
    for _ in 0..TRIES {
        match ask_line(&format!("{question} [Y/n] "))?.to_ascii_lowercase().as_str() {
            "" | "y" | "yes" => return Ok(true),
            "n" | "no" => return Ok(false),
            _ => tell("Please answer y or n."),
        }
    }
    Ok(false)
}

/// Says something.
pub fn tell(text: &str) {
    // If the terminal is gone, so is whoever would read this.
    let _ = writeln!(io::stderr(), "{text}");
}

/// Shows a secret by itself, indented, without a copy of it in between.
pub fn show(secret: &str) {
    let mut err = io::stderr().lock();
    let lines: [&[u8]; 3] = [b"\n    ", secret.as_bytes(), b"\n\n"];
    for part in lines {
        // As in `tell`.
        let _ = err.write_all(part);
    }
}
