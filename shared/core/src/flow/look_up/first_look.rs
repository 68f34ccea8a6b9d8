//! What a kick-off looks up before it accepts an export.

use crate::ports::{Clock, ResourceSource};
use crate::request::{IgnoredParameter, Level, Refusal};
use crate::vocab::clock::Millis;
use crate::vocab::error::{ExportError, SourceError};
use crate::vocab::outcome::IssueCode;

use super::{Catalogue, Found, LookUpTerms, LookedUp, Pulse, Subjects};

/// So many of the client's own ids are repeated in a message.
const IDS_SHOWN: usize = 3;

impl Subjects<'_> {
    /// Refuses what the lake cannot answer: an unknown group or patient, a group of whom nobody can tell who is in it,
    /// patients who are not in the group.
    ///
    /// * `is_lenient`: patients whom the level has not are left out instead; what is said about them is returned.
    /// * Nothing is refused that could not be looked up within the patience of `terms`, or while the lake changed: the
    ///   plan will see.
    pub async fn first_look(
        &self,
        source: &impl ResourceSource,
        clock: &impl Clock,
        terms: LookUpTerms,
        is_lenient: bool,
    ) -> Result<Option<IgnoredParameter>, ExportError> {
        let types = self.types();
        if types == headrace_fhir::TypeSet::default() {
            return Ok(None);
        }
        let at = clock.now();
        let mut pulse = Patience { clock, until: at + terms.patience };
        let Some(catalogue) = Catalogue::list(source, types, terms.mixed_bytes, &mut pulse).await? else { return Ok(None) };
        let looked_up = match self.look(source, &catalogue, at, &mut pulse, true).await {
            Err(ExportError::Source(SourceError::Changed { .. } | SourceError::Unreadable { .. })) => LookedUp::Unfinished,
            looked_up => looked_up?,
        };
        if matches!(looked_up, LookedUp::Unfinished) {
            return Ok(None);
        }
        match looked_up.found(&catalogue)?.and_then(|found| self.absent(&found)) {
            Some(absent) if !is_lenient => Err(Refusal::of(400, IssueCode::NotFound, "patient", absent.text).into()),
            absent => Ok(absent),
        }
    }

    /// What is said about patients who were named and are not there.
    pub(in crate::flow) fn absent(&self, found: &Found) -> Option<IgnoredParameter> {
        let (first, rest) = found.absent.split_at(found.absent.len().min(IDS_SHOWN));
        if first.is_empty() {
            return None;
        }
        let place = match self.request.level {
            Level::Group(_) => "not in the group",
            Level::OnePatient(_) => "other patients",
            Level::System | Level::AllPatients => "not known here",
        };
        let shown: Vec<String> = first.iter().map(|id| format!("Patient/{}", id.chars().take(64).collect::<String>())).collect();
        let more = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
        let (absent, all) = (found.absent.len(), self.patients.len());
        let text = format!("of {all} patients named by `patient`, {absent} are {place}: {}{more}", shown.join(", "));
        Some(IgnoredParameter { parameter: "patient".to_owned(), text })
    }
}

impl LookedUp {
    /// Who was found, `None` for everybody; or the error that says why nobody can be exported.
    pub(in crate::flow) fn found(self, catalogue: &Catalogue) -> Result<Option<Found>, ExportError> {
        let has_read_all = catalogue.passed_over() == 0;
        match self {
            Self::Everybody => Ok(None),
            Self::Found(found) => Ok(Some(*found)),
            Self::NoSuchGroup if has_read_all => Err(ExportError::NotFound("this group")),
            Self::NoSuchPatient if has_read_all => Err(ExportError::NotFound("this patient")),
            Self::NoSuchGroup => {
                Err(ExportError::NotFound("this group (some objects whose names promise no type were not looked through)"))
            }
            Self::NoSuchPatient => {
                Err(ExportError::NotFound("this patient (some objects whose names promise no type were not looked through)"))
            }
            Self::Undecidable(reason) => Err(Refusal { status: 422, code: IssueCode::NotSupported, text: reason, expression: None }.into()),
            Self::Unfinished => {
                let text = "who the export is about could not be looked up in the time that one task has: keep Group and Patient resources in objects named for their type, and few of other types in objects that a member-filter searches";
                Err(Refusal { status: 422, code: IssueCode::TooCostly, text: text.to_owned(), expression: None }.into())
            }
        }
    }
}

/// Waits no longer than until then.
pub(in crate::flow) struct Patience<'a, C> {
    pub(in crate::flow) clock: &'a C,
    pub(in crate::flow) until: Millis,
}

impl<C: Clock> Pulse for Patience<'_, C> {
    async fn goes_on(&mut self) -> Result<bool, ExportError> {
        Ok(self.clock.now() < self.until)
    }
}
