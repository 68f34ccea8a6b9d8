//! Preparation of the line processor of a task that reads the lake.

use crate::cohort::{DamagedPatientSet, PatientSet};
use crate::job::ExportError;
use crate::job::task::{Lease, RereadTask, Slice, Work};
use crate::lines::line_processor::{LineProcessor, ReadPass};
use crate::lines::selection::Selection;
use crate::ports::{AllPorts, TaskStore as _};
use crate::vocab::error::StoreError;
use crate::vocab::ids::TaskId;
use crate::vocab::lake_settings::LakeSettings;

use super::corrections::read_task_corrections;
use super::deidentify::job_deidentifier;
use super::fragments::read_fragment;

/// Creates the processor for the first reading of a task's slices, in the read mode that the plan has chosen.
pub(super) async fn first_reading(ports: &impl AllPorts, lease: &Lease, lake: &LakeSettings) -> Result<LineProcessor, ExportError> {
    let mode = lease.job.planned.map(|planned| planned.read_mode).unwrap_or_default();
    let new_slices = new_slices(lease.work.slices());
    Ok(LineProcessor::new(selection(ports, lease, lake).await?, ReadPass::First(mode)).with_new_slices(new_slices))
}

/// Creates the processor for the second reading of the slices of an earlier task, with their corrections. Returns the slices and
/// the processor.
pub(super) async fn second_reading(
    ports: &impl AllPorts,
    lease: &Lease,
    lake: &LakeSettings,
    reread: RereadTask,
) -> Result<(Vec<Slice>, LineProcessor), ExportError> {
    let first = TaskId { job: lease.task.job.clone(), task: reread.task };
    let Some(Work::Read(slices)) = ports.jobs().task_work(&first).await? else {
        return Err(StoreError::Unreadable { store: "the job table", detail: format!("no slices of task {}", first.task) }.into());
    };
    let corrections = read_task_corrections(ports, lease, reread).await?;
    let pass = if reread.additions_only { ReadPass::AdditionsOnly(corrections) } else { ReadPass::Second(corrections) };
    let new_slices = new_slices(&slices);
    Ok((slices, LineProcessor::new(selection(ports, lease, lake).await?, pass).with_new_slices(new_slices)))
}

/// Returns for each slice whether its object arrived after `_since`.
fn new_slices(slices: &[Slice]) -> Vec<bool> {
    slices.iter().map(|slice| slice.arrived_after_since).collect()
}

/// Compiles the rules of the leased task's job, with the patient set that the plan has stored.
async fn selection(ports: &impl AllPorts, lease: &Lease, lake: &LakeSettings) -> Result<Selection, ExportError> {
    let patient_set = match lease.job.planned.and_then(|planned| planned.patient_set) {
        None => None,
        Some(fragment) => {
            let bytes = read_fragment(ports, lease, &fragment, 0..fragment.summary.bytes).await?;
            let unreadable = |error: DamagedPatientSet| StoreError::Unreadable { store: "the destination", detail: error.to_string() };
            Some(PatientSet::from_bytes(&lease.job.id, &bytes).map_err(unreadable)?)
        }
    };
    Ok(Selection::new(&lease.job, lake, patient_set, job_deidentifier(ports, lease).await?)?.with_clock(ports.now()))
}
