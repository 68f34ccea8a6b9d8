//! The stores of a deployment on AWS. The feature `deployment` builds the access to them; without it, their use is an error.

use headrace_aws::DynamoJobStore;

/// Reason why a deployment on AWS cannot be accessed.
#[derive(Debug, thiserror::Error)]
pub enum DeploymentError {
    /// Absence of the feature in this build of the program.
    #[error(
        "this program was built without access to AWS; install it with `cargo install --path shared/local --profile laptop --features aws --locked`"
    )]
    BuiltWithoutAws,
    /// The environment names no credentials, no region, or credentials that cannot be used.
    #[cfg(feature = "deployment")]
    #[error(transparent)]
    Credentials(#[from] headrace_aws::CredentialsError),
}

/// Returns the clients of the AWS services. Credentials and region are those of the AWS CLI.
///
/// # Errors
///
/// [`DeploymentError::Credentials`], before any service is called.
#[cfg(feature = "deployment")]
pub(crate) async fn clients() -> Result<headrace_aws::Clients, DeploymentError> {
    let clients = headrace_aws::Clients::connect().await;
    clients.check_credentials().await?;
    Ok(clients)
}

/// Returns the job table of a deployment.
#[cfg(feature = "deployment")]
pub async fn job_table(name: &str) -> Result<DynamoJobStore, DeploymentError> {
    Ok(clients().await?.jobs(name))
}

/// Returns the job table of a deployment.
///
/// # Errors
///
/// [`DeploymentError::BuiltWithoutAws`], always.
#[cfg(not(feature = "deployment"))]
pub async fn job_table(_name: &str) -> Result<DynamoJobStore, DeploymentError> {
    Err(DeploymentError::BuiltWithoutAws)
}
