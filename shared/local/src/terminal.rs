//! Output of commands. All text from servers and lakes is made fit for a terminal first.

use std::io::{self, Write as _};

use serde::Serialize;

pub(crate) use headrace_client::text::{error_chain, printable, printable_json, printable_lines, shorten};

/// Returns a value as indented JSON that is fit for a terminal, with a line feed.
pub(crate) fn json_text(value: &impl Serialize) -> Result<String, serde_json::Error> {
    Ok(printable_json(&serde_json::to_string_pretty(value)?).into_owned() + "\n")
}

/// The first error of standard output. Commands print in many places, and the program chooses its exit status in one.
static OUTPUT_FAULT: std::sync::OnceLock<io::Error> = std::sync::OnceLock::new();

/// Returns the first error of standard output. The result of the command is lost then.
pub(crate) fn output_fault() -> Option<&'static io::Error> {
    OUTPUT_FAULT.get()
}

/// Prints the result of a command to standard output. A closed pipe is not an error: the reader has seen enough. Any other error is
/// [`output_fault`] from then on.
pub(crate) fn print_result(text: &str) {
    print_escaped(&printable_lines(text));
}

/// Prints a result whose texts from outside are escaped already, as one must be that has colors.
pub(crate) fn print_escaped(text: &str) {
    let mut output = io::stdout();
    // Without the flush, the end of a text without a line feed would be written when the program ends, which ignores errors.
    let written = output.write_all(text.as_bytes()).and_then(|()| output.flush());
    if let Some(error) = written.err().filter(|error| error.kind() != io::ErrorKind::BrokenPipe) {
        drop(OUTPUT_FAULT.set(error));
    }
}
