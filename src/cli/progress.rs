//! What the library tells of its work: bars on standard error for a person, JSON lines for a program.

use std::fmt;
use std::io;
use std::io::IsTerminal as _;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::mpsc::Sender;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use indicatif::ProgressBar;
use indicatif::ProgressDrawTarget;
use indicatif::ProgressState;
use indicatif::ProgressStyle;
use rustix::termios::OptionalActions;
use rustix::termios::Termios;
use rustix::termios::tcgetattr;
use rustix::termios::tcgetwinsize;
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
/// The bar of the work that a person watches: what else is said goes above it.
static WATCHED: Mutex<Option<ProgressBar>> = Mutex::new(None);
/// How the terminal was set before the question, which may be asked without showing what is typed.
static TERMINAL: Mutex<Option<Termios>> = Mutex::new(None);
/// The longest part of a path that is shown while it is worked on.
const SHOWN_CHARACTERS: usize = 50;
/// A shorter part tells nobody anything.
const SHOWN_CHARACTERS_MIN: usize = 12;
/// Columns that a line needs before the path; the line never fills the terminal, or what the terminal itself
/// shows (`^C`) would move the cursor to the next one.
const COLUMNS_BEFORE_PATH: usize = 96;
/// The same while nobody knows how much there is to do.
const COLUMNS_BEFORE_PATH_WITHOUT_BAR: usize = 50;
/// Work that is done by then needs no bar.
const SHOWN_AFTER: Duration = Duration::from_secs(1);
/// Until then nobody can tell how long the rest takes.
const SETTLED_AFTER: Duration = Duration::from_secs(3);
/// What takes longer than this many seconds is not foretold: two days.
const LEFT_SECONDS_MAX: u64 = 172_800;
/// A bar beside its numbers needs so many columns, as most terminals have.
const COLUMNS_MIN: usize = 80;
/// How often a bar is drawn again while nothing is told, and shows where the work is.
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
        say_stopping();
    };
    // Where no handler can be set, Ctrl-C just ends the program: the vault is sound at any instant.
    let _ = ctrlc::set_handler(handler);
}

/// The work may take a moment to come to its end; whoever watches it is told that it was asked to.
fn say_stopping() {
    if let Some(bar) = &*WATCHED.lock().unwrap_or_else(PoisonError::into_inner) {
        bar.suspend(|| {
            // Over what the terminal shows for the key. Nobody can be told if that fails.
            let _ = writeln!(io::stderr(), "\rstopping; Ctrl-C once more stops at once");
        });
    }
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
    is_drawn: Arc<AtomicBool>,
    /// Ends the wait for [`SHOWN_AFTER`] when it is dropped.
    _waiting: Option<Sender<()>>,
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

impl Drop for Bars {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Turns until it is dropped.
pub struct Spinner(#[allow(dead_code, reason = "it is kept so that it turns")] Bars);

/// Draws the bar once the work has taken [`SHOWN_AFTER`], whether or not it tells anything meanwhile; never,
/// if what is returned is dropped before.
fn draw_later(bar: &ProgressBar, is_drawn: &Arc<AtomicBool>) -> Sender<()> {
    let (bar, is_drawn) = (bar.clone(), Arc::clone(is_drawn));
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        if receiver.recv_timeout(SHOWN_AFTER) == Err(RecvTimeoutError::Timeout) && !is_interrupted() {
            draw(&bar, &is_drawn);
        }
    });
    sender
}

/// Puts the bar on the terminal, unless it is there already or was taken away.
fn draw(bar: &ProgressBar, is_drawn: &AtomicBool) {
    if !is_drawn.swap(true, Ordering::Relaxed) {
        bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(8));
        bar.enable_steady_tick(TURN);
    }
}

impl Bars {
    /// Bars as the options want them: none without a terminal.
    #[must_use]
    pub fn new(output: &OutputArgs) -> Self {
        let wanted = !output.quiet && !output.no_progress;
        let began = Instant::now();
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        let drawn = wanted && !output.json && io::stderr().is_terminal();
        let is_drawn = Arc::new(AtomicBool::new(false));
        let waiting = drawn.then(|| draw_later(&bar, &is_drawn));
        if drawn {
            *WATCHED.lock().unwrap_or_else(PoisonError::into_inner) = Some(bar.clone());
        }
        Self {
            bar,
            began,
            drawn,
            is_drawn,
            _waiting: waiting,
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
    pub fn spinner(self, what: &str) -> Spinner {
        self.bar.reset();
        self.bar.set_style(style("{spinner} {msg}"));
        self.bar.set_message(one_line(what));
        if self.drawn {
            draw(&self.bar, &self.is_drawn);
        }
        Spinner(self)
    }

    /// Takes the bar away, before the last lines are printed.
    pub fn clear(&self) {
        // Nor will it be drawn any more.
        self.is_drawn.store(true, Ordering::Relaxed);
        *WATCHED.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.bar.finish_and_clear();
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
        self.bar.set_style(style(if is_narrow() {
            "{spinner} {prefix}  {done}"
        } else {
            "{spinner} {prefix}  {done}  {rate}  {elapsed}  {msg}"
        }));
    }

    fn total(&self, items: u64, bytes: u64) {
        self.items_total.store(items, Ordering::Relaxed);
        self.bytes_total.store(bytes, Ordering::Relaxed);
        if bytes > 0 {
            self.bar.set_length(bytes);
            self.bar.set_style(style(if is_narrow() {
                "{percent:>3} %  {rate}  {left}"
            } else {
                "{prefix}  {gauge} {percent:>3} %  {done} of {all}  {rate}  {left}  {msg}"
            }));
        } else if items > 0 {
            self.bar.set_length(items);
            self.bar.set_style(style(if is_narrow() {
                "{percent:>3} %  {human_pos} of {human_len}  {left}"
            } else {
                "{prefix}  {gauge} {percent:>3} %  {human_pos} of {human_len}  {left}  {msg}"
            }));
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
        if self.status || self.drawn {
            self.with_now(|now| {
                now.entry.clear();
                now.entry.extend_from_slice(path);
            });
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
        if name.is_empty() || (name.len() > 1 && what.contains(&name)) {
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
        if self.is_drawn.load(Ordering::Relaxed) {
            self.with_now(|now| {
                if now.told.elapsed() >= TURN {
                    now.told = Instant::now();
                    self.bar.set_message(shortened(&now.entry, self.room()));
                }
            });
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

    /// Columns for a path.
    fn room(&self) -> usize {
        let before =
            if self.bar.length().is_some() { COLUMNS_BEFORE_PATH } else { COLUMNS_BEFORE_PATH_WITHOUT_BAR };
        columns().map_or(SHOWN_CHARACTERS, |columns| columns.saturating_sub(before).min(SHOWN_CHARACTERS))
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
        Phase::Exporting => "exporting",
        Phase::Reencrypting => "re-encrypting",
        Phase::Sealing => "sealing",
        Phase::Writing => "writing",
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

#[allow(clippy::cast_possible_truncation, reason = "a rate is shown in three digits, and `as` saturates")]
fn style(template: &str) -> ProgressStyle {
    let is_wide = columns().is_none_or(|columns| columns >= COLUMNS_BEFORE_PATH);
    let template = template.replace("{gauge}", if is_wide { "{bar:24}" } else { "{bar:10}" });
    let style = ProgressStyle::with_template(&template).expect("templates are fixed and well-formed");
    style
        .progress_chars("━━╌")
        .with_key("done", |bar: &ProgressState, out: &mut dyn fmt::Write| {
            write(out, &render::size(bar.pos()));
        })
        .with_key("all", |bar: &ProgressState, out: &mut dyn fmt::Write| {
            write(out, &render::size(bar.len().unwrap_or_else(|| bar.pos())));
        })
        .with_key("rate", |bar: &ProgressState, out: &mut dyn fmt::Write| {
            write(out, &format!("{}/s", render::size(bar.per_sec() as u64)));
        })
        .with_key("elapsed", |bar: &ProgressState, out: &mut dyn fmt::Write| {
            write(out, &span(bar.elapsed()));
        })
        .with_key("left", |bar: &ProgressState, out: &mut dyn fmt::Write| {
            // The first guesses are wild, and no guess at all comes as none or as ages.
            let is_known =
                bar.elapsed() >= SETTLED_AFTER && (1..LEFT_SECONDS_MAX).contains(&bar.eta().as_secs());
            write(out, &if is_known { format!("{} left", span(bar.eta())) } else { String::new() });
        })
}

fn write(out: &mut dyn fmt::Write, text: &str) {
    // A line is put together in memory.
    let _ = out.write_str(text);
}

/// A span as it is told while it goes on: no longer than it is worth.
fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3_600, seconds / 60 % 60),
    }
}

/// Whether the terminal has no room for a bar beside its numbers.
fn is_narrow() -> bool {
    columns().is_some_and(|columns| columns < COLUMNS_MIN)
}

fn columns() -> Option<usize> {
    let size = tcgetwinsize(rustix::stdio::stderr()).ok()?;
    Some(usize::from(size.ws_col)).filter(|columns| *columns > 0)
}

/// The end of a path, where its name is, in so many characters; nothing where there is no room for it.
fn shortened(path: &[u8], room: usize) -> String {
    let whole = printable(path);
    let length = whole.chars().count();
    if length <= room {
        return whole;
    }
    if room < SHOWN_CHARACTERS_MIN {
        return String::new();
    }
    let end: String = whole.chars().skip(length - room + 1).collect();
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
        assert_eq!(shortened(b"short", 50), "short");
        let long = shortened(&[&[b'a'; 300][..], b"/name.txt"].concat(), 50);
        assert_eq!((long.chars().count(), long.starts_with('…')), (50, true));
        assert!(long.ends_with("/name.txt"));
        assert!(!shortened(b"a\x1b[31mb", 50).contains('\x1b'));
        assert_eq!(shortened(b"too long for that", SHOWN_CHARACTERS_MIN - 1), "");
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
        assert!(!quiet.status);
        assert!(quiet.spinner("waiting").0.bar.is_hidden());
        assert!(!bars(true).drawn);
    }

    #[test]
    fn spans_are_told_in_two_units_at_most() {
        let told = |seconds| span(Duration::from_secs(seconds));
        assert_eq!((told(7), told(125), told(7_380)), ("7 s".into(), "2 min 5 s".into(), "2 h 3 min".into()));
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
