//! Schedules. Each is one item: commands and the reaper change its state, the completion of a job its last complete run.

use headrace_core::job::Job;
use headrace_core::ports::ScheduleStore;
use headrace_core::schedule::{CompleteRun, Schedule, ScheduleFiring};
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::error::StoreError;
use headrace_core::vocab::schedule_key::{ScheduleKey, ScheduleName};

use super::DynamoJobStore;
use super::items::{self, Attributes, Item, SCHEDULES_PK};
use super::transact::{Update, Write, WriteOutcome};

/// The attribute with the id of a schedule.
const ID: &str = "schedule_id";

/// The attribute with the definition of a schedule.
const DEFINITION: &str = "definition";

/// The attribute with the state of a schedule.
const STATE: &str = "schedule_state";

/// The attribute with the last complete run of a schedule.
const COMPLETE_RUN: &str = "complete_run";

/// The attribute with the number of changes of the state.
const REVISION: &str = "revision";

/// The condition that a schedule is the one that was read, in the same revision.
const UNCHANGED: &str = "schedule_id = :id AND revision = :seen";

/// Returns the primary key of the item of a schedule.
fn schedule_key(name: &ScheduleName) -> Item {
    items::plain_key(SCHEDULES_PK, name.as_str())
}

/// Reads an item as a schedule.
fn read_schedule(item: &Item) -> Result<Schedule, StoreError> {
    let attributes = Attributes(item);
    let name = ScheduleName::parse(attributes.text("sk")?).map_err(|_| Attributes::unreadable("sk"))?;
    Ok(Schedule {
        key: ScheduleKey { name, id: attributes.text(ID)?.to_owned() },
        definition: attributes.required_json(DEFINITION)?,
        state: attributes.required_json(STATE)?,
        complete_run: attributes.optional_json(COMPLETE_RUN)?,
        revision: attributes.count(REVISION)?,
    })
}

/// Returns an update of a schedule that applies only if nobody has changed its state since it was read.
fn update_unchanged(key: &ScheduleKey, seen_revision: u64) -> Update {
    Update::new(schedule_key(&key.name))
        .when(UNCHANGED)
        .value(":id", items::text(&key.id))
        .value(":seen", items::number(seen_revision))
        .set(REVISION, items::number(seen_revision + 1))
}

/// Returns the write that changes a schedule together with the job of its run.
pub(super) fn firing_write(firing: &ScheduleFiring) -> Result<Write, StoreError> {
    Ok(Write::Update(update_unchanged(&firing.key, firing.seen_revision).set(STATE, items::json(&firing.state)?)))
}

/// Returns the write that records a complete run in its schedule. It fails if the schedule was removed. Returns `None` for a job that no
/// schedule has started.
pub(super) fn completion_write(job: &Job, ended_at: Millis) -> Result<Option<Write>, StoreError> {
    let (Some(key), Some(planned)) = (&job.schedule, &job.planned) else { return Ok(None) };
    let configuration = job.request.anonymization.as_ref().and_then(|anonymization| anonymization.content().cloned());
    let run = CompleteRun { job: job.id.clone(), transaction_time: planned.time.transaction_time, ended_at, configuration };
    let update = Update::new(schedule_key(&key.name)).when("schedule_id = :id").value(":id", items::text(&key.id));
    Ok(Some(Write::Update(update.set(COMPLETE_RUN, items::json(&run)?))))
}

impl ScheduleStore for DynamoJobStore {
    async fn schedule(&self, name: &ScheduleName) -> Result<Option<Schedule>, StoreError> {
        self.get_key(schedule_key(name)).await?.map(|item| read_schedule(&item)).transpose()
    }

    async fn schedules(&self) -> Result<Vec<Schedule>, StoreError> {
        self.query_all(self.partition_query(SCHEDULES_PK), usize::MAX, read_schedule).await
    }

    async fn put_schedule(&self, schedule: &Schedule, seen: Option<u64>) -> Result<bool, StoreError> {
        let key = &schedule.key;
        let update = match seen {
            Some(seen) => update_unchanged(key, seen),
            None => Update::new(schedule_key(&key.name))
                .when("attribute_not_exists(pk)")
                .set(ID, items::text(&key.id))
                .set(REVISION, items::number(1_u32)),
        };
        let update = update.set(DEFINITION, items::json(&schedule.definition)?).set(STATE, items::json(&schedule.state)?);
        Ok(self.update(update).await? == WriteOutcome::Applied)
    }

    async fn remove_schedule(&self, schedule: &Schedule) -> Result<bool, StoreError> {
        let values = [(":id", items::text(&schedule.key.id)), (":seen", items::number(schedule.revision))];
        let values = values.map(|(placeholder, value)| (placeholder.to_owned(), value)).into();
        let delete = Write::DeleteWhen(schedule_key(&schedule.key.name), UNCHANGED, values);
        Ok(self.transact(&[delete]).await? == WriteOutcome::Applied)
    }
}
