//! In-process Secrets Manager with one secret. It speaks the JSON protocol of `GetSecretValue`.

use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_secretsmanager::config::{BehaviorVersion, Credentials, Region};
use aws_smithy_types::body::SdkBody;
use headrace_local::stores::embedded::{BoxError, in_process_http_client};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};

/// ARN of the secret.
pub const ORIGIN_SECRET: &str = "arn:aws:secretsmanager:eu-central-1:111122223333:secret:fhir-Ab12Cd";

/// Secrets Manager with a secret. Clones share it.
#[derive(Clone, Debug)]
pub struct SecretsStandIn(Arc<Mutex<String>>);

impl SecretsStandIn {
    /// Starts a Secrets Manager whose secret has this text.
    #[must_use]
    pub fn start(text: &str) -> Self {
        Self(Arc::new(Mutex::new(text.to_owned())))
    }

    /// Replaces the text of the secret.
    pub fn rotate(&self, text: &str) {
        text.clone_into(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Returns an AWS SDK client with default settings that calls this stand-in.
    #[must_use]
    pub fn client(&self) -> aws_sdk_secretsmanager::Client {
        let secret = Arc::clone(&self.0);
        let config = aws_sdk_secretsmanager::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::from_static("eu-central-1"))
            .credentials_provider(Credentials::new("AKIDSTANDIN", "stand-in-secret", None, None, "stand-in"))
            .endpoint_url("https://secrets.standin.invalid")
            .http_client(in_process_http_client(move |request| handle_request(Arc::clone(&secret), request)))
            .build();
        aws_sdk_secretsmanager::Client::from_conf(config)
    }
}

/// Handles one request of the SDK and returns the HTTP response.
async fn handle_request(secret: Arc<Mutex<String>>, request: http::Request<SdkBody>) -> Result<http::Response<SdkBody>, BoxError> {
    let target = request.headers().get("x-amz-target").and_then(|target| target.to_str().ok()).unwrap_or_default().to_owned();
    let request: Value = serde_json::from_slice(&request.into_body().collect().await?.to_bytes())?;
    let (status, body) = match (target.as_str(), request.get("SecretId").and_then(Value::as_str)) {
        ("secretsmanager.GetSecretValue", Some(ORIGIN_SECRET)) => {
            let text = secret.lock().unwrap_or_else(PoisonError::into_inner).clone();
            (200, json!({ "ARN": ORIGIN_SECRET, "Name": "fhir", "SecretString": text, "VersionStages": ["AWSCURRENT"] }))
        }
        (_, _) => (400, json!({ "__type": "ResourceNotFoundException", "Message": "Secrets Manager can't find the specified secret." })),
    };
    let response = http::Response::builder().status(status).header("content-type", "application/x-amz-json-1.1");
    Ok(response.body(SdkBody::from(body.to_string()))?)
}
