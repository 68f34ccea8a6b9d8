//! The parameter `patient`.

use std::collections::BTreeSet;

use headrace_fhir::definitions::ResourceType;
use headrace_fhir::semantics::reference::{BaseUrls, LocalReference};

use super::error::Handling;
use super::raw::RawParameters;
use super::{Parameter, RequestError, is_resource_id};
use crate::vocab::level::Level;
use crate::vocab::outcome::IssueCode;

/// The maximum size of all ids in the item of the plan task, in bytes. DynamoDB limits an item to 400 kB.
const MAX_IDS_BYTES: usize = 256 << 10;

/// The size of the JSON around an id: two quotes and a comma.
const ID_OVERHEAD_BYTES: usize = 3;

/// Parses the parameter `patient`. Returns the sorted ids, or `None` if the parameter is absent or ignored.
pub(super) fn patients(
    raw: &RawParameters<'_>,
    (level, bases): (&Level, &BaseUrls),
    handling: &mut Handling,
) -> Result<Option<Vec<String>>, RequestError> {
    if !raw.has(Parameter::Patient) {
        return Ok(None);
    }
    let error = |status, code, text| RequestError::new(status, code, Parameter::Patient.as_str(), text);
    let unsupported = match level {
        Level::AllPatients | Level::Group(_) => None,
        Level::System => Some("patient is supported with `[base]/Patient/$export` and `[base]/Group/[id]/$export` only"),
        Level::OnePatient(_) => Some("the path already names the patient: remove the parameter patient"),
    };
    if let Some(text) = unsupported {
        handling.ignore_or_reject(error(400, IssueCode::NotSupported, text.to_owned()))?;
        return Ok(None);
    }
    let bases = &bases.named_and(None);
    let (mut ids, mut bytes) = (BTreeSet::new(), 0);
    let references = raw.values(Parameter::Patient).iter().flat_map(|value| value.split(','));
    for (index, reference) in references.map(str::trim).enumerate() {
        // The text does not quote the reference, because it may identify the patient.
        let id = patient_id(reference, bases).ok_or_else(|| {
            let text = format!("reference {} of patient is not a reference to a Patient of this server: write `Patient/[id]`", index + 1);
            error(400, IssueCode::Value, text)
        })?;
        if ids.insert(id) {
            bytes += id.len() + ID_OVERHEAD_BYTES;
        }
        if bytes > MAX_IDS_BYTES {
            let text = "patient names more than 256 KiB of ids: create a Group of them and export it, or send several requests";
            return Err(error(413, IssueCode::TooCostly, text.to_owned()));
        }
    }
    Ok(Some(ids.into_iter().map(str::to_owned).collect()))
}

/// Returns the id of a reference: `Patient/[id]`, an absolute reference below one of `bases`, or the id alone.
fn patient_id<'a>(reference: &'a str, bases: &BaseUrls) -> Option<&'a str> {
    let id = match LocalReference::parse(reference, bases) {
        Some(target) if target.resource_type == ResourceType::PATIENT => target.id,
        Some(_) => return None,
        None => reference,
    };
    is_resource_id(id).then_some(id)
}
