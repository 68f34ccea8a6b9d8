//! An S3 in this process: `s3s` speaks the protocol, `s3s-fs` keeps the objects in a temporary folder, `patched` mends
//! what the latter does differently from S3 and we rely on.

mod checks;
mod patched;
mod uploads;
mod written;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_s3::primitives::ByteStream;
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use headrace_local::stores::embedded::{BoxError, in_process};
use http::header::{CONTENT_LENGTH, HOST};
use http::{HeaderValue, Method};
use http_body_util::BodyExt as _;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::stream::ByteStream as _;
use tempfile::TempDir;

pub use written::{Encryption, Written};

const ACCESS_KEY: &str = "AKIDSTANDIN";
const SECRET_KEY: &str = "stand-in-secret";

/// An S3 of its own, gone with its last clone; clients must not outlive it.
#[derive(Clone)]
pub struct S3StandIn {
    service: S3Service,
    http: SharedHttpClient,
    log: written::Log,
    _root: Arc<TempDir>,
}

impl S3StandIn {
    /// An S3 without buckets.
    ///
    /// # Errors
    ///
    /// When no temporary folder can be made.
    pub fn start() -> Result<Self, BoxError> {
        let (root, log) = (Arc::new(tempfile::tempdir()?), written::Log::default());
        let mut builder = S3ServiceBuilder::new(patched::PatchedS3::over(root.path(), log.clone())?);
        builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let service = builder.build();
        let behind = service.clone();
        let http = in_process(move |request| answer(behind.clone(), request));
        Ok(Self { service, http, log, _root: root })
    }

    /// A client of the AWS SDK, with its defaults, whose calls end here.
    #[must_use]
    pub fn client(&self) -> aws_sdk_s3::Client {
        self.client_with(|config| config)
    }

    /// The same with settings of the caller's, such as checksum policies or other credentials.
    pub fn client_with(&self, settings: impl FnOnce(aws_sdk_s3::config::Builder) -> aws_sdk_s3::config::Builder) -> aws_sdk_s3::Client {
        let credentials = Credentials::new(ACCESS_KEY, SECRET_KEY, None, None, "stand-in");
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::from_static("eu-central-1"))
            .credentials_provider(credentials)
            // https, as on AWS: over plain http the SDK would sign payloads instead of sending trailing checksums.
            .endpoint_url("https://s3.standin.invalid")
            .force_path_style(true)
            .http_client(self.http.clone());
        aws_sdk_s3::Client::from_conf(settings(config).build())
    }

    /// Makes an empty bucket.
    ///
    /// # Errors
    ///
    /// When there is one of that name.
    pub async fn create_bucket(&self, name: &str) -> Result<(), BoxError> {
        self.client().create_bucket().bucket(name).send().await?;
        Ok(())
    }

    /// Writes an object, replacing an older one.
    ///
    /// # Errors
    ///
    /// Whatever the client says.
    pub async fn put(&self, bucket: &str, key: &str, bytes: impl Into<Bytes>) -> Result<(), BoxError> {
        let body = ByteStream::from(bytes.into());
        let put = self.client().put_object().bucket(bucket).key(key).body(body);
        put.send().await?;
        Ok(())
    }

    /// The whole of an object.
    ///
    /// # Errors
    ///
    /// Whatever the client says.
    pub async fn get(&self, bucket: &str, key: &str) -> Result<Bytes, BoxError> {
        let got = self.client().get_object().bucket(bucket).key(key).send().await?;
        Ok(got.body.collect().await?.into_bytes())
    }

    /// The keys that begin with `prefix`, sorted.
    ///
    /// # Errors
    ///
    /// Whatever the client says.
    pub async fn keys(&self, bucket: &str, prefix: &str) -> Result<Vec<String>, BoxError> {
        let list = self.client().list_objects_v2().bucket(bucket).prefix(prefix);
        let mut pages = list.into_paginator().send();
        let mut keys = Vec::new();
        while let Some(page) = pages.next().await {
            let found = page?.contents.unwrap_or_default().into_iter();
            keys.extend(found.filter_map(|object| object.key));
        }
        Ok(keys)
    }

    /// Every write since the start, whether or not the object is still there, in order.
    #[must_use]
    pub fn written(&self) -> Vec<Written> {
        self.log.all()
    }

    /// GETs a presigned URL as a browser or download client would; signature and expiry are checked.
    ///
    /// # Errors
    ///
    /// When the URL is none; an S3 error is a response.
    pub async fn fetch(&self, presigned_url: &str) -> Result<http::Response<Bytes>, BoxError> {
        let request = http::Request::get(presigned_url).body(s3s::Body::empty())?;
        let (head, body) = serve(&self.service, request).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok(http::Response::from_parts(head, body))
    }
}

async fn answer(service: S3Service, request: http::Request<SdkBody>) -> Result<http::Response<SdkBody>, BoxError> {
    let request = request.map(s3s::Body::http_body_unsync);
    let response = serve(&service, request).await?;
    Ok(response.map(SdkBody::from_body_1_x))
}

/// What an HTTP connection would do between a client and the service.
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
    let head_only = request.method() == Method::HEAD;
    let mut response = service.call(request).await.map_err(BoxError::from)?;
    if head_only {
        // The SDK would take an error's name from the body, which on a wire never arrives.
        *response.body_mut() = s3s::Body::empty();
    }
    Ok(response)
}
