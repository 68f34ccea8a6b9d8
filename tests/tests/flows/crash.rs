//! The process is stopped at every single call of a port: before the first one, and after each took effect and before the
//! process learnt of it (which, as it does one thing after the other, is also before the next one). A new process over the
//! same stores ends the export all the same: same files, same counts, same bytes, nothing beside them.
//!
//! The job table is in memory and outlives the processes, files are in a folder, and the queue dies with its process, so
//! that the job table alone is the truth (rule P1). What a process that is killed inside a call leaves behind, between two
//! system calls, is for `a_killed_server_goes_on_where_it_was` to find.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use headrace_core::flow::work::run_task::LakeVersions;
use headrace_core::ports::JobStore as _;
use headrace_core::vocab::ids::JobId;
use headrace_tests::flows::{
    Finished, MINUTE, ManualClock, OneMachine, Result, Script, Stage as _, Terms, Twist, World, count_ids_from, run, seed,
};

use super::model::{self, Line, deletion, version};

pub(crate) async fn tiny_stage() -> Result<OneMachine> {
    stage_of(&seed::lake()).await
}

async fn stage_of(lake: &[(&'static str, Vec<u8>)]) -> Result<OneMachine> {
    let files: Vec<_> = lake.iter().map(|(object, bytes)| (*object, bytes.as_slice())).collect();
    OneMachine::with(&files).await
}

/// An export of a lake, as it is stopped.
struct Case {
    lake: Vec<(&'static str, Vec<u8>)>,
    terms: Terms,
    query: &'static str,
}

/// From the kick-off to the sweep after completion.
async fn live(world: &World<OneMachine>, case: &Case) -> Result<()> {
    world.kick_off(case.query).await?;
    world.drain().await?;
    world.reap_after(3 * MINUTE).await?;
    Ok(())
}

fn first_job() -> JobId {
    let mut bytes = [0; 16];
    bytes[15] = 1;
    JobId::from_random(bytes)
}

/// What the next process makes of it.
async fn take_up(stage: &OneMachine, clock: &ManualClock, case: &Case) -> Result<Finished> {
    let status = format!("/_operations/export/{}", first_job());
    let world = World::start(stage, clock, case.terms.clone());
    if world.ask("GET", &status).await?.status == 404 {
        // The kick-off left nothing: its client tries again.
        count_ids_from(1);
        world.kick_off(case.query).await?;
    }
    let finished = world.finish(&status).await?;
    let late = world.reap_after(5 * MINUTE).await?;
    if (late.announced, late.failed) != (0, 0) {
        return Err(format!("something is left to do: {late:?}").into());
    }
    world.nothing_lies_beside(&status, &finished).await?;
    Ok(finished)
}

async fn undisturbed(case: &Case) -> Result<(Vec<&'static str>, u32, Finished)> {
    count_ids_from(1);
    let (stage, clock) = (stage_of(&case.lake).await?, ManualClock::default());
    let world = World::start(&stage, &clock, case.terms.clone());
    live(&world, case).await?;
    let names = world.script.names();
    let job = stage.jobs().job(&first_job()).await?.ok_or("no job")?;
    Ok((names, job.round, take_up(&stage, &clock, case).await?))
}

async fn stopped(case: &Case, number: usize, twist: Twist) -> Result<Finished> {
    count_ids_from(1);
    let (stage, clock) = (stage_of(&case.lake).await?, ManualClock::default());
    let script = Script::at(number, twist);
    let world = World::scripted(&stage, &clock, case.terms.clone(), script.clone());
    match script.while_alive(live(&world, case)).await {
        Some(Ok(())) => return Err("it was not stopped".into()),
        Some(Err(error)) => return Err(error),
        None => {}
    }
    drop(world);
    take_up(&stage, &clock, case).await
}

#[test]
fn p1_to_p6_an_export_survives_a_stop_at_any_call() -> Result<()> {
    let case = Case { lake: seed::lake(), terms: seed::terms(), query: "" };
    let (names, rounds, expected) = run(async || undisturbed(&case).await)?;
    let distinct: BTreeSet<_> = names.iter().collect();
    // What is to be seen here is seen: gathering, adopted tails, parts from full pages, the error file.
    assert!(
        distinct.contains(&"parts.adopt") && distinct.contains(&"draft.settle part") && distinct.contains(&"parts.read"),
        "{distinct:?}"
    );
    assert!(expected.files_by_type().values().any(|files| *files > 2), "{:?}", expected.files_by_type());
    // A round of resolving, and one of gathering.
    assert_eq!((rounds, expected.manifest.error.len()), (2, 1));
    let mut lines: Vec<_> =
        seed::lake().iter().flat_map(|(_, file)| String::from_utf8_lossy(file).lines().map(str::to_owned).collect::<Vec<_>>()).collect();
    lines.retain(|line| line != "not a resource");
    lines.sort();
    assert_eq!(expected.sorted_lines(), lines.iter().map(|line| line.as_bytes().to_vec()).collect::<Vec<_>>());

    every_stop_ends_alike(&case, &names, &expected)
}

#[test]
fn p1_to_p6_an_export_that_reads_its_lake_twice_survives_a_stop_at_any_call() -> Result<()> {
    for (versions, query) in [(LakeVersions::Auto, "?_since=2026-01-01T12:00:00Z"), (LakeVersions::Many, "")] {
        let held = twice();
        let lake = held.iter().map(|(object, lines)| (*object, model::lines(lines))).collect();
        let case = Case { lake, terms: terms(versions), query };
        let (names, rounds, expected) = run(async || undisturbed(&case).await)?;
        // Resolving, reading again, gathering.
        assert!(rounds >= 3, "{rounds}");
        assert_eq!(names.contains(&"tasks.drop_parts"), versions == LakeVersions::Auto);
        if query.is_empty() {
            let all: Vec<_> = held.into_iter().flat_map(|(_, lines)| lines).collect();
            assert_eq!(expected.sorted_lines(), model::expected(&all).lines);
        } else {
            assert_eq!((expected.lines().len(), expected.deleted()?.len()), (4, 2));
        }
        every_stop_ends_alike(&case, &names, &expected)?;
    }
    Ok(())
}

/// Two of three patients were changed or deleted after the first dump.
fn twice() -> Vec<(&'static str, Vec<Line>)> {
    vec![
        (
            "1.ndjson",
            vec![version("Patient", 1, "2026-01-01", 1), version("Patient", 2, "2026-01-02", 1), version("Patient", 3, "2026-01-02", 1)],
        ),
        (
            "2.ndjson",
            vec![version("Patient", 1, "2026-01-03", 2), version("Basic", 1, "2026-01-03", 1), version("Basic", 2, "2026-01-03", 1)],
        ),
        ("3.ndjson", vec![deletion(&["Patient/2", "Basic/9"], Some("2026-01-04"))]),
    ]
}

/// Files of two lines, ranges of some notes, gathering.
fn terms(versions: LakeVersions) -> Terms {
    let mut terms = Terms::file_bytes(150).join_limit_bytes(400);
    terms.work.lake_versions = versions;
    terms.work.resolve_bytes = 200;
    terms
}

fn every_stop_ends_alike(case: &Case, names: &[&'static str], expected: &Finished) -> Result<()> {
    let next = AtomicUsize::new(0);
    let work = || -> Result<Vec<String>> {
        let mut wrong = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::SeqCst);
            let (number, twist) = if index == 0 { (1, Twist::StopBefore) } else { (index, Twist::StopAfter) };
            let Some(name) = names.get(number - 1) else { return Ok(wrong) };
            let said = match run(async || stopped(case, number, twist).await) {
                Ok(finished) if finished.files != expected.files => format!("other files: {:?}", finished.manifest),
                Ok(finished)
                    if finished.manifest.output != expected.manifest.output || finished.manifest.error != expected.manifest.error =>
                {
                    format!("another manifest: {:?}", finished.manifest)
                }
                Ok(_) => continue,
                Err(error) => error.to_string(),
            };
            wrong.push(format!("{twist:?} call {number}, {name}: {said}"));
        }
    };
    let wrong = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect::<Result<Vec<_>>>()
    })?;
    let wrong = wrong.concat();
    assert!(wrong.is_empty(), "of {} calls:\n{}", names.len(), wrong.join("\n"));
    println!("stopped at each of {} calls", names.len());
    Ok(())
}
