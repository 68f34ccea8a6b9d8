//! What a client may ask for, and what it is told when it may not.

use std::collections::{BTreeMap, BTreeSet};

use headrace_fhir::{FhirVersion, Instant, ResourceType, TypeSet};
use serde::{Deserialize, Serialize};

use crate::clock::Millis;
use crate::outcome::{Issue, IssueCode, Outcome, Severity};

/// The kick-off as it came over the wire: nothing believed yet.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// What the path names.
    pub level: Level,
    /// Every `Accept` header's value.
    pub accept: Vec<String>,
    /// Every `Prefer` header's value.
    pub prefer: Vec<String>,
    /// The query's parameters in order, percent-decoded once.
    pub parameters: Vec<(String, String)>,
}

/// Whose data an export is about (Bulk Data Access, "Endpoints").
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// `[base]/$export`: everything.
    #[default]
    System,
    /// `[base]/Patient/$export`.
    AllPatients,
    /// `[base]/Patient/[id]/$export`: the patient's id.
    OnePatient(String),
    /// `[base]/Group/[id]/$export`: the group's id.
    Group(String),
}

/// A valid request, resolved from what was asked.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ExportRequest {
    /// The lake's version of FHIR.
    pub version: FhirVersion,
    /// Whose data.
    pub level: Level,
    /// `_type`: only these types; `None` means every type.
    pub types: Option<BTreeSet<ResourceType>>,
    /// `_since`: only resources changed later than this.
    pub since: Option<Instant>,
    /// `_until`: only resources changed earlier than this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Instant>,
    /// `_typeFilter`: queries such as `Observation?code=1234-5`, decoded once, one each. Checked when the request was
    /// resolved; whoever runs the export compiles them again.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub type_filters: Vec<String>,
    /// `_elements`: `element` or `Type.element`, one each. Checked like the filters.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub elements: Vec<String>,
    /// `patient`: how many patients were named; their ids are in [`crate::task::Planning`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patients: Option<u32>,
    /// `includeAssociatedData`.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub associated: BTreeSet<Associated>,
    /// `organizeOutputBy=Patient`: blocks of a patient each instead of files of a type each.
    pub is_organized: bool,
    /// `allowPartialManifests=true`: the manifest may come in pages.
    pub allows_partial_manifests: bool,
    /// `Prefer: separate-export-status`: polls answer 200, and the export's own status in a header.
    pub separates_status: bool,
    /// `_container`: the caller's named place inside the destination.
    pub container: Option<Container>,
    /// `_format`: where the files lie below the container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layout: Option<Layout>,
    /// What was asked for and is left out, because the client preferred `handling=lenient`: lines of the `error` file.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ignored: Vec<Ignored>,
}

/// A value of `includeAssociatedData`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Associated {
    /// The most recent Provenance of each resource.
    LatestProvenanceResources,
    /// Every Provenance of each resource.
    RelevantProvenanceResources,
    /// Every version of each resource (Azure).
    #[serde(rename = "_history")]
    History,
    /// What was deleted, also without `_since` (Azure).
    #[serde(rename = "_deleted")]
    Deleted,
}

/// Something that was asked for and is not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ignored {
    /// The parameter.
    pub parameter: String,
    /// What was wrong with it, for the client's eyes.
    pub text: String,
}

/// Where the files of an export lie: text with `<timestamp>` and `<id>` for the job's own, at least `<id>`, without a
/// slash at either end. The operator names layouts, `_format` picks one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Layout(String);

impl Layout {
    /// Reads a layout: segments of letters, digits, `-`, `_`, `.` and the two marks. As Azure writes them, a last segment
    /// `<resourcename>` may stand at the end: every file is named by its type here.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.strip_suffix("/<resourcename>").unwrap_or(text);
        let fits = |segment: &str| {
            let rest = segment.replace("<timestamp>", "t").replace("<id>", "i");
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
            !rest.is_empty() && !rest.starts_with('.') && !rest.starts_with('_') && rest.bytes().all(is_plain)
        };
        (text.contains("<id>") && text.len() <= 200 && text.split('/').all(fits)).then(|| Self(text.to_owned()))
    }

    /// The folder of one job.
    pub fn folder(&self, timestamp: &str, id: &str) -> String {
        self.0.replace("<timestamp>", timestamp).replace("<id>", id)
    }
}

impl TryFrom<String> for Layout {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, &'static str> {
        Self::parse(&text).ok_or("not a layout")
    }
}

impl From<Layout> for String {
    fn from(layout: Layout) -> Self {
        layout.0
    }
}

/// The name of a place inside the destination: 3 to 63 of `a-z`, `0-9` and `-`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Container(String);

impl Container {
    /// Reads a container's name.
    pub fn parse(text: &str) -> Option<Self> {
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        ((3..=63).contains(&text.len()) && text.bytes().all(fits)).then(|| Self(text.to_owned()))
    }

    /// The name itself: safe as a path segment and as a key prefix.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Container {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, &'static str> {
        Self::parse(&text).ok_or("not a container's name")
    }
}

impl From<Container> for String {
    fn from(container: Container) -> Self {
        container.0
    }
}

/// What the operator allows.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// The version of FHIR that the lake's resources are in.
    pub version: FhirVersion,
    /// The folder layouts that `_format` may name.
    pub layouts: BTreeMap<String, Layout>,
    /// The containers that may be named; `None` means any valid name.
    pub containers: Option<BTreeSet<Container>>,
}

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

impl ExportRequest {
    /// Resolves what was asked into a valid request, or says which part of it is refused.
    ///
    /// * `now`: a `_since` that lies ahead is refused.
    /// * Bulk Data Access, "Bulk Data Kick-off Request"; required headers as Azure API for FHIR had them.
    pub fn resolve(asked: &Asked, policy: &Policy, now: Millis) -> Result<Self, Refusal> {
        require_accept(&asked.accept)?;
        require_respond_async(&asked.prefer)?;
        require_system_level(&asked.level)?;
        let mut types = None::<BTreeSet<ResourceType>>;
        let (mut since, mut container, mut format) = (None, None, None);
        for (name, value) in &asked.parameters {
            match name.as_str() {
                "_type" => types.get_or_insert_default().extend(read_types(value)?),
                "_since" => once(&mut since, name, read_since(value, now)?)?,
                "_container" => once(&mut container, name, read_container(value, policy)?)?,
                "_outputFormat" => once(&mut format, name, read_output_format(value)?)?,
                _ => return Err(unknown_parameter(name)),
            }
        }
        Ok(Self { types, since, container, ..Self::default() })
    }

    /// `_type` as a filter.
    pub fn type_set(&self) -> Option<TypeSet> {
        self.types.as_ref().map(|types| types.iter().copied().collect())
    }
}

fn require_accept(accept: &[String]) -> Result<(), Refusal> {
    let ranges: Vec<&str> = accept.iter().flat_map(|header| header.split(',')).map(str::trim).filter(|range| !range.is_empty()).collect();
    if ranges.is_empty() {
        let text = "the header Accept is missing: send `Accept: application/fhir+json`";
        return Err(Refusal::of(400, IssueCode::Required, "Accept", text));
    }
    let served = |range: &&str| {
        let mut pieces = range.split(';').map(str::trim);
        let media = pieces.next().unwrap_or_default().to_ascii_lowercase();
        let refused =
            pieces.any(|parameter| parameter.to_ascii_lowercase().strip_prefix("q=").is_some_and(|weight| weight.parse() == Ok(0.0_f32)));
        !refused && matches!(media.as_str(), "application/fhir+json" | "application/json" | "application/*" | "*/*")
    };
    if ranges.iter().any(served) {
        return Ok(());
    }
    let text = "nothing in the header Accept can be served: send `Accept: application/fhir+json`";
    Err(Refusal::of(406, IssueCode::NotSupported, "Accept", text))
}

fn require_respond_async(prefer: &[String]) -> Result<(), Refusal> {
    let mut preferences = prefer.iter().flat_map(|header| header.split(',')).map(str::trim);
    if preferences.any(|preference| preference.eq_ignore_ascii_case("respond-async")) {
        return Ok(());
    }
    let text = "an export runs asynchronously only: send the header `Prefer: respond-async`";
    Err(Refusal::of(400, IssueCode::Required, "Prefer", text))
}

fn require_system_level(level: &Level) -> Result<(), Refusal> {
    let asked = match level {
        Level::System => return Ok(()),
        Level::AllPatients => "Patient/$export",
        Level::OnePatient(_) => "Patient/[id]/$export",
        Level::Group(_) => "Group/[id]/$export",
    };
    let text = format!("{asked} is not supported by this server: export the whole system with `[base]/$export`");
    Err(Refusal::of(400, IssueCode::NotSupported, asked, text))
}

fn once<T>(slot: &mut Option<T>, name: &str, value: T) -> Result<(), Refusal> {
    if slot.replace(value).is_none() {
        return Ok(());
    }
    Err(Refusal::of(400, IssueCode::Invalid, name, format!("the parameter {name} may be given once only")))
}

fn read_types(value: &str) -> Result<BTreeSet<ResourceType>, Refusal> {
    let refuse = |code, text| Refusal::of(400, code, "_type", text);
    value
        .split(',')
        .map(str::trim)
        .map(|name| match (name, ResourceType::named(name)) {
            (_, Some(kind)) => Ok(kind),
            ("", None) => Err(refuse(IssueCode::Value, "_type holds an empty name: list types as `Patient,Observation`".to_owned())),
            (name, None) => Err(refuse(
                IssueCode::NotSupported,
                format!("_type names `{}`, which is not a FHIR resource type; names are case-sensitive", shown(name)),
            )),
        })
        .collect()
}

fn read_since(value: &str, now: Millis) -> Result<Instant, Refusal> {
    let refuse = |text| Refusal::of(400, IssueCode::Value, "_since", text);
    let since = Instant::parse(value).map_err(|error| refuse(format!("_since is {error}")))?;
    if since > Instant::from_millis(now.0) {
        return Err(refuse(format!("_since lies in the future: it is {now} here")));
    }
    Ok(since)
}

fn read_output_format(value: &str) -> Result<(), Refusal> {
    // A `+` that was not percent-encoded arrives as a blank.
    match value.replace(' ', "+").as_str() {
        "application/fhir+ndjson" | "application/ndjson" | "ndjson" => Ok(()),
        _ => {
            let text = "_outputFormat is one of application/fhir+ndjson, application/ndjson and ndjson";
            Err(Refusal::of(400, IssueCode::NotSupported, "_outputFormat", text))
        }
    }
}

fn read_container(value: &str, policy: &Policy) -> Result<Container, Refusal> {
    let refuse = |code, text: &str| Refusal::of(400, code, "_container", text);
    let container =
        Container::parse(value).ok_or_else(|| refuse(IssueCode::Value, "_container is 3 to 63 characters of a-z, 0-9 and the hyphen"))?;
    if policy.containers.as_ref().is_some_and(|allowed| !allowed.contains(&container)) {
        return Err(refuse(IssueCode::Forbidden, "_container names a place that this server does not allow: ask its operator"));
    }
    Ok(container)
}

fn unknown_parameter(name: &str) -> Refusal {
    let name = shown(name);
    let text = format!("the parameter `{name}` is not supported: this server knows _type, _since, _outputFormat and _container");
    Refusal::of(400, IssueCode::NotSupported, &name, text)
}

/// A client's own word, short and printable enough to be shown back.
fn shown(word: &str) -> String {
    word.chars().take(64).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests;
