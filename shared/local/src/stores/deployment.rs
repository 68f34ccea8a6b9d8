//! The stores of a deployment on AWS. The feature `aws` builds the access to them; without it, their use is an error.

use headrace_aws::DynamoJobStore;

/// Absence of the feature `aws` in this build of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this program was built without access to AWS; install it with `cargo install --path shared/local --profile laptop --features aws --locked`"
)]
pub struct BuiltWithoutAws;

/// Returns the job table of a deployment. Credentials and region are those of the AWS tools.
///
/// # Errors
///
/// [`BuiltWithoutAws`].
#[cfg(feature = "aws")]
pub async fn job_table(name: &str) -> Result<DynamoJobStore, BuiltWithoutAws> {
    Ok(headrace_aws::Clients::connect().await.jobs(name))
}

/// Returns the job table of a deployment.
///
/// # Errors
///
/// [`BuiltWithoutAws`], always.
#[cfg(not(feature = "aws"))]
pub async fn job_table(_name: &str) -> Result<DynamoJobStore, BuiltWithoutAws> {
    Err(BuiltWithoutAws)
}
