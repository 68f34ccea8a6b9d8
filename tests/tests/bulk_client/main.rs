//! `headrace export URL` against servers that keep the standard, strain it or break it, and its connections and proxies.

mod behaviours;
mod clients;
mod command;
mod exchange;
mod lists;
mod stub;
mod tokens;

use futures_util::StreamExt as _;
use headrace_local::client::bulk::ClientLimits;
use headrace_tests::flows::{Result, run};

use behaviours::{Behaviour, Expected};
use exchange::{ExchangeSettings, Outcome, PATIENTS, exchange};

/// Number of servers that run at the same time.
const PARALLEL_SERVERS: usize = 8;

/// Runs the rows of a table and fails with all that differ.
fn check_table(rows: Vec<Behaviour>) -> Result<()> {
    run(async || {
        let outcomes: Vec<Result<()>> =
            futures_util::stream::iter(rows.into_iter().map(check_row)).buffered(PARALLEL_SERVERS).collect().await;
        let problems: Vec<String> = outcomes.into_iter().filter_map(|outcome| outcome.err().map(|error| error.to_string())).collect();
        if problems.is_empty() { Ok(()) } else { Err(problems.join("\n").into()) }
    })
}

/// Runs a row and compares its outcome.
async fn check_row(row: Behaviour) -> Result<()> {
    let mut limits = ClientLimits::default();
    (row.limits)(&mut limits);
    let outcome = exchange(&row.answers, ExchangeSettings { has_token: true, trusts_other: false, limits }).await?;
    let problem = problem(&row, &outcome);
    problem.map_or(Ok(()), |problem| Err(format!("a server that {}: {problem}", row.name).into()))
}

/// Returns how the outcome of a row differs from what is expected.
fn problem(row: &Behaviour, outcome: &Outcome) -> Option<String> {
    let complete = [("Patient-1.ndjson", PATIENTS.as_bytes().to_vec())];
    let expected_files = match &row.expected {
        Expected::Complete => Some(&complete[..]),
        Expected::Files(files) => Some(files.as_slice()),
        Expected::Fails(_) => None,
    };
    match (&outcome.files, expected_files, &row.expected) {
        (Ok(files), Some(expected), _) => {
            let expected = expected.iter().map(|(name, content)| ((*name).to_owned(), content.clone())).collect();
            if *files != expected {
                return Some(format!(
                    "the files are {:?}",
                    files.iter().map(|(name, content)| (name, String::from_utf8_lossy(content))).collect::<Vec<_>>()
                ));
            }
        }
        (Err(error), None, Expected::Fails(words)) => {
            if let Some(word) = words.iter().find(|word| !error.contains(**word)) {
                return Some(format!("the error does not say {word:?}: {error:?}"));
            }
        }
        (Ok(_), ..) => return Some("the export succeeded".to_owned()),
        (Err(error), ..) => return Some(format!("the export failed: {error}")),
    }
    let pauses: Vec<f64> = outcome.pauses.iter().map(std::time::Duration::as_secs_f64).collect();
    if let Some(expected) = row.pauses.as_ref().filter(|expected| **expected != pauses) {
        return Some(format!("the pauses are {pauses:?}, not {expected:?}"));
    }
    if let Some((path, expected)) = row.requests {
        let (method, path) = path.split_once(' ')?;
        let requests = outcome.server.requests(method, path).len();
        if requests != expected {
            return Some(format!("{path} was requested {requests} times, not {expected} times"));
        }
    }
    let text = row.shows?;
    (!outcome.shown.iter().any(|shown| shown.contains(text))).then(|| format!("it shows {:?}, not {text:?}", outcome.shown))
}

#[test]
fn a_kick_off_succeeds_or_says_what_is_wrong() -> Result<()> {
    check_table(behaviours::kick_offs())
}

#[test]
fn polling_tolerates_failures_for_hours_and_ends_with_the_reason() -> Result<()> {
    check_table(behaviours::polls())
}

#[test]
fn manifests_are_validated_and_bounded_and_local_names_are_made_by_the_client() -> Result<()> {
    check_table(behaviours::manifests())
}

#[test]
fn files_are_complete_and_checked_or_named() -> Result<()> {
    check_table(behaviours::files())
}

#[test]
fn peculiarities_of_well_known_servers_are_understood() -> Result<()> {
    check_table(behaviours::peculiarities())
}

#[test]
fn a_broken_download_is_continued_with_a_range_and_its_validator() -> Result<()> {
    run(async || {
        let file = || stub::answer(200, PATIENTS).with("ETag", "\"v1\"").with_ranges();
        let answers = [("GET /files/1", vec![file().cut_after(50), file()])];
        let limits = ClientLimits::default();
        let outcome = exchange(&answers, ExchangeSettings { has_token: false, trusts_other: false, limits }).await?;
        assert!(outcome.files.is_ok(), "{:?}", outcome.files);
        let [first, second] = &outcome.server.requests("GET", "/files/1")[..] else { return Err("not two requests".into()) };
        assert_eq!((first.header("range"), first.header("if-range")), (None, None));
        assert_eq!((second.header("range"), second.header("if-range")), (Some("bytes=50-"), Some("\"v1\"")));
        for request in [first, second] {
            assert_eq!(request.header("accept-encoding"), Some("gzip"));
            // A server that also has the file as JSON must send NDJSON.
            assert!(request.header("accept").is_some_and(|accept| accept.starts_with("application/fhir+ndjson")), "{request:?}");
        }
        Ok(())
    })
}
