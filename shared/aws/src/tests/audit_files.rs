//! Tests of what S3 demands of audit files, which no stand-in checks.

use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};

use super::*;
use crate::script::{Answer, Script};

#[tokio::test]
async fn an_audit_file_has_the_checksum_that_object_lock_demands() {
    let script = Script::new([Answer::Http(200, String::new())]);
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::from_static("eu-central-1"))
        .credentials_provider(Credentials::new("id", "secret", None, None, "tests"))
        .retry_config(RetryConfig::disabled())
        .http_client(script.http_client());
    let files = S3AuditFiles::new(&Client::from_conf(config.build()), "records", "audit/");
    let name = AuditFileName::parse("2026-01-31/0000000001.ndjson").unwrap();
    assert_eq!(files.write(&name, Bytes::from_static(b"{}\n")).await.unwrap(), AuditWrite::Written);
    let sent = script.sent();
    assert!(sent.len() == 1 && sent[0].uri.contains("/audit/2026-01-31/0000000001.ndjson"), "{sent:?}");
    assert_eq!(sent[0].header("x-amz-sdk-checksum-algorithm"), Some("SHA256"));
    assert_eq!(sent[0].header("if-none-match"), Some("*"));
}
