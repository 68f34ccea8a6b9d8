//! Failed calls, lost results, duplicate, late and lost messages, and workers that pause. In all cases an export either completes
//! with exactly its lines, or fails with a reason.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use aws_lambda_events::event::sqs::SqsMessage;
use futures_util::future::join_all;
use headrace_tests::flows::{
    Deployment, Fault, FaultInjector, LocalDeployment, ManualClock, PausedCalls, PortCall, REAPER_INTERVAL, Result, ServiceProcess, run,
    seed, set_next_job_number,
};

use crate::crash::seeded_deployment;

/// Returns the sorted lines of a complete export of the seed's lake.
fn expected_lines() -> Vec<Vec<u8>> {
    let files = seed::lake_objects();
    let mut lines: Vec<Vec<u8>> = files.iter().flat_map(|(_, file)| file.split(|byte| *byte == b'\n').map(<[u8]>::to_vec)).collect();
    lines.retain(|line| line.starts_with(b"{"));
    lines.sort();
    lines
}

/// Runs cases `0..count` on a few threads and returns the errors.
pub(crate) fn run_cases(count: usize, case: impl Fn(usize) -> Result<()> + Sync) -> Result<Vec<String>> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut failures = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::SeqCst);
            if index >= count {
                return failures;
            }
            if let Err(error) = case(index) {
                failures.push(format!("case {index}: {error}"));
            }
        }
    };
    let threads = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect::<Vec<_>>()
    });
    Ok(threads.concat())
}

/// Running work of a process.
type Work = Pin<Box<dyn Future<Output = Result<()>>>>;

/// State of the work of a worker or reaper after [`run_until_pause`].
enum Progress {
    /// Completed work and its result.
    Done(Result<()>),
    /// Work that is paused inside calls, and those calls. All of it stays suspended until it is polled again.
    Paused(Work, PausedCalls),
    /// Work that did not end within its time.
    ///
    /// This may happen only while other work is paused, because paused work can hold a lock of a stand-in in another of its calls.
    /// Otherwise it is a deadlock.
    Blocked(Work),
}

/// Time without progress after which work counts as blocked. Much longer than any in-process call takes.
const BLOCKED_AFTER: std::time::Duration = std::time::Duration::from_secs(30);

/// Time after which work is set aside while other work is paused, which may block it. Work that is only slow loses nothing: it goes on
/// when it is chosen again.
const SET_ASIDE_AFTER: std::time::Duration = std::time::Duration::from_secs(1);

/// Runs work until it is done, pauses or is blocked.
async fn run_until_pause(faults: &FaultInjector, work: Work) -> Progress {
    run_for(BLOCKED_AFTER, faults, work).await
}

/// Runs work until it is done, pauses, or has run for this time.
async fn run_for(time: std::time::Duration, faults: &FaultInjector, mut work: Work) -> Progress {
    tokio::select! {
        biased;
        done = &mut work => Progress::Done(done),
        paused = faults.next_pause() => Progress::Paused(work, paused),
        () = tokio::time::sleep(time) => Progress::Blocked(work),
    }
}

/// Resumes paused work and runs it to its end, as the only work. Fails if it blocks.
async fn resume(faults: &FaultInjector, mut work: Work, paused: &PausedCalls) -> Result<()> {
    paused.resume();
    loop {
        match run_until_pause(faults, work).await {
            Progress::Done(done) => return done,
            Progress::Blocked(_) => return Err("the worker is blocked, though no other worker is paused".into()),
            // A task may read several files concurrently, so it can be paused in several calls.
            Progress::Paused(same, paused) => {
                paused.resume();
                work = same;
            }
        }
    }
}

/// Resumes all paused work at once and runs it to its end. Fails if any of it stays blocked.
async fn resume_all(faults: &FaultInjector, paused: Vec<(Work, PausedCalls)>) -> Result<()> {
    paused.iter().for_each(|(_, paused)| paused.resume());
    let mut rest = Box::pin(join_all(paused.into_iter().map(|(work, _)| work)));
    loop {
        tokio::select! {
            biased;
            // Work may end with an injected error.
            _ = &mut rest => return Ok(()),
            paused = faults.next_pause() => paused.resume(),
            () = tokio::time::sleep(BLOCKED_AFTER) => return Err("workers are blocked, though none is paused".into()),
        }
    }
}

/// Counts the calls of a kick-off without faults, and all calls up to completion.
async fn call_counts() -> Result<(usize, usize)> {
    let service = ServiceProcess::start(&seeded_deployment().await?, &ManualClock::default(), seed::settings());
    service.kick_off("").await?;
    let kick_off = service.faults.call_count();
    service.deliver_all().await?;
    Ok((kick_off, service.faults.call_count()))
}

/// Runs an export until it pauses after call `number` took effect. Returns the process, the status URL and the paused work.
async fn paused_export(number: usize) -> Result<(Arc<ServiceProcess<LocalDeployment>>, String, Work, PausedCalls)> {
    set_next_job_number(1);
    let faults = FaultInjector::at_call(number, Fault::PauseAfter);
    let service = ServiceProcess::start_with_faults(&seeded_deployment().await?, &ManualClock::default(), seed::settings(), faults.clone());
    let status = service.kick_off("").await?;
    let worker = Arc::clone(&service);
    let work: Work = Box::pin(async move { worker.deliver_all().await });
    match run_until_pause(&faults, work).await {
        Progress::Paused(work, paused) => Ok((service, status, work, paused)),
        Progress::Done(done) => Err(format!("the worker was not paused: {done:?}").into()),
        Progress::Blocked(_) => Err("the worker was not paused: it is blocked".into()),
    }
}

#[test]
fn p10_a_worker_that_resumes_after_a_cancellation_leaves_no_files() -> Result<()> {
    let (kick_off, calls) = run(async || call_counts().await)?;
    let failures = run_cases(calls - kick_off, |index| {
        run(async || {
            let number = kick_off + 1 + index;
            let (service, status, work, paused_calls) = paused_export(number).await?;
            let other_process = ServiceProcess::start(&service.deployment, &service.clock, seed::settings());
            let is_complete = other_process.request("GET", &status).await?.status == 200;
            let cancelled = other_process.request("DELETE", &status).await?.status;
            resume(&service.faults, work, &paused_calls).await?;
            let after_cancellation =
                [other_process.request("GET", &status).await?.status, other_process.request("DELETE", &status).await?.status];
            let file = status.replace("export", "files") + "/Patient-1.ndjson";
            let file = other_process.request("GET", &file).await?.status;
            other_process.reap_after(3 * REAPER_INTERVAL).await?;
            other_process.deliver_all().await?;
            let remaining_files = other_process.stored_files(&status).await?;
            let later_run = other_process.reap_after(3 * REAPER_INTERVAL).await?;
            if cancelled != 202
                || after_cancellation != [404, 404]
                || file != 404
                || !remaining_files.is_empty()
                || later_run != Default::default()
            {
                return Err(format!(
                    "{number} {is_complete}: {cancelled} {after_cancellation:?} {file} {:?} {later_run:?}",
                    remaining_files.keys()
                )
                .into());
            }
            Ok(())
        })
    })?;
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(())
}

#[test]
fn p4_a_worker_that_resumes_after_its_job_completed_changes_nothing() -> Result<()> {
    let (kick_off, calls) = run(async || call_counts().await)?;
    let failures = run_cases(calls - kick_off, |index| {
        run(async || {
            let number = kick_off + 1 + index;
            let (service, status, work, paused_calls) = paused_export(number).await?;
            let other_process = ServiceProcess::start(&service.deployment, &service.clock, seed::settings());
            // In every other case, the worker resumes only after the cleanup that follows completion.
            let completed = other_process.complete(&status).await?;
            if completed.sorted_lines() != expected_lines() {
                return Err(format!("{number}: different lines").into());
            }
            let is_cleaned_up_first = index % 2 == 1;
            if is_cleaned_up_first {
                other_process.reap_after(3 * REAPER_INTERVAL).await?;
            }
            let items = other_process.deployment.job_table_items().await?;
            resume(&service.faults, work, &paused_calls).await?;
            if other_process.deployment.job_table_items().await? != items {
                return Err(format!("{number}: the table has changed").into());
            }
            let response = other_process.request("GET", &status).await?;
            if !is_cleaned_up_first {
                other_process.reap_after(3 * REAPER_INTERVAL).await?;
                if other_process.download_export(&status, &response).await? != completed {
                    return Err(format!("{number}: a different export").into());
                }
            }
            for (name, bytes) in &completed.files {
                if other_process.stored_files(&status).await?.get(name) != Some(bytes) {
                    return Err(format!("{number}: {name} has changed").into());
                }
            }
            // The end of the retention period deletes everything that is left.
            other_process.reap_after(25 * 60 * REAPER_INTERVAL).await?;
            let remaining_files = other_process.stored_files(&status).await?;
            if !remaining_files.is_empty() || other_process.request("GET", &status).await?.status != 404 {
                return Err(format!("{number}: {:?} outlive the retention", remaining_files.keys()).into());
            }
            Ok(())
        })
    })?;
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(())
}

/// Deterministic random numbers (splitmix64).
#[derive(Clone)]
struct Random(u64);

impl Random {
    /// Returns the next number, below `bound`.
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((bits ^ (bits >> 31)) % bound.max(1) as u64).unwrap_or_default()
    }
}

/// Final state of an export under random faults.
#[derive(Debug, PartialEq, Eq)]
enum FinalState {
    Complete,
    Failed,
}

/// Runs one export under random faults. Of a thousand calls, `fault_rate` fail before they take effect, as many fail after it, and as
/// many pause. Messages arrive twice, late and in any order.
///
/// # Errors
///
/// If the export neither completes with exactly its lines nor fails with a reason and without files.
async fn export_under_random_faults<S: Deployment>(deployment: &S, seed: u64, fault_rate: usize) -> Result<FinalState> {
    set_next_job_number(1);
    let mut random = Random(seed);
    let mut call_random = Random(seed ^ 0x5eed);
    let faults = FaultInjector::new(move |_: PortCall| match call_random.below(1_000) {
        roll if roll < fault_rate => Fault::FailBefore,
        roll if roll < 2 * fault_rate => Fault::FailAfter,
        roll if roll < 5 * fault_rate / 2 => Fault::PauseBefore,
        roll if roll < 3 * fault_rate => Fault::PauseAfter,
        _ => Fault::None,
    });
    let clock = ManualClock::default();
    let client = ServiceProcess::start(deployment, &clock, seed::settings());
    let status = client.kick_off("").await?;
    let service = ServiceProcess::start_with_faults(deployment, &clock, seed::settings(), faults.clone());
    let mut pending_messages: Vec<SqsMessage> = Vec::new();
    let mut paused_work: Vec<(Work, PausedCalls)> = Vec::new();
    let mut steps = 0;
    let response = loop {
        steps += 1;
        let response = client.request("GET", &status).await?;
        if response.status != 202 {
            break response;
        }
        if steps > 4_000 {
            return Err(format!("seed {seed}: the export does not end: {response:?}").into());
        }
        while let Some(message) = service.receive().await? {
            if random.below(5) == 0 {
                pending_messages.push(message.clone());
            }
            pending_messages.push(message);
        }
        let worker = Arc::clone(&service);
        let work: Work = match random.below(4) {
            0 if !paused_work.is_empty() => {
                let (work, paused_calls) = paused_work.swap_remove(random.below(paused_work.len()));
                paused_calls.resume();
                work
            }
            0 | 1 if random.below(8) > 0 || !pending_messages.is_empty() => {
                clock.advance(REAPER_INTERVAL / 4);
                Box::pin(async move { worker.reap().await.map(drop) })
            }
            _ if !pending_messages.is_empty() => {
                let message = pending_messages.swap_remove(random.below(pending_messages.len()));
                Box::pin(async move { worker.deliver(message).await.map(drop) })
            }
            _ => {
                clock.advance(REAPER_INTERVAL);
                Box::pin(async move { worker.reap().await.map(drop) })
            }
        };
        let time = if paused_work.is_empty() { BLOCKED_AFTER } else { SET_ASIDE_AFTER };
        match run_for(time, &faults, work).await {
            Progress::Paused(work, paused_calls) => paused_work.push((work, paused_calls)),
            // Injected faults may fail the reaper or a delivery. Both are repeated.
            Progress::Done(_) => {}
            Progress::Blocked(_) if paused_work.is_empty() => {
                return Err(format!("seed {seed}: a worker is blocked, though none is paused").into());
            }
            // Only a paused worker can block it, so it must finish after all are resumed.
            Progress::Blocked(work) => paused_work.push((work, PausedCalls::default())),
        }
    };
    // The job has ended. Paused workers and undelivered messages come too late and must change nothing.
    faults.set_plan(|_| Fault::None);
    resume_all(&faults, paused_work).await.map_err(|error| format!("seed {seed}: {error}"))?;
    for message in pending_messages {
        if service.deliver(message).await? {
            return Err(format!("seed {seed}: a late message must be redelivered").into());
        }
    }
    service.deliver_all().await?;
    service.reap_after(4 * REAPER_INTERVAL).await?;
    service.deliver_all().await?;
    match response.status {
        200 => {
            let completed = client.download_export(&status, &client.request("GET", &status).await?).await?;
            if completed.sorted_lines() != expected_lines() {
                return Err(format!("seed {seed}: different lines").into());
            }
            Ok(FinalState::Complete)
        }
        500 if response.outcome()?.0 == "error" => {
            let remaining_files = client.stored_files(&status).await?;
            if remaining_files.is_empty() {
                Ok(FinalState::Failed)
            } else {
                Err(format!("seed {seed}: the failed export left {:?}", remaining_files.keys()).into())
            }
        }
        _ => Err(format!("seed {seed}: {response:?}").into()),
    }
}

/// Number of exports under random faults.
const EXPORTS: usize = 90;

#[test]
fn p2_an_export_under_random_faults_is_exact_or_fails_with_a_reason() -> Result<()> {
    // Fault rates, and the most exports that may fail at each. At the highest, one call in seven has a fault and nearly every export has
    // five attempts in a row without progress: that it fails with a reason is what counts. At the others, failure is an exception.
    const RATES: [(usize, usize); 3] = [(5, 1), (15, 4), (45, EXPORTS / 3)];
    let failed = [const { AtomicUsize::new(0) }; RATES.len()];
    let failures = run_cases(EXPORTS, |index| {
        let rate = index % RATES.len();
        let (fault_rate, _) = RATES[rate];
        let state = run(async || export_under_random_faults(&seeded_deployment().await?, index as u64, fault_rate).await)?;
        failed[rate].fetch_add(usize::from(state == FinalState::Failed), Ordering::SeqCst);
        Ok(())
    })?;
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    let failed = failed.map(AtomicUsize::into_inner);
    for ((fault_rate, most), failed) in RATES.into_iter().zip(failed) {
        assert!(failed <= most, "at the fault rate {fault_rate}, {failed} of {} exports failed", EXPORTS / RATES.len());
    }
    Ok(())
}

#[test]
fn p2_an_export_on_aws_under_random_faults_is_exact_or_fails_with_a_reason() -> Result<()> {
    let failures = run_cases(18, |index| {
        run(async || {
            let deployment = seed::aws_deployment().await?;
            export_under_random_faults(&deployment, 1_000 + index as u64, [5, 20, 40][index % 3]).await.map(drop)
        })
    })?;
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(())
}

#[test]
fn p1_merge_tasks_recorded_long_before_their_round_are_announced_in_the_end() -> Result<()> {
    run(async || {
        set_next_job_number(1);
        // The finalize task pauses after it recorded the merge tasks of the next round and before it starts the round. It crashes before
        // it announces those tasks.
        let (mut is_finalize, mut has_recorded_tasks) = (false, false);
        let faults = FaultInjector::new(move |call| {
            is_finalize |= call.name == "tasks.fragments";
            match call.name {
                "tasks.complete_task" if is_finalize && !has_recorded_tasks => {
                    has_recorded_tasks = true;
                    Fault::PauseBefore
                }
                "queue.announce" if has_recorded_tasks => Fault::CrashBefore,
                _ => Fault::None,
            }
        });
        let (deployment, clock) = (seeded_deployment().await?, ManualClock::default());
        let service = ServiceProcess::start_with_faults(&deployment, &clock, seed::settings(), faults.clone());
        let status = service.kick_off("").await?;
        let worker = Arc::clone(&service);
        let Progress::Paused(mut work, paused_calls) = run_until_pause(&faults, Box::pin(async move { worker.deliver_all().await })).await
        else {
            return Err("the finalize task recorded no merge tasks".into());
        };
        // Meanwhile a reaper runs. Its announcements are lost with its process.
        ServiceProcess::start(&deployment, &clock, seed::settings()).reap_after(3 * REAPER_INTERVAL).await?;
        paused_calls.resume();
        assert!(faults.until_crash(&mut work).await.is_none(), "the process did not crash");
        drop(work);
        let completed = ServiceProcess::start(&deployment, &clock, seed::settings()).complete(&status).await?;
        assert_eq!(completed.sorted_lines(), expected_lines());
        Ok(())
    })
}

// The seed's tasks are parked after three attempts without progress.
#[test]
fn an_attempt_that_ends_at_an_overloaded_store_does_not_count() -> Result<()> {
    for overloaded in ["source.read", "source.list", "output.new_fragment", "tasks.complete_task"] {
        run(async || {
            set_next_job_number(1);
            let mut left = 20;
            let faults = FaultInjector::new(move |call| {
                let is_overloaded = call.name == overloaded && left > 0;
                left -= usize::from(is_overloaded);
                if is_overloaded { Fault::Overload } else { Fault::None }
            });
            let (deployment, clock) = (seeded_deployment().await?, ManualClock::default());
            let service = ServiceProcess::start_with_faults(&deployment, &clock, seed::settings(), faults);
            let status = service.kick_off("").await?;
            for _ in 0..60 {
                service.deliver_all().await?;
                service.reap_after(REAPER_INTERVAL).await?;
            }
            let completed = service.complete(&status).await.map_err(|error| format!("{overloaded}: {error}"))?;
            assert_eq!(completed.sorted_lines(), expected_lines(), "{overloaded}");
            Ok(())
        })?;
    }
    Ok(())
}
