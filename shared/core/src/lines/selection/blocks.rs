//! Into whose blocks a resource goes, where the export is organized by patient.

use headrace_fhir::{Outline, PatientCompartment, Resource};

use super::{MatchedResource, Selection};
use crate::output::file::Bucket;
use crate::patients::{PatientPartitioner, Placed};
use crate::request::{ExportRequest, Level};

/// How an export is organized by patient.
#[derive(Debug)]
pub(super) struct Blocks {
    places: PatientPartitioner,
    /// Everybody's, where the export is about the whole system.
    everybody: Option<PatientCompartment>,
}

impl Blocks {
    /// `None` for files of a type each.
    pub(super) fn of(
        request: &ExportRequest,
        places: PatientPartitioner,
        compartment: impl FnOnce() -> PatientCompartment,
    ) -> Option<Self> {
        let everybody = (request.level == Level::System).then(compartment);
        request.is_organized.then_some(Self { places, everybody })
    }
}

/// A resource's patients. Kept by whoever reads many lines.
#[derive(Debug, Default)]
pub(crate) struct Patients {
    own: Option<String>,
    ids: Vec<(Bucket, String)>,
}

impl Patients {
    /// With them, a resource is placed.
    pub(crate) fn of<'a>(&'a self, met: &MatchedResource<'_>, text: &'a [u8]) -> Placed<'a> {
        Placed { kind: met.head.kind, text, own: self.own.as_deref(), patients: &self.ids }
    }
}

impl Selection {
    /// Finds the patients in whose blocks a resource stands; `false` if there are no blocks.
    pub(crate) fn find_patients(&self, met: &MatchedResource<'_>, patients: &mut Patients) -> bool {
        let Some(blocks) = &self.blocks else { return false };
        let mut outline = Outline::default();
        patients.ids.clear();
        patients.own = None;
        let Some(whole) = met.whole.or_else(|| Resource::read(met.line, &mut outline).ok()) else { return true };
        let Patients { own, ids } = patients;
        let mut visit = |id: &str| ids.push((blocks.places.bucket_of(id), id.to_owned()));
        match (&self.compartments, &blocks.everybody) {
            (Some(compartments), _) => compartments.each_patient(&whole, &mut visit),
            (None, Some(everybody)) => {
                everybody.any_patient(&whole, &mut |id| {
                    visit(id);
                    false
                });
            }
            (None, None) => {}
        }
        ids.sort_unstable();
        ids.dedup();
        if whole.head.kind.as_str() == "Patient" {
            *own = Some(whole.id().into_owned());
        }
        true
    }
}
