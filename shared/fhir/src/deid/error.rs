//! Errors of a configuration, and failures to de-identify a resource.

use std::fmt::{self, Write as _};

use crate::definitions::FhirVersion;

/// The errors of a configuration in the order of the file, at least one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the anonymization configuration cannot be used: {}", IssueList(.0))]
pub struct DeidConfigError(pub Vec<DeidConfigIssue>);

/// An error or a warning about a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeidConfigIssue {
    /// The number of the rule, counted from 1; `None` for the rest of the file.
    pub rule_number: Option<usize>,
    /// The rule's path as written in the file.
    pub path: Option<String>,
    /// The problem and its remedy.
    pub reason: String,
}

impl DeidConfigIssue {
    /// Creates an issue outside the rules.
    pub(super) fn in_file(reason: impl Into<String>) -> Self {
        Self { rule_number: None, path: None, reason: reason.into() }
    }

    /// Creates an issue of a rule.
    pub(super) fn in_rule(number: usize, path: &str, reason: impl Into<String>) -> Self {
        Self { rule_number: Some(number), path: Some(path.to_owned()).filter(|path| !path.is_empty()), reason: reason.into() }
    }
}

impl fmt::Display for DeidConfigIssue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.rule_number, &self.path) {
            (Some(number), Some(path)) => write!(f, "rule {number} (`{}`): {}", Truncated(path), self.reason),
            (Some(number), None) => write!(f, "rule {number}: {}", self.reason),
            (None, _) => f.write_str(&self.reason),
        }
    }
}

/// Displays issues separated by semicolons.
struct IssueList<'a>(&'a [DeidConfigIssue]);

impl fmt::Display for IssueList<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, issue) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{issue}")?;
        }
        Ok(())
    }
}

/// A text from a configuration, shortened and with control characters escaped for messages.
pub(super) struct Truncated<'a>(pub(super) &'a str);

impl Truncated<'_> {
    const MAX_CHARS: usize = 120;
}

impl fmt::Display for Truncated<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars().take(Self::MAX_CHARS) {
            if c.is_control() { write!(f, "{}", c.escape_default())? } else { f.write_char(c)? }
        }
        if self.0.chars().nth(Self::MAX_CHARS).is_some() { f.write_str("…") } else { Ok(()) }
    }
}

/// A failure to de-identify a resource. Names the rule, the element and the reason, but no value of the resource.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{reason}", FailureLocation(.rule.as_ref(), element_path))]
pub struct DeidFailure {
    /// The rule that failed; `None` if the resource itself cannot be read.
    pub rule: Option<FailedRule>,
    /// The path of the element, such as `Patient.name[0].family`. Empty for the whole resource.
    pub element_path: String,
    /// The reason.
    pub reason: DeidFailureReason,
    /// The extent of the failure: the resource or the job.
    pub scope: DeidFailureScope,
}

/// The rule of a [`DeidFailure`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedRule {
    /// The number of the rule, counted from 1.
    pub number: usize,
    /// The method as written in the file.
    pub method: String,
    /// The path as written in the file.
    pub path: String,
}

/// The extent of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeidFailureScope {
    /// The job fails: `processingErrors` is `raise`, or the failure is not one that `skip` covers.
    Job,
    /// The resource alone fails. It is left out or emptied, and an OperationOutcome reports it.
    Resource,
}

/// The reason why a resource could not be de-identified.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeidFailureReason {
    /// The line is not UTF-8, not JSON or not an object.
    #[error("the resource is not a JSON object")]
    NotAJsonObject,
    /// `resourceType` is missing, or this version of FHIR does not define the type.
    #[error("the resource has no resourceType that FHIR {} defines", .0.as_str())]
    UnknownResourceType(FhirVersion),
    /// The type does not define a member. The member's name is data of the resource, so the message leaves it out.
    #[error("a member is not defined by FHIR {}; unknown members cannot be de-identified", .0.as_str())]
    UnknownElement(FhirVersion),
    /// The value is an object where FHIR defines a primitive, or the reverse.
    #[error("the JSON type of a value is not the one that FHIR {} defines", .0.as_str())]
    WrongJsonType(FhirVersion),
    /// An object contains the same member twice.
    #[error("a member occurs twice in one object")]
    DuplicateMember,
    /// The resource is nested too deeply.
    #[error("the resource is nested more than {0} levels deep")]
    TooDeep(usize),
    /// `generalize` was applied to an element with members.
    #[error("generalize applies only to single values; extend the path to them")]
    NotPrimitive,
    /// `replaceWith` does not fit the element.
    #[error("replaceWith does not fit the element: {0}")]
    ReplacementMismatch(&'static str),
    /// A path, a condition or a case cannot be evaluated.
    #[error("the expression {0}")]
    Expression(String),
    /// The number has more digits than decimal arithmetic supports.
    #[error("the number is too large to be perturbed")]
    NumberOutOfRange,
    /// The rule's method does not exist.
    #[error("the method does not exist")]
    UnknownMethod,
}

/// Displays the rule and the element of a failure.
struct FailureLocation<'a>(Option<&'a FailedRule>, &'a str);

impl fmt::Display for FailureLocation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(rule) = self.0 {
            write!(f, "rule {} ({} `{}`)", rule.number, Truncated(&rule.method), Truncated(&rule.path))?;
        }
        match (self.0, self.1) {
            (None, "") => Ok(()),
            (Some(_), "") => f.write_str(": "),
            (None, path) => write!(f, "at {path}: "),
            (Some(_), path) => write!(f, " at {path}: "),
        }
    }
}
