//! Gives a client access to one file.

use crate::access::Principal;
use crate::job::JobState;
use crate::output::file::{OutputFileName, Part};
use crate::ports::{Access, Clock, JobStore, OutputStore};
use crate::vocab::error::ExportError;
use crate::vocab::ids::JobId;

/// Access to a part of the caller's own complete job, fresh at each request, so that links live as long as the files.
pub async fn hand_out(
    jobs: &impl JobStore,
    parts: &impl OutputStore,
    clock: &impl Clock,
    (id, name): (&JobId, OutputFileName),
    visitor: &Principal,
) -> Result<(Part, Access), ExportError> {
    let absent = ExportError::NotFound("this file");
    let now = clock.now();
    let Some(job) = jobs.job(id).await?.filter(|job| job.state == JobState::Complete && job.is_visible_to(visitor, now)) else {
        return Err(absent);
    };
    let Some(part) = jobs.part(id, name).await? else { return Err(absent) };
    let access = parts.grant(&job.folder(), &part).await?;
    Ok((part, access))
}
