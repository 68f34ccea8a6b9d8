//! Errors that the S3 stand-in does not produce: buckets in other regions, and keys that cannot be used.

use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_types::body::SdkBody;
use futures_util::StreamExt as _;
use headrace_core::job::file::{FileName, FileSummary, FragmentName, OutputKind};
use headrace_core::job::folder::Folder;
use headrace_core::job::task::Pin;
use headrace_core::ports::{FileWriter as _, OutputStore as _, ResourceSource as _};
use headrace_core::request::EncryptionKey;
use headrace_core::vocab::error::{SourceError, StoreError};

use super::{S3Lake, S3OutputStore};

/// A connection to S3 that returns the same response to every request.
#[derive(Clone, Debug)]
struct FixedResponse(u16, String);

impl HttpConnector for FixedResponse {
    fn call(&self, _: HttpRequest) -> HttpConnectorFuture {
        HttpConnectorFuture::ready(Ok(HttpResponse::new(self.0.try_into().unwrap(), SdkBody::from(self.1.clone()))))
    }
}

fn store(status: u16, code: &str) -> S3OutputStore {
    S3OutputStore::new(&client(status, code), "exports", "out").with_client_buckets(["clinic".to_owned()].into())
}

fn client(status: u16, code: &str) -> Client {
    let response = FixedResponse(status, if code.is_empty() { String::new() } else { format!("<Error><Code>{code}</Code></Error>") });
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::from_static("eu-central-1"))
        .credentials_provider(Credentials::new("id", "secret", None, None, "tests"))
        .retry_config(RetryConfig::disabled())
        .http_client(http_client_fn(move |_: &HttpConnectorSettings, _: &_| SharedHttpConnector::new(response.clone())));
    Client::from_conf(config.build())
}

/// Returns the remedy of an error that the operator must correct, and an empty text for other results.
fn remedy(result: Result<(), StoreError>) -> String {
    match result {
        Err(StoreError::Misconfigured { remedy, .. }) => remedy,
        Ok(())
        | Err(
            StoreError::NotApplied { .. }
            | StoreError::Unknown { .. }
            | StoreError::Stale
            | StoreError::OutOfSpace { .. }
            | StoreError::Unreadable { .. },
        ) => String::new(),
    }
}

fn assert_contains(remedy: &str, words: &[&str]) {
    assert!(words.iter().all(|word| remedy.contains(word)), "{remedy}");
}

#[tokio::test]
async fn errors_of_a_bucket_name_the_setting_and_the_remedy() {
    for (status, expected) in [(301, "region of this service"), (403, "extend the policy"), (404, "create it")] {
        assert_contains(&remedy(store(status, "").check(None).await), &["HEADRACE_DESTINATION_BUCKET", "`exports`", expected]);
        assert_contains(&remedy(store(status, "").check(Some("clinic/out")).await), &["client's registration", "`clinic`", expected]);
    }
    assert!(matches!(store(503, "").check(Some("clinic")).await, Err(StoreError::Unknown { .. })));
}

/// Writes an empty file, encrypted with a key of the job if there is one.
async fn write(store: &S3OutputStore, destination: Option<&str>, key: Option<&str>) -> Result<(), StoreError> {
    let encryption_key = key.map(|name| EncryptionKey { name: name.to_owned(), arn: "arn:CANARY".to_owned() });
    let folder = Folder { destination: destination.map(str::to_owned), path: "x".to_owned(), encryption_key };
    let name = FragmentName { kind: OutputKind::parse("Patient").unwrap(), task: 2, attempt: 1, fencing_token: 1 };
    let writer = store.new_fragment(&folder, name).await?;
    writer.commit(FileName::Fragment(name), FileSummary { bytes: 0, lines: 0, crc64: 0 }).await
}

#[tokio::test]
async fn errors_of_an_encryption_key_show_its_name_and_not_its_arn() {
    let denied = store(403, "AccessDenied");
    let text = remedy(write(&denied, Some("clinic/out"), Some("trial")).await);
    assert_contains(&text, &["client's registration", "`clinic`", "HEADRACE_OUTPUT_KMS_KEYS", "`trial`", "extend the policies"]);
    assert!(!remedy(write(&denied, None, None).await).contains("HEADRACE_OUTPUT_KMS_KEYS"));
    for code in ["KMS.DisabledException", "KMS.NotFoundException", "KMS.KMSInvalidStateException", "KMS.InvalidKeyUsageException"] {
        let text = remedy(write(&store(400, code), None, Some("trial")).await);
        assert_contains(&text, &["HEADRACE_OUTPUT_KMS_KEYS", "`trial`", "enabled"]);
        assert!(!text.contains("CANARY"), "{text}");
        // Without a key of the job, the error is about the bucket's default key.
        assert_contains(&remedy(write(&store(400, code), None, None).await), &["HEADRACE_DESTINATION_BUCKET", "`exports`", "enabled"]);
    }
}

#[tokio::test]
async fn errors_of_the_lake_that_no_retry_mends_name_the_setting_and_the_remedy() {
    let pin = Pin { object: "Patient.ndjson".to_owned(), etag: "\"x\"".to_owned(), size: 10 };
    for (status, code, expected) in [
        (403, "AccessDenied", "extend the policy"),
        (403, "AllAccessDisabled", "extend the policy"),
        (403, "InvalidAccessKeyId", "extend the policy"),
        (301, "PermanentRedirect", "region of this service"),
        (400, "KMS.DisabledException", "enabled"),
        (400, "KMS.NotFoundException", "enabled"),
        (503, "SlowDown", ""),
        (500, "InternalError", ""),
    ] {
        let lake = S3Lake::new(&client(status, code), "lake", "");
        let read = lake.read(&pin, 0..10).next().await.unwrap().map(drop);
        for result in [lake.list(None).await.map(drop), read] {
            match result {
                Err(SourceError::Misconfigured { remedy, .. }) if !expected.is_empty() => {
                    assert_contains(&remedy, &["HEADRACE_SOURCE_BUCKET", "`lake`", expected]);
                }
                Err(SourceError::Unavailable(_)) if expected.is_empty() => {}
                other => panic!("{status} {code}: {other:?}"),
            }
        }
    }
    let missing = S3Lake::new(&client(404, "NoSuchBucket"), "lake", "").list(None).await.unwrap_err();
    assert_contains(&missing.to_string(), &["HEADRACE_SOURCE_BUCKET", "`lake`", "create it"]);
}
