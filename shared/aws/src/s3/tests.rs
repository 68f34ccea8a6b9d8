//! What the stand-in never answers: other regions, and keys that cannot be used.

use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_types::body::SdkBody;
use headrace_core::job::folder::Folder;
use headrace_core::output::file::{Content, FileName, FragmentName, OutputKind};
use headrace_core::ports::{Draft as _, OutputStore as _};

use super::*;

/// An S3 that gives one answer to everything.
#[derive(Clone, Debug)]
struct Answer(u16, String);

impl HttpConnector for Answer {
    fn call(&self, _: HttpRequest) -> HttpConnectorFuture {
        HttpConnectorFuture::ready(Ok(HttpResponse::new(self.0.try_into().unwrap(), SdkBody::from(self.1.clone()))))
    }
}

fn store(status: u16, code: &str) -> S3PartStore {
    let answer = Answer(status, if code.is_empty() { String::new() } else { format!("<Error><Code>{code}</Code></Error>") });
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::from_static("eu-central-1"))
        .credentials_provider(Credentials::new("id", "secret", None, None, "tests"))
        .retry_config(RetryConfig::disabled())
        .http_client(http_client_fn(move |_: &HttpConnectorSettings, _: &_| SharedHttpConnector::new(answer.clone())));
    S3PartStore::new(&Client::from_conf(config.build()), "exports", "out").with_client_buckets(["clinic".to_owned()].into())
}

/// What an operator is told; empty if it is not said to be their matter.
fn remedy(result: Result<(), StoreError>) -> String {
    match result {
        Err(StoreError::Misconfigured { remedy, .. }) => remedy,
        Ok(()) | Err(StoreError::NotApplied { .. } | StoreError::Unknown { .. } | StoreError::Stale | StoreError::Unreadable { .. }) => {
            String::new()
        }
    }
}

fn must_name(remedy: &str, words: &[&str]) {
    assert!(words.iter().all(|word| remedy.contains(word)), "{remedy}");
}

#[tokio::test]
async fn a_bucket_that_cannot_be_used_is_named_with_the_setting_and_what_to_do() {
    for (status, what_to_do) in [(301, "region of this service"), (403, "extend the policy"), (404, "create it")] {
        must_name(&remedy(store(status, "").check(None).await), &["HEADRACE_DESTINATION_BUCKET", "`exports`", what_to_do]);
        must_name(&remedy(store(status, "").check(Some("clinic/out")).await), &["client's registration", "`clinic`", what_to_do]);
    }
    assert!(matches!(store(503, "").check(Some("clinic")).await, Err(StoreError::Unknown { .. })));
}

/// Writes a file under a key, or under none.
async fn write(store: &S3PartStore, destination: Option<&str>, key: Option<&str>) -> Result<(), StoreError> {
    let key = key.map(|name| JobKey { name: name.to_owned(), arn: "arn:CANARY".to_owned() });
    let folder = Folder { destination: destination.map(str::to_owned), path: "x".to_owned(), key };
    let tail = FragmentName { kind: OutputKind::named("Patient").unwrap(), task: 2, attempt: 1, step: 1 };
    let draft = store.draft(&folder, tail).await?;
    draft.settle(FileName::Tail(tail), Content { bytes: 0, lines: 0, crc64: 0 }).await
}

#[tokio::test]
async fn a_key_that_cannot_be_used_ends_the_job_and_is_told_by_its_name_alone() {
    let denied = store(403, "AccessDenied");
    let said = remedy(write(&denied, Some("clinic/out"), Some("trial")).await);
    must_name(&said, &["client's registration", "`clinic`", "HEADRACE_JOB_KEYS", "`trial`", "extend the policies"]);
    assert!(!remedy(write(&denied, None, None).await).contains("HEADRACE_JOB_KEYS"));
    for code in ["KMS.DisabledException", "KMS.NotFoundException", "KMS.KMSInvalidStateException", "KMS.InvalidKeyUsageException"] {
        let said = remedy(write(&store(400, code), None, Some("trial")).await);
        must_name(&said, &["HEADRACE_JOB_KEYS", "`trial`", "enabled"]);
        assert!(!said.contains("CANARY"), "{said}");
        // The bucket's own key.
        must_name(&remedy(write(&store(400, code), None, None).await), &["HEADRACE_DESTINATION_BUCKET", "`exports`", "enabled"]);
    }
}
