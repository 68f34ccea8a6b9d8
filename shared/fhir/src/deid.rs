//! De-identification: resources written anew by the rules of Microsoft's anonymization configuration.

mod config;
mod edge;
mod encrypt;
mod error;
mod exact;
mod explain;
mod fhirpath;
mod generalize;
mod hash;
mod jsonc;
mod labels;
mod leaf;
mod lint;
mod method;
mod pass;
mod perturb;
mod plan;
mod reach;
mod redact;
mod rule;
mod shapes;
mod shift;
mod text;
mod tree;
mod works;

use std::sync::Arc;

use serde::de::IgnoredAny;
use time::Date;

use crate::json::Json;
use crate::{FhirVersion, ResourceType};
use config::{Config, OnError};
pub use error::{DeidEnds, DeidErrors, DeidFailure, DeidFault, DeidProblem, FailedRule};
use exact::{Unwatched, Watch, apply_exactly};
use explain::Notes;
pub use explain::{DeidStep, Explanation};
use labels::{Label, Labels, write_labels};
use lint::Lint;
pub use lint::Untouched;
use method::Method;
use pass::{Unusual, apply_in_one_pass};
use plan::Plans;
use works::Works;

/// A configuration, read for one version of FHIR.
///
/// The format is that of Microsoft's Tools for Health Data Anonymization; the same rules give the same resources. Ours, and
/// each by an explicit setting:
///
/// * `processingErrors: "quarantine"`: a resource that fails is left out, and an OperationOutcome says so.
/// * `dateShiftScope: "patient"`: all dates of a patient move by as many days.
/// * `unnamedElements: "drop"`: what no rule selects goes, and nothing is left of it, no year and no part of a zip code.
/// * `rulesInExtensions: false`: rules select nothing inside extensions; a rule for what holds them still reaches all.
///
/// A clone shares what was compiled: one that is kept spares whoever has many pieces of an export to do the same work for each.
#[derive(Clone, Debug)]
pub struct Deidentification {
    config: Arc<Config>,
    plans: Arc<Plans>,
}

/// What a job brings to a configuration.
#[derive(Clone, Copy)]
pub struct JobTerms {
    /// The job's own secret: what the file leaves out is derived from it.
    pub key: [u8; 32],
    /// The day of the job's `transactionTime`: ages are told as of this day.
    pub today: Date,
}

impl Deidentification {
    /// Reads a file: JSON of at most 1 MB, in which comments, commas behind the last item and a byte order mark are fine.
    ///
    /// Fails with every fault that it has: a rule that cannot be followed, a setting out of its range, a member twice.
    pub fn read(text: &[u8], version: FhirVersion) -> Result<Self, DeidErrors> {
        let config = Config::read(text, version)?;
        Ok(Self { config: Arc::new(config), plans: Arc::default() })
    }

    /// The keys that rules use and the file leaves empty, by their names in the file. They are derived from the job's
    /// secret: with another job, ids are hashed and dates are moved otherwise.
    pub fn wants(&self) -> Vec<&'static str> {
        let Config { rules, parameters, .. } = &*self.config;
        let uses = |is_so: fn(&Method) -> bool| rules.iter().any(|rule| is_so(&rule.method));
        let moves = parameters.fixed_offset_days.is_none() && uses(|method| matches!(method, Method::DateShift));
        let wanted = [
            ("cryptoHashKey", parameters.crypto_hash_key.is_empty() && uses(|method| matches!(method, Method::CryptoHash))),
            ("dateShiftKey", parameters.date_shift_key.is_empty() && moves),
            ("encryptKey", parameters.encrypt_key.is_empty() && uses(|method| matches!(method, Method::Encrypt))),
        ];
        wanted.into_iter().filter(|(_, is_wanted)| *is_wanted).map(|(name, _)| name).collect()
    }

    /// What was read but should be looked at: names that mean nothing, methods that do not exist.
    pub fn warnings(&self) -> &[DeidFault] {
        &self.config.warnings
    }

    /// Looks at every rule in every type of resource, which takes a while: tells the warnings, rules that select nothing or
    /// come too late to do anything, and ids that are hashed here and shown there.
    pub fn lint(&self) -> Vec<DeidFault> {
        let mut faults = self.config.warnings.clone();
        faults.extend(Lint::new(&self.config).faults());
        faults
    }

    /// The elements of a type of resource that no rule touches: they are exported as they are. An element of which rules
    /// touch nothing but extensions is told as a whole, and what comes again in the same way, such as the parts of each
    /// identifier, where it comes first.
    pub fn untouched(&self, kind: ResourceType) -> Vec<Untouched> {
        Lint::new(&self.config).untouched(kind)
    }

    /// Gets ready to work.
    pub fn with(&self, job: &JobTerms) -> Deidentifier {
        Deidentifier { works: Works::new(self.config.clone(), self.plans.clone(), &job.key, job.today) }
    }
}

/// A configuration at work.
#[derive(Debug)]
pub struct Deidentifier {
    works: Works,
}

impl Deidentifier {
    /// Writes a resource de-identified, in one line without its end, behind what `out` holds.
    ///
    /// * `line`: one resource, whole.
    /// * `patient`: the id of the patient in whose compartment it is; `dateShiftScope: "patient"` asks for it.
    ///
    /// What no rule touches stays byte for byte. Of a resource that fails nothing is written.
    pub fn apply(&self, line: &[u8], patient: Option<&str>, out: &mut Vec<u8>) -> Result<Applied, DeidFailure> {
        let begin = out.len();
        let failure = match self.write(line, patient, out) {
            Ok(()) => return Ok(Applied::Whole),
            Err(failure) => failure,
        };
        out.truncate(begin);
        let kind = std::str::from_utf8(line).ok().and_then(|text| Json::of_valid(text).member("resourceType")?.text());
        match (self.works.config.on_error, failure.ends, kind) {
            (OnError::Skip, DeidEnds::Resource, Some(kind)) => {
                out.extend_from_slice(format!(r#"{{"resourceType":"{kind}""#).as_bytes());
                write_labels(Labels::of(Label::Redacted), None, true, out);
                out.push(b'}');
                Ok(Applied::Emptied(failure))
            }
            _ => Err(failure),
        }
    }

    /// Whether `apply` has to know whose a resource is: `dateShiftScope` is `patient`.
    pub fn asks_for_patients(&self) -> bool {
        self.works.config.parameters.scope == config::Scope::Patient
    }

    fn write(&self, line: &[u8], patient: Option<&str>, out: &mut Vec<u8>) -> Result<(), DeidFailure> {
        let begin = out.len();
        if let Ok(text) = std::str::from_utf8(line) {
            match apply_in_one_pass(&self.works, text, patient, out) {
                Ok(()) => return Ok(()),
                Err(Unusual) => out.truncate(begin),
            }
        }
        self.write_exactly(line, patient, &mut Unwatched, out)
    }

    fn write_exactly(&self, line: &[u8], patient: Option<&str>, watch: &mut impl Watch, out: &mut Vec<u8>) -> Result<(), DeidFailure> {
        let is_json = |text: &&str| serde_json::from_str::<IgnoredAny>(text).is_ok();
        let text = std::str::from_utf8(line).ok().filter(is_json);
        let text = text.ok_or_else(|| self.works.failure(None, String::new(), DeidProblem::NotJson))?;
        apply_exactly(&self.works, Json::of_valid(text), patient, watch, out)
    }

    /// De-identifies a resource as [`Self::apply`] does, and tells every step. For people who try out a configuration.
    pub fn explain(&self, line: &[u8], patient: Option<&str>) -> Result<Explanation, DeidFailure> {
        let (mut notes, mut after) = (Notes::default(), Vec::new());
        self.write_exactly(line, patient, &mut notes, &mut after)?;
        Ok(Explanation { steps: notes.0, after })
    }
}

/// What was written of a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied {
    /// All that the rules leave.
    Whole,
    /// Its type only: the resource failed, and `processingErrors` is `skip`.
    Emptied(DeidFailure),
}

#[cfg(test)]
mod tests;
