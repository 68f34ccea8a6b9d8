//! Rejected requests and ignored parameters.

use serde::{Deserialize, Serialize};

use crate::vocab::outcome::{Issue, IssueCode, OperationOutcome, Severity};

/// The rejection of a request, as it is shown to the client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct RequestError {
    /// The HTTP status: 4XX.
    pub status: u16,
    /// The FHIR issue type.
    pub code: IssueCode,
    /// The fault, its place and its remedy.
    pub text: String,
    /// The parameter or header at fault.
    pub expression: Option<String>,
}

impl RequestError {
    /// Creates an error with this HTTP status about the parameter or header `expression`.
    pub fn new(status: u16, code: IssueCode, expression: &str, text: impl Into<String>) -> Self {
        Self { status, code, text: text.into(), expression: Some(expression.to_owned()) }
    }

    /// Returns the OperationOutcome for the response.
    pub fn outcome(&self) -> OperationOutcome {
        let issue = Issue::new(Severity::Error, self.code, self.text.clone());
        OperationOutcome::new(match &self.expression {
            Some(subject) => issue.about(subject),
            None => issue,
        })
    }
}

/// A parameter, or a value of one, that is ignored because the client prefers `handling=lenient`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IgnoredParameter {
    /// The name of the parameter.
    pub parameter: String,
    /// The reason, as it is shown to the client.
    pub text: String,
}

impl IgnoredParameter {
    /// Returns the issue for the response to the kick-off and for the `error` file.
    ///
    /// Its severity is not `error`: clients consider an export failed if its `error` file holds an error, but this export did
    /// what `handling=lenient` requests.
    pub fn issue(&self) -> Issue {
        Issue::new(Severity::Information, IssueCode::NotSupported, format!("ignored: {}", self.text)).about(&self.parameter)
    }

    /// Returns the OperationOutcome for a line of the `error` file.
    pub fn outcome(&self) -> OperationOutcome {
        OperationOutcome::new(self.issue())
    }
}

/// The maximum number of ignored parameters of a request. Each is stored in the job's item.
const MAX_IGNORED: usize = 20;

/// The size, in bytes, after which no further reasons are added to an ignored parameter.
const MAX_IGNORED_TEXT_BYTES: usize = 500;

/// The handling of unsupported parameters and values: they are rejected, or ignored under `handling=lenient`.
#[derive(Debug, Default)]
pub(super) struct Handling {
    /// True if the client prefers `handling=lenient`.
    pub(super) is_lenient: bool,
    /// The parameters that were ignored, one entry per parameter.
    pub(super) ignored: Vec<IgnoredParameter>,
}

impl Handling {
    /// Ignores the parameter or value that `error` is about, under lenient handling. Otherwise returns the error.
    pub(super) fn ignore_or_reject(&mut self, error: RequestError) -> Result<(), RequestError> {
        if !self.is_lenient {
            return Err(error);
        }
        let parameter = error.expression.unwrap_or_default();
        if let Some(known) = self.ignored.iter_mut().find(|ignored| ignored.parameter == parameter) {
            if !known.text.contains(&error.text) && known.text.len() < MAX_IGNORED_TEXT_BYTES {
                known.text = format!("{}; {}", known.text, error.text);
            }
            return Ok(());
        }
        if self.ignored.len() == MAX_IGNORED {
            let text = format!("more than {MAX_IGNORED} parameters are not supported: remove them from the request");
            return Err(RequestError::new(400, IssueCode::TooCostly, &parameter, text));
        }
        self.ignored.push(IgnoredParameter { parameter, text: error.text });
        Ok(())
    }
}

/// Shortens a word of the client to 64 characters and replaces control characters, so that an error can quote it.
pub(super) fn to_quotable(word: &str) -> String {
    word.chars().take(64).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
