//! Text from servers and lakes, made fit for a terminal or a log. All output that repeats such text goes through here.

use std::borrow::Cow;
use std::error::Error;

/// Longest text of a server that one message repeats, in characters.
const MAX_CHARS: usize = 2_000;

/// Returns the text with every control character, and every character that changes the direction or the lines of text, as an escape
/// such as `\u{1b}`. A server could otherwise move the cursor, set the title or the clipboard of a terminal, or fake lines.
pub fn printable(text: &str) -> Cow<'_, str> {
    escape(text, is_unsafe)
}

/// Returns the text like [`printable`], but keeps line feeds: for messages of our own that have several lines.
pub fn printable_lines(text: &str) -> Cow<'_, str> {
    escape(text, |letter| letter != '\n' && is_unsafe(letter))
}

/// Returns JSON with the same meaning that is fit for a terminal. JSON itself escapes only some of the characters, and it has them in
/// strings only.
pub fn printable_json(json: &str) -> Cow<'_, str> {
    let must_escape = |letter| letter != '\n' && is_unsafe(letter);
    if !json.chars().any(must_escape) {
        return Cow::Borrowed(json);
    }
    let mut output = String::with_capacity(json.len() + 16);
    for letter in json.chars() {
        if must_escape(letter) {
            letter.encode_utf16(&mut [0; 2]).iter().for_each(|unit| output += &format!("\\u{unit:04x}"));
        } else {
            output.push(letter);
        }
    }
    Cow::Owned(output)
}

/// Returns the printable beginning of a text that a server sent, up to 2,000 characters.
pub fn excerpt(text: &str) -> String {
    shorten(text, MAX_CHARS)
}

/// Returns the printable beginning of a text, with an ellipsis if it is longer than `max` characters.
pub fn shorten(text: &str, max: usize) -> String {
    let text = text.trim();
    match text.char_indices().nth(max) {
        Some((end, _)) => format!("{}…", printable(text.get(..end).unwrap_or_default())),
        None => printable(text).into_owned(),
    }
}

/// Formats an error and its causes in one line, fit for a terminal.
pub fn error_chain(error: &dyn Error) -> String {
    printable_lines(&headrace_core::vocab::error::error_chain(error)).into_owned()
}

/// Replaces each character for which `must_escape` returns true by its Unicode escape, such as `\u{1b}`.
fn escape(text: &str, must_escape: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.chars().any(&must_escape) {
        return Cow::Borrowed(text);
    }
    let mut output = String::with_capacity(text.len() + 16);
    for letter in text.chars() {
        if must_escape(letter) { output.extend(letter.escape_unicode()) } else { output.push(letter) }
    }
    Cow::Owned(output)
}

/// Returns true if a character can change more on a terminal than the cell in which it stands.
fn is_unsafe(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_that_control_a_terminal_are_escaped() {
        for (text, expected) in [
            ("plain ümlaut 日本 👩‍⚕️", "plain ümlaut 日本 👩‍⚕️"),
            ("\u{1b}]0;title\u{7}", "\\u{1b}]0;title\\u{7}"),
            ("\u{9b}2J", "\\u{9b}2J"),
            ("a\r\nb\tc\u{7f}", "a\\u{d}\\u{a}b\\u{9}c\\u{7f}"),
            ("\u{202e}gpj.exe", "\\u{202e}gpj.exe"),
            ("a\u{2028}b\u{2066}c\u{feff}", "a\\u{2028}b\\u{2066}c\\u{feff}"),
        ] {
            assert_eq!(printable(text), expected);
        }
        assert_eq!(printable_lines("a\nb\u{1b}"), "a\nb\\u{1b}");
    }

    #[test]
    fn json_keeps_its_meaning() {
        let value = serde_json::json!({ "a\u{9b}": ["\u{1b}[2J", "\u{202e}x", "\u{e0041}", "ümlaut\n"] });
        for json in [value.to_string(), format!("{value:#}")] {
            let printable = printable_json(&json);
            assert_eq!(serde_json::from_str::<serde_json::Value>(&printable).unwrap(), value);
            assert_eq!(printable_lines(&printable), printable, "nothing is left to escape");
        }
        assert!(matches!(printable_json("{}"), Cow::Borrowed(_)));
    }

    #[test]
    fn a_long_text_is_cut_at_a_character() {
        assert_eq!(shorten("äöü", 2), "äö…");
        assert_eq!(shorten(" äö ", 2), "äö");
        assert_eq!(excerpt(&"\u{1b}".repeat(9_000)).chars().count(), 6 * MAX_CHARS + 1);
    }
}
