//! Undisturbed exports: what comes out is what went in.

use std::path::Path;

use headrace_core::ports::Clock as _;
use headrace_tests::flows::{Aws, Finished, MINUTE, ManualClock, OneMachine, Result, Stage, Terms, World, oracle, run};
use headrace_tests::lake;

async fn export<S: Stage>(stage: &S, terms: Terms, query: &str) -> Result<Finished> {
    let world = World::start(stage, &ManualClock::default(), terms);
    let status = world.kick_off(query).await?;
    world.finish(&status).await
}

/// Everything of a lake, once, with one file per type.
async fn everything<S: Stage>(stage: &S, dir: &Path) -> Result<Finished> {
    let finished = export(stage, Terms::default(), "").await?;
    assert_eq!(finished.sorted_lines(), oracle::expected(dir, None, None)?);
    assert!(finished.manifest.error.is_empty(), "{:?}", finished.manifest.error);
    let counted: std::collections::BTreeMap<_, _> =
        finished.manifest.output.iter().map(|entry| (entry.kind.clone(), entry.count as u64)).collect();
    let expected: std::collections::BTreeMap<_, _> = lake::count(dir)?.into_iter().map(|(kind, tally)| (kind, tally.lines)).collect();
    assert_eq!(counted, expected);
    assert!(finished.files_by_type().values().all(|files| *files == 1), "{:?}", finished.files_by_type());
    Ok(finished)
}

// Holds: M2, M3, B1
#[test]
fn on_aws_the_sample_lake_comes_out_whole_each_line_once() -> Result<()> {
    run(async || {
        let dir = lake::sample_dir();
        let finished = everything(&Aws::over(&dir).await?, &dir).await?;
        assert!(finished.manifest.requires_access_token);
        assert_eq!(finished.manifest.request, "https://abc123.execute-api.eu-central-1.amazonaws.com/$export");
        assert_eq!(finished.manifest.transaction_time, ManualClock::default().now().instant());
        assert_eq!(finished.manifest.deleted, None);
        Ok(())
    })
}

// Holds: M3
#[test]
fn on_one_machine_the_sample_lake_comes_out_whole_each_line_once() -> Result<()> {
    run(async || {
        let dir = lake::sample_dir();
        let finished = everything(&OneMachine::over(&dir).await?, &dir).await?;
        assert!(!finished.manifest.requires_access_token);
        Ok(())
    })
}

#[test]
fn ten_patients_come_out_whole_where_present() -> Result<()> {
    run(async || {
        let Some(dir) = lake::ten_patients() else { return Ok(()) };
        for finished in [everything(&Aws::over(&dir).await?, &dir).await?, everything(&OneMachine::over(&dir).await?, &dir).await?] {
            assert_eq!((finished.lines().len(), finished.files.len()), (2_523, 16));
        }
        Ok(())
    })
}

#[test]
fn types_and_since_select_what_a_slow_reader_would_select() -> Result<()> {
    run(async || {
        let dir = lake::sample_dir();
        let stage = OneMachine::over(&dir).await?;
        for (query, types, since) in [
            ("?_type=Patient", Some(&["Patient"][..]), None),
            ("?_type=Patient,Observation&_type=Claim", Some(&["Patient", "Observation", "Claim"]), None),
            ("?_type=Medication", Some(&["Medication"]), None),
            ("?_since=2024-06-01T00:00:00Z", None, Some("2024-06-01T00:00:00Z")),
            ("?_since=2025-01-01T00:00:00%2B02:00&_type=Observation", Some(&["Observation"]), Some("2025-01-01T00:00:00+02:00")),
            ("?_since=2026-09-30T00:00:00Z", None, Some("2026-09-30T00:00:00Z")),
        ] {
            let finished = export(&stage, Terms::default(), query).await?;
            let expected = oracle::expected(&dir, types, since)?;
            assert_eq!(finished.sorted_lines(), expected, "{query}");
            assert_eq!(finished.manifest.deleted.is_some(), since.is_some(), "{query}");
            let types = oracle::types(&expected)?;
            assert!(finished.manifest.output.iter().map(|entry| &entry.kind).eq(types.iter()), "{query}");
        }
        Ok(())
    })
}

/// A new file starts once the current one has reached the limit, and only then.
fn roll_as_promised(finished: &Finished, limit: usize) -> Result<()> {
    for (kind, count) in finished.files_by_type() {
        for number in 1..=count {
            let name = format!("{kind}-{number}.ndjson");
            let file = finished.files.get(&name).ok_or_else(|| format!("{name} is missing"))?;
            let last_line = file.split_inclusive(|byte| *byte == b'\n').next_back().map_or(0, <[u8]>::len);
            assert!(file.len() - last_line < limit, "{name} goes on after it had reached {limit} bytes");
            assert!(number == count || file.len() >= limit, "{name} has {} bytes and is not the last", file.len());
        }
    }
    Ok(())
}

// Holds: A2
#[test]
fn files_roll_at_their_size_and_their_numbers_have_no_gaps() -> Result<()> {
    run(async || {
        let dir = lake::ten_patients().unwrap_or_else(lake::sample_dir);
        let limit = 20_000;
        // With a limit below every single tail there is nothing to put together.
        for join_limit_bytes in [1 << 30, 30_000, 1] {
            let terms = Terms::file_bytes(limit).join_limit_bytes(join_limit_bytes);
            let stage = OneMachine::over(&dir).await?;
            let world = World::start(&stage, &ManualClock::default(), terms);
            let status = world.kick_off("").await?;
            let finished = world.finish(&status).await?;
            assert_eq!(finished.sorted_lines(), oracle::expected(&dir, None, None)?);
            roll_as_promised(&finished, 20_000)?;
            assert!(finished.files_by_type()["Observation"] > 3);
            let id = headrace_core::vocab::ids::JobId::parse(status.rsplit('/').next().unwrap_or_default())?;
            let job = headrace_core::ports::JobStore::job(&stage.jobs(), &id).await?.ok_or("no job")?;
            assert!(job.planned.is_some_and(|planned| planned.tasks > 8), "slices: {:?}", job.planned);
            // The first is for resolving.
            assert_eq!(job.round > 1, join_limit_bytes == 30_000, "{join_limit_bytes}: {} rounds", job.round);
        }
        Ok(())
    })
}

#[test]
fn on_aws_files_roll_and_tails_are_gathered() -> Result<()> {
    run(async || {
        let dir = lake::sample_dir();
        let stage = Aws::over(&dir).await?;
        let finished = export(&stage, Terms::file_bytes(9_000).join_limit_bytes(20_000), "?_container=my-place").await?;
        assert_eq!(finished.sorted_lines(), oracle::expected(&dir, None, None)?);
        roll_as_promised(&finished, 9_000)?;
        assert!(stage.files().await?.keys().all(|path| path.starts_with("my-place/20261001T080000-")));
        Ok(())
    })
}

#[test]
fn slices_are_worked_on_side_by_side() -> Result<()> {
    run(async || {
        let dir = lake::sample_dir();
        let stage = OneMachine::over(&dir).await?;
        let world = World::start(&stage, &ManualClock::default(), Terms::file_bytes(9_000).join_limit_bytes(20_000));
        let status = world.kick_off("").await?;
        // Four workers on one queue; a finish that comes too early is told to come again by whoever closes the last task.
        for _ in 0..400 {
            let mut messages = Vec::new();
            while let Some(message) = world.receive().await? {
                messages.push(message);
            }
            if messages.is_empty() {
                break;
            }
            for batch in messages.chunks(4) {
                let work = batch.iter().map(|message| Box::pin(world.deliver(message.clone())));
                futures_util::future::try_join_all(work).await?;
            }
        }
        let finished = world.finish(&status).await?;
        assert_eq!(finished.sorted_lines(), oracle::expected(&dir, None, None)?);
        roll_as_promised(&finished, 9_000)?;
        Ok(())
    })
}

// Holds: S5
#[test]
fn what_is_no_resource_is_reported_where_it_stands_and_never_shown() -> Result<()> {
    run(async || {
        let dir = lake::broken_dir();
        for file_bytes in [64_000_000, 150] {
            let finished = export(&OneMachine::over(&dir).await?, Terms::file_bytes(file_bytes), "").await?;
            let mut good = lake::broken::good_lines();
            good.sort();
            assert_eq!(finished.sorted_lines(), good);
            let reports: Vec<String> = finished
                .manifest
                .error
                .iter()
                .map(|entry| {
                    (entry.kind == "OperationOutcome").then(|| String::from_utf8_lossy(&finished.files[entry.name()]).into_owned())
                })
                .collect::<Option<Vec<_>>>()
                .ok_or("an error file of another type")?;
            let reports = reports.concat();
            assert_eq!(reports.lines().count(), lake::broken::bad_lines().len());
            for bad in lake::broken::bad_lines() {
                let place = format!("object `{}`, byte {}:", bad.file, bad.offset);
                assert_eq!(reports.matches(&place).count(), 1, "{place} ({}) in {reports}", bad.why);
            }
            for secret in ["broken-", "Cutsh", "Watermill", "exported by hand", "Nameless"] {
                assert!(!reports.contains(secret), "{secret} in {reports}");
            }
        }
        Ok(())
    })
}

#[test]
fn an_empty_lake_is_an_empty_export() -> Result<()> {
    run(async || {
        let stage = OneMachine::with(&[("README.md", b"nothing here"), ("Patient.ndjson", b"")]).await?;
        let finished = export(&stage, Terms::default(), "").await?;
        assert!(finished.manifest.output.is_empty() && finished.manifest.error.is_empty());
        Ok(())
    })
}

// Holds: M1
#[test]
fn p3_the_transaction_time_is_that_of_the_plan() -> Result<()> {
    run(async || {
        let world = World::start(&OneMachine::over(&lake::sample_dir()).await?, &ManualClock::default(), Terms::default());
        let status = world.kick_off("").await?;
        world.clock.advance(MINUTE);
        let planned_at = world.now();
        let plan = world.receive().await?.ok_or("the plan was not announced")?;
        world.deliver(plan).await?;
        world.clock.advance(MINUTE);
        assert_eq!(world.finish(&status).await?.manifest.transaction_time, planned_at.instant());
        Ok(())
    })
}
