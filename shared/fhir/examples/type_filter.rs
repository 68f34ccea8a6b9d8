//! Prints which resources each query finds: `type_filter QUERIES [VERSION] < resources.ndjson`.
//!
//! QUERIES holds one query a line; blank lines and those that begin with `#` are skipped. Each query becomes one line: the
//! query, a tab, and the ids of what it finds, with blanks between them.

use std::io::{Read, stdin};
use std::process::ExitCode;

use headrace_fhir::{FhirVersion, Instant, Outline, Query, Resource};

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
    let version = arguments.next().map_or(Ok(FhirVersion::R4), |name| FhirVersion::named(&name).ok_or("no such version of FHIR"))?;
    let mut lines = Vec::new();
    stdin().read_to_end(&mut lines)?;
    let now = Instant::parse("2026-01-01T00:00:00Z")?;
    let texts = std::fs::read_to_string(path)?;
    let texts: Vec<_> = texts.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    let queries: Vec<_> = texts.iter().map(|text| Query::parse(text, version, now)).collect();
    let mut found = vec![Vec::new(); queries.len()];
    let mut outline = Outline::default();
    for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let resource = Resource::read(line, &mut outline)?;
        for (query, ids) in queries.iter().zip(&mut found) {
            if query.as_ref().is_ok_and(|query| query.matches(&resource)) {
                ids.push(resource.id().into_owned());
            }
        }
    }
    for ((text, query), ids) in texts.iter().zip(&queries).zip(found) {
        match query {
            Ok(_) => println!("{text}\t{}", ids.join(" ")),
            Err(error) => println!("{text}\t! {error}"),
        }
    }
    Ok(())
}
