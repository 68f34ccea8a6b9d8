//! The inputs of a de-identified export. The commands that show what an export does read and combine them in the same way.

use std::io::{self, Read as _};
use std::path::Path;

use headrace_core::lines::deid::JobDeidentifier;
use headrace_core::request::{MAX_CONFIG_BYTES, RemarkNames};
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::config_digest::ConfigDigest;
use headrace_edge::config::parse_fhir_version;
use headrace_edge::system::random_job_secret;
use headrace_fhir::definitions::FhirVersion;
use headrace_fhir::deid::{DeidConfig, Deidentifier};
use headrace_fhir::head::{MemberIndex, Resource};
use headrace_fhir::semantics::compartment::PatientCompartment;
use headrace_fhir::semantics::reference::BaseUrls;

use super::DeidCommandError;
use crate::cli::{DeidKeysOptions, FhirVersionArgs, parse_option};
use crate::stores::deid_keys::read_deid_keys;

/// Reads a file, or standard input for `-`.
pub(super) fn read_file(path: &Path) -> Result<Vec<u8>, DeidCommandError> {
    let mut bytes = Vec::new();
    let read = if is_standard_input(path) { io::stdin().read_to_end(&mut bytes).map(|_| bytes) } else { std::fs::read(path) };
    read.map_err(|cause| DeidCommandError::Read { path: path.to_owned(), cause })
}

/// Returns true if a path stands for standard input.
fn is_standard_input(path: &Path) -> bool {
    path == Path::new("-")
}

/// Fails if more than one of the files is standard input: the second would be empty.
pub(super) fn check_standard_input(files: &[&Path], keys: &DeidKeysOptions) -> Result<(), DeidCommandError> {
    let count = files.iter().copied().chain(keys.file.as_deref()).filter(|path| is_standard_input(path)).count();
    if count > 1 { Err(DeidCommandError::StandardInputTwice) } else { Ok(()) }
}

/// A configuration with its keys, as an export has it.
pub(super) struct KeyedConfiguration {
    /// The digest of the file, without its keys.
    pub(super) digest: ConfigDigest,
    /// The configuration with the keys.
    pub(super) config: DeidConfig,
    /// The names of the remarks about the configuration, which are bound to the text of the file.
    pub(super) remark_names: RemarkNames,
    pub(super) version: FhirVersion,
}

impl KeyedConfiguration {
    /// Reads a configuration, and the keys that are kept apart from it.
    pub(super) fn read(path: &Path, keys: &DeidKeysOptions, version: &FhirVersionArgs) -> Result<Self, DeidCommandError> {
        let version = parse_option(&version.fhir_version, parse_fhir_version)?.unwrap_or_default();
        // A pipe can be read only once.
        let text = read_file(path)?;
        if text.len() as u64 > MAX_CONFIG_BYTES {
            return Err(DeidCommandError::TooLong(path.to_owned()));
        }
        let invalid = |faults| DeidCommandError::Invalid { path: path.to_owned(), faults };
        let config = DeidConfig::parse(&text, version).map_err(invalid)?;
        let config = match read_deid_keys(keys.file.as_deref(), keys.json.as_deref())? {
            Some(keys) => config.with_keys(&keys).map_err(invalid)?,
            None => config,
        };
        Ok(Self { digest: ConfigDigest::from_bytes(&text), config, remark_names: RemarkNames::new(&text, version), version })
    }

    /// Returns the rules of an export with this `transactionTime` from a lake with these base URLs. Keys that are not given are made for it.
    pub(super) fn for_export(&self, transaction_time: Millis, base_urls: BaseUrls) -> Result<ExportRules, DeidCommandError> {
        let job = JobDeidentifier::new(&self.config, random_job_secret()?, transaction_time);
        let deidentifier = job.rules.with_base_urls(base_urls.clone());
        let compartment = deidentifier.needs_patient_id().then(|| PatientCompartment::new(self.version, base_urls));
        Ok(ExportRules { deidentifier, compartment })
    }
}

/// The rules of an export, ready to de-identify resources.
pub(super) struct ExportRules {
    pub(super) deidentifier: Deidentifier,
    /// Compartment to find the patient of a resource, if the rules need it.
    compartment: Option<PatientCompartment>,
}

impl ExportRules {
    /// Returns the id of the patient with whom the dates of a resource move. `None` if it names none, or if dates do not move by patients.
    ///
    /// `line`: the resource.
    pub(super) fn patient_of(&self, line: &[u8]) -> Option<String> {
        let compartment = self.compartment.as_ref()?;
        let mut member_index = MemberIndex::default();
        let resource = Resource::parse(line, &mut member_index).ok()?;
        compartment.first_patient(&resource)
    }
}
