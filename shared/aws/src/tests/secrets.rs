//! Tests of secrets, with errors as AWS documents them.

use aws_sdk_secretsmanager::config::{BehaviorVersion, Credentials, Region};

use super::*;
use crate::script::{Answer, Script};

/// Returns a secret whose client gets this error. It repeats no call.
fn secret(code: &str) -> StoredSecret {
    let script = Script::new([Answer::Http(400, format!(r#"{{"__type":"{code}","Message":"a text of AWS"}}"#))]);
    let config = aws_sdk_secretsmanager::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-central-1"))
        .credentials_provider(Credentials::new("id", "secret", None, None, "test"))
        .retry_config(aws_smithy_types::retry::RetryConfig::disabled())
        .http_client(script.http_client());
    StoredSecret::new(Client::from_conf(config.build()), "origin-credential")
}

#[tokio::test]
async fn a_secret_that_stays_unreadable_names_the_setting_and_the_remedy() {
    for (code, expected) in [
        ("InvalidRequestException", "restore it if it is scheduled for deletion"),
        ("DecryptionFailure", "the key that encrypts it cannot be used"),
        ("ResourceNotFoundException", "does not exist"),
        ("AccessDeniedException", "extend the policy of its role"),
    ] {
        let error = secret(code).read().await.unwrap_err();
        let StoreError::Misconfigured { remedy, .. } = &error else { panic!("{code}: {error:?}") };
        assert!(remedy.starts_with("HEADRACE_ORIGIN_SECRET is `origin-credential`"), "{code}: {remedy}");
        assert!(remedy.contains(expected), "{code}: {remedy}");
    }
}

#[tokio::test]
async fn a_secret_that_may_be_readable_later_is_no_wrong_setting() {
    for code in ["ThrottlingException", "InternalServiceError"] {
        let error = secret(code).read().await.unwrap_err();
        assert!(matches!(error, StoreError::Overloaded { .. } | StoreError::NotApplied { .. }), "{code}: {error:?}");
    }
}
