//! In-process S3. `s3s` implements the protocol, `s3s-fs` stores objects in a temporary folder, and `patched` corrects the
//! differences of `s3s-fs` from S3 that matter to exports.

mod checks;
mod patched;
mod uploads;
mod write_log;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_s3::primitives::ByteStream;
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use headrace_local::stores::embedded::{BoxError, in_process_http_client};
use http::header::{CONTENT_LENGTH, HOST};
use http::{HeaderValue, Method};
use http_body_util::BodyExt as _;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::stream::ByteStream as _;
use tempfile::TempDir;

pub use write_log::{Encryption, WriteRecord};

const ACCESS_KEY: &str = "AKIDSTANDIN";
const SECRET_KEY: &str = "stand-in-secret";

/// S3 whose data is deleted with its last clone. Clients must not outlive it.
#[derive(Clone)]
pub struct S3StandIn {
    service: S3Service,
    http: SharedHttpClient,
    log: write_log::WriteLog,
    _root: Arc<TempDir>,
}

impl S3StandIn {
    /// The access key and the secret key with which requests are signed.
    pub const CREDENTIALS: (&str, &str) = (ACCESS_KEY, SECRET_KEY);

    /// Starts an S3 without buckets.
    ///
    /// # Errors
    ///
    /// If the temporary folder cannot be created.
    pub fn start() -> Result<Self, BoxError> {
        let (root, log) = (Arc::new(tempfile::tempdir()?), write_log::WriteLog::default());
        let mut builder = S3ServiceBuilder::new(patched::PatchedS3::open(root.path(), log.clone())?);
        builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let service = builder.build();
        let behind = service.clone();
        let http = in_process_http_client(move |request| handle_request(behind.clone(), request));
        Ok(Self { service, http, log, _root: root })
    }

    /// Returns an AWS SDK client with default settings that calls this stand-in.
    #[must_use]
    pub fn client(&self) -> aws_sdk_s3::Client {
        self.client_with(|config| config)
    }

    /// Returns a client with changed settings, such as checksum policies or other credentials.
    pub fn client_with(&self, settings: impl FnOnce(aws_sdk_s3::config::Builder) -> aws_sdk_s3::config::Builder) -> aws_sdk_s3::Client {
        let credentials = Credentials::new(ACCESS_KEY, SECRET_KEY, None, None, "stand-in");
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::from_static("eu-central-1"))
            .credentials_provider(credentials)
            // Like AWS, https: over plain http the SDK signs payloads instead of sending trailing checksums.
            .endpoint_url("https://s3.standin.invalid")
            .force_path_style(true)
            .http_client(self.http.clone());
        aws_sdk_s3::Client::from_conf(settings(config).build())
    }

    /// Creates an empty bucket.
    ///
    /// # Errors
    ///
    /// If a bucket of that name exists.
    pub async fn create_bucket(&self, name: &str) -> Result<(), BoxError> {
        self.client().create_bucket().bucket(name).send().await?;
        Ok(())
    }

    /// Writes or replaces an object.
    ///
    /// # Errors
    ///
    /// If the request fails.
    pub async fn put(&self, bucket: &str, key: &str, bytes: impl Into<Bytes>) -> Result<(), BoxError> {
        let body = ByteStream::from(bytes.into());
        let put = self.client().put_object().bucket(bucket).key(key).body(body);
        put.send().await?;
        Ok(())
    }

    /// Reads an object.
    ///
    /// # Errors
    ///
    /// If the request fails.
    pub async fn get(&self, bucket: &str, key: &str) -> Result<Bytes, BoxError> {
        let got = self.client().get_object().bucket(bucket).key(key).send().await?;
        Ok(got.body.collect().await?.into_bytes())
    }

    /// Lists the keys with this prefix, sorted.
    ///
    /// # Errors
    ///
    /// If a request fails.
    pub async fn keys(&self, bucket: &str, prefix: &str) -> Result<Vec<String>, BoxError> {
        let list = self.client().list_objects_v2().bucket(bucket).prefix(prefix);
        let mut pages = list.into_paginator().send();
        let mut keys = Vec::new();
        while let Some(page) = pages.next().await {
            let objects = page?.contents.unwrap_or_default().into_iter();
            keys.extend(objects.filter_map(|object| object.key));
        }
        Ok(keys)
    }

    /// Lists all writes since the start in order, including those of deleted objects.
    #[must_use]
    pub fn writes(&self) -> Vec<WriteRecord> {
        self.log.all()
    }

    /// Handles a request that came over HTTP.
    ///
    /// # Errors
    ///
    /// If the request is malformed. S3 errors are returned as responses.
    pub async fn respond(&self, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, BoxError> {
        let (head, body) = serve(&self.service, request.map(s3s::Body::from)).await?.into_parts();
        Ok(http::Response::from_parts(head, body.collect().await?.to_bytes()))
    }

    /// Sends a GET request to a presigned URL. Signature and expiry are verified.
    ///
    /// # Errors
    ///
    /// If the URL is malformed. S3 errors are returned as responses.
    pub async fn fetch_presigned(&self, presigned_url: &str) -> Result<http::Response<Bytes>, BoxError> {
        self.request_presigned(Method::GET, presigned_url).await
    }

    /// Sends a request to a presigned URL. Signature and expiry are verified.
    ///
    /// # Errors
    ///
    /// If the URL is malformed. S3 errors are returned as responses.
    pub async fn request_presigned(&self, method: Method, presigned_url: &str) -> Result<http::Response<Bytes>, BoxError> {
        let request = http::Request::builder().method(method).uri(presigned_url).body(s3s::Body::empty())?;
        let (head, body) = serve(&self.service, request).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok(http::Response::from_parts(head, body))
    }
}

/// Handles one S3 request of the SDK and returns the HTTP response.
async fn handle_request(service: S3Service, request: http::Request<SdkBody>) -> Result<http::Response<SdkBody>, BoxError> {
    let request = request.map(s3s::Body::http_body_unsync);
    let response = serve(&service, request).await?;
    Ok(response.map(SdkBody::from_body_1_x))
}

/// Passes a request to the service, and adds and removes what an HTTP connection would.
async fn serve(service: &S3Service, mut request: http::Request<s3s::Body>) -> Result<http::Response<s3s::Body>, BoxError> {
    let authority = request.uri().authority().map(ToString::to_string);
    let length = request.body().remaining_length().exact();
    let headers = request.headers_mut();
    if let (None, Some(authority)) = (headers.get(HOST), authority) {
        headers.insert(HOST, HeaderValue::from_str(&authority)?);
    }
    if let (None, Some(length)) = (headers.get(CONTENT_LENGTH), length) {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    let is_head = request.method() == Method::HEAD;
    let mut response = service.call(request).await.map_err(BoxError::from)?;
    if is_head {
        // A real HEAD response has no body, so the SDK must not find the error code in it.
        *response.body_mut() = s3s::Body::empty();
    }
    Ok(response)
}
