//! Credentials of `headrace clients --table`: those of the AWS CLI, from its configuration file.

use std::fs;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use headrace_tests::flows::{Result, run};
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::process::headrace;

/// Returns `headrace clients list --table jobs` with this configuration file of the AWS CLI, and with nothing else from the environment.
fn list_clients(folder: &TempDir, config: &str) -> Result<Command> {
    let file = folder.path().join("config");
    fs::write(&file, config)?;
    let mut command = headrace(&["clients", "list", "--table", "jobs"]);
    command.env_clear().env("HOME", folder.path()).env("PATH", "/usr/bin:/bin").env("AWS_EC2_METADATA_DISABLED", "true");
    command.env("AWS_CONFIG_FILE", file).env("AWS_SHARED_CREDENTIALS_FILE", folder.path().join("none"));
    Ok(command)
}

/// Returns the error output of a failed command. It is one line without the internals of the SDK.
fn one_line(output: Output) -> Result<String> {
    let text = String::from_utf8(output.stderr)?;
    assert!(!output.status.success(), "{text}");
    let is_plain =
        text.lines().count() == 1 && !["{", "Error(", "may have landed", "DispatchFailure"].iter().any(|part| text.contains(part));
    assert!(is_plain, "{text}");
    Ok(text)
}

#[test]
fn without_credentials_or_region_the_error_names_what_to_set() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let expected = "headrace: no AWS credentials or region: set AWS_PROFILE, AWS_REGION\n";
    assert_eq!(one_line(list_clients(&folder, "")?.output()?)?, expected);
    assert_eq!(one_line(list_clients(&folder, "")?.env("AWS_REGION", "eu-central-1").output()?)?, expected, "no credentials");
    let mut no_region = list_clients(&folder, "")?;
    let no_region = no_region.env("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE").env("AWS_SECRET_ACCESS_KEY", "example");
    assert_eq!(one_line(no_region.output()?)?, expected, "no region");
    Ok(())
}

/// Starts a stand-in of DynamoDB that knows no table, and returns its URL and the credentials of the requests that it gets.
async fn start_dynamodb() -> Result<(String, Arc<Mutex<Vec<String>>>)> {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let answer = async |State(seen): State<Arc<Mutex<Vec<String>>>>, headers: HeaderMap| {
        let credential = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
        seen.lock().unwrap_or_else(PoisonError::into_inner).push(credential.to_owned());
        (
            axum::http::StatusCode::BAD_REQUEST,
            r#"{"__type":"com.amazonaws.dynamodb.v20120810#ResourceNotFoundException","message":"no table"}"#,
        )
    };
    let app = Router::new().fallback(answer).with_state(Arc::clone(&seen));
    tokio::spawn(async move { axum::serve(listener, app).await });
    Ok((url, seen))
}

#[test]
fn credentials_of_a_process_in_the_configuration_file_sign_the_calls() -> Result<()> {
    run(async || {
        let (folder, (url, seen)) = (tempfile::tempdir()?, start_dynamodb().await?);
        let json = folder.path().join("credentials.json");
        fs::write(&json, r#"{"Version":1,"AccessKeyId":"AKIDOFTHEPROCESS","SecretAccessKey":"example"}"#)?;
        let config = format!("[profile work]\nregion = eu-central-1\ncredential_process = cat {}\n", json.display());
        let mut command = list_clients(&folder, &config)?;
        command.env("AWS_PROFILE", "work").env("AWS_ENDPOINT_URL", url);
        let output = tokio::task::spawn_blocking(move || command.output()).await??;
        let error = one_line(output)?;
        assert!(error.contains("jobs") && error.contains("does not exist"), "{error}");
        let seen = seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        assert!(!seen.is_empty() && seen.iter().all(|credential| credential.contains("Credential=AKIDOFTHEPROCESS/")), "{seen:?}");
        Ok(())
    })
}

#[test]
fn credentials_that_cannot_be_obtained_are_named_as_the_cause() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let config = "[profile work]\nregion = eu-central-1\ncredential_process = false\n";
    let error = one_line(list_clients(&folder, config)?.env("AWS_PROFILE", "work").output()?)?;
    assert!(error.contains("the AWS credentials of this profile cannot be obtained"), "{error}");
    Ok(())
}
