//! What becomes of each line that a task reads: by what it says itself, and by what was found out about it since.

use headrace_fhir::{Applied, DeidFailure, Deletion, Outline, ResourceType, deletion_line};

use crate::job::Pass;
use crate::lines::selection::{LineVerdict, MatchedResource, Patients, Selection};
use crate::patients::Placed;
use crate::versions::correction::{Action, Findings};
use crate::versions::record::{Notebook, Place};

/// A task at its lines.
#[derive(Debug)]
pub struct Reading {
    selection: Selection,
    how: How,
    outline: Outline,
    /// Lines that are written instead of the one that was read. Kept, so that most lines allocate nothing.
    written: Vec<u8>,
    /// What the rules of a de-identified export have made of the line.
    deidentified: Vec<u8>,
    patients: Patients,
}

/// How the lake is read.
#[derive(Debug)]
pub enum How {
    /// For the first time.
    First(Pass),
    /// From its beginning once more, now that findings are there.
    Again(Findings),
    /// Only for lines that findings add: the others are written.
    OnlyAdded(Findings),
}

/// What is to be written for one line.
#[derive(Debug, PartialEq, Eq)]
pub enum Taken<'a> {
    /// The line as it stands, as a resource of this type.
    Whole(ResourceType),
    /// This line instead, its line end included.
    Reduced(ResourceType, &'a [u8]),
    /// Into the blocks of its patients.
    Placed(Placed<'a>),
    /// These lines, so many, into the file of deletions.
    Deleted(&'a [u8], u64),
    /// Nothing.
    Nothing,
    /// Why it is not a resource.
    Refused(String),
    /// Its type alone, in this line, the line end included: it cannot be de-identified.
    Emptied(ResourceType, &'a [u8], DeidFailure),
    /// Nothing: it cannot be de-identified.
    Spoilt(DeidFailure),
}

impl Reading {
    /// Reads by these rules.
    pub fn new(selection: Selection, how: How) -> Self {
        Self { selection, how, outline: Outline::default(), written: Vec::new(), deidentified: Vec::new(), patients: Patients::default() }
    }

    /// Whether what is met is noted.
    pub fn notes(&self) -> bool {
        matches!(self.how, How::First(Pass::Noting | Pass::Survey))
    }

    /// Whether lines that are no resources are reported by this reading.
    pub fn reports_refused(&self) -> bool {
        match self.how {
            How::First(Pass::Direct | Pass::Noting) | How::Again(_) => true,
            How::First(Pass::Survey) | How::OnlyAdded(_) => false,
        }
    }

    /// Whether what is written is de-identified.
    pub fn deidentifies(&self) -> bool {
        self.selection.deidentifies()
    }

    /// The first and the last line of an item that this reading is about, if it is not about all.
    pub fn span_of(&self, item: u32) -> Option<Option<(Place, Place)>> {
        match &self.how {
            How::First(_) | How::Again(_) => None,
            How::OnlyAdded(findings) => Some(findings.span_of(item)),
        }
    }

    /// Takes the next line.
    pub fn take<'a>(&'a mut self, line: &'a [u8], place: Place, notebook: &mut Notebook) -> Taken<'a> {
        let Self { selection, how, outline, written, deidentified, patients } = self;
        written.clear();
        deidentified.clear();
        let only_added = matches!(how, How::OnlyAdded(_));
        let (first, actions) = match how {
            How::First(pass) => (Some(*pass), &[][..]),
            How::Again(findings) => (None, findings.at(place)),
            How::OnlyAdded(findings) => match findings.at(place) {
                [] => return Taken::Nothing,
                actions => (None, actions),
            },
        };
        let has = |wanted| actions.iter().any(|(_, action)| *action == wanted);
        match selection.judge(line, outline) {
            LineVerdict::Refused(reason) => Taken::Refused(reason),
            LineVerdict::Passed => Taken::Nothing,
            LineVerdict::Deletions(deletions) => {
                let reported: Vec<_> = match first {
                    // Nothing is compared: what a deletion says is believed.
                    Some(Pass::Direct) => {
                        let believed = selection.reported(&deletions).filter(|(.., facts)| facts.is_selected && facts.is_member);
                        believed.map(|(_, deletion, _)| deletion).collect()
                    }
                    Some(Pass::Noting | Pass::Survey) => {
                        selection.note_deletions(&deletions, place, notebook);
                        Vec::new()
                    }
                    None => (0..).zip(&deletions).filter(|(entry, _)| has(Action::Report(*entry))).map(|(_, deletion)| deletion).collect(),
                };
                write_deleted(&reported, written)
            }
            LineVerdict::Resource(met) => {
                let is_kept = match first {
                    Some(Pass::Direct) => met.facts.is_selected,
                    Some(pass) => {
                        selection.note(&met, place, notebook);
                        met.facts.is_selected && pass == Pass::Noting
                    }
                    None if only_added => has(Action::Add),
                    None => (met.facts.is_selected && !has(Action::Drop)) || has(Action::Add),
                };
                if is_kept { write_kept(selection, &met, (deidentified, written), patients) } else { Taken::Nothing }
            }
        }
    }
}

/// The one place that decides what a resource that is kept is written into.
///
/// Rules of de-identification see the whole resource as the lake has it; what `_elements` leaves is taken of what they leave.
fn write_kept<'a>(
    selection: &'a Selection,
    met: &MatchedResource<'a>,
    (deidentified, written): (&'a mut Vec<u8>, &'a mut Vec<u8>),
    patients: &'a mut Patients,
) -> Taken<'a> {
    let kind = met.head.kind;
    let is_reduced = match selection.deidentify(met, deidentified) {
        None => selection.reduce(met, written),
        Some(Ok(Applied::Whole)) => selection.reduce_deidentified(kind, deidentified, written),
        // A resource that is of no patient stands in no block.
        Some(Ok(Applied::Emptied(failure))) if selection.is_organized() => return Taken::Spoilt(failure),
        Some(Ok(Applied::Emptied(failure))) => {
            deidentified.push(b'\n');
            return Taken::Emptied(kind, deidentified, failure);
        }
        Some(Err(failure)) => return Taken::Spoilt(failure),
    };
    let text: &'a mut Vec<u8> = match (is_reduced, deidentified.is_empty()) {
        (true, _) => written,
        (false, false) => deidentified,
        (false, true) if selection.find_patients(met, patients) => return Taken::Placed(patients.of(met, met.line)),
        (false, true) => return Taken::Whole(kind),
    };
    if selection.find_patients(met, patients) {
        return Taken::Placed(patients.of(met, text));
    }
    text.push(b'\n');
    Taken::Reduced(kind, text)
}

fn write_deleted<'a>(deletions: &[&Deletion<'_>], written: &'a mut Vec<u8>) -> Taken<'a> {
    for deletion in deletions {
        written.extend_from_slice(deletion_line(deletion.kind, &deletion.id, deletion.at).as_bytes());
        written.push(b'\n');
    }
    match deletions.len() as u64 {
        0 => Taken::Nothing,
        count => Taken::Deleted(written, count),
    }
}
