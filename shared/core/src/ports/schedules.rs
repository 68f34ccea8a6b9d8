//! The store of schedules.

use crate::schedule::Schedule;
use crate::vocab::error::StoreError;
use crate::vocab::schedule_key::ScheduleName;

/// The store of schedules. The job store changes a schedule together with its jobs: [`crate::ports::JobStore::record_job`] with a
/// [`crate::schedule::ScheduleFiring`], and the completion of a job.
pub trait ScheduleStore: Send + Sync {
    /// Returns a schedule, or `None` if there is none of this name.
    fn schedule(&self, name: &ScheduleName) -> impl Future<Output = Result<Option<Schedule>, StoreError>> + Send;

    /// Lists all schedules, sorted by name. There are few.
    fn schedules(&self) -> impl Future<Output = Result<Vec<Schedule>, StoreError>> + Send;

    /// Writes the definition and the state of a schedule. `seen` is the revision that it replaces, or `None` for a new schedule.
    /// Returns false if another process has changed the schedule since then. The last complete run stays as it is.
    fn put_schedule(&self, schedule: &Schedule, seen: Option<u64>) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Deletes a schedule. Returns false if another process has changed it since it was read. Its jobs stay.
    fn remove_schedule(&self, schedule: &Schedule) -> impl Future<Output = Result<bool, StoreError>> + Send;
}
