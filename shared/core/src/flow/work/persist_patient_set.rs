//! Resolves the patients of an export and stores them for all of its tasks.

use std::time::Duration;

use crate::flow::resolve_patients::{Catalogue, PatientResolver, ScanTimer};
use crate::job::ExportError;
use crate::job::OmittedSubjects;
use crate::job::file::{Fragment, FragmentName, OutputKind};
use crate::job::task::{Lease, Work};
use crate::ports::AllPorts;
use crate::vocab::clock::Millis;
use crate::vocab::level::Level;

use super::fragments::write_fragment;
use super::heartbeat::send_heartbeat_if_due;
use super::settings::WorkerSettings;

/// The patients of an export as the plan has stored them.
#[derive(Debug, Default)]
pub(super) struct PersistedPatientSet {
    /// The file of the patient set. `None` if the export is not limited to certain patients.
    pub(super) fragment: Option<Fragment>,
    /// True if the set has no members, so that there is nothing to read.
    pub(super) is_empty: bool,
    /// The requested patients and members that are left out.
    pub(super) omitted: OmittedSubjects,
    /// The number of patients of the requested group. 0 for other exports.
    pub(super) group_patients: u64,
}

/// Resolves the patients of the leased plan's export as of `at`, and writes the patient set into the job's folder.
pub(super) async fn persist_patient_set(
    ports: &impl AllPorts,
    lease: &mut Lease,
    settings: &WorkerSettings,
    catalogue: &Catalogue,
    (at, stop_at): (Millis, Millis),
) -> Result<PersistedPatientSet, ExportError> {
    let job = lease.job.clone();
    let patients = requested_patients(lease);
    let resolver = PatientResolver { job: &job.id, request: &job.request, patients: &patients, bases: &settings.lake.bases };
    let mut timer = LeaseTimer { ports, lease, lease_duration: settings.lease.duration, stop_at };
    let resolved = resolver.resolve(ports.source(), catalogue, at, &mut timer).await?;
    let Some(selected) = resolved.into_selected(catalogue)? else { return Ok(PersistedPatientSet::default()) };
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    // The precheck of the kick-off may have reported the missing patients already, by their ids.
    let is_reported = job.request.ignored.iter().any(|ignored| ignored.parameter == "patient");
    let omitted = OmittedSubjects {
        patients: if is_reported { 0 } else { count(selected.missing.len()) },
        members: count(selected.unresolved_members),
    };
    let name =
        FragmentName { kind: OutputKind::PatientSet, task: lease.task.task, attempt: lease.attempt, fencing_token: lease.fencing_token };
    let fragment = write_fragment(ports.output(), &job.folder(), name, selected.patient_set.to_bytes(), 0).await?;
    let group_patients = if matches!(job.request.level, Level::Group(_)) { selected.patient_set.patient_count() as u64 } else { 0 };
    Ok(PersistedPatientSet { fragment: Some(fragment), is_empty: selected.patient_set.is_empty(), omitted, group_patients })
}

/// Returns the ids in the parameter `patient` of the leased plan's request.
pub(super) fn requested_patients(lease: &Lease) -> Vec<String> {
    match &lease.work {
        Work::Plan(input) => input.patients.clone(),
        Work::Read(_)
        | Work::MergeRecords(_)
        | Work::Resolve(_)
        | Work::MergeCorrections(_)
        | Work::Reread(_)
        | Work::SortPatients(_)
        | Work::GroupByPatient(_)
        | Work::Merge(_)
        | Work::Fetch(_)
        | Work::Publish(_)
        | Work::Finalize
        | Work::FinalizeSync(_) => Vec::new(),
    }
}

/// A timer that extends the lease until the worker has to stop.
struct LeaseTimer<'a, W> {
    ports: &'a W,
    lease: &'a mut Lease,
    lease_duration: Duration,
    stop_at: Millis,
}

impl<W: AllPorts> ScanTimer for LeaseTimer<'_, W> {
    async fn has_time_left(&mut self) -> Result<bool, ExportError> {
        send_heartbeat_if_due(self.ports, self.lease, self.lease_duration).await?;
        Ok(self.ports.now() < self.stop_at)
    }
}
