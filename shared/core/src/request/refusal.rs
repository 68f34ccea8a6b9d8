//! What a client is told when its request cannot be served, or only in part.

use serde::{Deserialize, Serialize};

use crate::vocab::outcome::{Issue, IssueCode, Outcome, Severity};

/// Why a request is refused, for the client's eyes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Refusal {
    /// HTTP status: 4XX.
    pub status: u16,
    /// FHIR issue type.
    pub code: IssueCode,
    /// What was wrong, where, and what to do.
    pub text: String,
    /// The parameter or header concerned.
    pub expression: Option<String>,
}

impl Refusal {
    /// A refusal that points at one parameter or header.
    pub fn of(status: u16, code: IssueCode, expression: &str, text: impl Into<String>) -> Self {
        Self { status, code, text: text.into(), expression: Some(expression.to_owned()) }
    }

    /// As the body of the answer.
    pub fn outcome(&self) -> Outcome {
        Outcome::of(Issue {
            severity: Severity::Error,
            code: self.code,
            diagnostics: self.text.clone(),
            expression: self.expression.clone().into_iter().collect(),
        })
    }
}

/// Something that was asked for and is not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IgnoredParameter {
    /// The parameter.
    pub parameter: String,
    /// What was wrong with it, for the client's eyes.
    pub text: String,
}

impl IgnoredParameter {
    /// As the answer to the kick-off and a line of the `error` file tell it. Not as an error: clients take an export whose
    /// `error` file holds one for a failed one, and this one did what `handling=lenient` asks for.
    pub fn issue(&self) -> Issue {
        Issue {
            severity: Severity::Information,
            code: IssueCode::NotSupported,
            diagnostics: format!("left out: {}", self.text),
            expression: vec![self.parameter.clone()],
        }
    }
}

/// The most parameters that are left out of one request. Each is kept in the job's item.
const IGNORED_LIMIT: usize = 20;

/// Where the reasons to leave out one parameter stop being listed, in bytes.
const IGNORED_TEXT_BYTES: usize = 500;

/// What becomes of what is asked for and not supported: refused, or left out if the client prefers `handling=lenient`.
#[derive(Debug, Default)]
pub(super) struct Handling {
    pub(super) is_lenient: bool,
    pub(super) ignored: Vec<IgnoredParameter>,
}

impl Handling {
    /// Leaves out what the refusal is about, if the client agrees; one entry per parameter.
    pub(super) fn leave_out(&mut self, refusal: Refusal) -> Result<(), Refusal> {
        if !self.is_lenient {
            return Err(refusal);
        }
        let parameter = refusal.expression.unwrap_or_default();
        if let Some(known) = self.ignored.iter_mut().find(|ignored| ignored.parameter == parameter) {
            if !known.text.contains(&refusal.text) && known.text.len() < IGNORED_TEXT_BYTES {
                known.text = format!("{}; {}", known.text, refusal.text);
            }
            return Ok(());
        }
        if self.ignored.len() == IGNORED_LIMIT {
            let text = format!("more than {IGNORED_LIMIT} parameters are not supported: leave them out of the request");
            return Err(Refusal::of(400, IssueCode::TooCostly, &parameter, text));
        }
        self.ignored.push(IgnoredParameter { parameter, text: refusal.text });
        Ok(())
    }
}

/// A client's own word, short and printable enough to be shown back.
pub(super) fn shown(word: &str) -> String {
    word.chars().take(64).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
