//! Decides the output of each line that a task reads: by the content of the line, and by corrections from earlier rounds.

use headrace_fhir::definitions::ResourceType;
use headrace_fhir::deid::{DeidFailure, Deidentified};
use headrace_fhir::head::MemberIndex;
use headrace_fhir::semantics::deletion::{Deletion, deletion_bundle};

use crate::job::ReadMode;
use crate::lines::selection::{LineVerdict, MatchedResource, ResourcePatients, Selection};
use crate::patients::PatientCopies;
use crate::versions::correction::{CorrectionAction, TaskCorrections};
use crate::versions::record::{LinePosition, VersionLog};

/// The processor of a task's lines, one by one.
#[derive(Debug)]
pub struct LineProcessor {
    selection: Selection,
    pass: ReadPass,
    member_index: MemberIndex,
    /// Output that differs from the line. Reused, so that most lines allocate nothing.
    rewritten: Vec<u8>,
    /// De-identified line. Reused as well.
    deidentified: Vec<u8>,
    patients: ResourcePatients,
    /// The slices of the task whose objects arrived after `_since`, by their index.
    new_slices: Vec<bool>,
}

/// A pass over the lake.
#[derive(Debug)]
pub enum ReadPass {
    /// First read.
    First(ReadMode),
    /// Second read of everything, with corrections.
    Second(TaskCorrections),
    /// Second read of only the lines that corrections add. All other lines were written by the first read.
    AdditionsOnly(TaskCorrections),
}

/// The output of one line.
#[derive(Debug, PartialEq, Eq)]
pub enum LineOutput<'a> {
    /// The unchanged line, a resource of this type.
    Unchanged(ResourceType),
    /// Another line in its place, with line feed.
    Rewritten(ResourceType, &'a [u8]),
    /// Copies to the blocks of its patients.
    PatientCopies(PatientCopies<'a>),
    /// Lines for the file of deletions, and numbers of deletions.
    Deletions(&'a [u8], DeletionCounts),
    /// The absence of output.
    Nothing,
    /// The reason why the line is not a valid resource. It has no output.
    Rejected(String),
    /// A resource reduced to its type because de-identification failed. The line has a line feed.
    TypeOnly(ResourceType, &'a [u8], DeidFailure),
    /// A failed de-identification without output.
    DeidFailed(DeidFailure),
}

/// The numbers of deletions of one line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeletionCounts {
    /// Deletions with a line in the file of deletions.
    pub reported: u64,
    /// Deletions that a de-identified export does not report.
    pub unreported: u64,
    /// DELETE requests that do not name one resource.
    pub unread: u64,
}

impl LineProcessor {
    /// Creates a processor that applies the rules of `selection` in this pass over the lines.
    pub fn new(selection: Selection, pass: ReadPass) -> Self {
        Self {
            selection,
            pass,
            member_index: MemberIndex::default(),
            rewritten: Vec::new(),
            deidentified: Vec::new(),
            patients: ResourcePatients::default(),
            new_slices: Vec::new(),
        }
    }

    /// Sets which of the task's slices are of objects that arrived after `_since`, by their index.
    #[must_use]
    pub fn with_new_slices(self, new_slices: Vec<bool>) -> Self {
        Self { new_slices, ..self }
    }

    /// Returns true if this pass reports lines that are not valid resources. Of several passes over a line, one does.
    pub fn reports_rejected_lines(&self) -> bool {
        match self.pass {
            ReadPass::First(ReadMode::SinglePass | ReadMode::Optimistic) | ReadPass::Second(_) => true,
            ReadPass::First(ReadMode::TwoPass) | ReadPass::AdditionsOnly(_) => false,
        }
    }

    /// Returns true if the output is de-identified.
    pub fn is_deidentified(&self) -> bool {
        self.selection.is_deidentified()
    }

    /// Returns the first and the last line to read of a slice: `None` if all lines are read, `Some(None)` if no line is.
    pub fn line_range(&self, slice: u32) -> Option<Option<(LinePosition, LinePosition)>> {
        match &self.pass {
            ReadPass::First(_) | ReadPass::Second(_) => None,
            ReadPass::AdditionsOnly(corrections) => Some(corrections.first_and_last(slice)),
        }
    }

    /// Processes the next line. Adds versions and links to `log` if this pass records them.
    pub fn process<'a>(&'a mut self, line: &'a [u8], position: LinePosition, log: &mut VersionLog) -> LineOutput<'a> {
        let Self { selection, pass, member_index, rewritten, deidentified, patients, new_slices } = self;
        rewritten.clear();
        deidentified.clear();
        let additions_only = matches!(pass, ReadPass::AdditionsOnly(_));
        let (first_read, corrections) = match pass {
            ReadPass::First(mode) => (Some(*mode), &[][..]),
            ReadPass::Second(corrections) => (None, corrections.advance_to(position)),
            // Uncorrected lines are skipped before they are parsed.
            ReadPass::AdditionsOnly(corrections) => match corrections.advance_to(position) {
                [] => return LineOutput::Nothing,
                corrections => (None, corrections),
            },
        };
        selection.set_new_object(new_slices.get(position.slice() as usize).copied().unwrap_or_default());
        let has = |wanted| corrections.iter().any(|(_, action)| *action == wanted);
        // This pass only records versions.
        let exports_nothing = first_read == Some(ReadMode::TwoPass);
        match selection.classify(line, member_index, (!exports_nothing).then_some(&mut *deidentified)) {
            LineVerdict::Rejected(reason) => LineOutput::Rejected(reason),
            LineVerdict::Skipped => LineOutput::Nothing,
            LineVerdict::Deletions(deletions) => {
                let reported: Vec<_> = match first_read {
                    // Lines are not compared in this mode, so each deletion is final.
                    Some(ReadMode::SinglePass) => {
                        let late = selection.flag_deletions(&deletions).filter(|(.., flags)| flags.arrived_late && flags.is_member);
                        log.notices.arrived_late += late.count() as u64;
                        let selected = selection.flag_deletions(&deletions).filter(|(.., flags)| flags.is_selected && flags.is_member);
                        selected.map(|(_, deletion, _)| deletion).collect()
                    }
                    Some(ReadMode::Optimistic | ReadMode::TwoPass) => {
                        selection.log_deletions(&deletions, position, log);
                        Vec::new()
                    }
                    None => {
                        let entries = (0..).zip(&deletions);
                        let reported = entries.filter(|(entry, _)| has(CorrectionAction::ReportDeletion(*entry)));
                        reported.map(|(_, deletion)| deletion).collect()
                    }
                };
                write_deletions(selection, &reported, deletions.unread, rewritten)
            }
            LineVerdict::AheadOfClock => {
                log.notices.ahead_of_clock += u64::from(first_read.is_some());
                LineOutput::Nothing
            }
            LineVerdict::Resource(resource) => {
                log.notices.unreadable_times += u64::from(resource.has_unreadable_time && first_read.is_some());
                let is_exported = match first_read {
                    Some(ReadMode::SinglePass) => {
                        log.notices.arrived_late += u64::from(resource.flags.arrived_late);
                        log.notices.members_found += u64::from(resource.flags.is_group_member);
                        resource.flags.is_selected
                    }
                    Some(mode) => {
                        selection.log_version(&resource, position, log);
                        resource.flags.is_selected && mode == ReadMode::Optimistic
                    }
                    None if additions_only => has(CorrectionAction::Add),
                    None => (resource.flags.is_selected && !has(CorrectionAction::Drop)) || has(CorrectionAction::Add),
                };
                if is_exported { write_resource(selection, &resource, (deidentified, rewritten), patients) } else { LineOutput::Nothing }
            }
        }
    }
}

/// Returns the output of an exported resource.
///
/// De-identification is applied to the complete resource, and `_elements` to its result.
fn write_resource<'a>(
    selection: &'a Selection,
    resource: &MatchedResource<'a>,
    (deidentified, rewritten): (&'a mut Vec<u8>, &'a mut Vec<u8>),
    patients: &'a mut ResourcePatients,
) -> LineOutput<'a> {
    let kind = resource.head.resource_type;
    let is_reduced = match selection.deidentify(resource, deidentified) {
        None => selection.apply_elements(resource, rewritten),
        Some(Ok(Deidentified::Complete)) => selection.apply_elements_to_deidentified(kind, deidentified, rewritten),
        // Without its references the resource belongs to no patient's block.
        Some(Ok(Deidentified::TypeOnly(failure))) if selection.is_grouped_by_patient() => return LineOutput::DeidFailed(failure),
        Some(Ok(Deidentified::TypeOnly(failure))) => {
            deidentified.push(b'\n');
            return LineOutput::TypeOnly(kind, deidentified, failure);
        }
        Some(Err(failure)) => return LineOutput::DeidFailed(failure),
    };
    // Both buffers are empty if nothing changed the line, which is then used in place, without a copy.
    let text: &'a mut Vec<u8> = match (is_reduced, deidentified.is_empty()) {
        (true, _) => rewritten,
        (false, false) => deidentified,
        (false, true) if selection.find_patients(resource, patients) => {
            return LineOutput::PatientCopies(patients.copies(resource, resource.line));
        }
        (false, true) => return LineOutput::Unchanged(kind),
    };
    if selection.find_patients(resource, patients) {
        return LineOutput::PatientCopies(patients.copies(resource, text));
    }
    text.push(b'\n');
    LineOutput::Rewritten(kind, text)
}

/// Appends one Bundle per deletion to `out`, each as a line. Returns the lines as output, or nothing if there is nothing to report.
///
/// * `unread`: the number of DELETE requests of the line that do not name one resource.
///
/// A de-identified export reports deletions with the hashed id and without their time, which readers must not know.
fn write_deletions<'a>(selection: &Selection, deletions: &[&Deletion<'_>], unread: u64, out: &'a mut Vec<u8>) -> LineOutput<'a> {
    let mut counts = DeletionCounts { unread, ..DeletionCounts::default() };
    for deletion in deletions {
        let Some(id) = selection.reported_id(deletion) else {
            counts.unreported += 1;
            continue;
        };
        let deleted_at = deletion.deleted_at.filter(|_| !selection.is_deidentified());
        out.extend_from_slice(deletion_bundle(deletion.resource_type, &id, deleted_at).as_bytes());
        out.push(b'\n');
        counts.reported += 1;
    }
    if counts == DeletionCounts::default() { LineOutput::Nothing } else { LineOutput::Deletions(out, counts) }
}

#[cfg(test)]
mod tests;
