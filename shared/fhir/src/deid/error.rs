//! What is wrong with a configuration, and why a resource could not be de-identified.

use std::fmt::{self, Write as _};

use super::fhirpath::Unanswered;
use crate::FhirVersion;

/// Every fault of a configuration, in the order of the file. There is at least one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the anonymization configuration cannot be used: {}", Listed(.0))]
pub struct DeidErrors(pub Vec<DeidFault>);

/// One fault, or something to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeidFault {
    /// The number of the rule, counted from 1; `None` for the rest of the file.
    pub rule: Option<usize>,
    /// The rule's path as the file has it.
    pub path: Option<String>,
    /// What is wrong, and what to do.
    pub reason: String,
}

impl DeidFault {
    /// A fault outside the rules.
    pub(super) fn of_file(reason: impl Into<String>) -> Self {
        Self { rule: None, path: None, reason: reason.into() }
    }

    pub(super) fn of_rule(number: usize, path: &str, reason: impl Into<String>) -> Self {
        Self { rule: Some(number), path: Some(path.to_owned()).filter(|path| !path.is_empty()), reason: reason.into() }
    }
}

impl fmt::Display for DeidFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.rule, &self.path) {
            (Some(number), Some(path)) => write!(f, "rule {number} (`{}`): {}", Short(path), self.reason),
            (Some(number), None) => write!(f, "rule {number}: {}", self.reason),
            (None, _) => f.write_str(&self.reason),
        }
    }
}

struct Listed<'a>(&'a [DeidFault]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.0.iter().enumerate() {
            let before = if index == 0 { "" } else { "; " };
            write!(f, "{before}{fault}")?;
        }
        Ok(())
    }
}

/// A text out of a configuration, at a length that a message can bear.
pub(super) struct Short<'a>(pub(super) &'a str);

impl Short<'_> {
    const CHARS: usize = 120;
}

impl fmt::Display for Short<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars().take(Self::CHARS) {
            if c.is_control() { write!(f, "{}", c.escape_default())? } else { f.write_char(c)? }
        }
        if self.0.chars().nth(Self::CHARS).is_some() { f.write_str("…") } else { Ok(()) }
    }
}

/// Why a resource could not be de-identified: which rule, where and why, and nothing of what stands there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{why}", Where(.rule.as_ref(), place))]
pub struct DeidFailure {
    /// The rule that failed; `None` where the resource itself cannot be read.
    pub rule: Option<FailedRule>,
    /// The element: `Patient.name[0].family`. Empty for the whole resource.
    pub place: String,
    /// What is wrong.
    pub why: DeidProblem,
    /// What has to end: the resource or the job.
    pub ends: DeidEnds,
}

/// The rule of a [`DeidFailure`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedRule {
    /// Counted from 1.
    pub number: usize,
    /// As the file has it.
    pub method: String,
    /// As the file has it.
    pub path: String,
}

/// What a failure ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeidEnds {
    /// The job: the configuration says `raise`, or cannot be trusted with what it met.
    Job,
    /// This resource only: it is left out, and an OperationOutcome says so.
    Resource,
}

/// What was wrong with a resource, or with a rule for it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeidProblem {
    /// Not UTF-8, not JSON, not an object.
    #[error("the resource is no JSON object")]
    NotJson,
    /// No `resourceType`, or not a name that this version of FHIR has.
    #[error("the resource has no resourceType that FHIR {} defines", .0.as_str())]
    UnknownType(FhirVersion),
    /// A member that the type does not have. Its name is not told: it is not FHIR's.
    #[error("there is a member that FHIR {} does not define here; what is unknown cannot be de-identified", .0.as_str())]
    UnknownElement(FhirVersion),
    /// An object where a plain value belongs, or the other way round.
    #[error("the value is of another JSON type than FHIR {} defines here", .0.as_str())]
    Shape(FhirVersion),
    /// A member twice in one object.
    #[error("a member stands there twice")]
    Twice,
    /// Nested deeper than is read.
    #[error("the resource is nested more than {0} times")]
    TooDeep(usize),
    /// `generalize` on what has members.
    #[error("generalize works on single values only; let the path go on to them")]
    NotPrimitive,
    /// A `replaceWith` that does not fit the element.
    #[error("replaceWith does not fit: {0}")]
    Replacement(&'static str),
    /// A case or a condition that cannot be worked out.
    #[error("the expression {0}")]
    Expression(String),
    /// A number of more digits than can be computed with.
    #[error("the number is too large to be perturbed")]
    Number,
    /// A method that does not exist.
    #[error("no such method")]
    Method,
}

impl DeidProblem {
    pub(super) fn unanswered(reason: Unanswered) -> Self {
        Self::Expression(reason.to_string())
    }
}

struct Where<'a>(Option<&'a FailedRule>, &'a str);

impl fmt::Display for Where<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(rule) = self.0 {
            write!(f, "rule {} ({} `{}`)", rule.number, Short(&rule.method), Short(&rule.path))?;
        }
        match (self.0, self.1) {
            (None, "") => Ok(()),
            (Some(_), "") => f.write_str(": "),
            (None, place) => write!(f, "at {place}: "),
            (Some(_), place) => write!(f, " at {place}: "),
        }
    }
}
