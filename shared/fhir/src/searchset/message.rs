//! Messages of a server beside the results of a search: OperationOutcomes.

use std::borrow::Cow;

use serde::Deserialize;

/// The longest text of a message, in characters.
const MAX_CHARS: usize = 500;

/// A message of a server: an error, after which the results are incomplete, or a warning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerMessage {
    /// True if an issue is an error or fatal.
    pub is_error: bool,
    /// The words of the server, of at most 500 characters, without control characters.
    pub text: String,
}

/// The type of a resource.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TypeJson<'a> {
    #[serde(borrow)]
    resource_type: Cow<'a, str>,
}

/// The members of an OperationOutcome that are shown.
#[derive(Default, Deserialize)]
struct OutcomeJson {
    #[serde(default)]
    issue: Vec<IssueJson>,
}

#[derive(Deserialize)]
struct IssueJson {
    severity: Option<String>,
    code: Option<String>,
    diagnostics: Option<String>,
    details: Option<DetailsJson>,
}

#[derive(Deserialize)]
struct DetailsJson {
    text: Option<String>,
}

impl ServerMessage {
    /// Parses an OperationOutcome. `None` if it has only information, or nothing.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let outcome: OutcomeJson = serde_json::from_str(text).unwrap_or_else(|_| OutcomeJson { issue: vec![IssueJson::unreadable()] });
        let is_error = outcome.issue.iter().any(IssueJson::is_error);
        let shown = |issue: &&IssueJson| if is_error { issue.is_error() } else { !issue.is_information() };
        let words: Vec<&str> = outcome.issue.iter().filter(shown).map(IssueJson::words).collect();
        (!words.is_empty()).then(|| Self { is_error, text: printable(&words.join("; ")) })
    }
}

impl IssueJson {
    /// Returns an issue that stands for an OperationOutcome that cannot be read.
    fn unreadable() -> Self {
        let diagnostics = Some("an OperationOutcome that cannot be read".to_owned());
        Self { severity: None, code: None, diagnostics, details: None }
    }

    /// Returns true if the issue says that something is missing.
    fn is_error(&self) -> bool {
        matches!(self.severity.as_deref(), Some("error" | "fatal"))
    }

    /// Returns true if the issue says that nothing is missing.
    fn is_harmless(&self) -> bool {
        self.is_information() || self.severity.as_deref() == Some("warning")
    }

    /// Returns true if the issue needs no attention.
    fn is_information(&self) -> bool {
        matches!(self.severity.as_deref(), Some("information" | "success"))
    }

    /// Returns the words of the server.
    fn words(&self) -> &str {
        let details = || self.details.as_ref().and_then(|details| details.text.as_deref());
        self.diagnostics.as_deref().or_else(details).or(self.code.as_deref()).unwrap_or("it gives no reason")
    }
}

/// Returns true for the text of an OperationOutcome.
pub(super) fn is_outcome(resource: &str) -> bool {
    // Only a few resources contain the word, so that hardly one is parsed twice.
    resource.contains("OperationOutcome")
        && serde_json::from_str::<TypeJson<'_>>(resource).is_ok_and(|resource| resource.resource_type == "OperationOutcome")
}

/// Returns true if a text is an OperationOutcome with an issue that is an error or fatal, or has no severity that is known. Any other text
/// may report an error, too.
pub fn reports_error(text: &str) -> bool {
    let outcome = if is_outcome(text) { serde_json::from_str::<OutcomeJson>(text).ok() } else { None };
    outcome.is_none_or(|outcome| !outcome.issue.iter().all(IssueJson::is_harmless))
}

/// Returns the beginning of a text with every control character as an escape.
fn printable(text: &str) -> String {
    let mut shown = String::new();
    for letter in text.chars().take(MAX_CHARS) {
        if letter.is_control() { shown.extend(letter.escape_unicode()) } else { shown.push(letter) }
    }
    if text.chars().nth(MAX_CHARS).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parses an OperationOutcome with these issues: severity and diagnostics.
    fn message(issues: &[(&str, &str)]) -> Option<ServerMessage> {
        let issue = |(severity, diagnostics): &(&str, &str)| serde_json::json!({ "severity": severity, "code": "incomplete", "diagnostics": diagnostics });
        let issues: Vec<_> = issues.iter().map(issue).collect();
        ServerMessage::parse(&serde_json::json!({ "resourceType": "OperationOutcome", "issue": issues }).to_string())
    }

    /// Creates a message.
    fn expected(is_error: bool, text: &str) -> Option<ServerMessage> {
        Some(ServerMessage { is_error, text: text.to_owned() })
    }

    #[test]
    fn errors_come_before_warnings_and_information_is_no_message() {
        assert_eq!(message(&[("warning", "slow"), ("error", "shard 3 did not answer")]), expected(true, "shard 3 did not answer"));
        assert_eq!(message(&[("fatal", "a"), ("error", "b")]), expected(true, "a; b"));
        assert_eq!(message(&[("warning", "slow"), ("information", "by the way")]), expected(false, "slow"));
        assert_eq!(message(&[("information", "by the way")]), None);
        assert_eq!(message(&[]), None);
    }

    #[test]
    fn the_words_of_a_server_are_bounded_and_cannot_control_a_terminal() {
        assert_eq!(message(&[("error", "\u{1b}[2J\n")]), expected(true, "\\u{1b}[2J\\u{a}"));
        assert_eq!(message(&[("error", &"ü".repeat(9_000))]).map(|message| message.text.chars().count()), Some(MAX_CHARS + 1));
    }

    #[test]
    fn an_outcome_without_words_is_described() {
        let text = r#"{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"incomplete"}]}"#;
        assert_eq!(ServerMessage::parse(text), expected(true, "incomplete"));
        assert_eq!(ServerMessage::parse(r#"{"issue":[{"severity":"error","details":{"text":"t"}}]}"#), expected(true, "t"));
        assert_eq!(ServerMessage::parse(r#"{"issue":7}"#), expected(false, "an OperationOutcome that cannot be read"));
    }

    #[test]
    fn an_error_is_reported_unless_all_issues_are_warnings_and_information() {
        let outcome = |issues: &str| format!(r#"{{"resourceType":"OperationOutcome","issue":[{issues}]}}"#);
        let warning = r#"{"severity":"warning"}"#;
        for issues in ["", warning, r#"{"severity":"information"},{"severity":"success"},{"severity":"warning"}"#] {
            assert!(!reports_error(&outcome(issues)), "{issues}");
        }
        for issue in [r#"{"severity":"error"}"#, r#"{"severity":"fatal"}"#, r#"{"severity":"Error"}"#, "{}", "7"] {
            assert!(reports_error(&outcome(&format!("{warning},{issue}"))), "{issue}");
        }
        assert!(reports_error("nonsense") && reports_error(r#"{"resourceType":"Patient","id":"p"}"#));
    }

    #[test]
    fn only_the_resource_itself_makes_an_outcome() {
        assert!(is_outcome(r#"{"issue":[],"resourceType" : "OperationOutcome"}"#));
        assert!(!is_outcome(r#"{"resourceType":"Patient","contained":[{"resourceType":"OperationOutcome"}]}"#));
        assert!(!is_outcome(r#"{"resourceType":"Patient"}"#));
    }
}
