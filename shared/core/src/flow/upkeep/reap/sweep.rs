//! Deletes the files that ended jobs have left, part by part and in fair rounds.
//!
//! The position after each part is recorded with the job, and the job stays due until its folder is swept to the end. So a folder of any
//! size is swept in as many runs as it takes, and a run that is stopped repeats one part.

use std::collections::VecDeque;

use crate::job::file_list::{ERROR_PART, missing_list};
use crate::job::file_names::FileNames;
use crate::job::{ExportError, Job, JobState};
use crate::ports::{Clock, DueItem, JobStore, OutputStore, Ports, TaskQueue};
use crate::vocab::clock::Millis;

use super::{RECHECK_AFTER, Reaped};

/// The number of parts of a list of files that are read at once: about a megabyte.
const LIST_PARTS_PER_READ: u32 = 4;

/// The folder of an ended job that is being swept.
pub(super) struct Sweep {
    /// The job, with the position up to which its folder is swept.
    job: Job,
    /// The job as it is due. Its time changes with each part, so that of several processes one goes on.
    due: DueItem,
    /// The recorded files. `None` until the first part.
    keep: Option<FileNames>,
    /// The time of the job's next check after the folder is swept to its end.
    next_check: Option<Millis>,
}

impl Sweep {
    /// Creates the sweep of the folder of an ended job, which goes on where an earlier run has stopped.
    pub(super) fn new(due: &DueItem, job: &Job, next_check: Option<Millis>) -> Self {
        Self { job: job.clone(), due: due.clone(), keep: None, next_check }
    }

    /// Creates the sweep of the folder of a complete job that has just been moved to [`JobState::Expired`].
    ///
    /// The move has set the time of the next check, so this sweep cannot record a position. It deletes one part, which is all of a small
    /// export. The rest follows at the next check, with anything that was written meanwhile.
    pub(super) fn of_expired(due: &DueItem, job: &Job) -> Self {
        let job = Job { state: JobState::Expired, swept_to: None, ..job.clone() };
        Self::new(due, &job, None)
    }

    /// Deletes the files of the next part that are not recorded. Returns false if nothing is left to do: the folder is swept to its end, or
    /// another process goes on with it.
    async fn delete_part<S: Send + Sync>(
        &mut self,
        ports: &Ports<impl JobStore, impl TaskQueue, S, impl OutputStore, impl Clock>,
        reaped: &mut Reaped,
    ) -> Result<bool, ExportError> {
        let keep = match self.keep.take() {
            Some(keep) => keep,
            None => files_to_keep(&ports.jobs, &self.job).await?,
        };
        let part = ports.output.delete_part_except(&self.job.folder(), &keep, self.job.swept_to.as_deref()).await?;
        reaped.files_deleted += part.deleted;
        self.keep = Some(keep);
        let Some(position) = part.next else {
            ports.jobs.record_sweep(&self.due, None, self.next_check).await?;
            return Ok(false);
        };
        // Due again at once, but after everything that has been due for longer.
        let now = ports.clock.now();
        let is_recorded = ports.jobs.record_sweep(&self.due, Some(&position), Some(now)).await?;
        self.due.due_at = now;
        self.job.swept_to = Some(position);
        Ok(is_recorded)
    }
}

/// Sweeps folders until the time `stop_at`, a part of each in turn, so that small ones are done soon. Counts in `reaped` what was done.
///
/// A failed sweep is due again a minute later, so that folders that cannot be swept do not stay in front of all others.
pub(super) async fn sweep_folders<S: Send + Sync>(
    ports: &Ports<impl JobStore, impl TaskQueue, S, impl OutputStore, impl Clock>,
    sweeps: Vec<Sweep>,
    stop_at: Millis,
    reaped: &mut Reaped,
) {
    let mut waiting = VecDeque::from(sweeps);
    while let Some(mut sweep) = waiting.pop_front() {
        match sweep.delete_part(ports, reaped).await {
            Ok(true) => waiting.push_back(sweep),
            Ok(false) => {}
            Err(error) => {
                reaped.failed += 1;
                tracing::warn!(job.id = %sweep.job.id, error = &error as &dyn std::error::Error, "files were not deleted, a later run will delete them");
                drop(ports.jobs.postpone(&sweep.due, Some(ports.clock.now() + RECHECK_AFTER)).await);
            }
        }
        // Checked after a part, so that each run makes progress.
        if ports.clock.now() >= stop_at {
            break;
        }
    }
    reaped.unfinished += u32::try_from(waiting.len()).unwrap_or(u32::MAX);
}

/// Returns the recorded files of a complete job, and none of a job whose files are of no use. Reads the list of files in pieces, because that
/// of a large export takes more memory than a run has.
async fn files_to_keep(jobs: &impl JobStore, job: &Job) -> Result<FileNames, ExportError> {
    let mut names = FileNames::default();
    if job.state != JobState::Complete {
        return Ok(names);
    }
    let mut first = ERROR_PART;
    loop {
        let parts = jobs.file_list(job, first..=first + (LIST_PARTS_PER_READ - 1)).await?;
        // Without its list, every file of the export would count as not recorded.
        if first == ERROR_PART && parts.first().is_none_or(|part| part.number != ERROR_PART) {
            return Err(missing_list().into());
        }
        let is_last = parts.last().is_none_or(|part| part.number < first + (LIST_PARTS_PER_READ - 1));
        names.extend(parts.into_iter().flat_map(|part| part.files).map(|file| file.name));
        if is_last {
            return Ok(names);
        }
        first += LIST_PARTS_PER_READ;
    }
}
