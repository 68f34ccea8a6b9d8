//! The job table that a command manages: that of a state folder, or that of a deployment on AWS.

use headrace_aws::DynamoJobStore;

use crate::cli::RegistryLocation;
use crate::server::state::{StateError, StateFolder};
use crate::stores::deployment::{self, DeploymentError};

/// Reason why a job table cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum JobTableError {
    /// The state folder cannot be opened.
    #[error(transparent)]
    State(#[from] StateError),
    /// The deployment on AWS cannot be accessed.
    #[error(transparent)]
    Deployment(#[from] DeploymentError),
}

/// Opens a job table. Creates the state folder if it does not exist.
pub(super) async fn open_job_table(registry: &RegistryLocation) -> Result<DynamoJobStore, JobTableError> {
    match &registry.table {
        Some(table) => Ok(deployment::job_table(table).await?),
        None => Ok(StateFolder::open(&registry.state).await?.jobs),
    }
}

/// Opens the job table of a deployment or of an existing state folder, so that a mistyped path does not create an empty one.
pub(super) async fn open_existing_job_table(registry: &RegistryLocation) -> Result<DynamoJobStore, JobTableError> {
    match &registry.table {
        Some(_) => open_job_table(registry).await,
        None => Ok(StateFolder::open_existing(&registry.state).await?.jobs),
    }
}
