//! The sentences of the pages that quote the simulator have the figures of its committed outputs.

use std::fs;

use headrace_tests::flows::Result;
use headrace_tests::workspace;
use serde_json::Value;

use crate::figures::reports;

/// A sentence of a page, or a part of one, without line breaks.
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

/// Returns what the pages say about the committed outputs.
fn quotes() -> Result<Vec<Quote>> {
    let reports = reports("after")?;
    let [small_one, small_auto] = [figures(&reports, SMALL, "one")?, figures(&reports, SMALL, "auto")?];
    let [one, auto] = [figures(&reports, TERABYTE, "one")?, figures(&reports, TERABYTE, "auto")?];
    let quote = |page, text| Quote { page, text };
    Ok(vec![
        quote(
            "README.md",
            format!(
                "an export of 300 GB with 100 workers takes {} seconds and costs {} USD of Lambda, requests and table writes, {} USD with \
                 `LakeVersions=auto`; one of 1 TB with 1,000 workers takes {} and {} seconds and costs {} and {} USD",
                small_one.seconds, small_one.usd, small_auto.usd, one.seconds, auto.seconds, one.usd, auto.usd
            ),
        ),
        quote(
            "docs/operations.md",
            format!(
                "takes {} seconds and costs {} USD for Lambda, requests and table writes with `LakeVersions=one`, {} seconds and {} USD with \
                 `auto`",
                small_one.seconds, small_one.usd, small_auto.seconds, small_auto.usd
            ),
        ),
        quote(
            "docs/operations.md",
            format!("takes {} seconds and costs {} USD, {} seconds and {} USD with `auto`", one.seconds, one.usd, auto.seconds, auto.usd),
        ),
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
