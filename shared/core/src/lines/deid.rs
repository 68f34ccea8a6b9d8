//! De-identification of a job's resources.

use headrace_fhir::definitions::ResourceType;
use headrace_fhir::deid::{DeidConfig, DeidJobContext, Deidentifier, ExportedId};
use sha2::{Digest as _, Sha256};

use crate::job::JobSecret;
use crate::patients::block_header;
use crate::vocab::clock::Millis;

/// The compiled configuration and the secret of a de-identified export.
#[derive(Debug)]
pub struct JobDeidentifier {
    /// The compiled configuration, with the keys of the job.
    pub rules: Deidentifier,
    /// The job's secret.
    pub secret: JobSecret,
}

impl JobDeidentifier {
    /// Combines a configuration with the secret and the transaction time of a job.
    pub fn new(config: &DeidConfig, secret: JobSecret, transaction_time: Millis) -> Self {
        let context = DeidJobContext { key: secret.0, today: transaction_time.day(), time: transaction_time.time_of_day() };
        Self { rules: config.for_job(&context), secret }
    }

    /// Returns the reference to a patient for the header of the patient's block: with the id that the exported Patient has, so that
    /// both join. If the rules remove ids or references, or if the id depends on other elements of the Patient, returns a hash that
    /// identifies the block but not the patient.
    pub fn patient_reference(&self, patient: &str) -> String {
        let reference = match self.rules.exported_id(ResourceType::PATIENT, patient) {
            ExportedId::Changed(id) => Some(format!("Patient/{id}")),
            // References can be hidden although ids are not, in an export that contains no Patient.
            ExportedId::Unchanged => self.deidentified_reference(patient),
            ExportedId::Hidden => None,
        };
        reference.unwrap_or_else(|| {
            let hash = Sha256::new().chain_update(b"names of blocks").chain_update(self.secret.0).chain_update(patient).finalize();
            format!("Patient/{}", hex::encode(hash))
        })
    }

    /// Returns the de-identified reference to a patient, as it appears in block headers. `None` if it cannot be de-identified.
    fn deidentified_reference(&self, patient: &str) -> Option<String> {
        let line = block_header(&format!("Patient/{patient}"));
        let mut deidentified = Vec::new();
        self.rules.deidentify(line.as_bytes(), Some(patient), &mut deidentified).ok()?;
        let header: serde_json::Value = serde_json::from_slice(&deidentified).ok()?;
        header.pointer("/parameter/0/valueReference/reference")?.as_str().map(str::to_owned)
    }
}

#[cfg(test)]
mod tests {
    use headrace_fhir::definitions::FhirVersion;

    use super::*;

    /// Returns a de-identifier with rules, each a path and a method.
    fn deidentifier(rules: &[[&str; 2]], parameters: &str) -> JobDeidentifier {
        let rules: Vec<_> = rules.iter().map(|[path, method]| serde_json::json!({ "path": path, "method": method })).collect();
        let config = format!(r#"{{"fhirPathRules":{},"parameters":{{{parameters}}}}}"#, serde_json::json!(rules));
        let config = DeidConfig::parse(config.as_bytes(), FhirVersion::R4).unwrap();
        JobDeidentifier::new(&config, JobSecret([7; 32]), Millis(0))
    }

    /// Returns what the rules leave of a patient.
    fn exported_patient(deidentifier: &JobDeidentifier) -> serde_json::Value {
        let mut out = Vec::new();
        deidentifier.rules.deidentify(br#"{"resourceType":"Patient","id":"MRN-4711","active":true}"#, None, &mut out).unwrap();
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn the_header_of_a_block_joins_with_the_patient_whatever_happens_to_references() {
        let drop = r#""unnamedElements":"drop""#;
        for (rules, parameters) in [
            (&[["Patient.id", "cryptoHash"]][..], ""),
            (&[["Patient.id", "cryptoHash"], ["Observation.subject.reference", "cryptoHash"]], drop),
            (&[["Patient.id", "cryptoHash"], ["Parameters", "keep"]], drop),
            (&[["Resource.id", "cryptoHash"], ["nodesByType('Reference')", "redact"]], ""),
            (&[["Patient.where(active).id", "cryptoHash"], ["Patient", "cryptoHash"]], ""),
        ] {
            let deidentifier = deidentifier(rules, parameters);
            let id = exported_patient(&deidentifier)["id"].as_str().unwrap().to_owned();
            assert_eq!(deidentifier.patient_reference("MRN-4711"), format!("Patient/{id}"), "{rules:?}");
            assert_eq!(id.len(), 64, "{rules:?}");
        }
    }

    #[test]
    fn the_header_of_a_block_has_no_id_that_the_rules_remove_or_may_change() {
        let mut shown = Vec::new();
        for (rules, parameters) in [
            (&[["Patient", "redact"], ["Observation.subject", "redact"]][..], ""),
            (&[["Patient.id", "redact"]], ""),
            (&[["Patient.id", "redact"], ["Parameters", "keep"]], r#""unnamedElements":"drop""#),
            (&[["Patient.where(active).id", "cryptoHash"]], ""),
            (&[["Patient.where(active)", "redact"]], ""),
            (&[["nodesByType('Reference')", "redact"]], ""),
        ] {
            let reference = deidentifier(rules, parameters).patient_reference("MRN-4711");
            let is_opaque = reference.strip_prefix("Patient/").is_some_and(|id| id.len() == 64 && !id.contains("MRN"));
            if !is_opaque {
                shown.push(format!("{rules:?}: {reference}"));
            }
        }
        assert_eq!(shown, Vec::<String>::new());
        assert_eq!(deidentifier(&[["Patient.name", "redact"]], "").patient_reference("MRN-4711"), "Patient/MRN-4711");
    }
}
