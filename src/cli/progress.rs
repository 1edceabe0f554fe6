//! What the library tells of its work: bars on standard error for a person, JSON lines for a program.

use std::io;
use std::io::IsTerminal as _;
use std::io::Write as _;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use indicatif::ProgressBar;
use indicatif::ProgressDrawTarget;
use indicatif::ProgressStyle;
use rustix::termios::OptionalActions;
use rustix::termios::Termios;
use rustix::termios::tcgetattr;
use rustix::termios::tcsetattr;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use crate::cli::args::OutputArgs;
use crate::cli::failure::one_line;
use crate::cli::render;
use crate::observe::Event;
use crate::observe::Observer;
use crate::observe::Phase;
use crate::tree::path::printable;

/// Set once the person has pressed Ctrl-C.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);
/// Set while a question waits for its answer, and nothing has to be ended in order.
static ASKING: AtomicBool = AtomicBool::new(false);
/// How the terminal was set before the question, which may be asked without showing what is typed.
static TERMINAL: Mutex<Option<Termios>> = Mutex::new(None);
/// The longest part of a path that is shown while it is worked on; the terminal's width cuts it further.
const SHOWN_CHARACTERS: usize = 50;
/// Work that is done by then needs no bar.
const SHOWN_AFTER: Duration = Duration::from_secs(1);
/// How often a bar is drawn again while nothing is told.
const TURN: Duration = Duration::from_millis(120);
/// How long a program waits for the next line about how far the work is.
const STATUS_EVERY: Duration = Duration::from_millis(500);
/// The exit code of what Ctrl-C ended.
const INTERRUPTED_CODE: i32 = 130;

/// Makes Ctrl-C, or a request to terminate, end the work in order; the second time it ends at once.
///
/// To call it again changes nothing.
pub fn watch_interrupts() {
    let handler = || {
        if INTERRUPTED.swap(true, Ordering::SeqCst) || ASKING.load(Ordering::SeqCst) {
            restore_terminal();
            std::process::exit(INTERRUPTED_CODE);
        }
    };
    // Where no handler can be set, Ctrl-C just ends the program: the vault is sound at any instant.
    let _ = ctrlc::set_handler(handler);
}

/// Whether the person has pressed Ctrl-C.
#[must_use]
pub fn is_interrupted() -> bool {
    INTERRUPTED.load(Ordering::SeqCst)
}

/// Waits for an answer with `ask`; Ctrl-C ends the program at once meanwhile, and leaves the terminal as
/// it was.
pub fn while_asking<T>(ask: impl FnOnce() -> T) -> T {
    let before = tcgetattr(rustix::stdio::stdin());
    *TERMINAL.lock().unwrap_or_else(PoisonError::into_inner) = before.ok();
    ASKING.store(true, Ordering::SeqCst);
    let answer = ask();
    ASKING.store(false, Ordering::SeqCst);
    answer
}

fn restore_terminal() {
    let before = TERMINAL.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(before) = &*before {
        // The program ends here; nobody could be told.
        let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, before);
    }
}

/// Draws what a task tells, or writes it as JSON, or is silent where that is wanted.
pub struct Bars {
    bar: ProgressBar,
    began: Instant,
    /// Whether there is to be a bar once the work has taken [`SHOWN_AFTER`].
    drawn: bool,
    is_drawn: AtomicBool,
    json: bool,
    /// Whether a program is told how far the work is.
    status: bool,
    quiet: bool,
    every_entry: bool,
    items: AtomicU64,
    bytes: AtomicU64,
    items_total: AtomicU64,
    bytes_total: AtomicU64,
    stored: AtomicU64,
    now: Mutex<Now>,
}

/// What the work is at.
struct Now {
    phase: Option<Phase>,
    entry: Vec<u8>,
    told: Instant,
}

/// Turns until it is dropped.
pub struct Spinner(ProgressBar);

impl Drop for Spinner {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

impl Bars {
    /// Bars as the options want them: none without a terminal.
    #[must_use]
    pub fn new(output: &OutputArgs) -> Self {
        let wanted = !output.quiet && !output.no_progress;
        let began = Instant::now();
        Self {
            bar: ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden()),
            began,
            drawn: wanted && !output.json && io::stderr().is_terminal(),
            is_drawn: AtomicBool::new(false),
            json: output.json,
            status: wanted && output.json,
            quiet: output.quiet,
            every_entry: output.verbose > 1,
            items: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            items_total: AtomicU64::new(0),
            bytes_total: AtomicU64::new(0),
            stored: AtomicU64::new(0),
            now: Mutex::new(Now { phase: None, entry: Vec::new(), told: began }),
        }
    }

    /// Something that turns while `what` takes its time.
    #[must_use]
    pub fn spinner(&self, what: &str) -> Spinner {
        self.bar.reset();
        self.bar.set_style(style("{spinner} {msg}"));
        self.bar.set_message(one_line(what));
        self.draw();
        Spinner(self.bar.clone())
    }

    /// Takes the bar away, before the last lines are printed.
    pub fn clear(&self) {
        self.bar.finish_and_clear();
    }

    /// Puts the bar on the terminal, if one is wanted.
    fn draw(&self) {
        if self.drawn && !self.is_drawn.swap(true, Ordering::Relaxed) {
            self.bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(8));
            self.bar.enable_steady_tick(TURN);
        }
    }

    fn begin(&self, phase: Phase) {
        for number in [&self.items, &self.bytes, &self.items_total, &self.bytes_total] {
            number.store(0, Ordering::Relaxed);
        }
        self.with_now(|now| {
            now.phase = Some(phase);
            now.entry.clear();
        });
        self.bar.reset();
        self.bar.unset_length();
        self.bar.set_prefix(words(phase));
        self.bar.set_message("");
        self.bar.set_style(style("{spinner} {prefix}  {decimal_bytes}  {wide_msg}"));
    }

    fn total(&self, items: u64, bytes: u64) {
        self.items_total.store(items, Ordering::Relaxed);
        self.bytes_total.store(bytes, Ordering::Relaxed);
        if bytes > 0 {
            self.bar.set_length(bytes);
            self.bar.set_style(style(
                "{prefix}  {bar:24} {percent:>3} %  {decimal_bytes} of {decimal_total_bytes}  \
                 {decimal_bytes_per_sec}  {eta} left  {wide_msg}",
            ));
        } else if items > 0 {
            self.bar.set_length(items);
            self.bar.set_style(style(
                "{prefix}  {bar:24} {percent:>3} %  {human_pos} of {human_len}  {eta} left  {wide_msg}",
            ));
        }
    }

    fn progress(&self, items: u64, bytes: u64) {
        self.items.fetch_add(items, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let counts_items =
            self.bytes_total.load(Ordering::Relaxed) == 0 && self.items_total.load(Ordering::Relaxed) > 0;
        self.bar.inc(if counts_items { items } else { bytes });
        // A file may have grown since it was counted; more than all of it is never done.
        if self.bar.length().is_some_and(|length| length < self.bar.position()) {
            self.bar.set_length(self.bar.position());
        }
    }

    fn entry(&self, path: &[u8]) {
        if self.every_entry && self.json {
            let mut fields = message("verbose_status");
            render::put_path(&mut fields, "item", path);
            print(&Value::Object(fields));
        } else if self.every_entry {
            self.line(&printable(path));
        }
        if self.status {
            self.with_now(|now| {
                now.entry.clear();
                now.entry.extend_from_slice(path);
            });
        } else if self.is_drawn.load(Ordering::Relaxed) {
            self.bar.set_message(shortened(path));
        }
    }

    fn problem(&self, path: &[u8], what: &str) {
        if self.json {
            let mut fields = message("error");
            render::put_path(&mut fields, "item", path);
            fields.insert("error".to_owned(), json!({ "message": one_line(what) }));
            return self.line(&Value::Object(fields).to_string());
        }
        let (name, what) = (printable(path), one_line(what));
        // Most messages name the path themselves; the root's would be found in any.
        if name.len() > 1 && what.contains(&name) {
            self.line(&format!("warning: {what}"));
        } else {
            self.line(&format!("warning: {name}: {what}"));
        }
    }

    fn notice(&self, text: &str) {
        if self.json {
            let mut fields = message("notice");
            fields.insert("message".to_owned(), json!(one_line(text)));
            self.line(&Value::Object(fields).to_string());
        } else if !self.quiet {
            self.line(&one_line(text));
        }
    }

    /// A line on standard error, above the bar.
    fn line(&self, text: &str) {
        self.bar.suspend(|| {
            // Nobody can be told if that fails.
            let _ = writeln!(io::stderr(), "{text}");
        });
    }

    /// Tells how far the work is, if it is time to.
    fn tell(&self) {
        if self.drawn && !self.is_drawn.load(Ordering::Relaxed) && self.began.elapsed() >= SHOWN_AFTER {
            self.draw();
        }
        if !self.status {
            return;
        }
        let status = self.with_now(|now| {
            (now.told.elapsed() >= STATUS_EVERY).then(|| {
                now.told = Instant::now();
                self.status(now, self.began.elapsed())
            })
        });
        if let Some(status) = status {
            print(&status);
        }
    }

    fn status(&self, now: &Now, elapsed: Duration) -> Value {
        let load = |number: &AtomicU64| number.load(Ordering::Relaxed);
        let (items, bytes) = (load(&self.items), load(&self.bytes));
        let (items_total, bytes_total) = (load(&self.items_total), load(&self.bytes_total));
        let mut fields = message("status");
        fields.insert("phase".to_owned(), json!(now.phase.map(word)));
        fields.insert("seconds_elapsed".to_owned(), json!(elapsed.as_secs()));
        let (done, total) = if bytes_total > 0 { (bytes, bytes_total) } else { (items, items_total) };
        if total > 0 {
            fields.insert("percent_done".to_owned(), json!((done as f64 / total as f64).min(1.0)));
        }
        for (name, number) in [("total_files", items_total), ("total_bytes", bytes_total)] {
            if number > 0 {
                fields.insert(name.to_owned(), json!(number));
            }
        }
        fields.insert("files_done".to_owned(), json!(items));
        fields.insert("bytes_done".to_owned(), json!(bytes));
        if load(&self.stored) > 0 {
            fields.insert("bytes_stored".to_owned(), json!(load(&self.stored)));
        }
        if !now.entry.is_empty() {
            fields.insert("current_files".to_owned(), json!([render::json_text(&now.entry)]));
        }
        Value::Object(fields)
    }

    fn with_now<T>(&self, change: impl FnOnce(&mut Now) -> T) -> T {
        // What another thread left here is at worst an old path.
        change(&mut self.now.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The beginning of a message for programs.
fn message(kind: &str) -> Map<String, Value> {
    let mut fields = Map::new();
    fields.insert("message_type".to_owned(), json!(kind));
    fields.insert("schema".to_owned(), json!(1));
    fields
}

/// A line on standard output. If that is gone, the command's results can't be written either, and say so.
fn print(message: &Value) {
    let _ = writeln!(io::stdout().lock(), "{message}");
}

/// A phase for people.
fn words(phase: Phase) -> &'static str {
    match phase {
        Phase::Counting => "counting",
        Phase::BackingUp => "backing up",
        Phase::Restoring => "restoring",
        Phase::Verifying => "verifying",
        Phase::Reading => "reading",
        Phase::Committing => "committing",
        Phase::Reencrypting => "re-encrypting",
    }
}

/// A phase for programs.
fn word(phase: Phase) -> &'static str {
    match phase {
        Phase::BackingUp => "backing_up",
        Phase::Reencrypting => "reencrypting",
        other => words(other),
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("templates are fixed and well-formed").progress_chars("━━╌")
}

/// The end of a path, where its name is.
fn shortened(path: &[u8]) -> String {
    let whole = printable(path);
    let length = whole.chars().count();
    if length <= SHOWN_CHARACTERS {
        return whole;
    }
    let end: String = whole.chars().skip(length - SHOWN_CHARACTERS + 1).collect();
    format!("…{end}")
}

impl Observer for Bars {
    fn event(&self, event: &Event<'_>) {
        match event {
            Event::Phase(phase) => self.begin(*phase),
            Event::Total { items, bytes } => self.total(*items, *bytes),
            Event::Progress { items, bytes } => self.progress(*items, *bytes),
            Event::Stored { bytes } => {
                self.stored.fetch_add(*bytes, Ordering::Relaxed);
            }
            Event::Entry(path) => self.entry(path),
            Event::Problem { path, message } => self.problem(path, message),
            Event::Notice(text) => self.notice(text),
        }
        self.tell();
    }

    fn interrupted(&self) -> bool {
        is_interrupted()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bars(json: bool) -> Bars {
        Bars::new(&OutputArgs { json, quiet: false, verbose: 0, no_progress: false })
    }

    fn status(bars: &Bars) -> Value {
        bars.with_now(|now| bars.status(now, Duration::from_secs(5)))
    }

    #[test]
    fn the_end_of_a_long_path_is_shown_and_control_characters_never() {
        assert_eq!(shortened(b"short"), "short");
        let long = shortened(&[&[b'a'; 300][..], b"/name.txt"].concat());
        assert_eq!((long.chars().count(), long.starts_with('…')), (SHOWN_CHARACTERS, true));
        assert!(long.ends_with("/name.txt"));
        assert!(!shortened(b"a\x1b[31mb").contains('\x1b'));
    }

    #[test]
    fn a_program_is_told_the_phase_and_what_is_done_of_it() {
        let bars = bars(true);
        bars.event(&Event::Phase(Phase::BackingUp));
        bars.event(&Event::Total { items: 4, bytes: 200 });
        bars.event(&Event::Entry(b"a\xff"));
        bars.event(&Event::Progress { items: 1, bytes: 50 });
        bars.event(&Event::Stored { bytes: 7 });
        let expected = json!({
            "message_type": "status", "schema": 1, "phase": "backing_up", "seconds_elapsed": 5,
            "percent_done": 0.25, "total_files": 4, "total_bytes": 200, "files_done": 1, "bytes_done": 50,
            "bytes_stored": 7, "current_files": ["a\u{fffd}"],
        });
        assert_eq!(status(&bars), expected);
    }

    #[test]
    fn each_phase_counts_anew_and_never_beyond_its_end() {
        let bars = bars(true);
        bars.event(&Event::Phase(Phase::Counting));
        bars.event(&Event::Progress { items: 9, bytes: 900 });
        bars.event(&Event::Phase(Phase::Verifying));
        bars.event(&Event::Total { items: 2, bytes: 0 });
        bars.event(&Event::Progress { items: 1, bytes: 10 });
        assert_eq!(bars.bar.position(), 1, "objects are counted where bytes aren't known");
        assert_eq!(status(&bars)["percent_done"], json!(0.5));
        bars.event(&Event::Progress { items: 3, bytes: 10 });
        assert_eq!(bars.bar.length(), Some(4));
        assert_eq!(status(&bars)["percent_done"], json!(1.0));
    }

    #[test]
    fn a_program_is_not_told_more_than_twice_a_second() {
        let bars = bars(true);
        let told = bars.with_now(|now| now.told);
        bars.event(&Event::Progress { items: 1, bytes: 1 });
        assert!(bars.with_now(|now| now.told == told) || bars.began.elapsed() >= STATUS_EVERY);
        bars.with_now(|now| now.told = Instant::now().checked_sub(STATUS_EVERY).unwrap());
        let told = bars.with_now(|now| now.told);
        bars.event(&Event::Progress { items: 1, bytes: 1 });
        assert!(bars.with_now(|now| now.told > told));
    }

    #[test]
    fn without_a_terminal_nothing_is_drawn() {
        let quiet = Bars::new(&OutputArgs { json: false, quiet: true, verbose: 0, no_progress: false });
        let _spinner = quiet.spinner("waiting");
        assert!(quiet.bar.is_hidden());
        assert!(!quiet.status);
        assert!(!bars(true).drawn);
    }

    #[test]
    fn every_template_is_well_formed() {
        let bars = bars(false);
        for phase in [Phase::Counting, Phase::BackingUp, Phase::Committing] {
            bars.begin(phase);
            bars.total(3, 0);
            bars.total(3, 3);
        }
        drop(bars.spinner("waiting"));
    }
}
