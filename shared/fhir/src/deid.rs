//! De-identification of resources by the rules of an anonymization configuration, in the format of Microsoft's Tools for
//! Health Data Anonymization.
//!
//! `config` parses the file, `fhirpath` the paths of its rules, and `plan` compiles the rules for each resource type. Two
//! engines apply them: `streaming` in one pass over the text, and `tree` to a tree of elements if streaming is not possible.
//! Both must write the same. `methods` contains the methods, `tools` the checks and explanations of a configuration.

mod addresses;
mod config;
mod element_tree;
mod engine;
mod error;
mod fhirpath;
mod json_string;
mod keys;
mod methods;
mod plan;
mod primitive;
mod published_types;
mod security_labels;
mod streaming;
mod tools;
mod tree;

use std::sync::Arc;

use serde::de::IgnoredAny;
use time::{Date, Time};

use crate::definitions::{FhirVersion, ResourceType};
use crate::json::JsonValue;
use crate::semantics::reference::BaseUrls;
use config::{DateShiftScope, ParsedConfig, ProcessingErrors};
use engine::DeidEngine;
pub use error::{
    DeidConfigError, DeidConfigIssue, DeidFailure, DeidFailureReason, DeidFailureScope, DeidRemark, DeidRemarkCode, DeidRemarkSeverity,
    FailedRule,
};
use fhirpath::EvaluationClock;
pub use keys::{DeidKeys, DeidKeysError, MAX_KEYS_BYTES, RANDOM_KEY_BYTES};
use plan::{PlanCache, add_implied_rules};
use security_labels::{SecurityLabel, SecurityLabels, write_security_labels};
use streaming::{DatePatient, NeedsTree, deidentify_streaming};
pub use tools::{ChangingDraws, CoveredElement, DeidCoverage, DeidExplanation, DeidStep, DeidTreatment, UntouchedElement};
use tools::{
    ConfigLinter, StepRecorder, changing_draws, increment_remarks, key_remarks, known_date_remarks, lasting_key_remarks, true_date_remarks,
};
use tree::{NoObserver, StepObserver, deidentify_tree};

/// An anonymization configuration, parsed for one version of FHIR.
///
/// The format is that of Microsoft's Tools for Health Data Anonymization; the same rules give the same resources. These
/// settings extend it:
///
/// * `processingErrors: "quarantine"`: a resource that fails is left out and reported in an OperationOutcome.
/// * `dateShiftScope: "patient"`: all dates of a patient move by the same number of days.
/// * `dateShiftTimeZone`: `utc` writes shifted times in UTC, so that summer time does not reveal the shift; `keep` leaves the offset.
/// * `unnamedElements: "drop"`: elements that no rule selects are removed completely, without a year or part of a zip code.
/// * `rulesInExtensions: false`: rules select nothing inside extensions. A rule for an element that contains an extension
///   still applies to all of it.
///
/// Clones share the compiled plans. Reuse one configuration for all tasks of a job, so that each type is compiled once.
#[derive(Clone, Debug)]
pub struct DeidConfig {
    config: Arc<ParsedConfig>,
    plans: Arc<PlanCache>,
}

/// The inputs of a job that complete a configuration.
#[derive(Clone, Copy)]
pub struct DeidJobContext {
    /// The job's secret. Keys that the file leaves empty are derived from it.
    pub key: [u8; 32],
    /// The date of the job's `transactionTime`, in UTC. Ages are computed for this date.
    pub today: Date,
    /// The time of the job's `transactionTime`, in UTC: with the date, that of `now()` in conditions.
    pub time: Time,
}

impl DeidConfig {
    /// Parses a file: JSON of at most 1 MB. Comments, trailing commas and a byte order mark are allowed.
    ///
    /// Fails with all errors of the file: rules that cannot be applied, settings out of range, duplicate members.
    pub fn parse(text: &[u8], version: FhirVersion) -> Result<Self, DeidConfigError> {
        let mut config = ParsedConfig::parse(text, version)?;
        add_implied_rules(&mut config);
        Ok(Self { config: Arc::new(config), plans: Arc::default() })
    }

    /// Returns the configuration with keys that are kept apart from it.
    ///
    /// Fails if the file has one of these keys itself.
    pub fn with_keys(&self, keys: &DeidKeys) -> Result<Self, DeidConfigError> {
        let mut config = (*self.config).clone();
        keys.apply_to(&mut config.parameters)?;
        // Keys do not change what rules select, so the compiled plans remain valid.
        Ok(Self { config: Arc::new(config), plans: self.plans.clone() })
    }

    /// Returns true if each id of a resource type is hashed with a key that does not change from export to export, so that
    /// later exports can name the same resources.
    pub fn has_lasting_ids(&self, resource_type: ResourceType) -> bool {
        !self.config.parameters.crypto_hash_key.is_empty() && self.plans.hashes_ids(resource_type, &self.config)
    }

    /// Returns the names of the keys that rules use and that are derived from the job's secret, because they are not given: another job hashes
    /// ids and moves dates differently. `dateShiftKey` is not among them if another key is given, from which it is derived.
    pub fn derived_key_names(&self) -> Vec<&'static str> {
        let named = ["cryptoHashKey", "dateShiftKey", "encryptKey"].into_iter().zip(self.config.used_keys());
        let follows_from_job = |name: &str| name != "dateShiftKey" || !self.config.has_lasting_keys();
        named.filter(|(name, key)| *key == Some("") && follows_from_job(name)).map(|(name, _)| name).collect()
    }

    /// Returns the remarks of parsing, such as unknown settings and unknown methods.
    pub fn parsing_remarks(&self) -> &[DeidRemark] {
        &self.config.remarks
    }

    /// Checks every rule against every resource type, without any data. Returns the remarks in the order of the rules; those
    /// about the file come first. A configuration without remarks does what it says.
    pub fn lint(&self) -> Vec<DeidRemark> {
        let mut remarks = self.config.remarks.clone();
        let linter = ConfigLinter::new(&self.config);
        remarks.extend(linter.remarks());
        remarks.extend(known_date_remarks(&linter));
        remarks.extend(true_date_remarks(&linter));
        remarks.sort_by_key(|remark| remark.rule_number);
        remarks
    }

    /// Returns the remarks about the keys. They are apart from [`Self::lint`], because keys can be kept apart from the file.
    pub fn key_remarks(&self) -> Vec<DeidRemark> {
        key_remarks(&self.config).into_iter().collect()
    }

    /// Returns the remarks about exports with `_since`.
    pub fn increment_remarks(&self) -> Vec<DeidRemark> {
        increment_remarks(&self.config).into_iter().collect()
    }

    /// Returns the remarks about exports without `_since` that have the keys of this configuration: they can be compared with earlier ones.
    pub fn lasting_key_remarks(&self) -> Vec<DeidRemark> {
        lasting_key_remarks(&self.config).into_iter().collect()
    }

    /// Returns the reason why each export with the keys of this configuration has other shifts of dates or other noise of numbers, so that a
    /// reader of many exports averages them away. `None` if all exports have the same, or none.
    pub fn changing_draws(&self) -> Option<ChangingDraws> {
        changing_draws(&self.config)
    }

    /// Lists the elements of a resource type that no rule applies to in each resource: they are exported unchanged, at least where
    /// the conditions of rules are false.
    ///
    /// An element is listed as a whole if rules apply to nothing in it except extensions. Elements that occur repeatedly
    /// with the same rules, such as the parts of every Identifier, are listed where they occur first.
    pub fn untouched_elements(&self, resource_type: ResourceType) -> Vec<UntouchedElement> {
        ConfigLinter::new(&self.config).untouched_elements(resource_type)
    }

    /// Returns what the rules do to the elements of a resource type; `None` if the version of FHIR does not define the type.
    pub fn coverage(&self, resource_type: ResourceType) -> Option<DeidCoverage> {
        ConfigLinter::new(&self.config).coverage(resource_type)
    }

    /// Returns a de-identifier that uses this configuration with a job's secret and date.
    pub fn for_job(&self, job: &DeidJobContext) -> Deidentifier {
        let clock = EvaluationClock { today: job.today, time: job.time };
        Deidentifier { engine: DeidEngine::new(self.config.clone(), self.plans.clone(), &job.key, clock) }
    }
}

/// A configuration with a job's keys, ready to de-identify resources.
#[derive(Debug)]
pub struct Deidentifier {
    engine: DeidEngine,
}

impl Deidentifier {
    /// Returns the de-identifier for a lake with these base URLs: only references below them name patients of resources in entries, beside
    /// the full URLs of Patients in the same Bundle. By default, references with any base URL do.
    #[must_use]
    pub fn with_base_urls(mut self, base_urls: BaseUrls) -> Self {
        self.engine.set_base_urls(base_urls);
        self
    }

    /// Appends the de-identified resource to `out` as one line without its newline.
    ///
    /// * `line`: one complete resource.
    /// * `patient`: the id of the patient whose compartment contains the resource; needed for `dateShiftScope: "patient"`. Resources in
    ///   entries of a Bundle or in Parameters have the patients that they name, and so have items that name another patient.
    ///
    /// Values that no rule applies to are copied byte for byte; white space between members and their order may change. Nothing is appended
    /// if the resource fails.
    pub fn deidentify(&self, line: &[u8], patient: Option<&str>, out: &mut Vec<u8>) -> Result<Deidentified, DeidFailure> {
        let begin = out.len();
        let failure = match self.write(line, patient, out) {
            Ok(()) => return Ok(Deidentified::Complete),
            Err(failure) => failure,
        };
        out.truncate(begin);
        let type_name = std::str::from_utf8(line).ok().and_then(|text| JsonValue::from_valid(text).member("resourceType")?.text());
        match (self.engine.config.processing_errors, failure.scope, type_name) {
            (ProcessingErrors::Skip, DeidFailureScope::Resource, Some(type_name)) => {
                out.extend_from_slice(format!(r#"{{"resourceType":"{type_name}""#).as_bytes());
                write_security_labels(SecurityLabels::from_label(SecurityLabel::Redacted), None, true, out);
                out.push(b'}');
                Ok(Deidentified::TypeOnly(failure))
            }
            _ => Err(failure),
        }
    }

    /// Appends the de-identified resource to `out` if that is possible in one pass over a line that was not validated before, and if the
    /// line is a valid resource. Otherwise appends nothing and returns false, which says nothing about the line.
    ///
    /// The resource has the patient that its references name.
    pub fn deidentify_valid(&self, line: &[u8], out: &mut Vec<u8>) -> bool {
        let begin = out.len();
        let text = std::str::from_utf8(line).ok();
        let is_done = text.is_some_and(|text| deidentify_streaming(&self.engine, text, DatePatient::InResource, out).is_ok());
        if !is_done {
            out.truncate(begin);
        }
        is_done
    }

    /// Appends the de-identified resource to `out`, always by the tree engine: the baseline for the streaming engine.
    ///
    /// A resource that fails is an error, also if `processingErrors` is `skip`.
    pub fn deidentify_with_tree(&self, line: &[u8], patient: Option<&str>, out: &mut Vec<u8>) -> Result<(), DeidFailure> {
        self.write_with_tree(line, patient, &mut NoObserver, out)
    }

    /// Returns the hash that replaces the id of a resource of this type, for a deletion of the resource. Returns `None` if
    /// not every id of the type is hashed with a lasting key. Such a deletion is not reported.
    pub fn hashed_id(&self, resource_type: ResourceType, id: &str) -> Option<String> {
        let engine = &self.engine;
        if engine.config.parameters.crypto_hash_key.is_empty() || !engine.hashes_ids(resource_type) {
            return None;
        }
        // The deleted resource itself is gone.
        self.deidentified_id(resource_type, id)
    }

    /// Returns what the rules leave of the id of a resource of this type, if that depends on the id alone.
    pub fn exported_id(&self, resource_type: ResourceType, id: &str) -> ExportedId {
        let exported = self.engine.has_fixed_ids(resource_type).then(|| self.deidentified_id(resource_type, id)).flatten();
        match exported {
            Some(exported) if exported == id => ExportedId::Unchanged,
            Some(exported) => ExportedId::Changed(exported),
            None => ExportedId::Hidden,
        }
    }

    /// Applies the rules to the id of a resource alone, by the same code as to resources. Returns `None` if nothing is left of it.
    fn deidentified_id(&self, resource_type: ResourceType, id: &str) -> Option<String> {
        let line = serde_json::json!({ "resourceType": resource_type.as_str(), "id": id }).to_string();
        let mut out = Vec::new();
        self.write(line.as_bytes(), None, &mut out).ok()?;
        let text = std::str::from_utf8(&out).ok()?;
        Some(JsonValue::from_valid(text).member("id")?.text()?.into_owned())
    }

    /// Returns true if [`Self::deidentify`] needs the patient's id: `dateShiftScope` is `patient`.
    pub fn needs_patient_id(&self) -> bool {
        self.engine.config.parameters.date_shift_scope == DateShiftScope::Patient
    }

    /// Writes the resource with the streaming engine, or with the tree engine if streaming cannot handle it.
    fn write(&self, line: &[u8], patient: Option<&str>, out: &mut Vec<u8>) -> Result<(), DeidFailure> {
        let begin = out.len();
        if let Ok(text) = std::str::from_utf8(line) {
            match deidentify_streaming(&self.engine, text, DatePatient::Given(patient), out) {
                Ok(()) => return Ok(()),
                Err(NeedsTree) => out.truncate(begin),
            }
        }
        self.write_with_tree(line, patient, &mut NoObserver, out)
    }

    /// Writes the resource with the tree engine and reports each step to `observer`.
    fn write_with_tree(
        &self,
        line: &[u8],
        patient: Option<&str>,
        observer: &mut impl StepObserver,
        out: &mut Vec<u8>,
    ) -> Result<(), DeidFailure> {
        let is_json = |text: &&str| serde_json::from_str::<IgnoredAny>(text).is_ok();
        let text = std::str::from_utf8(line).ok().filter(is_json);
        let text = text.ok_or_else(|| self.engine.failure(None, String::new(), DeidFailureReason::NotAJsonObject))?;
        deidentify_tree(&self.engine, JsonValue::from_valid(text), patient, observer, out)
    }

    /// Returns the result of [`Self::deidentify`] with every step that led to it. Made for trying out a configuration.
    pub fn explain(&self, line: &[u8], patient: Option<&str>) -> Result<DeidExplanation, DeidFailure> {
        let (mut recorder, mut by_tree, mut output) = (StepRecorder::default(), Vec::new(), Vec::new());
        self.write_with_tree(line, patient, &mut recorder, &mut by_tree)?;
        self.write(line, patient, &mut output)?;
        Ok(DeidExplanation::new(recorder, output, &by_tree))
    }
}

/// The remains of an id in a de-identified export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExportedId {
    /// No rule changes the id.
    Unchanged,
    /// The id is replaced by another.
    Changed(String),
    /// The id is removed, or what becomes of it depends on other elements of the resource.
    Hidden,
}

/// The result of de-identifying a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deidentified {
    /// The resource with everything that the rules keep.
    Complete,
    /// The resource type only: the resource failed, and `processingErrors` is `skip`.
    TypeOnly(DeidFailure),
}

#[cfg(test)]
mod tests;
