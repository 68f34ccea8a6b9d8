//! Minimal S3 of plain files, for measurements that should not include the cost and the memory of an S3 stand-in.
//!
//! It supports only the calls of a synchronization or an export without faults. It ignores signatures, checksums and conditions.

use std::convert::Infallible;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region, RequestChecksumCalculation};
use aws_smithy_types::body::SdkBody;
use futures_util::stream;
use headrace_local::stores::embedded::{BoxError, in_process_http_client};
use http::{Method, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use percent_encoding::percent_decode_str;
use walkdir::WalkDir;

/// Size of the body frames that a connection delivers at a time.
const FRAME_BYTES: usize = 64 << 10;

/// Name of the bucket of the lake.
pub const LAKE: &str = "lake";

/// Returns a client whose bucket [`LAKE`] is the folder `lake`. Every other bucket is a folder of `root`.
pub fn client(lake: &Path, root: &Path) -> Client {
    let (lake, root) = (lake.to_owned(), root.to_owned());
    let folder = move |bucket: &str| if bucket == LAKE { lake.clone() } else { root.join(bucket) };
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::from_static("local"))
        .credentials_provider(Credentials::new("disk", "disk", None, None, "disk"))
        .endpoint_url("https://s3.disk.invalid")
        .force_path_style(true)
        // Bodies arrive as they are stored, without the chunks that carry a checksum.
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
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
        let path = percent_decode_str(request.uri().path()).decode_utf8()?;
        let path = path.trim_start_matches('/');
        let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
        let source = request.headers().get("x-amz-copy-source").map(|source| source.to_str()).transpose()?;
        let source = source.map(|source| percent_decode_str(source).decode_utf8()).transpose()?;
        let copied_from = source.as_deref().and_then(|source| source.split_once('/'));
        let copied_from = copied_from.map(|(bucket, key)| folder(bucket).join(key));
        let query = request.uri().query().unwrap_or_default().to_owned();
        Ok(Self { bucket: folder(bucket), key: key.to_owned(), copied_from, query })
    }

    /// Returns a parameter of the query, decoded. One without a value is empty.
    fn parameter(&self, name: &str) -> Option<String> {
        let pairs = self.query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        let value = pairs.into_iter().find_map(|(key, value)| (key == name).then_some(value))?;
        Some(percent_decode_str(value).decode_utf8_lossy().into_owned())
    }

    /// Returns the folder of the parts of a multipart upload, beside the bucket.
    fn parts(&self, upload: &str) -> PathBuf {
        self.bucket.with_added_extension("uploads").join(upload)
    }

    /// Handles the request and returns the response of S3.
    async fn handle(self, request: Request<SdkBody>) -> Result<Response<SdkBody>, BoxError> {
        let path = self.bucket.join(&self.key);
        let upload = self.parameter("uploadId");
        match (request.method().clone(), &self.copied_from, upload) {
            (Method::GET, _, _) if self.parameter("uploads").is_some() => xml("<ListMultipartUploadsResult/>"),
            (Method::GET, _, _) if self.key.is_empty() => list(&self.bucket, &self.parameter("prefix").unwrap_or_default()),
            (Method::GET, _, _) => get_object(&path, &request),
            (Method::PUT, Some(from), _) => {
                fs::create_dir_all(path.parent().unwrap_or(&path))?;
                remove_if_present(&path)?;
                fs::hard_link(from, path)?;
                xml("<CopyObjectResult/>")
            }
            (Method::PUT, None, Some(upload)) => {
                let number: u32 = self.parameter("partNumber").unwrap_or_default().parse()?;
                store(&self.parts(&upload).join(format!("{number:05}")), request.into_body()).await
            }
            (Method::PUT, None, None) => store(&path, request.into_body()).await,
            (Method::POST, _, Some(upload)) => {
                join_parts(&self.parts(&upload), &path)?;
                xml("<CompleteMultipartUploadResult/>")
            }
            (Method::POST, ..) if self.parameter("uploads").is_some() => {
                let upload = self.key.replace('/', "-");
                xml(&format!("<InitiateMultipartUploadResult><UploadId>{upload}</UploadId></InitiateMultipartUploadResult>"))
            }
            (Method::POST, ..) if self.parameter("delete").is_some() => {
                let body = request.into_body().collect().await?.to_bytes();
                let body = String::from_utf8_lossy(&body);
                let mut keys = body.split("<Key>").skip(1).filter_map(|rest| rest.split_once("</Key>"));
                keys.try_for_each(|(key, _)| remove_if_present(&self.bucket.join(key)))?;
                xml("<DeleteResult/>")
            }
            (Method::HEAD, ..) => Ok(Response::new(SdkBody::empty())),
            (method, ..) => Err(format!("the S3 of files does not support {method} {}?{}", self.key, self.query).into()),
        }
    }
}

/// Removes a file if it exists.
fn remove_if_present(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Writes a body to a new file.
async fn store(path: &Path, mut body: SdkBody) -> Result<Response<SdkBody>, BoxError> {
    fs::create_dir_all(path.parent().unwrap_or(path))?;
    // A finished export may link to the old file.
    remove_if_present(path)?;
    let mut file = File::create(path)?;
    while let Some(frame) = body.frame().await {
        if let Some(bytes) = frame?.data_ref() {
            file.write_all(bytes)?;
        }
    }
    Ok(Response::builder().header("etag", "\"put\"").body(SdkBody::empty())?)
}

/// Joins the parts of an upload to a file, in the order of their numbers, and removes them.
fn join_parts(parts: &Path, path: &Path) -> Result<(), BoxError> {
    fs::create_dir_all(path.parent().unwrap_or(path))?;
    let mut names: Vec<PathBuf> = fs::read_dir(parts)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    names.sort_unstable();
    let mut file = File::create(path)?;
    for name in names {
        io::copy(&mut File::open(name)?, &mut file)?;
    }
    Ok(fs::remove_dir_all(parts)?)
}

/// Returns a successful response with an XML body.
fn xml(text: &str) -> Result<Response<SdkBody>, BoxError> {
    Ok(Response::builder().header("content-type", "application/xml").body(SdkBody::from(text))?)
}

/// Lists all files of a bucket whose keys begin with the prefix.
fn list(bucket: &Path, prefix: &str) -> Result<Response<SdkBody>, BoxError> {
    let mut found = String::new();
    // Folders outside the prefix are listed, too: there are few.
    for entry in WalkDir::new(bucket).sort_by_file_name().into_iter().filter_map(Result::ok).filter(|entry| entry.file_type().is_file()) {
        let (size, path) = (entry.metadata()?.len(), entry.into_path());
        let key = path.strip_prefix(bucket)?.to_string_lossy().into_owned();
        if key.starts_with(prefix) {
            found += &format!("<Contents><Key>{key}</Key><ETag>\"lake\"</ETag><Size>{size}</Size></Contents>");
        }
    }
    xml(&format!("<ListBucketResult>{found}</ListBucketResult>"))
}

/// Streams a file, or the byte range of it that the `range` header names.
fn get_object(path: &Path, request: &Request<SdkBody>) -> Result<Response<SdkBody>, BoxError> {
    let Ok(mut file) = File::open(path) else {
        let body = "<Error><Code>NoSuchKey</Code><Message>The specified key does not exist.</Message></Error>";
        return Ok(Response::builder().status(404).body(SdkBody::from(body))?);
    };
    let (status, range) = match request.headers().get("range") {
        Some(range) => {
            let range = range.to_str()?.strip_prefix("bytes=").and_then(|range| range.split_once('-'));
            let (start, last) = range.ok_or("the range header is not a byte range")?;
            (206, start.parse()?..last.parse::<u64>()? + 1)
        }
        None => (200, 0..file.metadata()?.len()),
    };
    file.seek(SeekFrom::Start(range.start))?;
    let mut file = file.take(range.end - range.start);
    let frames = std::iter::from_fn(move || {
        let mut frame = Vec::with_capacity(FRAME_BYTES);
        let read = io::Read::by_ref(&mut file).take(FRAME_BYTES as u64).read_to_end(&mut frame);
        // After a read error the body is too short, which the client detects.
        (read.unwrap_or_default() > 0).then(|| Ok::<_, Infallible>(Frame::data(frame.into())))
    });
    let body = SdkBody::from_body_1_x(StreamBody::new(stream::iter(frames)));
    let response = Response::builder().status(status).header("etag", "\"lake\"").header("content-length", range.end - range.start);
    Ok(response.body(body)?)
}
