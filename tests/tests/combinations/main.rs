//! Exports of every level with every filter, compared with an oracle.
//!
//! The server is a separate process that is used over HTTP. `oracle.rs` computes the expected lines from the parsed lake, by rules
//! from the FHIR and Bulk Data specifications. It shares no code with the service.

mod client;
mod filters;
mod oracle;
mod test_lake;

use std::collections::BTreeMap;
use std::path::Path;

use headrace_tests::lake::{external_lake_dir, sample_lake_dir, synthea_lake_dir};

use client::{Export, Server};
use filters::{Filter, NO_FILTER, filters};
use oracle::{Lake, Scope};
use test_lake::{GROUP, TestLake};

type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// Level of an export.
struct Level {
    /// True if the level accepts the `patient` parameter.
    accepts_patients: bool,
    /// Returns the path of the operation and the expected scope for a lake.
    target: fn(&TestLake) -> (String, Scope),
}

const SYSTEM: Level = Level { accepts_patients: false, target: |_| ("$export".to_owned(), Scope::System) };

const ALL_PATIENTS: Level = Level { accepts_patients: true, target: |_| ("Patient/$export".to_owned(), Scope::AllPatients) };

const GROUP_MEMBERS: Level =
    Level { accepts_patients: true, target: |lake| (format!("Group/{GROUP}/$export"), Scope::Group(GROUP, lake.members.clone())) };

const ONE_PATIENT: Level = Level {
    accepts_patients: false,
    target: |lake| {
        let patient = lake.members.first().cloned().unwrap_or_default();
        (format!("Patient/{patient}/%24export"), Scope::Patients([patient].into()))
    },
};

/// Compares exports with every filter at one level with the oracle, over both samples of the repository.
fn check_every_filter(level: &Level) -> Result<()> {
    check_every_filter_over(&sample_lake_dir(), level)?;
    check_every_filter_over(&synthea_lake_dir(), level)
}

/// Compares exports with every filter at one level with the oracle, over a copy of the lake in `source`.
fn check_every_filter_over(source: &Path, level: &Level) -> Result<()> {
    let test_lake = TestLake::create(source)?;
    let lake = Lake::read(test_lake.dir())?;
    let (path, scope) = (level.target)(&test_lake);
    let server = Server::start(test_lake.dir())?;
    for filter in filters(&lake) {
        let Filter { name, query, .. } = &filter;
        // The `patient` parameter is allowed only for the levels of all patients and of a group.
        if filter.patients.is_some() && !level.accepts_patients {
            continue;
        }
        let expected = lake.select(&scope, &filter);
        let export = server.export(&path, query)?;
        compare(&expected, &export, &filter).map_err(|error| format!("{}: {path} with {name}: {error}", source.display()))?;
    }
    Ok(())
}

/// Compares the lines of an export with the expected lines.
fn compare(expected: &[&oracle::Line], export: &Export, filter: &Filter) -> Result<()> {
    if export.errors > 0 {
        return Err(format!("the error files have {} lines", export.errors).into());
    }
    let mut expected_lines: Vec<String> = expected.iter().map(|line| filter.expected_text(line)).collect();
    let mut exported_lines: Vec<String> = export.lines.iter().map(|line| filter.exported_text(line)).collect::<Result<_>>()?;
    expected_lines.sort();
    exported_lines.sort();
    if expected_lines == exported_lines {
        return Ok(());
    }
    let missing = expected_lines.iter().filter(|line| exported_lines.binary_search(line).is_err()).count();
    let surplus = exported_lines.iter().filter(|line| expected_lines.binary_search(line).is_err()).count();
    let sample = expected_lines
        .iter()
        .find(|line| exported_lines.binary_search(line).is_err())
        .or_else(|| exported_lines.iter().find(|line| expected_lines.binary_search(line).is_err()));
    let sample: String = sample.map(|line| line.chars().take(300).collect()).unwrap_or_default();
    Err(format!(
        "{} lines instead of {}: {missing} missing, {surplus} unexpected, such as {sample}",
        exported_lines.len(),
        expected_lines.len()
    )
    .into())
}

// Holds: K4, P10, P20, P30, P31, P40, P41, P50
#[test]
fn system_exports_match_the_oracle_for_every_filter() -> Result<()> {
    check_every_filter(&SYSTEM)
}

// Holds: K4, P31, P60, P71, R2, A1, A3
#[test]
fn patient_exports_match_the_oracle_for_every_filter() -> Result<()> {
    check_every_filter(&ALL_PATIENTS)
}

// Holds: K3, K4, P60, R2, A1, A3
#[test]
fn group_exports_match_the_oracle_for_every_filter() -> Result<()> {
    check_every_filter(&GROUP_MEMBERS)
}

// Holds: K4
#[test]
fn exports_of_one_patient_match_the_oracle_for_every_filter() -> Result<()> {
    check_every_filter(&ONE_PATIENT)
}

#[test]
#[ignore = "needs the 100 patients of ../shared/data"]
fn exports_of_a_hundred_patients_match_the_oracle_for_every_filter() -> Result<()> {
    let source = external_lake_dir("100-patients");
    [SYSTEM, ALL_PATIENTS, GROUP_MEMBERS, ONE_PATIENT].iter().try_for_each(|level| check_every_filter_over(&source, level))
}

/// Checks that the comparisons above mean something: over the two samples together, every filter keeps some lines of all patients and
/// removes others.
#[test]
fn every_filter_keeps_a_part_of_the_samples() -> Result<()> {
    let mut counts = BTreeMap::<&str, usize>::new();
    for source in [sample_lake_dir(), synthea_lake_dir()] {
        let test_lake = TestLake::create(&source)?;
        let lake = Lake::read(test_lake.dir())?;
        for filter in filters(&lake) {
            *counts.entry(filter.name).or_default() += lake.select(&Scope::AllPatients, &filter).len();
        }
    }
    let unfiltered = counts.remove(NO_FILTER).ok_or("no unfiltered export")?;
    for (name, kept) in counts {
        assert!(kept > 0 && kept < unfiltered, "{name} keeps {kept} of {unfiltered} lines");
    }
    Ok(())
}
