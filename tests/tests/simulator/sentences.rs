//! The sentences and rows of the pages that quote the simulator have the figures of its committed outputs.

use std::fs;

use headrace_tests::flows::Result;
use headrace_tests::workspace;
use serde_json::Value;

use crate::figures::reports;

/// A sentence of a page, a part of one, or a row of a table, without line breaks.
struct Quote {
    page: &'static str,
    text: String,
}

/// The lake and the workers of a simulated export.
#[derive(Clone, Copy)]
struct Size {
    /// The size of the lake in gigabytes.
    lake: f64,
    workers: u64,
    started_workers: u64,
}

/// The exports that the pages quote.
const SMALL: Size = Size { lake: 300.0, workers: 100, started_workers: 0 };
const TERABYTE: Size = Size { lake: 1_000.0, workers: 1_000, started_workers: 900 };

/// The headings of the tables of prices.
const README_HEAD: &str = "| lake | workers | `LakeVersions=one` | `LakeVersions=auto` |";
const OPERATIONS_HEAD: &str = "| lake | setting | `LakeVersions=one` | `LakeVersions=auto` |";

/// The seconds and the price of a simulated export, as the pages write them.
struct Figures {
    seconds: String,
    usd: String,
}

/// Returns the figures of the only report about this export.
fn figures(reports: &[Value], size: Size, mode: &str) -> Result<Figures> {
    let is_wanted = |report: &&Value| {
        report["lake_gb"].as_f64() == Some(size.lake)
            && report["workers"].as_u64() == Some(size.workers)
            && report["started_workers"].as_u64() == Some(size.started_workers)
            && report["mode"] == mode
    };
    let found: Vec<&Value> = reports.iter().filter(is_wanted).collect();
    let [report] = found.as_slice() else { return Err(format!("{} reports are about {} GB and `{mode}`", found.len(), size.lake).into()) };
    let number = |name: &str| report[name].as_f64().ok_or_else(|| format!("the report has no number `{name}`"));
    Ok(Figures { seconds: format!("{:.0}", number("seconds")?), usd: format!("{:.2}", number("usd_total")?) })
}

/// Returns a row of a table of prices: the cells that name the export, then the figures of both modes.
fn price_row(export: &str, unit: &str, figures: [&Figures; 2]) -> String {
    let [one, auto] = figures.map(|Figures { seconds, usd }| format!("{seconds} {unit}, {usd} USD"));
    format!("| {export} | {one} | {auto} |")
}

/// Returns what the pages say about the committed outputs.
fn quotes() -> Result<Vec<Quote>> {
    let reports = reports("after")?;
    let [small_one, small_auto] = [figures(&reports, SMALL, "one")?, figures(&reports, SMALL, "auto")?];
    let [one, auto] = [figures(&reports, TERABYTE, "one")?, figures(&reports, TERABYTE, "auto")?];
    let quote = |page, text| Quote { page, text };
    Ok(vec![
        quote("README.md", README_HEAD.to_owned()),
        quote("README.md", price_row("300 GB | 100", "s", [&small_one, &small_auto])),
        quote("README.md", price_row("1 TB | 1,000", "s", [&one, &auto])),
        quote("docs/operations.md", OPERATIONS_HEAD.to_owned()),
        quote(
            "docs/operations.md",
            price_row("300 GB (150 million resources) in Zstandard | `WorkerConcurrency=100`", "seconds", [&small_one, &small_auto]),
        ),
        quote("docs/operations.md", price_row("1 TB | `WorkerConcurrency=100`, `StartedWorkers=900`", "seconds", [&one, &auto])),
        quote(
            "docs/scale.md",
            format!(
                "A terabyte takes {} seconds with `one` and {} with `auto`, and costs {} and {} USD",
                one.seconds, auto.seconds, one.usd, auto.usd
            ),
        ),
        quote(
            "docs/scale.md",
            format!("With the default of 100 workers, a lake of 300 GB takes {} to {} seconds", small_one.seconds, small_auto.seconds),
        ),
    ])
}

#[test]
fn the_pages_quote_the_committed_outputs() -> Result<()> {
    for Quote { page, text } in quotes()? {
        let words = fs::read_to_string(workspace::root().join(page))?.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains(&text), "{page} does not say: {text}");
    }
    Ok(())
}
