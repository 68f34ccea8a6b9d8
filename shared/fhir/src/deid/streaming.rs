//! The streaming engine: de-identifies a resource in one pass over its text. Unchanged text is copied in pieces that are as
//! long as possible.
//!
//! It handles almost every resource. For anything unusual it returns [`NeedsTree`]: escapes in member names, JSON that is not
//! FHIR, null, `_given` beside `given`, and every failure. The tree engine then handles the resource and reports the error.

use super::engine::{DeidEngine, ResourceContext};
use crate::definitions::ResourceType;
use crate::json::{JsonValue, OpenNames, Scanner};
use crate::semantics::bundle_patients::BundlePatients;

mod current_path;
mod date_offset;
mod entries;
mod items;
mod objects;
mod output;
mod resources;
mod values;

use current_path::{CurrentPath, USUAL_DEPTH};
use date_offset::RootId;
use items::may_name_others;

/// The streaming engine cannot handle the resource; the tree engine has to. Does not mean that the resource is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NeedsTree;

/// The source of the patient with whom the dates of a resource move, if they move by patients.
#[derive(Clone, Copy, Debug)]
pub(super) enum DatePatient<'p> {
    /// The id of the patient, if the resource has one.
    Given(Option<&'p str>),
    /// The references of the resource name the patient.
    InResource,
}

/// Appends the de-identified resource to `out`.
///
/// `out` may hold part of the resource when this returns [`NeedsTree`]; the caller truncates it.
pub(super) fn deidentify_streaming<'p>(
    engine: &'p DeidEngine,
    line: &'p str,
    patient: DatePatient<'p>,
    out: &'p mut Vec<u8>,
) -> Result<(), NeedsTree> {
    let mut scanner = Scanner::new(line);
    scanner.skip_spaces();
    // Both determine how members are treated, and they may follow other members.
    let (resource_type, id) = type_and_id(scanner).ok_or(NeedsTree)?;
    let json = JsonValue::from_valid(line);
    let automaton = engine.plan(resource_type).and_then(|plan| plan.automaton(json)).ok_or(NeedsTree)?;
    let (given, found) = match patient {
        DatePatient::Given(patient) => (patient, None),
        DatePatient::InResource => (None, engine.entry_offset(resource_type, json, &BundlePatients::default())),
    };
    let mut context = ResourceContext::new(engine, resource_type.as_str(), id.into(), given);
    if let Some(mut date_offset) = found {
        context.swap_date_offset(&mut date_offset);
    }
    let bundle_patients = engine.bundle_patients(resource_type, json);
    let may_name_others = bundle_patients.is_some() || (engine.has_entry_offsets() && may_name_others(line, context.date_offset().id()));
    let mut writer = StreamingWriter {
        engine,
        out,
        copied_to: scanner.position,
        scanner,
        context,
        root_id: RootId::new(automaton, id),
        bundle_patients: bundle_patients.unwrap_or_default(),
        may_name_others,
        path: CurrentPath { root: resource_type.as_str(), segments: Vec::with_capacity(USUAL_DEPTH) },
        depth: 0,
        open_resources: 0,
    };
    writer.write_resource(automaton, false)?;
    let end = writer.scanner.position;
    writer.scanner.skip_spaces();
    if writer.scanner.next_byte().is_some() {
        return Err(NeedsTree);
    }
    writer.copy_up_to(end);
    Ok(())
}

/// Reads ahead to the type and the id of a resource.
fn type_and_id(mut scanner: Scanner<'_>) -> Option<(ResourceType, &str)> {
    let (mut resource_type, mut id) = (None, None);
    scanner.expect(b'{')?;
    loop {
        match scanner.name()? {
            "resourceType" => resource_type = Some(ResourceType::parse(scanner.plain_string()?)?),
            "id" => id = Some(scanner.plain_string()?),
            _ => scanner.skip_value(&mut OpenNames::default())?,
        }
        if let (Some(resource_type), Some(id)) = (resource_type, id) {
            return Some((resource_type, id));
        }
        scanner.expect(b',')?;
    }
}

/// The streaming engine, while it processes one resource.
struct StreamingWriter<'p> {
    engine: &'p DeidEngine,
    scanner: Scanner<'p>,
    out: &'p mut Vec<u8>,
    /// The offset up to which the text has been copied or left out. Text between it and the reader is not copied yet.
    copied_to: usize,
    context: ResourceContext<'p>,
    root_id: RootId<'p>,
    /// The Patients of the innermost Bundle around the reader's position.
    bundle_patients: BundlePatients<'p>,
    /// False if no item of a repeated element can name another patient than the one by whom dates move.
    may_name_others: bool,
    path: CurrentPath,
    depth: usize,
    /// The number of resources that enclose the reader's position.
    open_resources: usize,
}

impl StreamingWriter<'_> {
    /// Reads the next token, which must be `wanted`.
    fn expect(&mut self, wanted: u8) -> Result<(), NeedsTree> {
        self.scanner.expect(wanted).ok_or(NeedsTree)
    }
}
