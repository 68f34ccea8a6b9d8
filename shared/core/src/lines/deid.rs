//! De-identification of a job's resources.

use headrace_fhir::deid::{DeidConfig, DeidJobContext, Deidentifier};
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

    /// Returns the de-identified reference for the header of a patient's block. If the configuration removes references,
    /// returns a hash that identifies the block but not the patient.
    pub fn patient_reference(&self, patient: &str) -> String {
        self.deidentified_reference(patient).unwrap_or_else(|| {
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
