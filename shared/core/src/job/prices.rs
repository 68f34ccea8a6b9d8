//! The price of what a job has used, by a table of list prices.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Usage;

/// The number of requests that a message of the queue causes: it is sent, received and deleted.
const REQUESTS_PER_MESSAGE: u64 = 3;

/// The list prices of a region, with the source of each.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct PriceTable {
    /// The region.
    pub region: String,
    /// The day on which the prices were read.
    pub date: String,
    prices: BTreeMap<PriceItem, Price>,
}

/// An item with a price.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PriceItem {
    /// A gigabyte of a function's memory for a second.
    LambdaGbSecond,
    /// An invocation of a function.
    LambdaRequest,
    /// A write unit of a table.
    DynamodbWriteUnit,
    /// A read unit of a table.
    DynamodbReadUnit,
    /// A request that writes, copies or lists objects.
    S3WriteRequest,
    /// A request that reads an object.
    S3ReadRequest,
    /// A request to a queue.
    SqsRequest,
}

/// A price, and where it was read.
#[derive(Clone, Debug, PartialEq, Deserialize)]
struct Price {
    usd: f64,
    #[serde(rename = "source")]
    _source: String,
}

/// The reason why a text is not a price table.
#[derive(Debug, thiserror::Error)]
pub enum PriceTableError {
    /// The text is not JSON of the right form.
    #[error("it is not a price table: {0}")]
    Json(#[from] serde_json::Error),
    /// A price is missing.
    #[error("it lacks the price `{0}`")]
    Missing(String),
    /// A price is negative.
    #[error("the price `{0}` is below zero")]
    Negative(String),
}

/// Costs by service, in USD. They are not a bill: free tiers, discounts, taxes, storage and transfer are not part of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
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

impl PriceItem {
    /// The list of items.
    pub const ALL: [Self; 7] = [
        Self::LambdaGbSecond,
        Self::LambdaRequest,
        Self::DynamodbWriteUnit,
        Self::DynamodbReadUnit,
        Self::S3WriteRequest,
        Self::S3ReadRequest,
        Self::SqsRequest,
    ];

    /// Returns the name in a table.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LambdaGbSecond => "lambda_gb_second",
            Self::LambdaRequest => "lambda_request",
            Self::DynamodbWriteUnit => "dynamodb_write_unit",
            Self::DynamodbReadUnit => "dynamodb_read_unit",
            Self::S3WriteRequest => "s3_write_request",
            Self::S3ReadRequest => "s3_read_request",
            Self::SqsRequest => "sqs_request",
        }
    }
}

impl PriceTable {
    /// Returns the price table that the program comes with.
    pub fn us_east_1() -> Result<Self, PriceTableError> {
        Self::parse(include_str!("../../prices/us-east-1.json"))
    }

    /// Parses a table: JSON with `region`, `date` and `prices`, each with `usd` and `source`.
    pub fn parse(json: &str) -> Result<Self, PriceTableError> {
        let table: Self = serde_json::from_str(json)?;
        for item in PriceItem::ALL {
            let price = table.prices.get(&item).ok_or_else(|| PriceTableError::Missing(item.as_str().to_owned()))?;
            if price.usd < 0.0 {
                return Err(PriceTableError::Negative(item.as_str().to_owned()));
            }
        }
        Ok(table)
    }

    /// Returns the price of one item, in USD.
    pub fn usd(&self, item: PriceItem) -> f64 {
        self.prices.get(&item).map_or(0.0, |price| price.usd)
    }

    /// Returns the costs of what functions on AWS have used.
    pub fn costs(&self, used: Usage) -> Costs {
        // The numbers may be those of another server, whose sum may be beyond every number.
        let writes = used.puts.saturating_add(used.copies).saturating_add(used.lists);
        let price = |item, count: u64| self.usd(item) * count as f64;
        Costs {
            // A gigabyte-second is 1,024,000 megabyte-milliseconds.
            lambda: price(PriceItem::LambdaGbSecond, used.worker_mb_ms) / 1_024_000.0 + price(PriceItem::LambdaRequest, used.attempts),
            dynamodb: price(PriceItem::DynamodbWriteUnit, used.write_units)
                + price(PriceItem::DynamodbReadUnit, used.half_read_units) / 2.0,
            // Deletions are free.
            s3: price(PriceItem::S3WriteRequest, writes) + price(PriceItem::S3ReadRequest, used.gets),
            sqs: price(PriceItem::SqsRequest, used.messages.saturating_mul(REQUESTS_PER_MESSAGE)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = include_str!("../../prices/us-east-1.json");

    #[test]
    fn every_price_is_in_the_table_with_its_unit_and_source() {
        let text: serde_json::Value = serde_json::from_str(TABLE).unwrap();
        let prices = text["prices"].as_object().unwrap();
        assert_eq!(prices.len(), PriceItem::ALL.len());
        for item in PriceItem::ALL {
            let price = &prices[item.as_str()];
            assert!(price["usd"].as_f64().unwrap() > 0.0 && price["source"].as_str().unwrap().starts_with("https://"), "{price}");
            assert!(!price["per"].as_str().unwrap().is_empty());
        }
        assert_eq!(PriceTable::us_east_1().unwrap().region, "us-east-1");
    }

    #[test]
    fn costs_are_the_list_prices_of_what_was_used() {
        let table = TABLE.replace("0.0000133334", "2").replace("0.000000625", "3").replace("0.000000125", "4");
        let table = PriceTable::parse(&table).unwrap();
        let used = Usage { worker_mb_ms: 2_048_000, write_units: 10, half_read_units: 3, ..Usage::default() };
        assert_eq!(table.costs(used), Costs { lambda: 4.0, dynamodb: 36.0, s3: 0.0, sqs: 0.0 });
        let table = PriceTable::us_east_1().unwrap();
        // A thousand writes of objects cost 0.005 USD, a thousand reads 0.0004 USD, a thousand messages 0.0012 USD, a million attempts 0.2 USD.
        let used = Usage {
            puts: 500,
            copies: 300,
            lists: 200,
            deletes: 1_000,
            gets: 1_000,
            messages: 1_000,
            attempts: 1_000_000,
            ..Usage::default()
        };
        let Costs { lambda, dynamodb, s3, sqs } = table.costs(used);
        for (cost, expected) in [(lambda, 0.2), (dynamodb, 0.0), (s3, 0.0054), (sqs, 0.0012)] {
            assert!((cost - expected).abs() < 1e-9, "{cost} {expected}");
        }
    }

    #[test]
    fn a_table_without_a_price_or_with_a_negative_one_is_rejected_by_name() {
        for (table, words) in [
            (TABLE.replace("sqs_request", "sqs"), "sqs"),
            (TABLE.replace("0.0000133334", "-1"), "the price `lambda_gb_second` is below zero"),
            ("{}".to_owned(), "not a price table"),
            (r#"{"region":"x","date":"2026-01-01","prices":{}}"#.to_owned(), "it lacks the price `lambda_gb_second`"),
        ] {
            let error = PriceTable::parse(&table).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
