//! Tasks that give away the rest of the object or of the fragment that they are reading.

use std::time::Duration;

use headrace_core::vocab::lake_settings::LakeVersions;
use headrace_tests::flows::{DeploymentSettings, LocalDeployment, ManualClock, Result, ServiceProcess, run};

use super::lake_model::{self, Line};

/// Number of objects. The last four tasks of as many are an eighth of them, and the last two of half as many.
const OBJECTS: usize = 32;

/// Lines of an object. Together they are several times what is read at once, and almost fill an output file.
const LINES: usize = 55;

/// Returns an object with patients whose lines have 20 kB.
fn object(number: usize) -> (String, Vec<Line>) {
    let member = format!(r#","implicitRules":"{}""#, "x".repeat(20_000));
    let line = |line| Line::resource("Patient", &format!("{number}-{line}"), "2026-01-01", 1, &member);
    (format!("Patient-{number:02}.ndjson"), (0..LINES).map(line).collect())
}

#[test]
fn no_line_is_lost_or_doubled_where_an_object_or_a_fragment_is_cut_while_it_is_read() -> Result<()> {
    let objects: Vec<_> = (0..OBJECTS).map(object).collect();
    let files: Vec<_> = objects.iter().map(|(name, lines)| (name.as_str(), lake_model::lines(lines))).collect();
    let files: Vec<_> = files.iter().map(|(name, bytes)| (*name, bytes.as_slice())).collect();
    let mut settings = DeploymentSettings::with_file_bytes(1_200_000).with_merge_limit_bytes(2_400_000);
    settings.worker.lake.versions = LakeVersions::One;
    settings.worker.split_interval = Duration::ZERO;
    let (names, completed) = run(async || {
        let deployment = LocalDeployment::with_files(&files).await?;
        let service = ServiceProcess::start(&deployment, &ManualClock::default(), settings);
        let status = service.kick_off("").await?;
        let completed = service.complete(&status).await?;
        Ok((service.faults.call_names(), completed))
    })?;
    let first_merge = names.iter().position(|name| *name == "output.read").ok_or("no fragment was read")?;
    let (reads, merges) = names.split_at(first_merge);
    let splits = |names: &[&str]| names.iter().filter(|name| **name == "tasks.split_task").count();
    // A read task has one object, which is cut. The first split of a merge task cuts a later fragment, and the second one that which it reads.
    assert!(splits(reads) > 0 && splits(merges) > 1, "{} splits of reads, {} of merges", splits(reads), splits(merges));
    let all: Vec<_> = objects.into_iter().flat_map(|(_, lines)| lines).collect();
    assert_eq!(completed.sorted_lines().len(), all.len());
    assert!(completed.sorted_lines() == lake_model::expected(&all).lines, "other lines");
    Ok(())
}
