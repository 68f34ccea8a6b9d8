//! Minimal S3 of plain files, for measurements that should not include the cost of an S3 stand-in.
//!
//! It supports only the calls of an export without faults. It ignores signatures, checksums and conditions.

use std::convert::Infallible;
use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use aws_smithy_types::body::SdkBody;
use futures_util::stream;
use headrace_local::stores::embedded::{BoxError, in_process_http_client};
use http::{Method, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use lambda_http::http;

/// Size of the body frames that a connection delivers at a time.
const FRAME_BYTES: usize = 64 << 10;

/// Returns a client whose bucket `lake` is the folder `dir`. Every other bucket is a folder of `root`.
pub(crate) fn client(lake: &'static str, dir: &Path, root: &Path) -> Client {
    let (dir, root) = (dir.to_owned(), root.to_owned());
    let folder = move |bucket: &str| if bucket == lake { dir.clone() } else { root.join(bucket) };
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::from_static("local"))
        .credentials_provider(Credentials::new("disk", "disk", None, None, "disk"))
        .endpoint_url("https://s3.disk.invalid")
        .force_path_style(true)
        .http_client(in_process_http_client(move |request| {
            let request_target = ObjectRequest::parse(&request, &folder);
            async move { request_target?.handle(request).await }
        }));
    Client::from_conf(config.build())
}

/// Bucket, key and query of a request.
struct ObjectRequest {
    bucket: PathBuf,
    key: String,
    copied_from: Option<PathBuf>,
    query: String,
}

impl ObjectRequest {
    /// Parses an S3 request. `folder` returns the folder of a bucket.
    fn parse(request: &Request<SdkBody>, folder: &impl Fn(&str) -> PathBuf) -> Result<Self, BoxError> {
        let path = request.uri().path().trim_start_matches('/');
        let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
        let source = request.headers().get("x-amz-copy-source").map(|source| source.to_str()).transpose()?;
        let copied_from = source.and_then(|source| source.split_once('/')).map(|(bucket, key)| folder(bucket).join(key));
        let query = request.uri().query().unwrap_or_default().to_owned();
        Ok(Self { bucket: folder(bucket), key: key.to_owned(), copied_from, query })
    }

    /// Handles the request and returns the response of S3.
    async fn handle(self, request: Request<SdkBody>) -> Result<Response<SdkBody>, BoxError> {
        let path = self.bucket.join(&self.key);
        match (request.method().clone(), self.copied_from) {
            (Method::GET, _) if self.query.starts_with("uploads") => xml("<ListMultipartUploadsResult/>".to_owned()),
            (Method::GET, _) if self.key.is_empty() => list(&self.bucket, &self.query),
            (Method::GET, _) => get_object(&path, &request),
            (Method::PUT, Some(from)) => {
                fs::create_dir_all(path.parent().unwrap_or(&path))?;
                fs::hard_link(from, path)?;
                xml("<CopyObjectResult/>".to_owned())
            }
            (Method::PUT, None) => {
                fs::create_dir_all(path.parent().unwrap_or(&path))?;
                let (mut file, mut body) = (File::create(path)?, request.into_body());
                while let Some(frame) = body.frame().await {
                    if let Some(bytes) = frame?.data_ref() {
                        file.write_all(bytes)?;
                    }
                }
                Ok(Response::builder().header("etag", "\"put\"").body(SdkBody::empty())?)
            }
            (Method::POST, _) if self.query.starts_with("delete") => xml("<DeleteResult/>".to_owned()),
            (Method::HEAD, _) => Ok(Response::new(SdkBody::empty())),
            (method, _) => Err(format!("the S3 of files does not support {method} {}?{}", self.key, self.query).into()),
        }
    }
}

/// Returns a successful response with an XML body.
fn xml(text: String) -> Result<Response<SdkBody>, BoxError> {
    Ok(Response::builder().header("content-type", "application/xml").body(SdkBody::from(text))?)
}

/// Lists all files of a folder. A prefix must be a folder name.
fn list(bucket: &Path, query: &str) -> Result<Response<SdkBody>, BoxError> {
    let prefix = query.split('&').find_map(|pair| pair.strip_prefix("prefix=")).unwrap_or_default().replace("%2F", "/");
    let mut found = String::new();
    for entry in fs::read_dir(bucket.join(&prefix)).into_iter().flatten() {
        let entry = entry?;
        let (metadata, name) = (entry.metadata()?, entry.file_name());
        if metadata.is_file() {
            let (key, size) = (format!("{prefix}{}", name.to_string_lossy()), metadata.len());
            found += &format!("<Contents><Key>{key}</Key><ETag>\"lake\"</ETag><Size>{size}</Size></Contents>");
        }
    }
    xml(format!("<ListBucketResult>{found}</ListBucketResult>"))
}

/// Streams the byte range of a file that the `range` header names. Fails if the request has none.
fn get_object(path: &Path, request: &Request<SdkBody>) -> Result<Response<SdkBody>, BoxError> {
    let range = request.headers().get("range").ok_or("a GET without a range")?.to_str()?;
    let (start, last) =
        range.strip_prefix("bytes=").and_then(|range| range.split_once('-')).ok_or("the range header is not a byte range")?;
    let (start, last): (u64, u64) = (start.parse()?, last.parse()?);
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(start))?;
    let mut file = file.take(last + 1 - start);
    let frames = std::iter::from_fn(move || {
        let mut frame = Vec::with_capacity(FRAME_BYTES);
        let read = std::io::Read::by_ref(&mut file).take(FRAME_BYTES as u64).read_to_end(&mut frame);
        // After a read error the body is too short, which the client detects.
        (read.unwrap_or_default() > 0).then(|| Ok::<_, Infallible>(Frame::data(frame.into())))
    });
    let body = SdkBody::from_body_1_x(StreamBody::new(stream::iter(frames)));
    Ok(Response::builder().status(206).header("etag", "\"lake\"").header("content-length", last + 1 - start).body(body)?)
}
