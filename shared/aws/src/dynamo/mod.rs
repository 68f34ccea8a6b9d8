//! The job table in DynamoDB.
//!
//! Every write that matters is conditional. A write whose answer was lost is read back before it counts as failed.

mod access;
mod audit;
mod items;
mod job_lists;
mod job_store;
mod query;
mod quota;
mod schema;
mod task_store;
mod task_writes;
#[cfg(test)]
mod tests;
mod transact;

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use headrace_core::vocab::error::StoreError;
use headrace_core::vocab::ids::{JobId, TaskId};
use headrace_core::vocab::setting::Setting;

pub use schema::TableSchema;

use crate::backoff::{Backoff, PauseClock, REQUEST_PATIENCE, system_clock};
use crate::encryptor::SecretEncryptor;
use crate::errors::Service;
use items::{Attributes, Item, STORE, StoredTask};

/// The delay after the end of a job until its files are cleaned up. It is longer than a lease, because a worker may write files until
/// its lease has ended.
const CLEANUP_DELAY: Duration = Duration::from_secs(150);

/// The time that a task's announcement may take to reach a worker. After that, the reaper announces the task again.
const ANNOUNCEMENT_TIMEOUT: Duration = Duration::from_secs(60);

/// The job table.
#[derive(Clone, Debug)]
pub struct DynamoJobStore {
    client: Client,
    table: String,
    service: Service,
    encryptor: Option<Arc<dyn SecretEncryptor>>,
    /// The time that one call waits for an overloaded table.
    patience: Duration,
    /// The clock by which a call waits.
    pause_clock: Arc<dyn PauseClock>,
}

impl DynamoJobStore {
    /// Creates a client of the table of this name.
    pub fn new(client: Client, table: impl Into<String>) -> Self {
        let table = table.into();
        let service = Service::new(STORE, Setting::Table.as_str(), &table);
        Self { client, table, service, encryptor: None, patience: REQUEST_PATIENCE, pause_clock: system_clock() }
    }

    /// Sets the time that one call waits for an overloaded table.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Sets the clock by which calls pause. Simulations have one of their own.
    #[must_use]
    pub fn with_pause_clock(self, clock: impl PauseClock + 'static) -> Self {
        Self { pause_clock: Arc::new(clock), ..self }
    }

    /// Returns the pauses between the tries of one call.
    fn backoff(&self) -> Backoff {
        Backoff::with_clock(self.patience, Arc::clone(&self.pause_clock))
    }

    /// Sets the encryptor of job secrets. Without one, jobs cannot have secrets.
    #[must_use]
    pub fn with_encryptor(self, encryptor: impl SecretEncryptor + 'static) -> Self {
        Self { encryptor: Some(Arc::new(encryptor)), ..self }
    }

    /// Reads the item of a job with this sort key. `None` if it does not exist.
    async fn get(&self, job: &JobId, sk: String) -> Result<Option<Item>, StoreError> {
        self.get_key(items::job_key(job, sk)).await
    }

    /// Reads the item with this primary key, consistently. `None` if it does not exist.
    async fn get_key(&self, key: Item) -> Result<Option<Item>, StoreError> {
        let response = self.client.get_item().table_name(&self.table).set_key(Some(key)).consistent_read(true).send().await;
        Ok(response.map_err(|error| self.service.store_error(error))?.item)
    }

    /// Reads the state of a task. `None` if the task is not recorded.
    async fn stored_task(&self, task: &TaskId) -> Result<Option<StoredTask>, StoreError> {
        let item = self.get(&task.job, items::task_sk(task.task)).await?;
        item.map(|item| Attributes(&item).task()).transpose()
    }
}
