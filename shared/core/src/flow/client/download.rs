//! Grants a client access to one output file.

use crate::access::Principal;
use crate::job::ExportError;
use crate::job::JobState;
use crate::job::file::{OutputFile, OutputFileName};
use crate::ports::{Clock, FileAccess, FileRequest, JobStore, OutputStore};
use crate::vocab::ids::JobId;

/// Grants access to an output file of the client's own completed job.
///
/// Every request gets a new grant, so that a link in the manifest is valid as long as the file exists.
pub async fn grant_download(
    jobs: &impl JobStore,
    output: &impl OutputStore,
    clock: &impl Clock,
    (id, name, request): (&JobId, OutputFileName, FileRequest),
    principal: &Principal,
) -> Result<(OutputFile, FileAccess), ExportError> {
    let not_found = ExportError::NotFound("this file");
    let now = clock.now();
    let Some(job) = jobs.job(id).await?.filter(|job| job.state == JobState::Complete && job.is_visible_to(principal, now)) else {
        return Err(not_found);
    };
    let Some(file) = jobs.output_file(&job, name).await? else { return Err(not_found) };
    let access = output.file_access(&job.folder(), &file, request).await?;
    Ok((file, access))
}
