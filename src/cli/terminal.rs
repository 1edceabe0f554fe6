//! Questions to a person, and what they type: read without a buffer in between, into memory that is
//! wiped.

use std::io;
use std::io::IsTerminal as _;
use std::io::Read;
use std::io::Write as _;

use rustix::termios::LocalModes;
use rustix::termios::OptionalActions;
use rustix::termios::Termios;
use rustix::termios::tcgetattr;
use rustix::termios::tcsetattr;

use crate::cli::failure::Exit;
use crate::cli::failure::Failure;
use crate::cli::progress;
use crate::crypto::secret::SecretBytes;

/// How often something is asked again before giving up.
pub const TRIES: usize = 3;
/// The longest line that a terminal hands over, with its end.
///
/// Source: `N_TTY_BUF_SIZE`, Linux `drivers/tty/n_tty.c`; termios(3), "Canonical and noncanonical mode".
const LINE_BYTES_MAX: usize = 4_096;

/// Standard input without the buffer that the standard library keeps of it and never wipes.
pub struct Input;

impl Read for Input {
    fn read(&mut self, place: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::read(rustix::stdio::stdin(), place)?)
    }
}

/// Whether somebody can be asked.
#[must_use]
pub fn is_there() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks for a line that isn't shown while it is typed.
///
/// # Errors
/// If the terminal gives none.
pub fn ask_hidden(prompt: &str) -> Result<SecretBytes, Failure> {
    asking(|| {
        // Before the prompt: whoever answers it fast is not shown either.
        let _hidden = Hidden::begin()?;
        prompted_line(prompt)
    })
}

/// Asks for a line that is shown while it is typed, and is a secret all the same.
///
/// # Errors
/// If the terminal gives none.
pub fn ask_shown(prompt: &str) -> Result<SecretBytes, Failure> {
    asking(|| prompted_line(prompt))
}

/// Asks for a line that is no secret.
///
/// # Errors
/// If the terminal gives none.
pub fn ask_line(prompt: &str) -> Result<String, Failure> {
    let line = ask_shown(prompt)?;
    Ok(line.expose(|line| String::from_utf8_lossy(line).trim().to_owned()))
}

/// Asks a question with yes as its default.
///
/// # Errors
/// If the terminal gives no answer.
pub fn ask_yes(question: &str) -> Result<bool, Failure> {
    for _ in 0..TRIES {
        let answer = ask_shown(&format!("{question} [Y/n] "))?;
        let answer = answer.expose(|answer| answer.trim_ascii().to_ascii_lowercase());
        match answer.as_slice() {
            b"" | b"y" | b"yes" => return Ok(true),
            b"n" | b"no" => return Ok(false),
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

/// Hides what is typed until it is dropped; line ends stay visible.
struct Hidden(Termios);

impl Hidden {
    fn begin() -> io::Result<Self> {
        let before = tcgetattr(rustix::stdio::stdin())?;
        let mut hidden = before.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        hidden.local_modes.insert(LocalModes::ECHONL);
        tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &hidden)?;
        Ok(Self(before))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        // A terminal that is gone shows nothing any more.
        let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &self.0);
    }
}

fn prompted_line(prompt: &str) -> io::Result<SecretBytes> {
    let mut err = io::stderr();
    err.write_all(prompt.as_bytes())?;
    err.flush()?;
    read_line(&mut Input)
}

/// One line without its end. What a terminal hands over at once is never more than that.
fn read_line(input: &mut impl Read) -> io::Result<SecretBytes> {
    let mut line = SecretBytes::filled(LINE_BYTES_MAX, |_| {});
    let mut length = 0;
    loop {
        let read = line.expose_mut(|line| read_some(input, &mut line[length..]))?;
        if read == 0 && length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        length += read;
        let is_whole = line.expose(|line| line[..length].ends_with(b"\n"));
        if is_whole || read == 0 {
            let end = length - usize::from(is_whole);
            return Ok(line.expose(|line| SecretBytes::from_slice(&line[..end])));
        }
        if length == LINE_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the line is too long"));
        }
    }
}

/// All that `input` gives, or nothing if that is over `bytes_max`.
///
/// # Errors
/// Those of `input`.
pub fn read_to_end(input: &mut impl Read, bytes_max: usize) -> io::Result<Option<SecretBytes>> {
    // With its whole room from the start, so that no part is left behind when it grows.
    let mut bytes = SecretBytes::filled(bytes_max + 1, |_| {});
    let mut length = 0;
    while length <= bytes_max {
        match bytes.expose_mut(|bytes| read_some(input, &mut bytes[length..]))? {
            0 => return Ok(Some(bytes.expose(|bytes| SecretBytes::from_slice(&bytes[..length])))),
            more => length += more,
        }
    }
    Ok(None)
}

fn read_some(input: &mut impl Read, place: &mut [u8]) -> io::Result<usize> {
    loop {
        match input.read(place) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives its pieces one by one, as a terminal does its lines.
    struct Pieces(Vec<&'static [u8]>);

    impl Read for Pieces {
        fn read(&mut self, place: &mut [u8]) -> io::Result<usize> {
            if self.0.is_empty() {
                return Ok(0);
            }
            let piece = self.0.remove(0);
            place[..piece.len()].copy_from_slice(piece);
            Ok(piece.len())
        }
    }

    fn line(pieces: &[&'static [u8]]) -> io::Result<Vec<u8>> {
        read_line(&mut Pieces(pieces.to_vec())).map(|line| line.expose(<[u8]>::to_vec))
    }

    #[test]
    fn a_line_ends_at_its_end_or_where_the_input_does() {
        assert_eq!(line(&[b"secret\n", b"the next\n"]).unwrap(), b"secret");
        assert_eq!(line(&[b"sec", b"ret\n"]).unwrap(), b"secret");
        assert_eq!(line(&[b"\n"]).unwrap(), b"");
        assert_eq!(line(&[b"secret"]).unwrap(), b"secret");
        assert_eq!(line(&[]).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(line(&[&[b'x'; LINE_BYTES_MAX]]).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn no_more_is_taken_than_was_asked_for() {
        let read = |bytes: &[u8]| {
            let read = read_to_end(&mut &bytes[..], 4).unwrap();
            read.map(|read| read.expose(<[u8]>::to_vec))
        };
        assert_eq!(read(b""), Some(Vec::new()));
        assert_eq!(read(b"1234"), Some(b"1234".to_vec()));
        assert_eq!(read(b"12345"), None);
    }
}
