//! What a backup leaves out, and what a restore or a search takes. Nothing here touches a disk.
//!
//! Patterns have the syntax of `.gitignore`. Those in a `.strongroomignore` mean exactly what git would
//! mean, relative to their directory. Those given on the command line differ in one thing: with a slash
//! at the beginning they are absolute paths, and with a slash only further on they match in any
//! directory, as they do in other backup programs, not only at the root of the file system.
//!
//! A [`Filter`] is asked during a descent from the top: what it leaves out isn't descended into.

use crate::tree::path::Name;
use crate::tree::path::TreePath;
use crate::tree::path::printable;
use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use std::borrow::Cow;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

/// The file whose patterns hold for its directory and those below it.
const IGNORE_FILE: &[u8] = b".strongroomignore";

/// How long an ignore file may be, 1 MiB.
pub const IGNORE_FILE_BYTES_MAX: usize = 1 << 20;

/// The file that marks a directory as a cache, and how it begins.
///
/// Source: Cache Directory Tagging Specification, <https://bford.info/cachedir/>.
const CACHE_MARKER: (&[u8], &[u8]) = (b"CACHEDIR.TAG", b"Signature: 8a477f597d28d172789f06886806bc55");

/// Why something is no rule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Error {
    /// A pattern isn't one, or can't match anything.
    Pattern {
        /// Where it stands: an option, or a file; in bytes.
        origin: Box<[u8]>,
        /// Its line in a file, from 1.
        line: Option<usize>,
        /// The pattern.
        pattern: Box<[u8]>,
        /// What is wrong with it.
        why: String,
    },
    /// The patterns are too many or too long together.
    TooComplex {
        /// Where they stand: an option, or a file; in bytes.
        origin: Box<[u8]>,
        /// What is wrong with them.
        why: String,
    },
    /// What should name a marker doesn't begin with a file's name.
    Marker(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pattern { origin, line: None, pattern, why } => {
                write!(f, "{}: {} is no pattern: {why}", printable(origin), printable(pattern))
            }
            Self::Pattern { origin, line: Some(line), pattern, why } => {
                write!(f, "{} line {line}: {} is no pattern: {why}", printable(origin), printable(pattern))
            }
            Self::TooComplex { origin, why } => write!(f, "{}: too many patterns: {why}", printable(origin)),
            Self::Marker(text) => {
                write!(f, "{} does not begin with the name of a file", printable(text.as_bytes()))
            }
        }
    }
}

impl std::error::Error for Error {}

/// Why something is left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// It matches a pattern given for the whole backup.
    Pattern,
    /// It matches a pattern in an ignore file.
    IgnoreFile,
    /// Its directory holds a marker.
    Marked,
    /// It is larger than wanted.
    TooLarge,
    /// It is in another file system than the source; for whoever examines it to say.
    OtherFileSystem,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pattern => "it matches an exclude pattern",
            Self::IgnoreFile => "it matches a pattern in an ignore file",
            Self::Marked => "its directory is marked to be left out",
            Self::TooLarge => "it is too large",
            Self::OtherFileSystem => "it is in another file system",
        })
    }
}

/// What becomes of something on the source disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decision {
    /// It is backed up.
    Keep,
    /// It is left out, and all that is below it.
    Leave(Reason),
}

/// A file whose presence says to leave out all else in its directory.
///
/// The directory itself and the marker are kept, so that a restored one is marked again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Marker {
    /// The file's name.
    pub name: Name,
    /// How it has to begin; if empty, it need only be there.
    pub header: Box<[u8]>,
}

impl Marker {
    /// Reads `NAME` or `NAME:HEADER`.
    ///
    /// # Errors
    /// [`Error::Marker`] if there is no name.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let (name, header) = text.split_once(':').unwrap_or((text, ""));
        let name = Name::new(name.as_bytes()).map_err(|_| Error::Marker(text.to_owned()))?;
        Ok(Self { name, header: header.as_bytes().into() })
    }

    /// The marker of caches.
    fn cache() -> Self {
        let (name, header) = CACHE_MARKER;
        Self { name: Name::new(name).expect("it is a name"), header: header.into() }
    }
}

/// Patterns on their way to a matcher.
struct Patterns {
    builder: GitignoreBuilder,
    origin: Box<[u8]>,
    /// Whether a slash further on leaves a pattern free to match in any directory.
    is_free: bool,
}

impl Patterns {
    fn new(origin: &[u8], is_free: bool) -> Self {
        // Below `.` the matcher takes paths as they are and looks for no prefix to strip.
        Self { builder: GitignoreBuilder::new("."), origin: origin.into(), is_free }
    }

    /// Adds one pattern.
    fn add(&mut self, pattern: &[u8], line: Option<usize>, ignoring_case: bool) -> Result<(), Error> {
        let refused =
            |why: String| Error::Pattern { origin: self.origin.clone(), line, pattern: pattern.into(), why };
        let text = std::str::from_utf8(pattern).map_err(|_| refused("it is not UTF-8".to_owned()))?;
        let body = text.trim_end().trim_start_matches('!');
        if body.split('/').any(|name| name == "." || name == "..") {
            return Err(refused("no path that is matched has a . or .. in it".to_owned()));
        }
        let free = if self.is_free { free(text) } else { Cow::Borrowed(text) };
        self.builder
            .case_insensitive(ignoring_case)
            .and_then(|builder| builder.add_line(None, &free))
            .map(drop)
            .map_err(|error| refused(error.to_string()))
    }

    /// Adds a pattern that somebody typed, in which a leading `#` begins no comment.
    fn add_typed(&mut self, pattern: &str, ignoring_case: bool) -> Result<(), Error> {
        if pattern.trim_end().is_empty() {
            return Err(Error::Pattern {
                origin: self.origin.clone(),
                line: None,
                pattern: pattern.as_bytes().into(),
                why: "it is empty".to_owned(),
            });
        }
        let is_comment = pattern.starts_with('#');
        let pattern = if is_comment { Cow::Owned(format!("\\{pattern}")) } else { Cow::Borrowed(pattern) };
        self.add(pattern.as_bytes(), None, ignoring_case)
    }

    /// Adds the patterns of a file, and gives one error for each line that is none.
    fn add_lines(&mut self, contents: &[u8], ignoring_case: bool) -> Vec<Error> {
        let contents = contents.strip_prefix(b"\xef\xbb\xbf").unwrap_or(contents);
        let lines = contents.split(|&byte| byte == b'\n').enumerate();
        lines
            .filter(|(_, line)| !line.starts_with(b"#"))
            .filter_map(|(index, line)| self.add(line, Some(index + 1), ignoring_case).err())
            .collect()
    }

    fn build(&self) -> Result<Gitignore, Error> {
        self.builder
            .build()
            .map_err(|error| Error::TooComplex { origin: self.origin.clone(), why: error.to_string() })
    }
}

/// A pattern with a slash that is neither its first nor its last character, made to match anywhere.
fn free(pattern: &str) -> Cow<'_, str> {
    let (not, body) = pattern.strip_prefix('!').map_or(("", pattern), |body| ("!", body));
    let inner = body.trim_end().trim_end_matches('/');
    if inner.contains('/') && !body.starts_with('/') && !body.starts_with("**/") {
        Cow::Owned(format!("{not}**/{body}"))
    } else {
        Cow::Borrowed(pattern)
    }
}

/// What `matcher` says of bytes that are a path.
fn match_bytes(matcher: &Gitignore, path: &[u8], is_directory: bool) -> Match<()> {
    matcher.matched(Path::new(OsStr::from_bytes(path)), is_directory).map(|_| ())
}

/// Collects the rules of a [`Filter`].
pub struct FilterBuilder {
    patterns: Patterns,
    markers: Vec<Marker>,
    file_bytes_max: Option<u64>,
    is_one_file_system: bool,
    ignore_file: Option<Name>,
}

impl Default for FilterBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl FilterBuilder {
    /// Rules that leave nothing out but what ignore files do.
    #[must_use]
    pub fn new() -> Self {
        Self {
            patterns: Patterns::new(b"--exclude", true),
            markers: Vec::new(),
            file_bytes_max: None,
            is_one_file_system: false,
            ignore_file: Name::new(IGNORE_FILE).ok(),
        }
    }

    /// Leaves out what matches `pattern`; or with a `!` in front, keeps it whatever ignore files say.
    ///
    /// Of several patterns that match, the last one added decides.
    ///
    /// # Errors
    /// [`Error::Pattern`] if it is none.
    pub fn exclude(&mut self, pattern: &str, ignoring_case: bool) -> Result<&mut Self, Error> {
        self.patterns.add_typed(pattern, ignoring_case)?;
        Ok(self)
    }

    /// Leaves out what the lines of a file match; `origin` is the file's name for messages.
    ///
    /// # Errors
    /// [`Error::Pattern`] for the first line that is none.
    pub fn exclude_lines(
        &mut self,
        origin: &[u8],
        contents: &[u8],
        ignoring_case: bool,
    ) -> Result<&mut Self, Error> {
        let before = std::mem::replace(&mut self.patterns.origin, origin.into());
        let refused = self.patterns.add_lines(contents, ignoring_case);
        self.patterns.origin = before;
        refused.into_iter().next().map_or(Ok(self), Err)
    }

    /// Leaves out the contents of directories that are marked as caches by a `CACHEDIR.TAG`.
    pub fn exclude_caches(&mut self) -> &mut Self {
        self.markers.push(Marker::cache());
        self
    }

    /// Leaves out the contents of directories that hold this marker.
    pub fn exclude_if_present(&mut self, marker: Marker) -> &mut Self {
        self.markers.push(marker);
        self
    }

    /// Leaves out files with more than `bytes` bytes.
    pub fn exclude_larger_than(&mut self, bytes: u64) -> &mut Self {
        self.file_bytes_max = Some(bytes);
        self
    }

    /// Leaves out what is in another file system than its source.
    pub fn one_file_system(&mut self) -> &mut Self {
        self.is_one_file_system = true;
        self
    }

    /// Takes no notice of ignore files.
    pub fn without_ignore_files(&mut self) -> &mut Self {
        self.ignore_file = None;
        self
    }

    /// The filter with these rules.
    ///
    /// # Errors
    /// [`Error::TooComplex`] if the patterns are too much for one matcher.
    pub fn build(self) -> Result<Filter, Error> {
        Ok(Filter {
            rules: Arc::new(Rules {
                matcher: self.patterns.build()?,
                markers: self.markers,
                file_bytes_max: self.file_bytes_max,
                is_one_file_system: self.is_one_file_system,
                ignore_file: self.ignore_file,
            }),
        })
    }
}

/// The rules that hold everywhere.
struct Rules {
    matcher: Gitignore,
    markers: Vec<Marker>,
    file_bytes_max: Option<u64>,
    is_one_file_system: bool,
    ignore_file: Option<Name>,
}

/// What a backup leaves out.
#[derive(Clone)]
pub struct Filter {
    rules: Arc<Rules>,
}

impl Filter {
    /// The rules as they hold at the top of a source.
    #[must_use]
    pub fn root(&self) -> Scope {
        Scope { rules: Arc::clone(&self.rules), ignore_file: None, only: None }
    }

    /// The markers to look for in each directory.
    #[must_use]
    pub fn markers(&self) -> &[Marker] {
        &self.rules.markers
    }

    /// The file to read in each directory and to give to [`Scope::enter`], if any is heeded.
    #[must_use]
    pub fn ignore_file(&self) -> Option<&Name> {
        self.rules.ignore_file.as_ref()
    }

    /// Whether the contents of other file systems are left out. Their mount points are kept, empty.
    #[must_use]
    pub fn is_one_file_system(&self) -> bool {
        self.rules.is_one_file_system
    }
}

/// The patterns of one ignore file, and those of the directories above.
struct IgnoreFile {
    matcher: Gitignore,
    /// How many bytes of a path below it stand before what its patterns see.
    prefix_bytes: usize,
    above: Option<Arc<IgnoreFile>>,
}

impl Drop for IgnoreFile {
    /// Drops those above one after the other: a chain as long as a tree is deep must not recurse.
    fn drop(&mut self) {
        let mut above = self.above.take();
        while let Some(file) = above {
            above = Arc::into_inner(file).and_then(|mut file| file.above.take());
        }
    }
}

/// The rules as they hold in one directory; cheap to clone.
#[derive(Clone)]
pub struct Scope {
    rules: Arc<Rules>,
    ignore_file: Option<Arc<IgnoreFile>>,
    only: Option<Name>,
}

impl Scope {
    /// The rules in `directory`, a directory of this scope, with what its ignore file contains.
    ///
    /// Lines that are no patterns are left out and added to `refused`: rather too much is kept than too
    /// little.
    #[must_use]
    pub fn enter(&self, directory: &TreePath, ignore_file: Option<&[u8]>, refused: &mut Vec<Error>) -> Self {
        let mut scope = Self { only: None, ..self.clone() };
        let (Some(contents), Some(name)) = (ignore_file, &self.rules.ignore_file) else { return scope };
        let origin = [b"/", directory.join(name).as_bytes()].concat();
        let mut patterns = Patterns::new(&origin, false);
        refused.extend(patterns.add_lines(contents, false));
        match patterns.build() {
            Ok(matcher) if matcher.is_empty() => {}
            Ok(matcher) => {
                let slash = usize::from(!directory.is_root());
                scope.ignore_file = Some(Arc::new(IgnoreFile {
                    matcher,
                    prefix_bytes: directory.as_bytes().len() + slash,
                    above: scope.ignore_file.take(),
                }));
            }
            Err(error) => refused.push(error),
        }
        scope
    }

    /// The rules in a directory that holds `marker`: the marker is kept and nothing else.
    #[must_use]
    pub fn marked(&self, marker: &Marker) -> Self {
        Self { only: Some(marker.name.clone()), ..self.clone() }
    }

    /// Whether what becomes of a file depends on its length.
    #[must_use]
    pub fn asks_for_length(&self) -> bool {
        self.rules.file_bytes_max.is_some()
    }

    /// What becomes of `path`, which lies in the directory of this scope; `size` is a file's.
    #[must_use]
    pub fn decides(&self, path: &TreePath, is_directory: bool, size: u64) -> Decision {
        if let Some(only) = &self.only {
            let is_marker = path.last().as_ref() == Some(only);
            return if is_marker { Decision::Keep } else { Decision::Leave(Reason::Marked) };
        }
        match match_bytes(&self.rules.matcher, path.as_bytes(), is_directory) {
            Match::Ignore(()) => return Decision::Leave(Reason::Pattern),
            Match::None if self.is_ignored(path, is_directory) => {
                return Decision::Leave(Reason::IgnoreFile);
            }
            Match::None | Match::Whitelist(()) => {}
        }
        match self.rules.file_bytes_max {
            Some(bytes_max) if !is_directory && size > bytes_max => Decision::Leave(Reason::TooLarge),
            _ => Decision::Keep,
        }
    }

    /// What the nearest ignore file that knows of `path` says.
    fn is_ignored(&self, path: &TreePath, is_directory: bool) -> bool {
        let mut next = self.ignore_file.as_ref();
        while let Some(file) = next {
            let below = path.as_bytes().get(file.prefix_bytes..).unwrap_or_default();
            match match_bytes(&file.matcher, below, is_directory) {
                Match::Ignore(()) => return true,
                Match::Whitelist(()) => return false,
                Match::None => next = file.above.as_ref(),
            }
        }
        false
    }
}

/// What becomes of something in a snapshot when a part of it is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Choice {
    /// It is taken; so is what lies below it, unless that is excluded.
    Take,
    /// It is a directory that isn't wanted itself, and something below it may be.
    Descend,
    /// Neither it nor anything below it is wanted.
    Skip,
}

/// What a restore or a search takes of a snapshot.
pub struct Selection {
    include: Gitignore,
    exclude: Gitignore,
    /// The names with which each include pattern begins that has no wildcard in them; none if it can
    /// match in any directory.
    starts: Vec<Vec<Box<[u8]>>>,
    takes_all: bool,
    words: String,
}

/// A pattern, and whether it matches whatever the case of letters.
pub type TypedPattern<'a> = (&'a str, bool);

impl Selection {
    /// Takes what matches one of `include`, or everything if there are none, except what matches one of
    /// `exclude`.
    ///
    /// # Errors
    /// [`Error::Pattern`] if one is none, [`Error::TooComplex`] if they are too much for one matcher.
    pub fn new(include: &[TypedPattern<'_>], exclude: &[TypedPattern<'_>]) -> Result<Self, Error> {
        let build = |origin: &[u8], typed: &[TypedPattern<'_>]| {
            let mut patterns = Patterns::new(origin, true);
            typed
                .iter()
                .try_for_each(|&(pattern, ignoring_case)| patterns.add_typed(pattern, ignoring_case))?;
            patterns.build()
        };
        Ok(Self {
            include: build(b"--include", include)?,
            exclude: build(b"--exclude", exclude)?,
            starts: include
                .iter()
                .map(|&(pattern, ignoring_case)| start_of(pattern, ignoring_case))
                .collect(),
            takes_all: include.is_empty(),
            words: [("+", include), ("-", exclude)]
                .into_iter()
                .flat_map(|(sign, typed)| typed.iter().map(move |typed| (sign, typed)))
                .map(|(sign, (pattern, ignoring_case))| format!("{sign}{ignoring_case} {pattern}\n"))
                .collect(),
        })
    }

    /// Takes everything.
    #[must_use]
    pub fn everything() -> Self {
        Self::new(&[], &[]).expect("no pattern is well-formed")
    }

    /// Whether everything is taken: no pattern was given.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.words.is_empty()
    }

    /// All patterns, a line each: the same for the same selection.
    #[must_use]
    pub fn words(&self) -> &str {
        &self.words
    }

    /// What becomes of the root.
    #[must_use]
    pub fn root(&self) -> Choice {
        if self.takes_all { Choice::Take } else { Choice::Descend }
    }

    /// What becomes of `path`, whose directory's `parent` choice was to take it or to descend.
    #[must_use]
    pub fn decides(&self, path: &TreePath, is_directory: bool, parent: Choice) -> Choice {
        if match_bytes(&self.exclude, path.as_bytes(), is_directory).is_ignore() {
            return Choice::Skip;
        }
        match (match_bytes(&self.include, path.as_bytes(), is_directory), parent) {
            (_, Choice::Skip) | (Match::Whitelist(()), _) => Choice::Skip,
            (_, Choice::Take) | (Match::Ignore(()), _) => Choice::Take,
            (Match::None, Choice::Descend) if is_directory && self.may_hold_included(path) => Choice::Descend,
            (Match::None, Choice::Descend) => Choice::Skip,
        }
    }

    /// Whether a pattern can match something below `directory`.
    fn may_hold_included(&self, directory: &TreePath) -> bool {
        self.starts.iter().any(|start| {
            start.iter().zip(directory.components()).all(|(expected, name)| **expected == *name.as_bytes())
        })
    }
}

/// The names with which a pattern begins for certain.
fn start_of(pattern: &str, ignoring_case: bool) -> Vec<Box<[u8]>> {
    match pattern.strip_prefix('/') {
        Some(body) if !ignoring_case => body
            .trim_end()
            .split('/')
            .take_while(|name| !name.is_empty() && !name.contains(['*', '?', '[', '{', '\\']))
            .map(|name| name.as_bytes().into())
            .collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> TreePath {
        TreePath::parse(text.as_bytes()).unwrap()
    }

    fn name(text: &str) -> Name {
        Name::new(text.as_bytes()).unwrap()
    }

    fn filter(excludes: &[&str]) -> Filter {
        let mut builder = FilterBuilder::new();
        for exclude in excludes {
            builder.exclude(exclude, false).unwrap();
        }
        builder.build().unwrap()
    }

    /// Whether a descent keeps the path, whose directories have these ignore files.
    fn keeps(filter: &Filter, ignore_files: &[(&str, &str)], text: &str, is_directory: bool) -> bool {
        let whole = path(text);
        let mut scope = filter.root();
        let mut at = TreePath::root();
        loop {
            let contents = ignore_files.iter().find(|(directory, _)| path(directory) == at);
            let mut refused = Vec::new();
            scope = scope.enter(&at, contents.map(|(_, contents)| contents.as_bytes()), &mut refused);
            assert_eq!(refused, []);
            at = whole
                .components()
                .take(at.components().count() + 1)
                .fold(TreePath::root(), |at, name| at.join(&name));
            let is_last = at == whole;
            if scope.decides(&at, !is_last || is_directory, 0) != Decision::Keep {
                return false;
            }
            if is_last {
                return true;
            }
        }
    }

    #[test]
    fn patterns_have_the_syntax_of_gitignore() {
        let cases = [
            ("*.o", "home/a/x.o", false, false),
            ("*.o", "home/a/x.c", false, true),
            ("*.o", "home/x.o/in", false, false),
            ("cache/", "home/cache", true, false),
            ("cache/", "home/cache", false, true),
            ("/home/a", "home/a/deep/file", false, false),
            ("/home/a", "other/home/a", false, true),
            ("node_modules/.cache", "home/anna/node_modules/.cache", true, false),
            ("**/tmp/**", "home/tmp", true, true),
            ("**/tmp/**", "home/tmp/x", false, false),
            ("a[0-9].txt", "b/a7.txt", false, false),
            ("#notes#", "home/#notes#", false, false),
            ("\\!odd", "home/!odd", false, false),
            ("what ever", "what ever", false, false),
        ];
        for (pattern, text, is_directory, kept) in cases {
            assert_eq!(keeps(&filter(&[pattern]), &[], text, is_directory), kept, "{pattern} of {text}");
        }
    }

    #[test]
    fn the_last_pattern_that_matches_decides() {
        let filter = filter(&["*.log", "!keep.log", "/var/keep.log"]);
        assert!(!keeps(&filter, &[], "a/x.log", false));
        assert!(keeps(&filter, &[], "a/keep.log", false));
        assert!(!keeps(&filter, &[], "var/keep.log", false));
    }

    #[test]
    fn the_case_of_letters_is_ignored_only_where_asked() {
        let mut builder = FilterBuilder::new();
        builder.exclude("*.TMP", true).unwrap().exclude("*.Bak", false).unwrap();
        let filter = builder.build().unwrap();
        assert!(!keeps(&filter, &[], "a/x.tmp", false));
        assert!(!keeps(&filter, &[], "a/x.Bak", false));
        assert!(keeps(&filter, &[], "a/x.bak", false));
    }

    #[test]
    fn names_that_are_not_text_are_matched_by_their_bytes() {
        let filter = filter(&["*.tmp"]);
        let hostile = TreePath::parse(b"home/\xff\xfe\n\x1b.tmp").unwrap();
        assert_eq!(filter.root().decides(&hostile, false, 0), Decision::Leave(Reason::Pattern));
        let other = TreePath::parse(b"home/\xff\xfe\n\x1b.txt").unwrap();
        assert_eq!(filter.root().decides(&other, false, 0), Decision::Keep);
    }

    #[test]
    fn an_ignore_file_holds_for_its_directory_and_nearer_ones_override_it() {
        let none = filter(&[]);
        let files = [
            ("", "*.iso\n"),
            ("home", "# comment\n\n*.tmp\n/only-here\nbuild/out\r\n"),
            ("home/anna", "!wanted.tmp\n!*.iso\n"),
        ];
        let cases = [
            ("x.tmp", true),
            ("home/x.tmp", false),
            ("home/anna/x.tmp", false),
            ("home/anna/wanted.tmp", true),
            ("home/anna/deep/wanted.tmp", true),
            ("home/wanted.tmp", false),
            ("home/only-here", false),
            ("home/anna/only-here", true),
            ("home/build/out", false),
            // As git has it: a slash in the middle ties a pattern to its directory.
            ("home/anna/build/out", true),
            ("x.iso", false),
            ("home/anna/x.iso", true),
            ("home/bert/x.iso", false),
        ];
        for (text, kept) in cases {
            assert_eq!(keeps(&none, &files, text, false), kept, "{text}");
        }
        // What is given for the whole backup goes before all ignore files, either way.
        assert!(!keeps(&filter(&["wanted.tmp"]), &files, "home/anna/wanted.tmp", false));
        assert!(keeps(&filter(&["!x.tmp"]), &files, "home/x.tmp", false));
    }

    #[test]
    fn a_line_that_is_no_pattern_is_reported_and_the_others_hold() {
        let mut refused = Vec::new();
        let contents = b"*.tmp\n\xff\xfe\n../up\na{b\n*.log\n";
        let scope = filter(&[]).root().enter(&path("home"), Some(contents), &mut refused);
        let lines: Vec<String> = refused.iter().map(ToString::to_string).collect();
        assert_eq!(lines.len(), 3, "{lines:?}");
        assert_eq!(lines[0], "/home/.strongroomignore line 2: \\xff\\xfe is no pattern: it is not UTF-8");
        assert!(lines[1].starts_with("/home/.strongroomignore line 3: ../up is no pattern: "), "{lines:?}");
        assert!(lines[2].starts_with("/home/.strongroomignore line 4: a{b is no pattern: "), "{lines:?}");
        let left = Decision::Leave(Reason::IgnoreFile);
        assert_eq!(scope.decides(&path("home/x.tmp"), false, 0), left);
        assert_eq!(scope.decides(&path("home/x.log"), false, 0), left);
    }

    #[test]
    fn patterns_that_can_never_match_are_refused() {
        for pattern in ["", "  ", "./a", "a/../b", "a{b"] {
            let refused = FilterBuilder::new().exclude(pattern, false).map(drop);
            assert!(matches!(refused, Err(Error::Pattern { .. })), "{pattern:?}");
        }
        let mut builder = FilterBuilder::new();
        let refused = builder.exclude_lines(b"/etc/excludes", b"\n*.o\n./x\n", false).map(drop).unwrap_err();
        assert!(refused.to_string().starts_with("/etc/excludes line 3: ./x is no pattern: "), "{refused}");
        builder.exclude_lines(b"/etc/excludes", b"# c\n*.a\n!b.a", false).unwrap();
        let filter = builder.build().unwrap();
        assert!(!keeps(&filter, &[], "x/a.a", false));
        assert!(keeps(&filter, &[], "x/b.a", false));
    }

    #[test]
    fn of_a_marked_directory_only_the_marker_is_kept() {
        let mut builder = FilterBuilder::new();
        builder.exclude_caches().exclude_if_present(Marker::parse(".nobackup:yes: please").unwrap());
        let filter = builder.build().unwrap();
        let [cache, other] = filter.markers() else { panic!("two markers were given") };
        assert_eq!((cache.name.as_bytes(), cache.header.len()), (&b"CACHEDIR.TAG"[..], 43));
        assert_eq!((other.name.as_bytes(), &*other.header), (&b".nobackup"[..], &b"yes: please"[..]));
        let scope = filter.root().marked(cache);
        assert_eq!(scope.decides(&path("c/CACHEDIR.TAG"), false, 9), Decision::Keep);
        assert_eq!(scope.decides(&path("c/thumbs"), true, 0), Decision::Leave(Reason::Marked));
        for wrong in ["", ":x", "a/b", ".."] {
            assert_eq!(Marker::parse(wrong), Err(Error::Marker(wrong.to_owned())));
        }
    }

    #[test]
    fn only_files_are_too_large() {
        let mut builder = FilterBuilder::new();
        builder.exclude_larger_than(100);
        let scope = builder.build().unwrap().root();
        assert_eq!(scope.decides(&path("a"), false, 100), Decision::Keep);
        assert_eq!(scope.decides(&path("a"), false, 101), Decision::Leave(Reason::TooLarge));
        assert_eq!(scope.decides(&path("a"), true, 101), Decision::Keep);
    }

    #[test]
    fn a_scope_as_deep_as_a_hostile_tree_is_dropped_without_recursion() {
        let mut scope = filter(&[]).root();
        let name = name("d");
        let mut directory = TreePath::root();
        for _ in 0..20_000 {
            scope = scope.enter(&directory, Some(b"x"), &mut Vec::new());
            if directory.as_bytes().len() < 100 {
                directory.push(&name);
            }
        }
        drop(scope);
        let mut builder = FilterBuilder::new();
        builder.without_ignore_files();
        let filter = builder.build().unwrap();
        assert_eq!(filter.ignore_file(), None);
        let scope = filter.root().enter(&directory, Some(b"x"), &mut Vec::new());
        assert_eq!(scope.decides(&directory.join(&Name::new(b"x").unwrap()), false, 0), Decision::Keep);
    }

    fn choose(selection: &Selection, text: &str, is_directory: bool) -> Choice {
        let whole = path(text);
        let count = whole.components().count();
        let mut at = TreePath::root();
        let mut choice = selection.root();
        for (index, name) in whole.components().enumerate() {
            at.push(&name);
            if choice == Choice::Skip {
                return choice;
            }
            choice = selection.decides(&at, index + 1 < count || is_directory, choice);
        }
        choice
    }

    #[test]
    fn a_selection_descends_only_where_something_can_be_wanted() {
        let rooted =
            Selection::new(&[("/home/anna/*.jpg", false), ("/etc", false)], &[("*.bak", false)]).unwrap();
        let cases = [
            ("home", true, Choice::Descend),
            ("home/anna", true, Choice::Descend),
            ("home/anna/a.jpg", false, Choice::Take),
            ("home/anna/a.png", false, Choice::Skip),
            ("home/bert", true, Choice::Skip),
            ("home", false, Choice::Skip),
            ("etc", true, Choice::Take),
            ("etc/deep/er", false, Choice::Take),
            ("etc/deep/x.bak", false, Choice::Skip),
            ("var", true, Choice::Skip),
        ];
        for (text, is_directory, choice) in cases {
            assert_eq!(choose(&rooted, text, is_directory), choice, "{text}");
        }
        let anywhere = Selection::new(&[("*.JPG", true), ("photos/2021", false)], &[]).unwrap();
        assert_eq!(choose(&anywhere, "some/where", true), Choice::Descend);
        assert_eq!(choose(&anywhere, "some/where/x.jpg", false), Choice::Take);
        assert_eq!(choose(&anywhere, "a/photos/2021/x", false), Choice::Take);
        assert_eq!(choose(&anywhere, "a/photos/2022/x", false), Choice::Skip);
        let everything = Selection::new(&[], &[("/home/anna", false)]).unwrap();
        assert_eq!(choose(&everything, "home/bert/x", false), Choice::Take);
        assert_eq!(choose(&everything, "home/anna/x", false), Choice::Skip);
    }
}
