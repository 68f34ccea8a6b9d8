//! Output of commands. All text from servers and lakes is made fit for a terminal first.

use std::io::{self, Write as _};

use serde::Serialize;

pub(crate) use headrace_client::text::{error_chain, printable, printable_json, printable_lines, shorten};

/// Returns a value as indented JSON that is fit for a terminal, with a line feed.
pub(crate) fn json_text(value: &impl Serialize) -> Result<String, serde_json::Error> {
    Ok(printable_json(&serde_json::to_string_pretty(value)?).into_owned() + "\n")
}

/// Prints the result of a command to standard output. A closed pipe is not an error: the reader has seen enough.
pub(crate) fn print_result(text: &str) {
    print_escaped(&printable_lines(text));
}

/// Prints a result whose texts from outside are escaped already, as one must be that has colors.
pub(crate) fn print_escaped(text: &str) {
    drop(io::stdout().write_all(text.as_bytes()));
}
