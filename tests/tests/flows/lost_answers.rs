//! Transactions that DynamoDB applies, and answers as if they were still under way.

use std::sync::atomic::{AtomicBool, Ordering};

use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::{
    BeforeDeserializationInterceptorContextMut, BeforeTransmitInterceptorContextRef,
};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::config_bag::ConfigBag;
use headrace_aws::DynamoJobStore;
use headrace_core::access::Agent;
use headrace_core::job::task::PlanInput;
use headrace_core::job::{Job, RecordConditions, RecordOutcome};
use headrace_core::ports::JobStore as _;
use headrace_core::vocab::error::{BoxError, StoreError};
use headrace_core::vocab::ids::JobId;
use headrace_tests::flows::{AwsDeployment, Deployment as _, DeploymentSettings, ManualClock, Result, ServiceProcess, run};

/// Replaces the answers to transactions by `TransactionInProgressException`.
#[derive(Debug, Default)]
struct StillInProgress(AtomicBool);

impl Intercept for StillInProgress {
    fn name(&self) -> &'static str {
        "still in progress"
    }

    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> std::result::Result<(), BoxError> {
        let target = context.request().headers().get("x-amz-target").unwrap_or_default();
        self.0.store(target.ends_with("TransactWriteItems"), Ordering::SeqCst);
        Ok(())
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> std::result::Result<(), BoxError> {
        if self.0.load(Ordering::SeqCst) {
            let body = r#"{"__type":"com.amazonaws.dynamodb.v20120810#TransactionInProgressException","Message":"in progress"}"#;
            *context.response_mut() = HttpResponse::new(400_u16.try_into()?, SdkBody::from(body));
        }
        Ok(())
    }
}

/// Returns an accepted job, and a store over the same table that never hears of its transactions' ends.
async fn job_and_store() -> Result<(Job, DynamoJobStore)> {
    let deployment = AwsDeployment::new().await?;
    deployment.set_lake_object("Patient.ndjson", Some("{\"resourceType\":\"Patient\",\"id\":\"1\"}\n".into())).await?;
    let service = ServiceProcess::start(&deployment, &ManualClock::default(), DeploymentSettings::default());
    let status = service.kick_off("").await?;
    let id = JobId::parse(status.rsplit('/').next().unwrap_or_default())?;
    let job = deployment.job_store().job(&id).await?.ok_or("the job is not recorded")?;
    let config = deployment.dynamo().config().to_builder().interceptor(StillInProgress::default());
    let config = config.retry_config(aws_sdk_dynamodb::config::retry::RetryConfig::disabled()).build();
    let store = DynamoJobStore::new(aws_sdk_dynamodb::Client::from_conf(config), "headrace");
    Ok((job, store.with_patience(std::time::Duration::from_millis(50))))
}

#[test]
fn a_job_that_was_recorded_is_accepted_although_its_transaction_seems_to_be_in_progress() -> Result<()> {
    run(async || {
        let (job, store) = job_and_store().await?;
        let job = Job { id: JobId::from_random([7; 16]), ..job };
        let conditions = RecordConditions::default();
        let outcome = store.record_job(&job, &PlanInput::default(), &conditions, &Agent::service()).await?;
        assert_eq!(outcome, RecordOutcome::Recorded);
        assert_eq!(store.job(&job.id).await?.map(|job| job.id), Some(job.id));
        Ok(())
    })
}

#[test]
fn another_write_whose_transaction_seems_to_be_in_progress_may_have_been_applied() -> Result<()> {
    run(async || {
        let (job, store) = job_and_store().await?;
        let ended = store.end_job(&job.id, headrace_core::job::JobEvent::CancelRequested, None, &Agent::service(), job.created_at).await;
        assert!(matches!(ended, Err(StoreError::Unknown { .. })), "{ended:?}");
        Ok(())
    })
}
