//! Errors of a configuration, and failures to de-identify a resource.

use std::fmt::{self, Write as _};

use crate::definitions::FhirVersion;

/// The errors of a configuration in the order of the file, at least one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the anonymization configuration cannot be used: {}", IssueList(.0))]
pub struct DeidConfigError(pub Vec<DeidConfigIssue>);

/// An error of a configuration, which cannot be used.
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
        write_location(self.rule_number, self.path.as_deref(), f)?;
        f.write_str(&self.reason)
    }
}

/// A remark of the linter about a configuration that can be parsed.
///
/// [`crate::deid::DeidConfig::lint`] returns them. They contain text of the configuration, never data of resources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeidRemark {
    /// Tells whether the configuration fails its purpose, or may fail.
    pub severity: DeidRemarkSeverity,
    /// The kind of the remark, by which it can be accepted.
    pub code: DeidRemarkCode,
    /// The number of the rule, counted from 1; `None` for the rest of the file.
    pub rule_number: Option<usize>,
    /// The rule's path as written in the file.
    pub path: Option<String>,
    /// The problem.
    pub reason: String,
    /// The change of the configuration that resolves the problem.
    pub remedy: String,
}

/// The severity of a [`DeidRemark`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DeidRemarkSeverity {
    /// A rule has no effect, or data remains that a rule is meant to change.
    Error,
    /// A rule may fail for some resources, or its result may not be what the author means.
    Warning,
}

impl DeidRemarkSeverity {
    /// Returns the name in messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// The kinds of [`DeidRemark`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeidRemarkCode {
    /// A setting is unknown and ignored.
    UnknownSetting,
    /// The method does not exist.
    UnknownMethod,
    /// A setting has a value that the service treats differently, or that weakens the result.
    Setting,
    /// No rule changes anything.
    NoRules,
    /// The rule, or a branch of its path, selects no element of any resource type.
    SelectsNothing,
    /// A condition uses a name or a type that does not exist.
    UnknownName,
    /// A condition can never be true, or is always true.
    Condition,
    /// Earlier rules apply to every element that the rule selects.
    NoEffect,
    /// The method changes none of the elements that the rule selects.
    CannotAct,
    /// The method leaves elements unchanged and protects them from a later rule.
    Shields,
    /// The method leaves some of the selected elements unchanged.
    PartlyActs,
    /// The rule fails for resources with some of the selected elements.
    MayFail,
    /// The result is not valid for the type of the element.
    InvalidResult,
    /// Ids are hashed, but references or identifiers reveal them.
    RevealingReferences,
    /// A date that the reader can know moves with the dates that the reader must not know.
    KnownDate,
    /// A date stays unchanged beside dates that are shifted.
    TrueDate,
    /// A value beside shifted dates depends on the true dates, and reveals the shift.
    RevealedShift,
    /// A key can be guessed.
    WeakKey,
    /// Dates move together in an increment, or in exports that can be compared, and the newest dates are known.
    ShiftedIncrement,
}

impl DeidRemarkCode {
    /// All codes, in the order of their declaration.
    pub const ALL: [Self; 19] = [
        Self::UnknownSetting,
        Self::UnknownMethod,
        Self::Setting,
        Self::NoRules,
        Self::SelectsNothing,
        Self::UnknownName,
        Self::Condition,
        Self::NoEffect,
        Self::CannotAct,
        Self::Shields,
        Self::PartlyActs,
        Self::MayFail,
        Self::InvalidResult,
        Self::RevealingReferences,
        Self::KnownDate,
        Self::TrueDate,
        Self::RevealedShift,
        Self::WeakKey,
        Self::ShiftedIncrement,
    ];

    /// Returns the name of the code: the one in messages and settings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UnknownSetting => "unknown-setting",
            Self::UnknownMethod => "unknown-method",
            Self::Setting => "setting",
            Self::NoRules => "no-rules",
            Self::SelectsNothing => "selects-nothing",
            Self::UnknownName => "unknown-name",
            Self::Condition => "condition",
            Self::NoEffect => "no-effect",
            Self::CannotAct => "cannot-act",
            Self::Shields => "shields",
            Self::PartlyActs => "partly-acts",
            Self::MayFail => "may-fail",
            Self::InvalidResult => "invalid-result",
            Self::RevealingReferences => "revealing-references",
            Self::KnownDate => "known-date",
            Self::TrueDate => "true-date",
            Self::RevealedShift => "revealed-shift",
            Self::WeakKey => "weak-key",
            Self::ShiftedIncrement => "shifted-increment",
        }
    }

    /// Returns the code with this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.as_str() == name)
    }
}

impl DeidRemark {
    /// Returns the code of the remark, followed by the number of its rule, as in `selects-nothing:7`. The name that an operator accepts also has a
    /// digest.
    pub fn code_and_rule(&self) -> String {
        match self.rule_number {
            Some(number) => format!("{}:{number}", self.code.as_str()),
            None => self.code.as_str().to_owned(),
        }
    }

    /// Creates a remark about the file outside its rules.
    pub(super) fn in_file(
        code: DeidRemarkCode,
        severity: DeidRemarkSeverity,
        reason: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { severity, code, rule_number: None, path: None, reason: reason.into(), remedy: remedy.into() }
    }

    /// Makes the remark one about a rule.
    pub(super) fn of_rule(self, number: usize, path: &str) -> Self {
        Self { rule_number: Some(number), path: Some(path.to_owned()).filter(|path| !path.is_empty()), ..self }
    }
}

impl fmt::Display for DeidRemark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}] ", self.severity.as_str(), self.code.as_str())?;
        write_location(self.rule_number, self.path.as_deref(), f)?;
        write!(f, "{}; {}", self.reason, self.remedy)
    }
}

/// Writes the number and the path of the rule that an issue or a remark is about.
fn write_location(rule_number: Option<usize>, path: Option<&str>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match (rule_number, path) {
        (Some(number), Some(path)) => write!(f, "rule {number} (`{}`): ", Truncated(path)),
        (Some(number), None) => write!(f, "rule {number}: "),
        (None, _) => Ok(()),
    }
}

/// A list of issues, displayed with semicolons between them.
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

/// The rule and the element of a failure, for display.
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
