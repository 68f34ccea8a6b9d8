//! Prints the resources that match each query: `type_filter QUERIES [VERSION] < resources.ndjson`.
//!
//! The file QUERIES has one query per line. Empty lines and lines that start with `#` are skipped. For each query, the output has
//! one line: the query, a tab, and the ids of the matching resources, separated by spaces.

use std::io::{Read, stdin};
use std::process::ExitCode;

use headrace_fhir::definitions::FhirVersion;
use headrace_fhir::head::{MemberIndex, Resource};
use headrace_fhir::instant::Instant;
use headrace_fhir::search::Query;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("usage: type_filter QUERIES [VERSION] < resources.ndjson")?;
    let version = arguments
        .next()
        .map_or(Ok(FhirVersion::R4), |name| FhirVersion::parse(&name).ok_or("unknown FHIR version; use 4.0.1, 4.3.0 or 5.0.0"))?;
    let mut lines = Vec::new();
    stdin().read_to_end(&mut lines)?;
    let now = Instant::parse("2026-01-01T00:00:00Z")?;
    let texts = std::fs::read_to_string(path)?;
    let texts: Vec<_> = texts.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    let queries: Vec<_> = texts.iter().map(|text| Query::parse(text, version, now)).collect();
    let mut matches = vec![Vec::new(); queries.len()];
    let mut member_index = MemberIndex::default();
    for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let resource = Resource::parse(line, &mut member_index)?;
        for (query, ids) in queries.iter().zip(&mut matches) {
            if query.as_ref().is_ok_and(|query| query.matches(&resource)) {
                ids.push(resource.id().into_owned());
            }
        }
    }
    for ((text, query), ids) in texts.iter().zip(&queries).zip(matches) {
        match query {
            Ok(_) => println!("{text}\t{}", ids.join(" ")),
            Err(error) => println!("{text}\t! {error}"),
        }
    }
    Ok(())
}
