//! The price of an export.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::meter::{Measurements, Service};

/// The price table of a region, with the source of each price.
#[derive(Clone, Debug, Deserialize)]
pub struct PriceTable {
    /// The region.
    pub region: String,
    /// The day on which the prices were read.
    pub date: String,
    prices: BTreeMap<String, Price>,
}

/// A price of the table.
#[derive(Clone, Debug, Deserialize)]
struct Price {
    usd: f64,
}

/// The costs of an export by service, in USD.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Costs {
    /// Lambda.
    pub lambda: f64,
    /// DynamoDB.
    pub dynamodb: f64,
    /// S3, without storage.
    pub s3: f64,
    /// SQS.
    pub sqs: f64,
}

impl Costs {
    /// Returns the sum.
    pub fn total(&self) -> f64 {
        self.lambda + self.dynamodb + self.s3 + self.sqs
    }
}

impl PriceTable {
    /// Returns the price table that the simulator comes with.
    pub fn us_east_1() -> Result<Self, serde_json::Error> {
        serde_json::from_str(include_str!("../prices/us-east-1.json"))
    }

    /// Returns a price, 0 if the table lacks it.
    fn usd(&self, name: &str) -> f64 {
        self.prices.get(name).map_or(0.0, |price| price.usd)
    }

    /// Returns the price of the duration of functions with this memory.
    pub fn lambda_duration(&self, memory_mb: u32, duration: Duration) -> f64 {
        f64::from(memory_mb) / 1_024.0 * duration.as_secs_f64() * self.usd("lambda_gb_second")
    }

    /// Returns the costs of what was measured.
    pub fn costs(&self, measured: &Measurements) -> Costs {
        let mut costs = Costs::default();
        for (memory_mb, (count, duration)) in &measured.invocations {
            costs.lambda += self.lambda_duration(*memory_mb, *duration);
            costs.lambda += *count as f64 * self.usd("lambda_request");
        }
        for load in measured.keys.values() {
            costs.dynamodb += load.writes.total * self.usd("dynamodb_write_unit") + load.reads.total * self.usd("dynamodb_read_unit");
        }
        for ((service, operation), count) in &measured.calls {
            let count = *count as f64;
            match (service, *operation) {
                (Service::DynamoDb, _) => {}
                (Service::Sqs, _) => costs.sqs += count * self.usd("sqs_request"),
                (Service::S3, "GetObject" | "HeadObject") => costs.s3 += count * self.usd("s3_read_request"),
                // Deletions are free.
                (Service::S3, "DeleteObjects") => {}
                (Service::S3, _) => costs.s3 += count * self.usd("s3_write_request"),
            }
        }
        costs
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_price_is_in_the_table_with_a_source() {
        let text: serde_json::Value = serde_json::from_str(include_str!("../prices/us-east-1.json")).unwrap();
        let prices = text["prices"].as_object().unwrap();
        assert_eq!(prices.len(), 7);
        assert!(
            prices.values().all(|price| price["usd"].as_f64().unwrap() > 0.0 && price["source"].as_str().unwrap().starts_with("https://"))
        );
    }
}
