//! Costs of a stack while nobody exports: the sum of what the template creates, at list prices.

use std::fs;

use headrace_tests::flows::Result;
use headrace_tests::workspace;
use serde_json::Value;

use crate::template::Template;

/// Runs of a schedule of every minute in an average month.
const RUNS_PER_MONTH: f64 = 365.25 / 12.0 * 24.0 * 60.0;

/// Duration of a run of the reaper that finds nothing to do, in seconds: some reads of the job table, a few milliseconds each.
const REAPER_SECONDS: f64 = 0.1;

/// Read units of such a run: each of the 16 shards of the index of due items, and some partitions, are queried. A query that finds nothing
/// consumes half a unit or one.
const REAPER_READ_UNITS: f64 = 30.0;

/// Bytes of the log of such a run: the three lines of Lambda, and a metric.
const REAPER_LOG_BYTES: f64 = 1_000.0;

/// Metrics that such a run writes: the age of the audit backlog.
const METRICS_AT_REST: f64 = 1.0;

/// Requests of Lambda in a month for messages of a queue: five pollers wait 20 seconds each.
const POLLS_PER_MONTH: f64 = RUNS_PER_MONTH * 5.0 * 3.0;

/// Prices of the table of the region.
struct Prices(Value);

impl Prices {
    fn read() -> Result<Self> {
        let path = workspace::root().join("shared/core/prices/us-east-1.json");
        Ok(Self(serde_json::from_str(&fs::read_to_string(path)?)?))
    }

    /// Returns a price in USD.
    fn usd(&self, section: &str, name: &str) -> Result<f64> {
        Ok(self.0[section][name]["usd"].as_f64().ok_or_else(|| format!("no price of {name}"))?)
    }
}

/// Returns the number of metrics of all alarms.
fn alarm_metrics(template: &Template) -> Result<usize> {
    let metrics = |alarm: &Value| match alarm["Metrics"].as_array() {
        Some(metrics) => metrics.iter().filter(|metric| metric.get("MetricStat").is_some()).count(),
        None => 1,
    };
    Ok(template.of_type("AWS::CloudWatch::Alarm")?.values().map(metrics).sum())
}

/// Returns what a stack with these parameters costs in a month, in USD, by what it is for.
fn costs(parameters: &[(&'static str, &str)]) -> Result<Vec<(String, f64)>> {
    let prices = Prices::read()?;
    let template = Template::read(&[&[("SourceBucketName", "lake-bucket")], parameters].concat(), &[])?;
    let count = |kind: &str| Ok::<_, Box<dyn std::error::Error + Send + Sync>>(template.of_type(kind)?.len());
    let (keys, alarms, dashboards) = (count("AWS::KMS::Key")?, count("AWS::CloudWatch::Alarm")?, count("AWS::CloudWatch::Dashboard")?);
    let metrics = alarm_metrics(&template)?;
    let reaper = &template.of_type("AWS::Serverless::Function")?["ReaperFunction"];
    let globals = template.section("Globals")?;
    let memory = if reaper["MemorySize"].is_null() { &globals["Function"]["MemorySize"] } else { &reaper["MemorySize"] };
    let memory_mb: f64 = scalar(memory)?.parse()?;
    let schedules =
        reaper["Events"].as_object().into_iter().flatten().filter(|(_, event)| event["Properties"]["Schedule"] == "rate(1 minute)");
    let runs = schedules.count() as f64 * RUNS_PER_MONTH;
    let run = REAPER_SECONDS * memory_mb / 1_024.0 * prices.usd("prices", "lambda_gb_second")?
        + prices.usd("prices", "lambda_request")?
        + REAPER_READ_UNITS * prices.usd("prices", "dynamodb_read_unit")?
        + REAPER_LOG_BYTES / 1e9 * prices.usd("at_rest", "log_gb")?;
    Ok(vec![
        (format!("dashboard ({dashboards})"), dashboards as f64 * prices.usd("at_rest", "dashboard")?),
        (format!("KMS keys ({keys})"), keys as f64 * prices.usd("at_rest", "kms_key")?),
        (format!("alarms ({alarms}, of {metrics} metrics)"), metrics as f64 * prices.usd("at_rest", "alarm_metric")?),
        ("a metric that is written every minute".to_owned(), METRICS_AT_REST * prices.usd("at_rest", "custom_metric")?),
        ("Lambda's requests to the task queue".to_owned(), POLLS_PER_MONTH * prices.usd("prices", "sqs_request")?),
        ("runs of the reaper: time, reads of the job table, logs".to_owned(), runs * run),
    ])
}

/// Returns the text of a scalar of the template.
fn scalar(value: &Value) -> Result<&str> {
    Ok(value.as_str().ok_or_else(|| format!("{value} is not a scalar"))?)
}

/// Returns the sum of costs.
fn sum(costs: &[(String, f64)]) -> f64 {
    costs.iter().map(|(_, usd)| usd).sum()
}

#[test]
fn the_documents_quote_the_sum_of_the_template_at_list_prices() -> Result<()> {
    let costs_of_defaults = costs(&[])?;
    let rows = costs_of_defaults.iter().map(|(what, usd)| format!("| {what} | {usd:.2} |\n"));
    let table = format!("| what | USD a month |\n|---|---:|\n{}| all | {:.2} |\n", rows.collect::<String>(), sum(&costs_of_defaults));
    let page = fs::read_to_string(workspace::root().join("docs/operations.md"))?;
    let quoted = page.split_once("<!-- at rest: begin -->\n").and_then(|(_, rest)| rest.split_once("<!-- at rest: end -->"));
    assert_eq!(quoted.ok_or("docs/operations.md has no table of costs at rest")?.0, table);
    let without_dashboard = sum(&costs(&[("CreateDashboard", "false")])?);
    let sentence = format!("at rest {:.1} USD a month, {without_dashboard:.1} with `CreateDashboard=false`", sum(&costs_of_defaults));
    let readme = fs::read_to_string(workspace::root().join("README.md"))?;
    assert!(readme.contains(&sentence), "the README must say: {sentence}");
    let own_key = sum(&costs(&[("TokenKeyArn", "arn:aws:kms:eu-central-1:111122223333:key/token")])?);
    assert!((sum(&costs_of_defaults) - own_key - 1.0).abs() < 1e-9);
    Ok(())
}

#[test]
fn every_price_has_a_source() -> Result<()> {
    let Prices(table) = Prices::read()?;
    for section in ["prices", "at_rest"] {
        let prices = table[section].as_object().ok_or("no prices")?;
        assert!(prices.values().all(
            |price| price["usd"].as_f64() > Some(0.0) && price["source"].as_str().is_some_and(|source| source.starts_with("https://"))
        ));
    }
    assert!(table["date"].as_str().is_some_and(|date| date.len() == 10));
    Ok(())
}
