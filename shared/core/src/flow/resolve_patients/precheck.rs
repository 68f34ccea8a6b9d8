//! The check of an export's patients before a kick-off accepts it.

use headrace_fhir::definitions::{ResourceType, TypeSet};

use crate::job::ExportError;
use crate::ports::{Clock, ResourceSource};
use crate::request::{IgnoredParameter, RequestError};
use crate::vocab::clock::Millis;
use crate::vocab::error::SourceError;
use crate::vocab::level::Level;
use crate::vocab::outcome::IssueCode;

use super::{Catalogue, PatientResolutionSettings, PatientResolver, ResolvedPatients, ScanTimer, SelectedPatients};

/// The number of the client's own ids that a message repeats.
const MAX_IDS_SHOWN: usize = 3;

impl PatientResolver<'_> {
    /// Rejects an export that the lake cannot answer: an unknown group or patient, a group with undeterminable members, or named
    /// patients outside the export's level.
    ///
    /// With `is_lenient`, named patients outside the level are skipped, and the ignored parameter is returned. Nothing is rejected that
    /// could not be resolved within the time limit or while the lake was changing: the plan decides about it. `at` is the transaction
    /// time that a plan would take now.
    pub async fn precheck(
        &self,
        source: &impl ResourceSource,
        (clock, at): (&impl Clock, Millis),
        settings: PatientResolutionSettings,
        is_lenient: bool,
    ) -> Result<Option<IgnoredParameter>, ExportError> {
        let types = self.types();
        if types == TypeSet::default() {
            return Ok(None);
        }
        let mut timer = TimeLimit { clock, until: clock.now() + settings.time_limit };
        let Some(catalogue) = Catalogue::from_listing(source, types, settings.untyped_bytes, &mut timer).await? else { return Ok(None) };
        let resolved = match self.resolve_as(source, &catalogue, at, &mut timer, true).await {
            Err(ExportError::Source(SourceError::Changed { .. } | SourceError::Unreadable { .. } | SourceError::Archived { .. })) => {
                ResolvedPatients::TimedOut
            }
            resolved => resolved?,
        };
        if matches!(resolved, ResolvedPatients::TimedOut) {
            return Ok(None);
        }
        match resolved.into_selected(&catalogue)?.and_then(|selected| self.missing_patients(&selected)) {
            Some(missing) if !is_lenient => Err(RequestError::new(400, IssueCode::NotFound, "patient", missing.text).into()),
            missing => Ok(missing),
        }
    }

    /// Describes the ids of `patient` that are unknown or outside the export's level. `None` if there are none.
    fn missing_patients(&self, selected: &SelectedPatients) -> Option<IgnoredParameter> {
        let (shown, rest) = selected.missing.split_at(selected.missing.len().min(MAX_IDS_SHOWN));
        if shown.is_empty() {
            return None;
        }
        let problem = match self.request.level {
            Level::Group(_) => "not in the group",
            Level::OnePatient(_) => "other patients",
            Level::System | Level::AllPatients => "not known here",
        };
        let shown: Vec<String> = shown.iter().map(|id| format!("Patient/{}", id.chars().take(64).collect::<String>())).collect();
        let more = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
        let (missing, all) = (selected.missing.len(), self.patients.len());
        let text = format!("of {all} patients named by `patient`, {missing} are {problem}: {}{more}", shown.join(", "));
        Some(IgnoredParameter { parameter: "patient".to_owned(), text })
    }
}

impl ResolvedPatients {
    /// Returns the selected patients, or `None` for all patients. Returns an error for the client if nothing can be exported.
    pub(in crate::flow) fn into_selected(self, catalogue: &Catalogue) -> Result<Option<SelectedPatients>, ExportError> {
        let searched = [ResourceType::GROUP, ResourceType::PATIENT, ResourceType::BUNDLE];
        let has_read_all = catalogue.skipped_untyped() == 0 && !catalogue.skips_other_types(searched.into_iter().collect());
        match self {
            Self::All => Ok(None),
            Self::Selected(selected) => Ok(Some(*selected)),
            Self::NoSuchGroup if has_read_all => Err(ExportError::NotFound("this group")),
            Self::NoSuchPatient if has_read_all => Err(ExportError::NotFound("this patient")),
            Self::NoSuchGroup => {
                Err(ExportError::NotFound("this group (some objects whose names do not promise its type were not searched)"))
            }
            Self::NoSuchPatient => {
                Err(ExportError::NotFound("this patient (some objects whose names do not promise its type were not searched)"))
            }
            Self::Undecidable(text) => Err(RequestError { status: 422, code: IssueCode::NotSupported, text, expression: None }.into()),
            Self::TimedOut => {
                let text = "the patients of the export could not be resolved in the time that one task has: keep Group and Patient resources in objects named for their type, and keep few other types in the objects that a member-filter searches";
                Err(RequestError { status: 422, code: IssueCode::TooCostly, text: text.to_owned(), expression: None }.into())
            }
        }
    }
}

/// A timer that ends at a fixed time.
pub(in crate::flow) struct TimeLimit<'a, C> {
    pub(in crate::flow) clock: &'a C,
    pub(in crate::flow) until: Millis,
}

impl<C: Clock> ScanTimer for TimeLimit<'_, C> {
    async fn has_time_left(&mut self) -> Result<bool, ExportError> {
        Ok(self.clock.now() < self.until)
    }
}
