//! The table's shape, for whoever creates it outside CloudFormation. `template.yaml` says the same; a test compares.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::create_table::CreateTableError;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, GlobalSecondaryIndex, KeySchemaElement, KeyType, Projection, ProjectionType, ScalarAttributeType,
    TimeToLiveSpecification,
};
use headrace_core::vocab::error::StoreError;

use crate::errors::Called;

/// The index over what is due for a look.
pub(super) const DUE_INDEX: &str = "due";

/// The index over the jobs of a caller.
pub(super) const OWNER_INDEX: &str = "owner";

/// Creates the job table.
#[derive(Clone, Copy, Debug)]
pub struct TableSchema;

impl TableSchema {
    /// Creates the table with its indexes and its TTL; an existing one is left as it is.
    pub async fn create(client: &Client, table: &str) -> Result<(), StoreError> {
        let called = Called::new(super::items::WHAT, "HEADRACE_TABLE", table);
        let unbuilt = |error: aws_sdk_dynamodb::error::BuildError| StoreError::NotApplied { what: super::items::WHAT, cause: error.into() };
        let mut request = client.create_table().table_name(table).billing_mode(BillingMode::PayPerRequest);
        for (name, kind) in [
            ("pk", ScalarAttributeType::S),
            ("sk", ScalarAttributeType::S),
            ("due_shard", ScalarAttributeType::S),
            ("due_at", ScalarAttributeType::N),
            ("owner", ScalarAttributeType::S),
            ("created_at", ScalarAttributeType::N),
        ] {
            let attribute = AttributeDefinition::builder().attribute_name(name).attribute_type(kind).build().map_err(unbuilt)?;
            request = request.attribute_definitions(attribute);
        }
        let keys = |hash: &str, range: &str| {
            [(hash, KeyType::Hash), (range, KeyType::Range)]
                .into_iter()
                .map(|(name, kind)| KeySchemaElement::builder().attribute_name(name).key_type(kind).build().map_err(unbuilt))
                .collect::<Result<Vec<_>, _>>()
        };
        for (name, hash, range) in [(DUE_INDEX, "due_shard", "due_at"), (OWNER_INDEX, "owner", "created_at")] {
            let index = GlobalSecondaryIndex::builder()
                .index_name(name)
                .set_key_schema(Some(keys(hash, range)?))
                .projection(Projection::builder().projection_type(ProjectionType::KeysOnly).build())
                .build()
                .map_err(unbuilt)?;
            request = request.global_secondary_indexes(index);
        }
        match request.set_key_schema(Some(keys("pk", "sk")?)).send().await {
            Ok(_) => {}
            Err(SdkError::ServiceError(error)) if matches!(error.err(), CreateTableError::ResourceInUseException(_)) => return Ok(()),
            Err(error) => return Err(called.store_error(error)),
        }
        let ttl = TimeToLiveSpecification::builder().enabled(true).attribute_name("ttl").build().map_err(unbuilt)?;
        client
            .update_time_to_live()
            .table_name(table)
            .time_to_live_specification(ttl)
            .send()
            .await
            .map(drop)
            .map_err(|error| called.store_error(error))
    }
}
