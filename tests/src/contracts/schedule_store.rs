//! Contract of `ScheduleStore`, and of the runs of schedules in the job store.

use headrace_core::access::Agent;
use headrace_core::job::task::PlanInput;
use headrace_core::job::{Job, Quota, Quotas, RecordConditions, RecordOutcome};
use headrace_core::ports::{JobStore, ScheduleStore};
use headrace_core::request::ExportRequest;
use headrace_core::schedule::{Schedule, ScheduleDefinition, ScheduleProblem, ScheduleState, Timing};
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::ids::{Caller, JobId};
use headrace_core::vocab::level::Level;
use headrace_core::vocab::schedule_key::{ScheduleKey, ScheduleName};

use super::{BoxError, CaseResult};

/// Runs the suite: `schedule_store_contract!(name, crate::open)`.
#[macro_export]
macro_rules! schedule_store_contract {
    ($name:ident, $open:path) => {
        $crate::contract_cases!(
            schedule_store,
            $name,
            $open,
            [
                a_stored_schedule_is_read_back_unchanged,
                a_schedule_name_can_be_used_only_once,
                a_write_based_on_an_older_revision_changes_nothing,
                schedules_are_listed_by_name,
                a_removed_schedule_is_gone_and_its_name_can_be_reused,
                a_run_is_recorded_together_with_its_job_and_once,
                a_run_without_a_free_slot_leaves_the_schedule_as_it_was,
            ]
        );
    };
}

/// Time at which the sample schedules were added.
const ADDED: Millis = Millis(1_769_846_400_000);

/// Creates a schedule with a value in most fields.
fn sample(name: &str, id: u8) -> Result<Schedule, BoxError> {
    let definition = ScheduleDefinition {
        client: Some(Caller("arn:aws:iam::1:role/Lab#x".to_owned())),
        timing: Timing::parse("cron(0 2 * * MON-FRI)", Some("Europe/Berlin"), ADDED)?,
        level: Level::Group("g-1".to_owned()),
        parameters: vec![("_typeFilter".to_owned(), "Observation?code=ä\"".to_owned())],
        is_lenient: true,
        is_incremental: true,
        keep: Some(3),
        created_at: ADDED,
    };
    let key = ScheduleKey { name: ScheduleName::parse(name)?, id: format!("{id:032x}") };
    Ok(Schedule { key, definition, state: ScheduleState::new(ADDED), complete_run: None, revision: 1 })
}

/// Creates the job of a run.
fn run_of(schedule: &Schedule, n: u8) -> Job {
    let job = Job::accepted(JobId::from_random([n; 16]), Caller("lab".to_owned()), ExportRequest::default(), ADDED);
    Job { schedule: Some(schedule.key.clone()), ..job }
}

/// Records a run of the schedule as it was read.
async fn fire(store: &(impl JobStore + ScheduleStore), schedule: &Schedule, job: &Job, quotas: Quotas) -> Result<RecordOutcome, BoxError> {
    let firing = Some(schedule.firing(&job.id, ADDED, ADDED));
    let conditions = RecordConditions { quotas, firing, ..RecordConditions::default() };
    Ok(store.record_job(job, &PlanInput::default(), &conditions, &Agent::schedule(&schedule.key.name)).await?)
}

/// Checks that a schedule and its changes are read back.
pub async fn a_stored_schedule_is_read_back_unchanged(store: &impl ScheduleStore) -> CaseResult {
    let nightly = sample("nightly", 1)?;
    assert_eq!(store.schedule(&nightly.key.name).await?, None);
    assert!(store.put_schedule(&nightly, None).await?);
    assert_eq!(store.schedule(&nightly.key.name).await?, Some(nightly.clone()));
    let problem = ScheduleProblem { due_at: Millis(5), found_at: Millis(6), is_overlap: true, text: "skipped".to_owned() };
    let changed = nightly.with_problem(problem);
    assert!(store.put_schedule(&changed, Some(1)).await?);
    assert_eq!(store.schedule(&nightly.key.name).await?, Some(Schedule { revision: 2, ..changed }));
    Ok(())
}

/// Checks that a second schedule of the same name is rejected and changes nothing.
pub async fn a_schedule_name_can_be_used_only_once(store: &impl ScheduleStore) -> CaseResult {
    let nightly = sample("nightly", 1)?;
    assert!(store.put_schedule(&nightly, None).await?);
    assert!(!store.put_schedule(&sample("nightly", 2)?, None).await?);
    assert_eq!(store.schedule(&nightly.key.name).await?, Some(nightly));
    Ok(())
}

/// Checks that writes fail unless they are based on the current revision of the same schedule.
pub async fn a_write_based_on_an_older_revision_changes_nothing(store: &impl ScheduleStore) -> CaseResult {
    let nightly = sample("nightly", 1)?;
    store.put_schedule(&nightly, None).await?;
    let paused = Schedule { state: ScheduleState { is_paused: true, ..nightly.state.clone() }, ..nightly.clone() };
    assert!(store.put_schedule(&paused, Some(1)).await?);
    assert!(!store.put_schedule(&nightly, Some(1)).await?);
    assert!(!store.put_schedule(&sample("nightly", 2)?, Some(2)).await?, "another schedule of this name");
    assert!(!store.put_schedule(&sample("unknown", 1)?, Some(1)).await?);
    assert_eq!(store.schedule(&nightly.key.name).await?, Some(Schedule { revision: 2, ..paused }));
    assert_eq!(store.schedule(&ScheduleName::parse("unknown")?).await?, None);
    Ok(())
}

/// Checks that all schedules are listed, sorted by name.
pub async fn schedules_are_listed_by_name(store: &impl ScheduleStore) -> CaseResult {
    assert_eq!(store.schedules().await?, []);
    let names = ["0", "a", "a-b", "nightly", "z"];
    for name in names.iter().rev() {
        store.put_schedule(&sample(name, 1)?, None).await?;
    }
    let listed: Vec<String> = store.schedules().await?.iter().map(|schedule| schedule.key.name.to_string()).collect();
    assert_eq!(listed, names);
    Ok(())
}

/// Checks that only the schedule that was read is removed.
pub async fn a_removed_schedule_is_gone_and_its_name_can_be_reused(store: &impl ScheduleStore) -> CaseResult {
    let nightly = sample("nightly", 1)?;
    store.put_schedule(&nightly, None).await?;
    assert!(!store.remove_schedule(&Schedule { revision: 2, ..nightly.clone() }).await?);
    assert!(!store.remove_schedule(&sample("nightly", 2)?).await?);
    assert!(store.remove_schedule(&nightly).await?);
    assert!(!store.remove_schedule(&nightly).await?);
    assert_eq!(store.schedule(&nightly.key.name).await?, None);
    assert!(store.put_schedule(&sample("nightly", 2)?, None).await?);
    Ok(())
}

/// Checks that a run is recorded only if nobody has changed the schedule, and that recording it again changes nothing.
pub async fn a_run_is_recorded_together_with_its_job_and_once(store: &(impl JobStore + ScheduleStore)) -> CaseResult {
    let nightly = sample("nightly", 1)?;
    store.put_schedule(&nightly, None).await?;
    let (first, second) = (run_of(&nightly, 1), run_of(&nightly, 2));
    assert_eq!(fire(store, &nightly, &first, Quotas::default()).await?, RecordOutcome::Recorded);
    assert_eq!(store.job(&first.id).await?, Some(first.clone()));
    let fired = store.schedule(&nightly.key.name).await?.ok_or("no schedule")?;
    assert_eq!((fired.revision, fired.state.last_run.as_ref().map(|run| &run.job)), (2, Some(&first.id)));
    // The same call again, whose answer was lost.
    assert_eq!(fire(store, &nightly, &first, Quotas::default()).await?, RecordOutcome::Recorded);
    // Another process that has read the schedule at the same time.
    assert_eq!(fire(store, &nightly, &second, Quotas::default()).await?, RecordOutcome::ScheduleChanged);
    assert_eq!(store.job(&second.id).await?, None);
    assert!(store.remove_schedule(&fired).await?);
    assert_eq!(fire(store, &fired, &second, Quotas::default()).await?, RecordOutcome::ScheduleChanged);
    assert_eq!(store.schedules().await?, []);
    Ok(())
}

/// Checks that a run beyond a quota records nothing.
pub async fn a_run_without_a_free_slot_leaves_the_schedule_as_it_was(store: &(impl JobStore + ScheduleStore)) -> CaseResult {
    let nightly = sample("nightly", 1)?;
    store.put_schedule(&nightly, None).await?;
    let quotas = Quotas { per_caller: Some(0), ..Quotas::default() };
    assert_eq!(fire(store, &nightly, &run_of(&nightly, 1), quotas).await?, RecordOutcome::NoSlot(Quota::PerCaller(0)));
    assert_eq!(store.schedule(&nightly.key.name).await?, Some(nightly));
    Ok(())
}
