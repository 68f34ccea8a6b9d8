//! The caller's own exports, the newest first.

use crate::access::Principal;
use crate::job::Job;
use crate::ports::{Clock, JobPage, JobStore};
use crate::vocab::error::ExportError;
use crate::vocab::ids::ListCursor;

/// The most jobs that one page has.
pub const LONGEST_PAGE: u16 = 100;

/// The most jobs that are looked at for one page. A caller who has cancelled more than that in a row gets a short page,
/// and its link to the next.
const LOOKS: usize = 1_000;

/// Those jobs that the caller may see, at most `count` of them: neither cancelled nor expired ones. A page is full
/// unless there are no more.
pub async fn list(
    jobs: &impl JobStore,
    clock: &impl Clock,
    visitor: &Principal,
    mut before: Option<ListCursor>,
    count: u16,
) -> Result<JobPage, ExportError> {
    let now = clock.now();
    let count = count.clamp(1, LONGEST_PAGE);
    // One more than is shown tells whether there is a next page.
    let limit = count + 1;
    let mut visible: Vec<Job> = Vec::new();
    let mut looks = 0;
    loop {
        let page = jobs.jobs_of(&visitor.caller, before.as_ref(), limit).await?;
        looks += page.jobs.len();
        visible.extend(page.jobs.into_iter().filter(|job| job.is_visible_to(visitor, now)));
        if visible.len() > usize::from(count) {
            visible.truncate(usize::from(count));
            let next = visible.last().map(|last| ListCursor { created_at: last.created_at, id: last.id.clone() });
            return Ok(JobPage { jobs: visible, next });
        }
        before = page.next;
        if before.is_none() || looks >= LOOKS {
            return Ok(JobPage { jobs: visible, next: before });
        }
    }
}
