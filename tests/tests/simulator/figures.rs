//! The tables of docs/scale.md are those of the committed outputs of the simulator.

use std::fs;
use std::path::PathBuf;

use headrace_tests::flows::Result;
use headrace_tests::workspace;
use serde_json::Value;

/// A table of the page, and the committed outputs that it shows.
struct Table {
    /// Name of the file with the outputs, and of the marks of the table in the page.
    name: &'static str,
    /// Heading.
    head: &'static str,
    /// Function that formats the row of a report.
    row: fn(&Value) -> String,
}

/// Heading of a table of exports.
const EXPORTS: &str = "| lake | workers | mode | end | seconds | USD | write units | calls of DynamoDB | calls of S3 | failed attempts |\n\
     |---:|---:|---|---|---:|---:|---:|---:|---:|---:|\n";

/// Tables of the page.
const TABLES: [Table; 5] = [
    Table { name: "before", head: EXPORTS, row },
    Table { name: "after", head: EXPORTS, row },
    Table { name: "large", head: EXPORTS, row },
    Table {
        name: "memory",
        head: "| lake | workers | mode | memory of a worker | end | seconds | USD for workers | USD |\n|---:|---:|---|---:|---|---:|---:|---:|\n",
        row: memory_row,
    },
    Table {
        name: "slow",
        head: "| lake | workers | slow workers | mode | slow tasks | end | seconds | USD |\n|---:|---:|---:|---|---|---|---:|---:|\n",
        row: slow_row,
    },
];

/// Returns the path of the page.
fn page() -> PathBuf {
    workspace::root().join("docs/scale.md")
}

/// Returns the lines around the table of a set of results.
fn marks(name: &str) -> [String; 2] {
    [format!("<!-- results {name}: begin -->\n"), format!("<!-- results {name}: end -->")]
}

/// Reads the reports of a set of results: one JSON document in each line.
pub(crate) fn reports(name: &str) -> Result<Vec<Value>> {
    let text = fs::read_to_string(workspace::root().join(format!("shared/simulator/results/{name}.ndjson")))?;
    Ok(text.lines().map(serde_json::from_str).collect::<std::result::Result<_, _>>()?)
}

/// Returns the number of all calls of one service.
fn calls(report: &Value, service: &str) -> u64 {
    let calls = report["calls"].as_object().into_iter().flatten();
    calls.filter(|(name, _)| name.starts_with(service)).filter_map(|(_, count)| count.as_u64()).sum()
}

/// Returns the number of attempts that did not complete their task.
fn failed_attempts(report: &Value) -> u64 {
    let ends = report["attempts"].as_object().into_iter().flatten().filter_map(|(_, ends)| ends.as_object()).flatten();
    ends.filter(|(end, _)| ["retried", "crashed", "timed out", "not recorded", "failed the job"].contains(&end.as_str()))
        .filter_map(|(_, count)| count.as_u64())
        .sum()
}

/// Formats a number with a comma after each thousand.
fn with_commas(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> = digits.as_bytes().rchunks(3).rev().map(|group| std::str::from_utf8(group).unwrap_or_default()).collect();
    groups.join(",")
}

/// Formats the size of the lake of a report.
fn lake(report: &Value) -> String {
    let gigabytes = report["lake_gb"].as_f64().unwrap_or_default();
    if gigabytes >= 1_000.0 { format!("{} TB", gigabytes / 1_000.0) } else { format!("{gigabytes} GB") }
}

/// Formats the end of the export of a report.
fn end(report: &Value) -> &'static str {
    let end = report["end"].as_str().unwrap_or_default();
    match (end, report["is_exact"].as_bool()) {
        ("complete", Some(true)) => "exact",
        ("complete", _) => "**not exact**",
        (failed, _) if failed.starts_with("failed") => "**fails**",
        _ => "**does not end**",
    }
}

/// Formats the number of workers of a report.
fn workers(report: &Value) -> String {
    let workers = with_commas(report["workers"].as_u64().unwrap_or_default());
    match report["started_workers"].as_u64().unwrap_or_default() {
        0 => workers,
        started => format!("{workers}, {} started", with_commas(started)),
    }
}

/// Formats the mode of a report.
fn mode(report: &Value) -> String {
    format!("`{}`", report["mode"].as_str().unwrap_or_default())
}

/// Formats the seconds and the price of a report as two cells.
fn seconds_and_usd(report: &Value) -> String {
    format!("{:.0} | {:.2}", report["seconds"].as_f64().unwrap_or_default(), report["usd_total"].as_f64().unwrap_or_default())
}

/// Returns the row of an export.
fn row(report: &Value) -> String {
    format!(
        "| {} | {} | {} | {} | {} | {} | {} | {} | {} |\n",
        lake(report),
        workers(report),
        mode(report),
        end(report),
        seconds_and_usd(report),
        with_commas(report["write_units"].as_u64().unwrap_or_default()),
        with_commas(calls(report, "DynamoDB")),
        with_commas(calls(report, "S3")),
        with_commas(failed_attempts(report)),
    )
}

/// Returns the row of an export by workers of some memory.
fn memory_row(report: &Value) -> String {
    let memory = with_commas(report["worker_memory_mb"].as_u64().unwrap_or_default());
    let (seconds, all) = (report["seconds"].as_f64().unwrap_or_default(), report["usd_total"].as_f64().unwrap_or_default());
    let lambda = report.pointer("/usd/lambda").and_then(Value::as_f64).unwrap_or_default();
    format!(
        "| {} | {} | {} | {memory} MB | {} | {seconds:.0} | {lambda:.2} | {all:.2} |\n",
        lake(report),
        workers(report),
        mode(report),
        end(report)
    )
}

/// Returns the row of an export by some slow workers.
fn slow_row(report: &Value) -> String {
    let slow = with_commas(report["slow_workers"].as_u64().unwrap_or_default());
    let tasks = if report["splits_tasks"].as_bool() == Some(true) { "are split" } else { "are left alone" };
    format!(
        "| {} | {} | {slow} | {} | {tasks} | {} | {} |\n",
        lake(report),
        workers(report),
        mode(report),
        end(report),
        seconds_and_usd(report)
    )
}

/// Returns the page with the tables of the committed outputs.
fn with_tables(mut text: String) -> Result<String> {
    for Table { name, head, row } in TABLES {
        let [begin, end] = marks(name);
        let missing = || format!("docs/scale.md has no table {name}");
        let (before, rest) = text.split_once(&begin).ok_or_else(missing)?;
        let (_, after) = rest.split_once(&end).ok_or_else(missing)?;
        let rows: String = reports(name)?.iter().map(row).collect();
        text = format!("{before}{begin}{head}{rows}{end}{after}");
    }
    Ok(text)
}

#[test]
fn quoted_figures_are_those_of_the_committed_outputs() -> Result<()> {
    let text = fs::read_to_string(page())?;
    assert_eq!(with_tables(text.clone())?, text, "run `cargo test -p headrace-tests --test simulator -- --ignored regenerate`");
    Ok(())
}

#[test]
#[ignore = "writes docs/scale.md"]
fn regenerate_the_tables() -> Result<()> {
    Ok(fs::write(page(), with_tables(fs::read_to_string(page())?)?)?)
}
