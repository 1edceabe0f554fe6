//! Pages to print or to keep: each one file of HTML, with no script and nothing from elsewhere.

use zeroize::Zeroizing;

use crate::cli::failure::one_line;

const HEAD: &str = "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>";
/// Dark on white and in one column, on a screen as on paper; each sheet begins a page of paper.
const STYLE: &str = "</title>\n<style>\n\
    body { font: 11pt/1.4 sans-serif; color: #000; background: #fff; max-width: 17cm; margin: 1cm auto; }\n\
    h1 { font-size: 18pt; margin: 0 0 4mm; } h2 { font-size: 13pt; margin: 6mm 0 2mm; }\n\
    code, .secret { font-family: monospace; overflow-wrap: anywhere; }\n\
    .secret { font-size: 14pt; font-weight: bold; border: 1px solid #000; padding: 3mm; }\n\
    .qr { width: 6cm; margin: 4mm 0; } dt { font-weight: bold; } dd { margin: 0 0 2mm; } li { margin: 0 0 2mm; }\n\
    @media print { @page { margin: 1.5cm; } body { margin: 0; } .sheet + .sheet { break-before: page; } }\n\
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
