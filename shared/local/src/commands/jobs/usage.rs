//! Formats what an export has used.

use headrace_core::output::usage_report::UsageReport;
use headrace_core::vocab::plural::counted;
use indicatif::{DecimalBytes, HumanCount};

/// Returns the labels and texts of what an export has used.
pub(crate) fn usage_lines(usage: &UsageReport) -> Vec<(&'static str, String)> {
    let memory = usage.memory_mb.map(|memory| format!(", with {} MB of memory", HumanCount(memory))).unwrap_or_default();
    let work = format!("{:.3} s in {}{memory}", usage.worker_seconds, counted(usage.attempts, "attempt", "attempts"));
    let units = |units: Option<String>, name: &str| units.map(|units| format!(", {units} {name} units")).unwrap_or_default();
    let table = format!(
        "{} requests{}{}",
        HumanCount(usage.table_requests),
        units(usage.table_read_units.map(|units| units.to_string()), "read"),
        units(usage.table_write_units.map(|units| HumanCount(units).to_string()), "write"),
    );
    let requests = usage.object_requests;
    let objects = format!(
        "{} with {} read, {} with {} written, {}, {}, {}",
        counted(requests.get, "request", "requests"),
        DecimalBytes(usage.bytes_read),
        counted(requests.put, "request", "requests"),
        DecimalBytes(usage.bytes_written),
        counted(requests.copy, "copy", "copies"),
        counted(requests.list, "listing", "listings"),
        counted(requests.delete, "deletion", "deletions"),
    );
    let mut lines = vec![("workers", work), ("job table", table), ("objects", objects)];
    lines.extend(usage.messages.map(|messages| ("queue", counted(messages, "message", "messages"))));
    lines.extend(usage.list_price.as_ref().map(|price| {
        let text = format!(
            "{:.6} USD by the list prices of {} of {}; not a bill (Lambda {:.6}, DynamoDB {:.6}, S3 {:.6}, SQS {:.6})",
            price.usd, price.region, price.prices_read, price.lambda_usd, price.dynamodb_usd, price.s3_usd, price.sqs_usd
        );
        ("cost", text)
    }));
    lines
}

#[cfg(test)]
mod tests {
    use headrace_core::job::Usage;

    use super::*;

    /// Formats the lines of what was used.
    fn lines(used: Usage) -> String {
        let report = UsageReport::from_usage(used).unwrap();
        usage_lines(&report).into_iter().map(|(label, text)| format!("{label}: {text}\n")).collect()
    }

    #[test]
    fn one_machine_shows_no_units_and_no_price() {
        let used = Usage { attempts: 1, worker_ms: 250, table_requests: 9, gets: 2, bytes_read: 1_500, puts: 1, ..Usage::default() };
        let expected = "workers: 0.250 s in 1 attempt\njob table: 9 requests\n\
                        objects: 2 requests with 1.50 kB read, 1 request with 0 B written, 0 copies, 0 listings, 0 deletions\n";
        assert_eq!(lines(used), expected);
        let on_aws = lines(Usage { worker_mb_ms: 442_250, half_read_units: 3, write_units: 1_200, messages: 1, ..used });
        for words in
            ["with 1,769 MB of memory", "9 requests, 1.5 read units, 1,200 write units", "queue: 1 message\n", "not a bill", "us-east-1"]
        {
            assert!(on_aws.contains(words), "{words}: {on_aws}");
        }
    }
}
