//! `patient`: which patients an export is limited to.

use std::collections::BTreeSet;

use headrace_fhir::{Bases, local_reference};

use super::given::RawParameters;
use super::refusal::Handling;
use super::{Level, Parameter, Refusal, is_id};
use crate::vocab::outcome::IssueCode;

/// All ids of one request as the plan's item keeps them, which DynamoDB bounds by 400 kB.
const IDS_BYTES: usize = 256 << 10;

/// What an id costs beside its own text: two quotes and a comma.
const ID_FRAME_BYTES: usize = 3;

/// The ids of the patients that are named, sorted; `None` where none is.
pub(super) fn patients(
    given: &RawParameters<'_>,
    (level, bases): (&Level, &Bases),
    handling: &mut Handling,
) -> Result<Option<Vec<String>>, Refusal> {
    if !given.has(Parameter::Patient) {
        return Ok(None);
    }
    let refuse = |status, code, text| Refusal::of(status, code, Parameter::Patient.as_str(), text);
    let instead = match level {
        Level::AllPatients | Level::Group(_) => None,
        Level::System => Some("patient goes with `[base]/Patient/$export` and `[base]/Group/[id]/$export` only"),
        Level::OnePatient(_) => Some("the path names the patient already: leave the parameter patient out"),
    };
    if let Some(text) = instead {
        handling.leave_out(refuse(400, IssueCode::NotSupported, text.to_owned()))?;
        return Ok(None);
    }
    let (mut ids, mut bytes) = (BTreeSet::new(), 0);
    let references = given.all(Parameter::Patient).iter().flat_map(|value| value.split(','));
    for (place, reference) in references.map(str::trim).enumerate() {
        // The reference itself stays out of the text: it may say who the patient is.
        let id = id_of(reference, bases).ok_or_else(|| {
            let text = format!("reference {} of patient is not to a Patient of this server: write `Patient/[id]`", place + 1);
            refuse(400, IssueCode::Value, text)
        })?;
        if ids.insert(id) {
            bytes += id.len() + ID_FRAME_BYTES;
        }
        if bytes > IDS_BYTES {
            let text = "patient names more than 256 KiB of ids: make a Group of them and export that, or export them in several requests";
            return Err(refuse(413, IssueCode::TooCostly, text.to_owned()));
        }
    }
    Ok(Some(ids.into_iter().map(str::to_owned).collect()))
}

/// The id in `Patient/[id]`, in an absolute reference to a Patient, or the id alone.
fn id_of<'a>(reference: &'a str, bases: &Bases) -> Option<&'a str> {
    let id = match local_reference(reference, bases) {
        Some(named) if named.kind.as_str() == "Patient" => named.id,
        Some(_) => return None,
        None => reference,
    };
    is_id(id).then_some(id)
}
