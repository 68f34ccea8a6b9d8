//! Tests of what S3 demands of audit files, which no stand-in checks.

use super::*;
use crate::s3::tests::scripted_client;
use crate::script::Answer;

#[tokio::test]
async fn an_audit_file_has_the_checksum_that_object_lock_demands() {
    let (client, script) = scripted_client([Answer::Http(200, String::new())]);
    let files = S3AuditFiles::new(&client, "records", "audit/");
    let name = AuditFileName::parse("2026-01-31/0000000001.ndjson").unwrap();
    assert_eq!(files.write(&name, Bytes::from_static(b"{}\n")).await.unwrap(), AuditWrite::Written);
    let sent = script.sent();
    assert!(sent.len() == 1 && sent[0].uri.contains("/audit/2026-01-31/0000000001.ndjson"), "{sent:?}");
    assert_eq!(sent[0].header("x-amz-sdk-checksum-algorithm"), Some("SHA256"));
    assert_eq!(sent[0].header("if-none-match"), Some("*"));
}
