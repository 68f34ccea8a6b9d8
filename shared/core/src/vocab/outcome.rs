//! OperationOutcome, the one shape of every answer that is not data.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::request::IgnoredParameter;
use crate::vocab::text::stored_as_text;

/// FHIR `issue-severity`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Something asked for did not happen.
    Error,
    /// It happened; this is worth knowing.
    Information,
}

/// FHIR `issue-type`, as far as this service uses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum IssueCode {
    /// A line that is not a resource.
    Structure,
    /// A value that cannot be read.
    Value,
    /// Content that is invalid where no better code says how.
    Invalid,
    /// Something required is missing.
    Required,
    /// A parameter, level or format that this service does not offer.
    NotSupported,
    /// Absent, or not the caller's.
    NotFound,
    /// The method or the media type does not fit.
    Processing,
    /// No valid credential.
    Login,
    /// The caller or the service itself may not do this.
    Forbidden,
    /// Passes by itself: ask again.
    Transient,
    /// Took longer than it may.
    Timeout,
    /// A limit was met.
    TooCostly,
    /// Too much at a time: ask again later.
    Throttled,
    /// The data changed while it was read.
    Conflict,
    /// A fault on the server's side.
    Exception,
    /// Nothing to worry about.
    Informational,
}

impl IssueCode {
    /// Every code.
    pub const ALL: [Self; 16] = [
        Self::Structure,
        Self::Value,
        Self::Invalid,
        Self::Required,
        Self::NotSupported,
        Self::NotFound,
        Self::Processing,
        Self::Login,
        Self::Forbidden,
        Self::Transient,
        Self::Timeout,
        Self::TooCostly,
        Self::Throttled,
        Self::Conflict,
        Self::Exception,
        Self::Informational,
    ];

    /// As FHIR spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Structure => "structure",
            Self::Value => "value",
            Self::Invalid => "invalid",
            Self::Required => "required",
            Self::NotSupported => "not-supported",
            Self::NotFound => "not-found",
            Self::Processing => "processing",
            Self::Login => "login",
            Self::Forbidden => "forbidden",
            Self::Transient => "transient",
            Self::Timeout => "timeout",
            Self::TooCostly => "too-costly",
            Self::Throttled => "throttled",
            Self::Conflict => "conflict",
            Self::Exception => "exception",
            Self::Informational => "informational",
        }
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.as_str() == name)
    }
}

stored_as_text!(IssueCode, Self::named, "not an issue type");

/// One issue of an OperationOutcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Issue {
    /// How bad.
    pub severity: Severity,
    /// What kind.
    pub code: IssueCode,
    /// What was wrong, where, and what to do: written for the client; never data, tokens or presigned URLs.
    pub diagnostics: String,
    /// The parameter or header concerned.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub expression: Vec<String>,
}

/// An OperationOutcome with one issue or more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Outcome {
    #[serde(rename = "resourceType")]
    resource_type: &'static str,
    issue: Vec<Issue>,
}

impl Outcome {
    /// The outcome that says this.
    pub fn of(issue: Issue) -> Self {
        Self { resource_type: "OperationOutcome", issue: vec![issue] }
    }

    /// With these as well.
    #[must_use]
    pub fn with(mut self, issues: impl IntoIterator<Item = Issue>) -> Self {
        self.issue.extend(issues);
        self
    }

    /// An error with no parameter to point at.
    pub fn error(code: IssueCode, diagnostics: impl Into<String>) -> Self {
        Self::of(Issue { severity: Severity::Error, code, diagnostics: diagnostics.into(), expression: Vec::new() })
    }

    /// That something which was asked for is not done.
    pub fn ignored(ignored: &IgnoredParameter) -> Self {
        Self::of(ignored.issue())
    }

    /// A word of information.
    pub fn information(diagnostics: impl Into<String>) -> Self {
        Self::of(Issue {
            severity: Severity::Information,
            code: IssueCode::Informational,
            diagnostics: diagnostics.into(),
            expression: Vec::new(),
        })
    }
}

impl fmt::Display for Outcome {
    /// The JSON text, without a line end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_is_the_resource_that_fhir_defines() {
        let outcome = Outcome::of(Issue {
            severity: Severity::Error,
            code: IssueCode::NotSupported,
            diagnostics: "no \"such\" thing".into(),
            expression: vec!["_foo".into()],
        });
        assert_eq!(
            outcome.to_string(),
            r#"{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"not-supported","diagnostics":"no \"such\" thing","expression":["_foo"]}]}"#
        );
    }
}
