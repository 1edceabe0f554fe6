//! Pages to print or to keep: each one file of HTML, with no script and nothing from elsewhere.

use zeroize::Zeroizing;

use crate::cli::failure::one_line;

const HEAD: &str = "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>";
/// Dark on white and in one column, on a screen as on paper; each sheet begins a page of paper.
const STYLE: &str = "</title>\n<style>\n\
    body { font: 10pt/1.35 sans-serif; color: #000; background: #fff; max-width: 17cm; margin: 1cm auto; }\n\
    h1 { font-size: 18pt; margin: 0 0 3mm; } h2 { font-size: 13pt; margin: 5mm 0 1.5mm; break-after: avoid; }\n\
    p { margin: 0 0 2mm; } ol, ul { margin: 0; } dt { font-weight: bold; } dd { margin: 0; }\n\
    dl { display: grid; grid-template-columns: max-content 1fr; gap: 1.5mm 4mm; margin: 0; }\n\
    li { margin: 0 0 1.5mm; break-inside: avoid; }\n\
    code, pre, .secret { font-family: monospace; overflow-wrap: anywhere; }\n\
    pre { margin: 1mm 0; padding: 1.5mm 2mm; background: #eee; white-space: pre-wrap; break-inside: avoid; }\n\
    .word { white-space: nowrap; }\n\
    .key { display: flex; align-items: center; gap: 5mm; break-inside: avoid; }\n\
    .secret { font-size: 13pt; font-weight: bold; border: 1px solid #000; padding: 3mm; margin: 0; flex: 1; }\n\
    .qr { width: 4cm; flex: none; }\n\
    @media print { @page { margin: 1.5cm; } body { margin: 0; max-width: none; padding-right: 1mm; }\n\
    .sheet + .sheet { break-before: page; } pre { border: 1px solid #999; background: none; } }\n\
    </style>\n</head>\n<body>\n";
const FOOT: &str = "</body>\n</html>\n";

/// Text as it stands in an element or an attribute; what would move a cursor is shown as in a terminal.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in one_line(text).chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            _ => safe.push(character),
        }
    }
    safe
}

/// The longest word that is kept in one piece, in characters: it fits on a line of any page.
const WORD_CHARACTERS_MAX: usize = 60;

/// A command as a block of its own. It is broken between words alone, so that no option is torn apart at one of
/// its dashes; only a word that fits on no line is broken anywhere.
#[must_use]
pub fn command(text: &str) -> String {
    let words: Vec<String> = text.split(' ').map(word).collect();
    format!("<pre>{}</pre>", words.join(" "))
}

fn word(word: &str) -> String {
    let safe = escape(word);
    let is_breakable = word.chars().count() > WORD_CHARACTERS_MAX || !word.contains('-');
    if is_breakable { safe } else { format!("<span class=\"word\">{safe}</span>") }
}

/// A sentence as the terminal has it, as HTML: what stands between backticks is code, and options stay whole.
#[must_use]
pub fn prose(text: &str) -> String {
    let piece = |(at, piece): (usize, &str)| {
        let words: Vec<String> = piece.split(' ').map(word).collect();
        let words = words.join(" ");
        if at % 2 == 1 { format!("<code>{words}</code>") } else { words }
    };
    text.split('`').enumerate().map(piece).collect()
}

/// A whole page; `parts` are HTML already. What is in it may be a secret, so it has its room from the start
/// and leaves nothing behind.
#[must_use]
pub fn page(title: &str, parts: &[&str]) -> Zeroizing<String> {
    let title = escape(title);
    let around = HEAD.len() + title.len() + STYLE.len() + FOOT.len();
    let length = around + parts.iter().map(|part| part.len()).sum::<usize>();
    let mut page = Zeroizing::new(String::with_capacity(length));
    for part in [HEAD, &title, STYLE].iter().chain(parts).chain(&[FOOT]) {
        page.push_str(part);
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_code_and_broken_between_words_alone() {
        assert_eq!(
            command("strongroom --vault a<b"),
            "<pre>strongroom <span class=\"word\">--vault</span> a&lt;b</pre>"
        );
        assert_eq!(prose("run `strongroom verify` & look"), "run <code>strongroom verify</code> &amp; look");
        assert_eq!(prose("with --last"), "with <span class=\"word\">--last</span>");
        let long = "a-".repeat(40);
        assert_eq!(command(&long), format!("<pre>{long}</pre>"));
    }

    #[test]
    fn names_can_not_end_what_they_stand_in() {
        assert_eq!(
            escape("<img src=x onerror='a'>&\"\n"),
            "&lt;img src=x onerror=&#39;a&#39;&gt;&amp;&quot;\\n"
        );
        let page = page("<b>", &["<p>x</p>\n"]);
        assert!(page.contains("<title>&lt;b&gt;</title>") && page.ends_with("<p>x</p>\n</body>\n</html>\n"));
        assert_eq!(page.capacity(), page.len());
    }
}
