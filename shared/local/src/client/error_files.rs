//! Reads the downloaded `error` files of an export: how many outcomes there are of each severity and code, and what the server has to say.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead as _, Read as _};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::client::bulk::DownloadedFile;
use crate::client::exported_lines::open_lines;
use crate::client::file_names::FileList;
use crate::client::rejection::TRANSIENT_CODES;
use crate::terminal::shorten;

/// The largest number of texts of one severity that are shown.
const MAX_TEXTS: usize = 5;

/// The largest number of characters of a text that are shown.
const MAX_TEXT_CHARS: usize = 600;

/// The largest number of codes of one severity that are counted separately.
const MAX_CODES: usize = 20;

/// The largest number of characters of a code.
const MAX_CODE_CHARS: usize = 40;

/// The longest line that is parsed, in bytes. Our own are short. A longer one cannot be read.
const MAX_LINE_BYTES: u64 = 1 << 20;

/// The child of `transient` that [`TRANSIENT_CODES`] lacks.
const EXCEPTION: &str = "exception";

/// The severity of an OperationOutcome: the highest one of its issues.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum OutcomeSeverity {
    /// The issue succeeded, and its text is worth knowing.
    Information,
    /// The data has a fault, but nothing failed.
    Warning,
    /// A part of the export is missing. Also a line that cannot be read, since the server has put it into this file.
    Error,
}

impl OutcomeSeverity {
    /// Parses a severity of FHIR. One that FHIR does not have counts as an error.
    fn parse(text: &str) -> Self {
        match text {
            "information" | "success" => Self::Information,
            "warning" => Self::Warning,
            _ => Self::Error,
        }
    }

    /// Returns the severity as FHIR spells it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Information => "information",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// The number of outcomes of one severity and code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct OutcomeCount {
    pub(crate) severity: OutcomeSeverity,
    pub(crate) code: String,
    pub(crate) count: u64,
}

/// The content of the `error` files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcomes {
    counts: BTreeMap<(OutcomeSeverity, String), u64>,
    /// Texts of lines that are not errors, without duplicates.
    texts: BTreeMap<OutcomeSeverity, BTreeSet<String>>,
    /// Names of the files that have outcomes of a severity.
    files: BTreeMap<OutcomeSeverity, BTreeSet<String>>,
    /// True if an error may pass without a repair.
    has_temporary_error: bool,
}

/// The code of a line that is not an OperationOutcome with issues.
const UNREADABLE: &str = "unreadable line";

/// The members of an OperationOutcome that distinguish an error from a notice.
#[derive(Deserialize)]
struct Outcome {
    issue: Vec<Issue>,
}

/// An issue of an OperationOutcome. A member that is not a text must not hide the others.
#[derive(Deserialize)]
struct Issue {
    #[serde(default)]
    severity: Value,
    #[serde(default)]
    code: Value,
    #[serde(default)]
    diagnostics: Value,
}

impl Issue {
    /// Returns the severity.
    fn severity(&self) -> OutcomeSeverity {
        OutcomeSeverity::parse(self.severity.as_str().unwrap_or_default())
    }

    /// Returns the code, or an empty text without one.
    fn code(&self) -> &str {
        self.code.as_str().unwrap_or_default().trim()
    }

    /// Returns true for an error that may pass without a repair. An error without a code may be of any kind.
    fn is_temporary_error(&self) -> bool {
        let may_pass =
            |code: &str| code.is_empty() || TRANSIENT_CODES.iter().chain([&EXCEPTION]).any(|other| other.eq_ignore_ascii_case(code));
        self.severity() == OutcomeSeverity::Error && may_pass(self.code())
    }
}

impl Outcomes {
    /// Reads the `error` files among the downloaded files, line by line.
    pub(crate) fn read(files: &[DownloadedFile]) -> io::Result<Self> {
        let mut outcomes = Self::default();
        for file in files.iter().filter(|file| file.list == FileList::Error) {
            let mut lines = open_lines(&file.path)?;
            while let Some(line) = next_line(&mut lines)? {
                outcomes.add(&line, &file.name);
            }
        }
        Ok(outcomes)
    }

    /// Adds a line of a file.
    pub(crate) fn add(&mut self, line: &[u8], file: &str) {
        if line.trim_ascii().is_empty() {
            return;
        }
        let issues = serde_json::from_slice::<Outcome>(line).map(|outcome| outcome.issue).unwrap_or_default();
        let worst = issues.iter().max_by_key(|issue| (issue.severity(), issue.is_temporary_error()));
        let (severity, code) = match worst {
            Some(worst) => (worst.severity(), shorten(worst.code(), MAX_CODE_CHARS)),
            None => (OutcomeSeverity::Error, UNREADABLE.to_owned()),
        };
        // Nobody knows what a line that cannot be read reports.
        self.has_temporary_error |= worst.is_none_or(Issue::is_temporary_error);
        let is_known = self.counts.contains_key(&(severity, code.clone()));
        let codes = self.counts.keys().filter(|(known, _)| *known == severity).count();
        let code = if is_known || codes < MAX_CODES { code } else { "others".to_owned() };
        *self.counts.entry((severity, code)).or_default() += 1;
        self.files.entry(severity).or_default().insert(file.to_owned());
        if severity < OutcomeSeverity::Error {
            let texts = self.texts.entry(severity).or_default();
            for text in issues.iter().filter_map(|issue| issue.diagnostics.as_str()) {
                if texts.len() < MAX_TEXTS {
                    // The text comes from a server and goes to a terminal.
                    texts.insert(shorten(text, MAX_TEXT_CHARS));
                }
            }
        }
    }

    /// Returns the number of outcomes of a severity.
    pub(crate) fn count(&self, severity: OutcomeSeverity) -> u64 {
        self.counts.iter().filter(|((other, _), _)| *other == severity).map(|(_, count)| count).sum()
    }

    /// Returns true if an error may pass without a repair, or cannot be read.
    pub(crate) fn has_temporary_error(&self) -> bool {
        self.has_temporary_error
    }

    /// Returns the counts, errors first.
    pub(crate) fn counts(&self) -> Vec<OutcomeCount> {
        let counts =
            self.counts.iter().map(|((severity, code), count)| OutcomeCount { severity: *severity, code: code.clone(), count: *count });
        let mut counts: Vec<_> = counts.collect();
        counts.sort_by_key(|count| std::cmp::Reverse((count.severity, count.count)));
        counts
    }

    /// Returns the texts of a severity.
    pub(crate) fn texts(&self, severity: OutcomeSeverity) -> impl Iterator<Item = &str> {
        self.texts.get(&severity).into_iter().flatten().map(String::as_str)
    }

    /// Returns the name of the first file with outcomes of a severity, and the number of further ones.
    pub(crate) fn files(&self, severity: OutcomeSeverity) -> Option<(&str, usize)> {
        let files = self.files.get(&severity)?;
        Some((files.first()?, files.len() - 1))
    }
}

/// Reads the next line. Returns only the beginning of a line that is too long, which is not JSON.
fn next_line(reader: &mut impl io::BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    if reader.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    if line.len() as u64 == MAX_LINE_BYTES && line.last() != Some(&b'\n') {
        reader.skip_until(b'\n')?;
    }
    Ok(Some(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcomes(lines: &[&str]) -> Outcomes {
        let mut outcomes = Outcomes::default();
        lines.iter().for_each(|line| outcomes.add(line.as_bytes(), "error/OperationOutcome-1.ndjson"));
        outcomes
    }

    #[test]
    fn lines_are_counted_by_their_highest_severity_and_its_code() {
        let outcomes = outcomes(&[
            r#"{"resourceType":"OperationOutcome","issue":[{"severity":"information","code":"informational","diagnostics":"3 changes\u001b[2J"}]}"#,
            r#"{"resourceType":"OperationOutcome","issue":[{"severity":"information","code":"informational","diagnostics":"3 changes\u001b[2J"}]}"#,
            r#"{"resourceType":"OperationOutcome","issue":[{"severity":"information","code":"not-supported","diagnostics":null}]}"#,
            r#"{"issue":[{"severity":"warning","code":"value","diagnostics":"clock"},{"severity":"information","code":"informational"}]}"#,
            r#"{"issue":[{"severity":"error","code":"structure","diagnostics":"not a resource"}]}"#,
            r#"{"issue":[{"severity":"information"},{"severity":"error","code":"structure"}]}"#,
            r#"{"issue":[{"severity":"fatal","code":"exception\u001b[2J"}]}"#,
            r#"{"issue":[{"severity":"catastrophe","code":"x"}]}"#,
            r#"{"issue":[]}"#,
            "not JSON",
            "",
            " \r",
        ]);
        let counts: Vec<_> = outcomes.counts().into_iter().map(|entry| (entry.severity, entry.code, entry.count)).collect();
        let error = OutcomeSeverity::Error;
        assert_eq!(
            counts,
            [
                (error, "structure".to_owned(), 2),
                (error, "unreadable line".to_owned(), 2),
                (error, "exception\\u{1b}[2J".to_owned(), 1),
                (error, "x".to_owned(), 1),
                (OutcomeSeverity::Warning, "value".to_owned(), 1),
                (OutcomeSeverity::Information, "informational".to_owned(), 2),
                (OutcomeSeverity::Information, "not-supported".to_owned(), 1),
            ]
        );
        assert_eq!(outcomes.count(error), 6);
        assert_eq!(outcomes.texts(OutcomeSeverity::Information).collect::<Vec<_>>(), ["3 changes\\u{1b}[2J"]);
        assert_eq!(outcomes.texts(OutcomeSeverity::Warning).collect::<Vec<_>>(), ["clock"]);
        assert_eq!(outcomes.files(error), Some(("error/OperationOutcome-1.ndjson", 0)));
    }

    #[test]
    fn an_error_of_the_data_lasts_until_it_is_repaired_and_others_may_pass() {
        let outcome = |severity: &str, code: &str| format!(r#"{{"issue":[{{"severity":"{severity}","code":"{code}"}}]}}"#);
        for (severity, code, is_temporary) in [
            ("error", "structure", false),
            ("error", "processing", false),
            ("warning", "timeout", false),
            ("error", "timeout", true),
            ("fatal", "exception", true),
            ("error", "transient", true),
            ("error", "Exception", true),
            ("error", "", true),
        ] {
            assert_eq!(outcomes(&[&outcome(severity, code)]).has_temporary_error(), is_temporary, "{severity} {code}");
        }
        assert!(outcomes(&[&outcome("error", "structure"), &outcome("error", "throttled")]).has_temporary_error());
    }

    #[test]
    fn each_issue_of_a_line_is_judged_and_a_line_that_cannot_be_read_may_pass() {
        let issue = |severity: &str, code: &str| format!(r#"{{"severity":"{severity}","code":"{code}","diagnostics":7}}"#);
        let line = |issues: &[String]| format!(r#"{{"resourceType":"OperationOutcome","issue":[{}]}}"#, issues.join(","));
        let (lasting, passing) = (issue("error", "processing"), issue("fatal", "exception"));
        for issues in [[lasting.clone(), passing.clone()], [passing, lasting.clone()]] {
            let read = outcomes(&[&line(&issues)]);
            assert!(read.has_temporary_error(), "{issues:?}");
            assert_eq!(read.counts()[0].code, "exception", "the code that says so is counted");
        }
        for unreadable in [r#"{"resourceType":"OperationOutcome"}"#, r#"{"issue":[]}"#, r#"{"issue":{}}"#, "not JSON"] {
            assert!(outcomes(&[unreadable]).has_temporary_error(), "{unreadable}");
        }
        assert!(!outcomes(&[&line(&[lasting, issue("warning", "timeout")])]).has_temporary_error());
        assert!(!outcomes(&[&line(&[issue("warning", "informational")])]).has_temporary_error());
    }

    #[test]
    fn the_number_of_texts_and_codes_is_bounded() {
        let mut outcomes = Outcomes::default();
        for n in 0..100 {
            let text = "x".repeat(10_000);
            outcomes.add(format!(r#"{{"issue":[{{"severity":"warning","code":"{n}{text}","diagnostics":"{n}{text}"}}]}}"#).as_bytes(), "e");
        }
        assert_eq!((outcomes.count(OutcomeSeverity::Warning), outcomes.counts().len()), (100, MAX_CODES + 1));
        outcomes.add(br#"{"issue":[{"severity":"error","code":"structure"}]}"#, "e");
        (0..MAX_CODES).for_each(|n| outcomes.add(format!(r#"{{"issue":[{{"severity":"error","code":"{n}"}}]}}"#).as_bytes(), "e"));
        assert!(!outcomes.has_temporary_error());
        outcomes.add(br#"{"issue":[{"severity":"error","code":"transient"}]}"#, "e");
        assert!(outcomes.has_temporary_error(), "also if the code is counted among others");
        assert_eq!(outcomes.texts(OutcomeSeverity::Warning).count(), MAX_TEXTS);
        assert!(outcomes.texts(OutcomeSeverity::Warning).all(|text| text.chars().count() <= MAX_TEXT_CHARS + 1));
    }

    #[test]
    fn a_line_without_end_is_one_error_and_is_not_kept_in_memory() {
        let bytes = [vec![b'{'; usize::try_from(3 * MAX_LINE_BYTES).unwrap()], b"\n{}".to_vec()].concat();
        let mut reader = io::BufReader::new(&bytes[..]);
        assert_eq!(next_line(&mut reader).unwrap().unwrap().len() as u64, MAX_LINE_BYTES);
        assert_eq!(next_line(&mut reader).unwrap().as_deref(), Some(&b"{}"[..]));
        assert_eq!(next_line(&mut reader).unwrap(), None);
    }
}
