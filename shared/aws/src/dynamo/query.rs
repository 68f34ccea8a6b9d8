//! Queries that read page by page.

use aws_sdk_dynamodb::operation::query::QueryOutput;
use aws_sdk_dynamodb::operation::query::builders::QueryFluentBuilder;
use aws_sdk_dynamodb::types::Select;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use headrace_core::vocab::error::StoreError;
use headrace_core::vocab::ids::JobId;

use super::DynamoJobStore;
use super::items::{self, Item};
use super::usage;

/// The largest number of items on a page. DynamoDB ends a page at 1 MB anyway, but the embedded engine requires a limit.
const PAGE_ITEMS: usize = 1_000;

/// The number of partitions of a job that are read concurrently.
const CONCURRENT_QUERIES: usize = 16;

impl DynamoJobStore {
    /// Starts to build a query on the job table.
    pub(super) fn query(&self) -> QueryFluentBuilder {
        self.client.query().table_name(&self.table).set_return_consumed_capacity(usage::wanted_capacity())
    }

    /// Starts to build a strongly consistent query for the items with this partition key.
    pub(super) fn partition_query(&self, partition: &str) -> QueryFluentBuilder {
        let query = self.query().key_condition_expression("pk = :pk").expression_attribute_values(":pk", items::text(partition));
        query.consistent_read(true)
    }

    /// Runs a query once. Returns its first page, or the page after the query's start key.
    pub(super) async fn query_page(&self, query: QueryFluentBuilder) -> Result<QueryOutput, StoreError> {
        let page = self.repeat(|| query.clone().send()).await?;
        usage::count_read(page.consumed_capacity.as_ref());
        Ok(page)
    }

    /// Runs a query page by page, and calls `visit` with each page until it returns false.
    async fn for_each_page(
        &self,
        query: QueryFluentBuilder,
        mut visit: impl FnMut(&QueryOutput) -> Result<bool, StoreError>,
    ) -> Result<(), StoreError> {
        let mut start = None;
        loop {
            let page = self.query_page(query.clone().set_exclusive_start_key(start)).await?;
            let wants_more = visit(&page)?;
            start = page.last_evaluated_key;
            if start.is_none() || !wants_more {
                return Ok(());
            }
        }
    }

    /// Runs a query and returns what `read` makes of the first `limit` items.
    pub(super) async fn query_all<T>(
        &self,
        query: QueryFluentBuilder,
        limit: usize,
        read: impl Fn(&Item) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        let mut found = Vec::new();
        let query = query.limit(i32::try_from(limit.min(PAGE_ITEMS)).unwrap_or(i32::MAX));
        self.for_each_page(query, |page| {
            for item in page.items() {
                found.push(read(item)?);
            }
            Ok(found.len() < limit)
        })
        .await?;
        found.truncate(limit);
        Ok(found)
    }

    /// Runs a query on all pages. Returns the number of items that it finds.
    pub(super) async fn query_count(&self, query: QueryFluentBuilder) -> Result<u32, StoreError> {
        let mut count = 0;
        let query = query.select(Select::Count).limit(i32::try_from(PAGE_ITEMS).unwrap_or(i32::MAX));
        self.for_each_page(query, |page| {
            count += u32::try_from(page.count()).unwrap_or_default();
            Ok(true)
        })
        .await?;
        Ok(count)
    }

    /// Returns what `read` makes of all items of a partition whose sort key begins with `prefix`.
    pub(super) async fn query_partition<T>(
        &self,
        pk: &str,
        prefix: String,
        read: impl Fn(&Item) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        let query = self
            .query()
            .key_condition_expression("pk = :pk AND begins_with(sk, :prefix)")
            .expression_attribute_values(":pk", items::text(pk))
            .expression_attribute_values(":prefix", items::text(prefix))
            .consistent_read(true);
        self.query_all(query, usize::MAX, read).await
    }

    /// Returns what `read` makes of all items in the partitions of a job whose sort key is in this range, in no order. Reads the partitions
    /// concurrently.
    pub(super) async fn query_partitions<T>(
        &self,
        job: &JobId,
        [first, last]: &[String; 2],
        read: impl Fn(&Item) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        let query = self
            .query()
            .key_condition_expression("pk = :pk AND sk BETWEEN :first AND :last")
            .expression_attribute_values(":first", items::text(first))
            .expression_attribute_values(":last", items::text(last))
            .consistent_read(true);
        let queries: Vec<_> = self
            .all_partitions(job)
            .map(|pk| self.query_all(query.clone().expression_attribute_values(":pk", items::text(pk)), usize::MAX, &read))
            .collect();
        let found: Vec<Vec<T>> = stream::iter(queries).buffer_unordered(CONCURRENT_QUERIES).try_collect().await?;
        Ok(found.into_iter().flatten().collect())
    }
}
