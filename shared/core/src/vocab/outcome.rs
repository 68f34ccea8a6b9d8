//! FHIR OperationOutcome: the body of every response that is not data.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::vocab::text::stored_as_text;

/// The severity of an issue (FHIR value set `issue-severity`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The requested action failed.
    Error,
    /// The requested action succeeded; the data has a fault that affects the result.
    Warning,
    /// The requested action succeeded; the text is worth knowing.
    Information,
}

/// The code of an issue (FHIR value set `issue-type`): the codes that this service uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum IssueCode {
    /// A line that is not a resource.
    Structure,
    /// A value that cannot be parsed.
    Value,
    /// Invalid content for which no other code is more specific.
    Invalid,
    /// A required element that is missing.
    Required,
    /// A parameter, level or format that this service does not support.
    NotSupported,
    /// A resource that does not exist or belongs to another caller.
    NotFound,
    /// A method or media type that is not acceptable, or a resource that cannot be processed.
    Processing,
    /// A missing or invalid credential.
    Login,
    /// An action that the caller, or this service itself, is not allowed to take.
    Forbidden,
    /// A temporary failure: a retry may succeed.
    Transient,
    /// A time limit that was exceeded.
    Timeout,
    /// A size limit that was exceeded.
    TooCostly,
    /// Too many requests or exports at the same time: a later retry may succeed.
    Throttled,
    /// Data that changed while it was read.
    Conflict,
    /// A store without space.
    NoStore,
    /// A fault of the server.
    Exception,
    /// Information without a fault.
    Informational,
}

impl IssueCode {
    /// The list of codes.
    pub const ALL: [Self; 17] = [
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
        Self::NoStore,
        Self::Exception,
        Self::Informational,
    ];

    /// Returns the code as FHIR spells it.
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
            Self::NoStore => "no-store",
            Self::Exception => "exception",
            Self::Informational => "informational",
        }
    }

    /// Parses an issue type of FHIR. Returns `None` for a type that this service does not use.
    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.as_str() == text)
    }
}

stored_as_text!(IssueCode, Self::parse, "not an issue type");

/// An issue of an OperationOutcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Issue {
    /// The severity.
    pub severity: Severity,
    /// The code.
    pub code: IssueCode,
    /// The fault, its place and its remedy, written for the client. Never contains data, tokens or presigned URLs.
    pub diagnostics: String,
    /// The parameters or headers that the issue is about, such as `http._type` (R4, `OperationOutcome.issue.location`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub location: Vec<String>,
    /// The elements of a resource that the issue is about, as FHIRPath.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub expression: Vec<String>,
}

impl Issue {
    /// Creates an issue that is about nothing in particular.
    pub fn new(severity: Severity, code: IssueCode, diagnostics: impl Into<String>) -> Self {
        Self { severity, code, diagnostics: diagnostics.into(), location: Vec::new(), expression: Vec::new() }
    }

    /// Names what the issue is about: an element of a body or of a Group as FHIRPath, a path with `/`, or else a parameter or a header.
    #[must_use]
    pub fn about(mut self, subject: &str) -> Self {
        if subject == "Parameters"
            || subject.starts_with("Parameters.")
            || subject.starts_with("Group.")
            || subject.starts_with("Resource.")
        {
            self.expression.push(subject.to_owned());
        } else if subject.contains('/') {
            self.location.push(subject.to_owned());
        } else {
            self.location.push(format!("http.{subject}"));
        }
        self
    }
}

/// A FHIR OperationOutcome with at least one issue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OperationOutcome {
    #[serde(rename = "resourceType")]
    resource_type: &'static str,
    issue: Vec<Issue>,
}

impl OperationOutcome {
    /// Creates an OperationOutcome with one issue.
    pub fn new(issue: Issue) -> Self {
        Self { resource_type: "OperationOutcome", issue: vec![issue] }
    }

    /// Adds issues.
    #[must_use]
    pub fn with_issues(mut self, issues: impl IntoIterator<Item = Issue>) -> Self {
        self.issue.extend(issues);
        self
    }

    /// Creates an OperationOutcome with an error that is not about a particular parameter.
    pub fn error(code: IssueCode, diagnostics: impl Into<String>) -> Self {
        Self::new(Issue::new(Severity::Error, code, diagnostics))
    }

    /// Creates an OperationOutcome with a warning.
    pub fn warning(code: IssueCode, diagnostics: impl Into<String>) -> Self {
        Self::new(Issue::new(Severity::Warning, code, diagnostics))
    }

    /// Creates an OperationOutcome with an informational text.
    pub fn information(diagnostics: impl Into<String>) -> Self {
        Self::new(Issue::new(Severity::Information, IssueCode::Informational, diagnostics))
    }
}

impl fmt::Display for OperationOutcome {
    /// Formats the OperationOutcome as JSON on one line, without a line feed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_serializes_as_fhir_defines_it() {
        let issue = || Issue::new(Severity::Error, IssueCode::NotSupported, "no \"such\" thing");
        let outcome = OperationOutcome::new(issue().about("_foo"));
        assert_eq!(
            outcome.to_string(),
            r#"{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"not-supported","diagnostics":"no \"such\" thing","location":["http._foo"]}]}"#
        );
        // Elements of a resource are FHIRPath, and not names of parameters.
        assert_eq!(issue().about("Parameters.parameter[2]").expression, ["Parameters.parameter[2]"]);
        assert_eq!(issue().about("Content-Type").location, ["http.Content-Type"]);
        assert_eq!(issue().about("Group/[id]/$export").location, ["Group/[id]/$export"]);
    }
}
