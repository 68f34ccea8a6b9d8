//! Reads the downloaded `error` files of an export: what was skipped, and what the server has to say.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader};

use serde::Deserialize;

use crate::client::bulk::DownloadedFile;
use crate::terminal::shorten;

/// The largest number of notices that are shown.
const MAX_NOTICES: usize = 5;

/// The largest number of characters of a notice that are shown.
const MAX_NOTICE_CHARS: usize = 600;

/// The content of the `error` files.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ErrorLines {
    /// The number of lines that report an error.
    pub errors: u64,
    /// The texts of lines that only inform, without duplicates.
    pub notices: BTreeSet<String>,
}

/// The members of an OperationOutcome that tell an error from a notice.
#[derive(Deserialize)]
struct Outcome {
    issue: Vec<Issue>,
}

#[derive(Deserialize)]
struct Issue {
    severity: String,
    #[serde(default)]
    diagnostics: String,
}

impl ErrorLines {
    /// Reads the `error` files among the downloaded files, line by line.
    pub fn read(files: &[DownloadedFile]) -> io::Result<Self> {
        let mut lines = Self::default();
        for file in files.iter().filter(|file| file.is_error) {
            for line in BufReader::new(File::open(&file.path)?).split(b'\n') {
                lines.add(&line?);
            }
        }
        Ok(lines)
    }

    /// Adds a line. A line that cannot be parsed counts as an error, since the server has put it into this file.
    fn add(&mut self, line: &[u8]) {
        if line.trim_ascii().is_empty() {
            return;
        }
        let outcome = serde_json::from_slice::<Outcome>(line).ok();
        let is_notice = |outcome: &Outcome| !outcome.issue.is_empty() && outcome.issue.iter().all(|issue| issue.severity == "information");
        match outcome.filter(is_notice) {
            None => self.errors += 1,
            Some(outcome) => {
                for issue in outcome.issue {
                    if self.notices.len() < MAX_NOTICES {
                        // The text comes from a server and goes to a terminal.
                        self.notices.insert(shorten(&issue.diagnostics, MAX_NOTICE_CHARS));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_informs_only_if_all_of_its_issues_do() {
        let mut lines = ErrorLines::default();
        for line in [
            r#"{"resourceType":"OperationOutcome","issue":[{"severity":"information","code":"informational","diagnostics":"3 changes\u001b[2J"}]}"#,
            r#"{"resourceType":"OperationOutcome","issue":[{"severity":"information","code":"informational","diagnostics":"3 changes\u001b[2J"}]}"#,
            r#"{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"structure","diagnostics":"not a resource"}]}"#,
            r#"{"resourceType":"OperationOutcome","issue":[{"severity":"information"},{"severity":"error"}]}"#,
            r#"{"resourceType":"OperationOutcome","issue":[]}"#,
            "not JSON",
            "",
        ] {
            lines.add(line.as_bytes());
        }
        assert_eq!(lines, ErrorLines { errors: 4, notices: BTreeSet::from(["3 changes\\u{1b}[2J".to_owned()]) });
    }

    #[test]
    fn the_number_of_notices_is_bounded() {
        let mut lines = ErrorLines::default();
        for n in 0..100 {
            lines.add(format!(r#"{{"issue":[{{"severity":"information","diagnostics":"{n}{}"}}]}}"#, "x".repeat(10_000)).as_bytes());
        }
        assert_eq!((lines.errors, lines.notices.len()), (0, MAX_NOTICES));
        assert!(lines.notices.iter().all(|notice| notice.chars().count() <= MAX_NOTICE_CHARS + 1));
    }
}
