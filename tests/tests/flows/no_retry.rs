//! Faults that no retry can mend: a full disk, an object that may not be read. The export ends at once with the reason, and it can be
//! deleted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use headrace_tests::flows::{
    Deployment, Fault, FaultInjector, LocalDeployment, ManualClock, REAPER_INTERVAL, Result, ServiceProcess, run, seed, set_next_job_number,
};

use crate::crash::seeded_deployment;
use crate::faults::run_cases;

/// Kicks off and runs an export in which every call from `number` on fails for good if `is_hit` holds for its name, until files are deleted.
/// Returns the status code and text of the export, and the status of its deletion.
async fn run_on_full_disk<S: Deployment>(deployment: &S, number: usize, is_hit: fn(&str) -> bool) -> Result<(u16, String, u16)> {
    let is_freed = Arc::new(AtomicBool::new(false));
    let freed = is_freed.clone();
    let faults = FaultInjector::new(move |call| {
        if call.name == "output.delete" {
            freed.store(true, Ordering::SeqCst);
        }
        let is_full = call.number >= number && !freed.load(Ordering::SeqCst);
        if is_full && is_hit(call.name) { Fault::FailForGood } else { Fault::None }
    });
    let service = ServiceProcess::start_with_faults(deployment, &ManualClock::default(), seed::settings(), faults);
    let status = service.kick_off("").await?;
    service.deliver_all().await?;
    // The clock has not moved and the reaper has not run: the end came at once.
    let response = service.request("GET", &status).await?;
    let text = if response.status == 200 { String::new() } else { response.outcome()?.2 };
    let deleted = service.request("DELETE", &status).await?.status;
    assert_eq!(service.request("GET", &status).await?.status, 404);
    service.reap_after(3 * REAPER_INTERVAL).await?;
    assert!(service.stored_files(&status).await?.is_empty());
    Ok((response.status, text, deleted))
}

/// Returns the names of the calls of an export without faults.
async fn call_names<S: Deployment>(deployment: &S) -> Result<Vec<&'static str>> {
    let service = ServiceProcess::start(deployment, &ManualClock::default(), seed::settings());
    service.kick_off("").await?;
    service.deliver_all().await?;
    Ok(service.faults.call_names())
}

/// Returns true for calls that need space.
fn needs_space(name: &str) -> bool {
    (name.starts_with("tasks.") && name != "tasks.task_work" && name != "tasks.fragments")
        || matches!(name, "jobs.end_job" | "output.new_fragment" | "output.promote" | "writer.write" | "writer.commit")
}

#[test]
fn an_export_on_a_disk_that_fills_up_ends_at_once_and_can_be_deleted() -> Result<()> {
    set_next_job_number(1);
    let names = run(async || call_names(&seeded_deployment().await?).await)?;
    let first = names.iter().position(|name| *name == "tasks.lease_task").ok_or("no lease")? + 1;
    let failures = run_cases(names.len() - first, |index| {
        run(async || {
            set_next_job_number(1);
            let (status, text, deleted) = run_on_full_disk(&seeded_deployment().await?, first + index, needs_space).await?;
            // Towards the end nothing needs space any more.
            let is_told = status == 500 && text == "no space left in `/data/out`; free space there and try again";
            if deleted == 202 && (status == 200 || is_told) { Ok(()) } else { Err(format!("{status} {text} {deleted}").into()) }
        })
    })?;
    assert_eq!(failures, Vec::<String>::new());
    Ok(())
}

#[test]
fn an_object_that_cannot_be_read_ends_the_export_at_once_with_its_name() -> Result<()> {
    async fn check<S: Deployment>(deployment: S) -> Result<()> {
        let (status, text, deleted) = run_on_full_disk(&deployment, 1, |name| name == "source.read").await?;
        assert_eq!((status, deleted), (500, 202));
        assert!(text.contains("`locked.ndjson`") && text.contains("permission denied") && !text.contains("failed 5 times"), "{text}");
        Ok(())
    }
    run(async || check::<LocalDeployment>(seeded_deployment().await?).await)?;
    run(async || check(seed::aws_deployment().await?).await)
}

#[test]
fn a_complete_export_is_deleted_on_a_full_disk() -> Result<()> {
    run(async || {
        let service = ServiceProcess::start(&seeded_deployment().await?, &ManualClock::default(), seed::settings());
        let status = service.kick_off("").await?;
        service.complete(&status).await?;
        let is_freed = AtomicBool::new(false);
        service.faults.set_plan(move |call| match call.name {
            "output.delete" => {
                is_freed.store(true, Ordering::SeqCst);
                Fault::None
            }
            name if needs_space(name) && !is_freed.load(Ordering::SeqCst) => Fault::FailForGood,
            _ => Fault::None,
        });
        assert_eq!(service.request("DELETE", &status).await?.status, 202);
        assert_eq!(service.request("GET", &status).await?.status, 404);
        assert!(service.stored_files(&status).await?.is_empty());
        Ok(())
    })
}

#[test]
fn a_kick_off_that_cannot_be_recorded_says_so() -> Result<()> {
    run(async || {
        let faults = FaultInjector::new(|call| if call.name == "jobs.record_job" { Fault::FailForGood } else { Fault::None });
        let service = ServiceProcess::start_with_faults(&seeded_deployment().await?, &ManualClock::default(), seed::settings(), faults);
        let response = service.request("GET", "/$export").await?;
        assert_eq!((response.status, response.outcome()?.1.as_str()), (507, "no-store"));
        assert!(response.outcome()?.2.starts_with("no space left in `/data/out`"));
        Ok(())
    })
}
