//! The schema of the job table, for tables that CloudFormation does not create. `template.yaml` has the same schema, and a test compares
//! them.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::create_table::CreateTableError;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, GlobalSecondaryIndex, KeySchemaElement, KeyType, Projection, ProjectionType, ScalarAttributeType,
    TimeToLiveSpecification,
};
use headrace_core::vocab::error::StoreError;
use headrace_core::vocab::setting::Setting;

use super::items::STORE;
use crate::errors::Service;

/// The index of due jobs and tasks.
pub(super) const DUE_INDEX: &str = "due";

/// The index of the jobs of a client.
pub(super) const OWNER_INDEX: &str = "owner";

/// The schema of the job table.
#[derive(Clone, Copy, Debug)]
pub struct TableSchema;

impl TableSchema {
    /// Creates the table with its indexes and its TTL. An existing table stays as it is.
    pub async fn create(client: &Client, table: &str) -> Result<(), StoreError> {
        let service = Service::new(STORE, Setting::Table.as_str(), table);
        let not_built = |error: aws_sdk_dynamodb::error::BuildError| StoreError::NotApplied { store: STORE, cause: error.into() };
        let mut request = client.create_table().table_name(table).billing_mode(BillingMode::PayPerRequest);
        for (name, kind) in [
            ("pk", ScalarAttributeType::S),
            ("sk", ScalarAttributeType::S),
            ("due_shard", ScalarAttributeType::S),
            ("due_at", ScalarAttributeType::N),
            ("owner", ScalarAttributeType::S),
            ("created_at", ScalarAttributeType::N),
        ] {
            let attribute = AttributeDefinition::builder().attribute_name(name).attribute_type(kind).build().map_err(not_built)?;
            request = request.attribute_definitions(attribute);
        }
        let keys = |hash: &str, range: &str| {
            [(hash, KeyType::Hash), (range, KeyType::Range)]
                .into_iter()
                .map(|(name, kind)| KeySchemaElement::builder().attribute_name(name).key_type(kind).build().map_err(not_built))
                .collect::<Result<Vec<_>, _>>()
        };
        for (name, hash, range) in [(DUE_INDEX, "due_shard", "due_at"), (OWNER_INDEX, "owner", "created_at")] {
            let index = GlobalSecondaryIndex::builder()
                .index_name(name)
                .set_key_schema(Some(keys(hash, range)?))
                .projection(Projection::builder().projection_type(ProjectionType::KeysOnly).build())
                .build()
                .map_err(not_built)?;
            request = request.global_secondary_indexes(index);
        }
        match request.set_key_schema(Some(keys("pk", "sk")?)).send().await {
            Ok(_) => {}
            Err(SdkError::ServiceError(error)) if matches!(error.err(), CreateTableError::ResourceInUseException(_)) => return Ok(()),
            Err(error) => return Err(service.store_error(error)),
        }
        let ttl = TimeToLiveSpecification::builder().enabled(true).attribute_name("ttl").build().map_err(not_built)?;
        client
            .update_time_to_live()
            .table_name(table)
            .time_to_live_specification(ttl)
            .send()
            .await
            .map(drop)
            .map_err(|error| service.store_error(error))
    }
}
