//! Writes down, for all tasks of an export, who it is about.

use std::time::Duration;

use crc_fast::{CrcAlgorithm, Digest};
use headrace_fhir::Bases;

use crate::cohort::LeftOut;
use crate::job::task::{Lease, Record, Work};
use crate::output::file::{Content, FileName, FragmentName, OutputKind, Tail};
use crate::ports::{AllPorts, Draft as _, OutputStore as _, TaskStore as _};
use crate::vocab::clock::Millis;
use crate::vocab::error::ExportError;

use super::{Catalogue, Pulse, Subjects};

/// Who an export is about, as the plan fixes it.
#[derive(Debug, Default)]
pub(in crate::flow) struct Enrolled {
    /// The file of the roster; `None` if the export is about everybody.
    pub(in crate::flow) roster: Option<Tail>,
    /// Whether it is about nobody: there is nothing to read.
    pub(in crate::flow) is_empty: bool,
    /// What the client is told about others.
    pub(in crate::flow) left_out: LeftOut,
}

/// Looks up who the leased plan's export is about as of `at`, and writes the roster into the job's folder.
pub(in crate::flow) async fn enrol(
    ports: &impl AllPorts,
    lease: &mut Lease,
    catalogue: &Catalogue,
    at: Millis,
    (lease_length, stop_at): (Duration, Millis),
    bases: &Bases,
) -> Result<Enrolled, ExportError> {
    let job = lease.job.clone();
    let patients = patients(lease);
    let subjects = Subjects { job: &job.id, request: &job.request, patients: &patients, bases };
    let beat_at = ports.now() + lease_length / 3;
    let mut pulse = Alive { ports, lease, lease_length, stop_at, beat_at };
    let looked_up = subjects.look_up(ports.source(), catalogue, at, &mut pulse).await?;
    let Some(found) = looked_up.found(catalogue)? else { return Ok(Enrolled::default()) };
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    // The kick-off may have told of the patients already, one by one.
    let is_told = job.request.ignored.iter().any(|ignored| ignored.parameter == "patient");
    let left_out = LeftOut { patients: if is_told { 0 } else { count(found.absent.len()) }, members: count(found.unresolved) };
    let (file, is_empty) = (found.roster.write(), found.roster.is_empty());
    let name = FragmentName { kind: OutputKind::Roster, task: lease.task.task, attempt: lease.attempt, step: lease.step };
    let mut crc = Digest::new(CrcAlgorithm::Crc64Nvme);
    crc.update(&file);
    let content = Content { bytes: file.len() as u64, lines: 0, crc64: crc.finalize() };
    let mut draft = ports.parts().draft(&job.folder(), name).await?;
    draft.write(file).await?;
    draft.settle(FileName::Tail(name), content).await?;
    Ok(Enrolled { roster: Some(Tail { name, content }), is_empty, left_out })
}

/// `patient`, as the leased plan was told.
pub(in crate::flow) fn patients(lease: &Lease) -> Vec<String> {
    match &lease.work {
        Work::Plan(planning) => planning.patients.clone(),
        Work::Read(_) | Work::Resolve(_) | Work::Reread(_) | Work::Organize(_) | Work::Gather(_) | Work::Finish => Vec::new(),
    }
}

/// Keeps the lease until the worker has to stop.
struct Alive<'a, W> {
    ports: &'a W,
    lease: &'a mut Lease,
    lease_length: Duration,
    stop_at: Millis,
    beat_at: Millis,
}

impl<W: AllPorts> Pulse for Alive<'_, W> {
    async fn goes_on(&mut self) -> Result<bool, ExportError> {
        let now = self.ports.now();
        if now >= self.beat_at {
            self.ports.jobs().record(self.lease, Record::Heartbeat, now + self.lease_length).await?;
            self.beat_at = now + self.lease_length / 3;
        }
        Ok(now < self.stop_at)
    }
}
