//! What an export has used, as its manifest and the list of exports tell it.

use serde::{Deserialize, Serialize};

use crate::job::{Costs, PriceTable, Usage};

/// The usage of an export. Units and prices are there only if functions on AWS did the work.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UsageReport {
    /// The time of all workers together, in seconds.
    pub worker_seconds: f64,
    /// The number of attempts at tasks.
    pub attempts: u64,
    /// The memory of the worker function, in MB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_mb: Option<u64>,
    /// The number of calls to the job table.
    pub table_requests: u64,
    /// The read units of the job table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table_read_units: Option<f64>,
    /// The write units of the job table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table_write_units: Option<u64>,
    /// The requests for objects by kind.
    pub object_requests: ObjectRequests,
    /// The number of bytes read from objects.
    pub bytes_read: u64,
    /// The number of bytes written to objects.
    pub bytes_written: u64,
    /// The number of messages that were sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages: Option<u64>,
    /// The costs of that by list prices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub list_price: Option<ListPrice>,
}

/// The numbers of requests for objects. On one machine: of files that were opened, written and linked, and of folders that were listed and
/// deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ObjectRequests {
    /// Reads.
    pub get: u64,
    /// Writes.
    pub put: u64,
    /// Copies.
    pub copy: u64,
    /// Listings.
    pub list: u64,
    /// Deletions.
    pub delete: u64,
}

/// Costs by list prices. They are no bill.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListPrice {
    /// The region whose prices are used, whatever the region of the deployment is.
    pub region: String,
    /// The day on which the prices were read.
    pub prices_read: String,
    /// The sum in USD.
    pub usd: f64,
    /// The part of Lambda.
    pub lambda_usd: f64,
    /// The part of DynamoDB.
    pub dynamodb_usd: f64,
    /// The part of S3.
    pub s3_usd: f64,
    /// The part of SQS.
    pub sqs_usd: f64,
}

impl ListPrice {
    /// Returns costs with a millionth of a dollar as the smallest part.
    pub fn new(costs: Costs, prices: &PriceTable) -> Self {
        let rounded = |usd: f64| (usd * 1e6).round() / 1e6;
        Self {
            region: prices.region.clone(),
            prices_read: prices.date.clone(),
            usd: rounded(costs.total()),
            lambda_usd: rounded(costs.lambda),
            dynamodb_usd: rounded(costs.dynamodb),
            s3_usd: rounded(costs.s3),
            sqs_usd: rounded(costs.sqs),
        }
    }
}

impl UsageReport {
    /// Replaces the costs by those of another price table. Does nothing if no function on AWS did the work.
    #[must_use]
    pub fn with_prices(self, prices: &PriceTable) -> Self {
        let used = self.to_usage();
        if used.is_on_aws() { Self { list_price: Some(ListPrice::new(prices.costs(used), prices)), ..self } } else { self }
    }

    /// Returns the usage that the report describes.
    fn to_usage(&self) -> Usage {
        // The numbers of a report are whole milliseconds and halves of units.
        let whole = |number: f64| format!("{:.0}", number.max(0.0)).parse().unwrap_or_default();
        let worker_ms: u64 = whole(self.worker_seconds * 1_000.0);
        let ObjectRequests { get, put, copy, list, delete } = self.object_requests;
        Usage {
            attempts: self.attempts,
            worker_ms,
            worker_mb_ms: worker_ms.saturating_mul(self.memory_mb.unwrap_or_default()),
            table_requests: self.table_requests,
            half_read_units: whole(self.table_read_units.unwrap_or_default() * 2.0),
            write_units: self.table_write_units.unwrap_or_default(),
            gets: get,
            puts: put,
            copies: copy,
            lists: list,
            deletes: delete,
            bytes_read: self.bytes_read,
            bytes_written: self.bytes_written,
            messages: self.messages.unwrap_or_default(),
        }
    }

    /// Describes what a job has used. Returns `None` if no attempt has recorded its usage.
    pub fn from_usage(used: Usage) -> Option<Self> {
        if used.attempts == 0 {
            return None;
        }
        let is_on_aws = used.is_on_aws();
        let prices = if is_on_aws { PriceTable::us_east_1().ok() } else { None };
        let list_price = prices.map(|prices| ListPrice::new(prices.costs(used), &prices));
        Some(Self {
            worker_seconds: used.worker_ms as f64 / 1_000.0,
            attempts: used.attempts,
            memory_mb: used.memory_mb(),
            table_requests: used.table_requests,
            table_read_units: is_on_aws.then_some(used.half_read_units as f64 / 2.0),
            table_write_units: is_on_aws.then_some(used.write_units),
            object_requests: ObjectRequests { get: used.gets, put: used.puts, copy: used.copies, list: used.lists, delete: used.deletes },
            bytes_read: used.bytes_read,
            bytes_written: used.bytes_written,
            messages: is_on_aws.then_some(used.messages),
            list_price,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a report of another server in which every number is this one.
    fn read_usage(number: u64) -> UsageReport {
        let requests = serde_json::json!({ "get": number, "put": number, "copy": number, "list": number, "delete": number });
        let report = serde_json::json!({
            "workerSeconds": 1.0, "attempts": number, "memoryMb": number, "tableRequests": number, "tableReadUnits": 1.0,
            "tableWriteUnits": number, "objectRequests": requests, "bytesRead": number, "bytesWritten": number, "messages": number
        });
        serde_json::from_value(report).unwrap()
    }

    fn used() -> Usage {
        Usage { attempts: 3, worker_ms: 1_500, table_requests: 40, gets: 7, puts: 2, bytes_read: 99, bytes_written: 55, ..Usage::default() }
    }

    #[test]
    fn one_machine_has_times_requests_and_bytes_and_no_price() {
        let report = serde_json::to_value(UsageReport::from_usage(used()).unwrap()).unwrap();
        let expected = serde_json::json!({
            "workerSeconds": 1.5, "attempts": 3, "tableRequests": 40, "bytesRead": 99, "bytesWritten": 55,
            "objectRequests": { "get": 7, "put": 2, "copy": 0, "list": 0, "delete": 0 }
        });
        assert_eq!(report, expected);
        assert_eq!(UsageReport::from_usage(Usage::default()), None);
    }

    #[test]
    fn functions_have_units_and_a_list_price_with_its_region_and_day() {
        let used = Usage { worker_mb_ms: 1_500 * 1_769, half_read_units: 5, write_units: 1_000_000, messages: 4, ..used() };
        let report = UsageReport::from_usage(used).unwrap();
        assert_eq!((report.memory_mb, report.table_read_units, report.messages), (Some(1_769), Some(2.5), Some(4)));
        let price = report.list_price.unwrap();
        assert_eq!((price.region.as_str(), price.prices_read.as_str()), ("us-east-1", "2026-11-01"));
        assert!((price.usd - (price.lambda_usd + price.dynamodb_usd + price.s3_usd + price.sqs_usd)).abs() < 5e-6, "{price:?}");
        assert!((price.dynamodb_usd - 0.625).abs() < 1e-5, "a million write units: {price:?}");
    }

    #[test]
    fn a_report_is_read_back_and_priced_by_another_table() {
        let used = Usage {
            worker_mb_ms: 1_500 * 1_769,
            half_read_units: 5,
            write_units: 3,
            messages: 4,
            deletes: 1,
            lists: 2,
            copies: 3,
            ..used()
        };
        let report = UsageReport::from_usage(used).unwrap();
        let read: UsageReport = serde_json::from_str(&serde_json::to_string(&report).unwrap()).unwrap();
        assert_eq!((&read, read.to_usage()), (&report, used));
        let prices = include_str!("../../prices/us-east-1.json").replace("us-east-1", "eu-central-1");
        let price = report.with_prices(&PriceTable::parse(&prices).unwrap()).list_price.unwrap();
        assert_eq!(price.region, "eu-central-1");
        let prices = PriceTable::us_east_1().unwrap();
        let hostile = read_usage(u64::MAX).with_prices(&prices);
        assert!(hostile.list_price.is_some_and(|price| price.usd.is_finite()));
        let short = UsageReport::from_usage(Usage { worker_ms: 0, worker_mb_ms: 0, ..used }).unwrap();
        assert_eq!(short.clone().with_prices(&prices), short, "a task of less than a millisecond has a price, too");
        let local = UsageReport::from_usage(Usage { worker_mb_ms: 0, write_units: 0, ..used }).unwrap();
        assert_eq!(local.with_prices(&prices).list_price, None, "one machine has no price");
    }
}
