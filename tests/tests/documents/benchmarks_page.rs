//! docs/benchmarks.md shows the committed outputs of the benchmarks, and README.md quotes them.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use headrace_tests::flows::Result;
use headrace_tests::workspace;
use regex_lite::Regex;

/// Names of the benchmarks whose outputs are committed.
const BENCHMARKS: [&str; 2] = ["export", "deid"];

/// Returns the path of the page.
fn page() -> PathBuf {
    workspace::root().join("docs/benchmarks.md")
}

/// Reads the committed output of a benchmark.
fn output(name: &str) -> Result<String> {
    Ok(fs::read_to_string(workspace::root().join(format!("tests/benches/results/{name}.txt")))?)
}

/// Returns the page with the committed outputs.
fn with_outputs(mut text: String) -> Result<String> {
    for name in BENCHMARKS {
        let [begin, end] = [format!("<!-- output {name}: begin -->\n"), format!("<!-- output {name}: end -->")];
        let missing = || format!("docs/benchmarks.md has no output {name}");
        let (before, rest) = text.split_once(&begin).ok_or_else(missing)?;
        let (_, after) = rest.split_once(&end).ok_or_else(missing)?;
        text = format!("{before}{begin}```\n{}\n```\n{end}{after}", output(name)?.trim_end());
    }
    Ok(text)
}

/// The time of an export and of its baseline, as the benchmark has printed them.
struct Row {
    seconds: f64,
    baseline: f64,
}

/// Returns the rows of the benchmark of exports that compare two times, by their names.
fn rows() -> Result<BTreeMap<String, Row>> {
    let output = output("export")?;
    let row = Regex::new(r"(?m)^(.+?) +([0-9.]+) s +[0-9]+ +[0-9.]+ s +.+? +([0-9.]+) s +[0-9.]+ s +[0-9.]+x$")?;
    let found = row.captures_iter(&output).map(|columns| {
        let (_, [name, seconds, baseline]) = columns.extract();
        Ok((name.to_owned(), Row { seconds: seconds.parse()?, baseline: baseline.parse()? }))
    });
    found.collect()
}

#[test]
fn the_page_shows_the_committed_outputs() -> Result<()> {
    let text = fs::read_to_string(page())?;
    assert_eq!(with_outputs(text.clone())?, text, "run `cargo test -p headrace-tests --test documents -- --ignored regenerate`");
    Ok(())
}

#[test]
fn the_readme_quotes_the_committed_outputs() -> Result<()> {
    let rows = rows()?;
    let row = |name: &str| rows.get(name).ok_or_else(|| format!("the benchmark has no row `{name}`"));
    let [all, one] = [row("headrace export")?, row("headrace export, one version")?];
    let [deidentified, since] = [row("the same, de-identified")?, row("headrace export --since")?];
    let quote = format!(
        "| the whole lake, with a comparison of versions (`auto`) | {:.2} s | `cp -r`: {:.2} s |\n\
         | the whole lake, with `--lake-versions one` | {:.2} s | `cp -r`: {:.2} s |\n\
         | the same, de-identified by Microsoft's safe-harbor sample | {:.1} s | |\n\
         | half of the lake, by `--since` | {:.2} s | DuckDB, a filter of the lines' text: {:.2} s |\n",
        all.seconds, all.baseline, one.seconds, one.baseline, deidentified.seconds, since.seconds, since.baseline
    );
    let readme = fs::read_to_string(workspace::root().join("README.md"))?;
    assert!(readme.contains(&quote), "README.md does not have these rows:\n{quote}");
    Ok(())
}

#[test]
#[ignore = "writes docs/benchmarks.md"]
fn regenerate_the_outputs() -> Result<()> {
    Ok(fs::write(page(), with_outputs(fs::read_to_string(page())?)?)?)
}
