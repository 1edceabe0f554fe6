//! QR codes of short texts: drawn in a terminal, or as a picture in a page to print.
//!
//! What is drawn may be a secret. The drawings wipe themselves; what the encoder needed meanwhile does
//! not, and neither does a terminal.

use std::fmt::Write as _;

use qrcodegen::QrCode;
use qrcodegen::QrCodeEcc;
use zeroize::Zeroizing;

/// Modules of light around the code, which readers need to find it.
const QUIET: usize = 4;
/// Black on white whatever the terminal's own colours are: dark on light is what readers expect.
const PAPER: &str = "\x1b[38;5;16;48;5;231m";
const RESET: &str = "\x1b[0m";

/// A QR code: a square of modules, dark and light, its quiet zone included.
pub struct Qr {
    code: QrCode,
    side: usize,
}

impl Qr {
    /// The code that reads as `text`, which a quarter of it may be damaged for; nothing if the text is
    /// too long. Capitals, digits and `-:/. $%*+` take the least room.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let code = QrCode::encode_text(text, QrCodeEcc::Quartile).ok()?;
        let side = usize::try_from(code.size()).ok()? + 2 * QUIET;
        Some(Self { code, side })
    }

    /// How many modules its sides have.
    #[must_use]
    pub fn side(&self) -> usize {
        self.side
    }

    /// Lines for a terminal, two rows of modules each, that set their colours.
    #[must_use]
    pub fn terminal(&self) -> Zeroizing<String> {
        self.lines(PAPER, RESET)
    }

    /// Lines of plain characters, to be seen dark on light.
    #[must_use]
    pub fn plain(&self) -> Zeroizing<String> {
        self.lines("", "")
    }

    /// One `<svg>` element as wide as whatever it stands in, for a page of HTML or a file of its own.
    #[must_use]
    pub fn svg(&self) -> Zeroizing<String> {
        let side = self.side;
        let mut path = Zeroizing::new(String::with_capacity(side * side * 8));
        for y in 0..side {
            let mut x = 0;
            while x < side {
                let width = (x..side).take_while(|x| self.is_dark(*x, y)).count();
                if width > 0 {
                    let _ = write!(path, "M{x} {y}h{width}v1h-{width}z");
                }
                x += width + 1;
            }
        }
        // With room for all of it from the start: what grows leaves copies behind.
        let mut svg = Zeroizing::new(String::with_capacity(path.len() + 256));
        let _ = write!(
            svg,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {side} {side}\" shape-rendering=\"crispEdges\">\
             <rect width=\"{side}\" height=\"{side}\" fill=\"#fff\"/><path fill=\"#000\" d=\"{}\"/></svg>",
            *path
        );
        svg
    }

    fn lines(&self, before: &str, after: &str) -> Zeroizing<String> {
        let lines = self.side.div_ceil(2);
        let line_bytes = before.len() + self.side * '█'.len_utf8() + after.len() + 1;
        let mut text = Zeroizing::new(String::with_capacity(lines * line_bytes));
        for y in (0..self.side).step_by(2) {
            text.push_str(before);
            for x in 0..self.side {
                // Below the last row, if there are an odd number, it is light.
                text.push(match (self.is_dark(x, y), self.is_dark(x, y + 1)) {
                    (true, true) => '█',
                    (true, false) => '▀',
                    (false, true) => '▄',
                    (false, false) => ' ',
                });
            }
            text.push_str(after);
            text.push('\n');
        }
        text
    }

    /// Whether a module is dark; those of the quiet zone and beyond are not.
    fn is_dark(&self, x: usize, y: usize) -> bool {
        let inside = |at: usize| at.checked_sub(QUIET).and_then(|at| i32::try_from(at).ok());
        matches!((inside(x), inside(y)), (Some(x), Some(y)) if self.code.get_module(x, y))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::card::Card;
    use crate::crypto::secret::Secret;
    use crate::crypto::text::encode_recovery_code;

    /// What another program reads in a picture whose modules are 3 pixels wide.
    fn read(side: usize, is_dark: impl Fn(usize, usize) -> bool) -> String {
        let mut picture = rqrr::PreparedImage::prepare_from_greyscale(side * 3, side * 3, |x, y| {
            if is_dark(x / 3, y / 3) { 0 } else { 255 }
        });
        let grids = picture.detect_grids();
        assert_eq!(grids.len(), 1);
        grids[0].decode().unwrap().1
    }

    /// The modules that lines of half blocks show.
    fn modules(lines: &str) -> Vec<Vec<bool>> {
        let half = |line: &str, blocks: [char; 2]| line.chars().map(|c| blocks.contains(&c)).collect();
        lines.lines().flat_map(|line| [half(line, ['█', '▀']), half(line, ['█', '▄'])]).collect()
    }

    /// The modules that the path of a drawing fills.
    fn filled(svg: &str, side: usize) -> Vec<Vec<bool>> {
        let mut modules = vec![vec![false; side]; side];
        let (_, path) = svg.split_once("d=\"M").unwrap();
        for run in path.split('"').next().unwrap().trim_end_matches('z').split("zM") {
            let (corner, shape) = run.split_once('h').unwrap();
            let (x, y) = corner.split_once(' ').unwrap();
            let (x, y): (usize, usize) = (x.parse().unwrap(), y.parse().unwrap());
            let width: usize = shape.split_once('v').unwrap().0.parse().unwrap();
            assert_eq!(shape, format!("{width}v1h-{width}"));
            modules[y][x..x + width].fill(true);
        }
        modules
    }

    #[test]
    fn a_card_and_a_recovery_code_are_read_back_from_every_drawing() {
        let (_, cards) = Card::deal(2, 3).unwrap();
        for text in [cards[0].encode(), encode_recovery_code(&Secret::generate())] {
            let qr = Qr::new(&text).unwrap();
            let side = qr.side();
            let lines = modules(&qr.plain());
            let drawn = filled(&qr.svg(), side);
            assert_eq!(read(side, |x, y| lines[y][x]), *text);
            assert_eq!(read(side, |x, y| drawn[y][x]), *text);
            // The terminal's lines are the plain ones between colours.
            let coloured = qr.terminal();
            assert!(coloured.lines().all(|line| line.starts_with(PAPER) && line.ends_with(RESET)));
            assert_eq!(coloured.replace(PAPER, "").replace(RESET, ""), *qr.plain());
        }
    }

    #[test]
    fn a_code_stands_in_four_modules_of_light_and_fits_a_terminal() {
        let (_, cards) = Card::deal(2, 3).unwrap();
        let qr = Qr::new(&cards[0].encode()).unwrap();
        // 101 characters of the alphanumeric mode: version 6, 41 modules.
        assert_eq!((qr.side(), qr.plain().lines().count()), (49, 25));
        for at in 0..49 {
            for edge in [0, 1, 2, 3, 45, 46, 47, 48, 49] {
                assert!(!qr.is_dark(at, edge) && !qr.is_dark(edge, at));
            }
        }
        assert!(qr.is_dark(4, 4) && qr.is_dark(44, 4) && qr.is_dark(4, 44));
        assert!(qr.plain().lines().all(|line| line.chars().count() == 49));
    }

    #[test]
    fn the_picture_is_one_path_on_white() {
        let svg = Qr::new("A").unwrap().svg();
        let start = "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 29 29\" shape-rendering=\"crispEdges\">\
            <rect width=\"29\" height=\"29\" fill=\"#fff\"/><path fill=\"#000\" d=\"M4 4h7v1h-7z";
        assert!(svg.starts_with(start) && svg.ends_with("z\"/></svg>"), "{}", *svg);
        assert_eq!(svg.matches('<').count(), 4);
    }

    #[test]
    fn what_is_too_long_has_no_code() {
        assert!(Qr::new(&"A".repeat(2_420)).is_some());
        assert!(Qr::new(&"A".repeat(2_421)).is_none());
        // A recipient of age, in small letters.
        assert!(Qr::new(&"a".repeat(1_959)).is_none());
    }
}
