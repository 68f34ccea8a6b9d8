//! The job table in DynamoDB.
//!
//! Every write that matters is conditional. A write whose answer was lost is read back before it counts as failed.

mod access;
mod audit;
mod events;
mod items;
mod job_lists;
mod job_store;
mod partitions;
mod query;
mod quota;
mod schedules;
mod schema;
mod task_store;
mod task_writes;
#[cfg(test)]
mod tests;
mod transact;
mod usage;

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::http::HttpResponse;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use headrace_core::vocab::error::StoreError;
use headrace_core::vocab::ids::TaskId;
use headrace_core::vocab::setting::Setting;

pub use schema::TableSchema;

use crate::backoff::{Backoff, PauseClock, REQUEST_PATIENCE, system_clock};
use crate::encryptor::SecretEncryptor;
use crate::errors::{ErrorClass, Service};
use items::{Attributes, Item, STORE, StoredTask};
use partitions::PARTITIONS;

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
    /// The clock that pauses use.
    pause_clock: Arc<dyn PauseClock>,
    /// The number of partitions of a job.
    partitions: u32,
    /// True if the moves of jobs become events.
    writes_events: bool,
}

impl DynamoJobStore {
    /// Creates a client of the table of this name.
    pub fn new(client: Client, table: impl Into<String>) -> Self {
        let table = table.into();
        let service = Service::new(STORE, Setting::Table.as_str(), &table);
        let patience = REQUEST_PATIENCE;
        Self {
            client,
            table,
            service,
            encryptor: None,
            patience,
            pause_clock: system_clock(),
            partitions: PARTITIONS,
            writes_events: false,
        }
    }

    /// Sets the time that one call waits for an overloaded table.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Sets the clock that pauses use. Simulations have one of their own.
    #[must_use]
    pub fn with_pause_clock(self, clock: impl PauseClock + 'static) -> Self {
        Self { pause_clock: Arc::new(clock), ..self }
    }

    /// Returns the pauses between the tries of one call.
    fn backoff(&self) -> Backoff {
        Backoff::with_clock(self.patience, Arc::clone(&self.pause_clock))
    }

    /// Keeps the tasks, files and fragments of a job in one partition, so that a list of them is one query. For a table whose partitions
    /// have no limits of their own: the embedded one.
    #[must_use]
    pub fn with_one_partition(self) -> Self {
        Self { partitions: 1, ..self }
    }

    /// Sets whether the moves of jobs become events, because a target of events is set.
    #[must_use]
    pub fn with_events(self, writes_events: bool) -> Self {
        Self { writes_events, ..self }
    }

    /// Sets the encryptor of job secrets. Without one, jobs cannot have secrets.
    #[must_use]
    pub fn with_encryptor(self, encryptor: impl SecretEncryptor + 'static) -> Self {
        Self { encryptor: Some(Arc::new(encryptor)), ..self }
    }

    /// Reads the item with this primary key, consistently. `None` if it does not exist.
    async fn get_key(&self, key: Item) -> Result<Option<Item>, StoreError> {
        let get = self.client.get_item().table_name(&self.table).set_key(Some(key)).consistent_read(true);
        let get = get.set_return_consumed_capacity(usage::wanted_capacity());
        let answer = self.repeat(|| get.clone().send()).await?;
        usage::count_read(answer.consumed_capacity.as_ref());
        Ok(answer.item)
    }

    /// Makes a call that may be made twice, and repeats it while the table is overloaded or does not answer, until the patience is used up.
    async fn repeat<T, E, F>(&self, call: impl Fn() -> F) -> Result<T, StoreError>
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
        F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    {
        let mut backoff = self.backoff();
        loop {
            usage::count_request();
            let error = match call().await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let may_repeat = matches!(self.service.classify(&error), ErrorClass::Unknown | ErrorClass::Overloaded);
            if !may_repeat || !backoff.pause().await {
                return Err(self.service.store_error(error));
            }
        }
    }

    /// Reads the state of a task. `None` if the task is not recorded.
    async fn stored_task(&self, task: &TaskId) -> Result<Option<StoredTask>, StoreError> {
        let item = self.get_key(self.task_key(&task.job, task.task)).await?;
        item.map(|item| Attributes(&item).task()).transpose()
    }
}
