//! The stores of a deployment on AWS. The feature `deployment` builds the access to them; without it, their use is an error.

use headrace_aws::DynamoJobStore;
use headrace_client::session::Credential;
#[cfg(feature = "deployment")]
use headrace_client::signing::RequestSigner;

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

/// The waiting of a command that writes a lake: uploads share the connection of this machine.
#[cfg(feature = "deployment")]
const LAKE_WORKLOAD: headrace_aws::Workload = headrace_aws::Workload::Tasks { lease: std::time::Duration::from_secs(600) };

/// Returns the access to a lake in S3 that is written.
#[cfg(feature = "deployment")]
pub(crate) async fn lake_bucket(bucket: &str, prefix: &str) -> Result<super::lake_bucket::BlockingLakeBucket, DeploymentError> {
    let clients = headrace_aws::Clients::connect_for(LAKE_WORKLOAD).await;
    clients.check_credentials().await?;
    let shown = format!("s3://{bucket}/{prefix}").trim_end_matches('/').to_owned();
    let (writer, lake) = (clients.lake_writer(bucket, prefix), clients.lake(bucket, prefix));
    Ok(super::lake_bucket::BlockingLakeBucket { writer, lake, shown, runtime: tokio::runtime::Handle::current() })
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

/// Returns the credential that signs the requests to the server with this base URL. Credentials are those of the AWS CLI.
///
/// # Errors
///
/// [`DeploymentError::Credentials`], before any service is called.
#[cfg(feature = "deployment")]
pub(crate) async fn signature(base: &str, region: Option<String>, service: &str) -> Result<Credential, DeploymentError> {
    let region = region.or_else(|| healthlake_region(base));
    let clients = headrace_aws::Clients::connect_in(region).await;
    clients.check_credentials().await?;
    let signer = clients.request_signer(None, service)?;
    Ok(Credential::Signature(RequestSigner::new(signer.into_fn())))
}

/// Returns the credential that signs the requests to a server.
///
/// # Errors
///
/// [`DeploymentError::BuiltWithoutAws`], always.
#[cfg(not(feature = "deployment"))]
pub(crate) async fn signature(_base: &str, _region: Option<String>, _service: &str) -> Result<Credential, DeploymentError> {
    Err(DeploymentError::BuiltWithoutAws)
}

/// Returns the region in the URL of a HealthLake data store.
#[cfg(feature = "deployment")]
fn healthlake_region(base: &str) -> Option<String> {
    let url = reqwest::Url::parse(base).ok()?;
    match url.host_str()?.split('.').collect::<Vec<_>>().as_slice() {
        ["healthlake", region, "amazonaws", ..] => Some((*region).to_owned()),
        _ => None,
    }
}

#[cfg(all(test, feature = "deployment"))]
mod tests {
    use super::*;

    #[test]
    fn the_region_of_a_data_store_is_in_its_url() {
        for (base, region) in [
            ("https://healthlake.eu-west-2.amazonaws.com/datastore/0a/r4", Some("eu-west-2")),
            ("https://fhir.example.org/r4", None),
            ("https://healthlake.example.org/r4", None),
        ] {
            assert_eq!(healthlake_region(base).as_deref(), region, "{base}");
        }
    }
}
