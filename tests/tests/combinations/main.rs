//! Every level with every filter over a lake of real size, against what a slow and obvious reader would select.
//!
//! The server runs as a process of its own and is asked over HTTP. What it must answer is found in `oracle.rs` from trees of
//! the whole lake, by rules written down from the FHIR and Bulk Data texts and sharing no code with the service.

mod client;
mod filters;
mod oracle;
mod patients_lake;

use client::{Export, Server};
use filters::{Filter, filters};
use oracle::{Lake, Scope};
use patients_lake::{GROUP, PatientsLake};

type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// Exports with every filter at one level, from the small lake that the repository ships or a larger one beside it.
fn every_filter(takes_patients: bool, at: impl Fn(&PatientsLake) -> (String, Scope)) -> Result<()> {
    let lake = PatientsLake::make()?;
    let known = Lake::read(lake.dir())?;
    let (path, scope) = at(&lake);
    let server = Server::start(lake.dir())?;
    for filter in filters(&known) {
        let Filter { name, query, .. } = &filter;
        // One patient's path names the patient already, and the whole system knows none.
        if filter.patients.is_some() && !takes_patients {
            continue;
        }
        let expected = known.select(&scope, &filter);
        let export = server.export(&path, query)?;
        compare(&expected, &export, &filter).map_err(|error| format!("{path} with {name}: {error}"))?;
    }
    Ok(())
}

/// Line for line; rewritten lines by what they still hold.
fn compare(expected: &[&oracle::Line], export: &Export, filter: &Filter) -> Result<()> {
    if export.errors > 0 {
        return Err(format!("{} lines in error files", export.errors).into());
    }
    let mut wanted: Vec<String> = expected.iter().map(|line| filter.shown(line)).collect();
    let mut got: Vec<String> = export.lines.iter().map(|line| filter.read(line)).collect::<Result<_>>()?;
    wanted.sort();
    got.sort();
    if wanted == got {
        return Ok(());
    }
    let missing = wanted.iter().filter(|line| got.binary_search(line).is_err()).count();
    let surplus = got.iter().filter(|line| wanted.binary_search(line).is_err()).count();
    let sample =
        wanted.iter().find(|line| got.binary_search(line).is_err()).or_else(|| got.iter().find(|line| wanted.binary_search(line).is_err()));
    let sample: String = sample.map(|line| line.chars().take(300).collect()).unwrap_or_default();
    Err(format!("{} lines instead of {}: {missing} missing, {surplus} too many, such as {sample}", got.len(), wanted.len()).into())
}

// Holds: K4, P10, P20, P30, P31, P40, P41, P50
#[test]
fn the_system_comes_out_as_every_filter_says() -> Result<()> {
    every_filter(false, |_| ("$export".to_owned(), Scope::System))
}

// Holds: K4, P31, P60, P71, R2, A1, A3
#[test]
fn all_patients_come_out_as_every_filter_says() -> Result<()> {
    every_filter(true, |_| ("Patient/$export".to_owned(), Scope::AllPatients))
}

// Holds: K3, K4, P60, R2, A1, A3
#[test]
fn a_group_comes_out_as_every_filter_says() -> Result<()> {
    every_filter(true, |lake| (format!("Group/{GROUP}/$export"), Scope::Group(GROUP, lake.members.clone())))
}

// Holds: K4
#[test]
fn one_patient_comes_out_as_every_filter_says() -> Result<()> {
    every_filter(false, |lake| {
        let one = lake.members.first().cloned().unwrap_or_default();
        (format!("Patient/{one}/%24export"), Scope::Patients([one].into()))
    })
}
