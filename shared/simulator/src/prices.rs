//! The price of an export, by what the services have measured.

use std::time::Duration;

use headrace_core::job::{Costs, PriceItem, PriceTable};

use crate::meter::{Measurements, Service};

/// Returns the price of the duration of functions with this memory.
pub fn lambda_duration(prices: &PriceTable, memory_mb: u32, duration: Duration) -> f64 {
    f64::from(memory_mb) / 1_024.0 * duration.as_secs_f64() * prices.usd(PriceItem::LambdaGbSecond)
}

/// Returns the costs of what was measured, by this price table.
pub fn costs(measured: &Measurements, prices: &PriceTable) -> Costs {
    let mut costs = Costs::default();
    for (memory_mb, (count, duration)) in &measured.invocations {
        costs.lambda += lambda_duration(prices, *memory_mb, *duration);
        costs.lambda += *count as f64 * prices.usd(PriceItem::LambdaRequest);
    }
    for load in measured.keys.values() {
        costs.dynamodb += load.writes.total * prices.usd(PriceItem::DynamodbWriteUnit);
        costs.dynamodb += load.reads.total * prices.usd(PriceItem::DynamodbReadUnit);
    }
    for ((service, operation), count) in &measured.calls {
        let count = *count as f64;
        match (service, *operation) {
            (Service::DynamoDb, _) => {}
            (Service::Sqs, _) => costs.sqs += count * prices.usd(PriceItem::SqsRequest),
            (Service::S3, "GetObject" | "HeadObject") => costs.s3 += count * prices.usd(PriceItem::S3ReadRequest),
            // Deletions are free.
            (Service::S3, "DeleteObjects") => {}
            (Service::S3, _) => costs.s3 += count * prices.usd(PriceItem::S3WriteRequest),
        }
    }
    costs
}
