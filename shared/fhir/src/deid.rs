//! De-identification: resources written anew by the rules of Microsoft's anonymization configuration.

mod config;
mod encrypt;
mod error;
mod exact;
mod fhirpath;
mod generalize;
mod hash;
mod jsonc;
mod labels;
mod leaf;
mod method;
mod pass;
mod perturb;
mod plan;
mod reach;
mod redact;
mod rule;
mod shapes;
mod shift;
mod table;
mod text;
mod tree;
mod works;

use serde::de::IgnoredAny;
use time::Date;

use crate::FhirVersion;
use crate::json::Json;
use config::{Config, OnError};
pub use error::{DeidEnds, DeidErrors, DeidFailure, DeidFault, DeidProblem, FailedRule};
use exact::{Unwatched, apply_exactly};
use labels::{Label, Labels, write_labels};
use pass::{Unusual, apply_in_one_pass};
use works::Works;

/// A configuration, read for one version of FHIR.
#[derive(Clone, Debug)]
pub struct Deidentification(Config);

/// What a job brings to a configuration.
#[derive(Clone, Copy)]
pub struct JobTerms {
    /// The job's own secret: what the file leaves out is derived from it.
    pub key: [u8; 32],
    /// The day of the job's `transactionTime`: ages are told as of this day.
    pub today: Date,
}

impl Deidentification {
    /// Reads a file.
    pub fn read(text: &[u8], version: FhirVersion) -> Result<Self, DeidErrors> {
        Config::read(text, version).map(Self)
    }

    /// Gets ready to work.
    pub fn with(self, job: &JobTerms) -> Deidentifier {
        Deidentifier { works: Works::new(self.0, &job.key, job.today) }
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

    fn write(&self, line: &[u8], patient: Option<&str>, out: &mut Vec<u8>) -> Result<(), DeidFailure> {
        let begin = out.len();
        if let Ok(text) = std::str::from_utf8(line) {
            match apply_in_one_pass(&self.works, text, patient, out) {
                Ok(()) => return Ok(()),
                Err(Unusual) => out.truncate(begin),
            }
        }
        let is_json = |text: &&str| serde_json::from_str::<IgnoredAny>(text).is_ok();
        let text = std::str::from_utf8(line).ok().filter(is_json);
        let text = text.ok_or_else(|| self.works.failure(None, String::new(), DeidProblem::NotJson))?;
        apply_exactly(&self.works, Json::of_valid(text), patient, &mut Unwatched, out)
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
