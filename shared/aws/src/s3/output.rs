//! The output store in S3.

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::operation::get_object::GetObjectError;
use aws_sdk_s3::presigning::PresigningConfig;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use headrace_core::job::file::{Fragment, FragmentName, OutputFile, OutputFileName};
use headrace_core::job::file_names::FileNames;
use headrace_core::job::folder::Folder;
use headrace_core::ports::{ByteStream, ConfigLookup, DeletedPart, FileAccess, FileRequest, OutputStore, delete_all_parts};
use headrace_core::request::{ANONYMIZATION_FOLDER, ConfigName, EXPORTS_FOLDER, MAX_CONFIG_BYTES};
use headrace_core::vocab::error::{BoxError, SourceError, StoreError};
use headrace_core::vocab::setting::Setting;

use super::bucket::{BucketPrefix, with_trailing_slash};
use super::file_writer::S3FileWriter;
use super::lake::{chunks, source_error};
use crate::backoff::Backoff;
use crate::errors::{ErrorClass, Service};

/// The name of the store in errors.
const STORE: &str = "the destination";

/// The lifetime of a presigned URL: as short as that of a bearer token should be (Bulk Data Access, "Bulk Data Output File Request").
const URL_LIFETIME: Duration = Duration::from_secs(300);

/// The longest file of keys, in bytes: a ciphertext of KMS has at most 6,144.
const MAX_STORED_KEYS_BYTES: u64 = 8_192;

/// The number of concurrent reads of a fragment.
const CONCURRENT_READS: usize = 2;

/// The place that names a client's own destination.
const OWN_DESTINATION: &str = "`destination` in the client's registration";

/// The longest prefix of a client's own destination, in bytes. An S3 key has up to 1,024 bytes, including the job's folder and the name
/// of the file.
const OWN_PREFIX_LIMIT_BYTES: usize = 512;

/// The destinations in S3: the deployment's, and those of clients.
#[derive(Clone, Debug)]
pub struct S3OutputStore {
    own: BucketPrefix,
    client_buckets: BTreeSet<String>,
    /// The largest number of files in a part of a folder. `None` is the largest number that S3 lists.
    files_per_part: Option<i32>,
}

impl S3OutputStore {
    /// Creates a store whose destination lies below `prefix` of `bucket`.
    pub fn new(client: &Client, bucket: &str, prefix: &str) -> Self {
        let own = BucketPrefix::new(client, bucket, prefix, STORE, Setting::DestinationBucket.as_str());
        Self { own, client_buckets: BTreeSet::new(), files_per_part: None }
    }

    /// Sets the time that one call waits for an overloaded bucket.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { own: BucketPrefix { patience, ..self.own }, ..self }
    }

    /// Sets the largest number of files in a part of a folder, up to the 1,000 that S3 lists in one response.
    #[must_use]
    pub fn with_files_per_part(self, files: i32) -> Self {
        Self { files_per_part: Some(files), ..self }
    }

    /// Allows clients to have destinations of their own, `bucket` or `bucket/prefix`, in these buckets in the same region.
    ///
    /// Only [`OutputStore::check`] enforces this, because a job keeps the destination with which it was accepted.
    #[must_use]
    pub fn with_client_buckets(self, client_buckets: BTreeSet<String>) -> Self {
        Self { client_buckets, ..self }
    }

    /// Returns a client's own destination, which is given as `bucket/prefix`.
    fn client_destination(&self, destination: &str) -> BucketPrefix {
        let (bucket, prefix) = destination.split_once('/').unwrap_or((destination, ""));
        let service = Service::new(STORE, OWN_DESTINATION, bucket);
        BucketPrefix { bucket: bucket.to_owned(), prefix: with_trailing_slash(prefix), service, ..self.own.clone() }
    }

    /// Returns the client's own destination, or the deployment's destination if `own` is `None`.
    fn destination(&self, own: Option<&str>) -> BucketPrefix {
        own.map_or_else(|| self.own.clone(), |own| self.client_destination(own))
    }

    /// Returns the folder of a job in its destination, with the key that encrypts its files.
    fn folder(&self, folder: &Folder) -> BucketPrefix {
        let mut bucket = self.destination(folder.destination.as_deref());
        bucket.prefix = format!("{}{EXPORTS_FOLDER}/{}/", bucket.prefix, folder.path);
        bucket.service.encryption_key = folder.encryption_key.as_ref().map(|key| key.name.clone());
        bucket.encryption_key.clone_from(&folder.encryption_key);
        bucket
    }

    /// Returns the remedy for a client's own destination that is not allowed, without calling S3. Returns `None` if it is allowed.
    fn not_allowed(&self, destination: &BucketPrefix) -> Option<String> {
        let bucket = &destination.bucket;
        if !self.client_buckets.contains(bucket) {
            return Some(format!(
                "{OWN_DESTINATION} is `{bucket}`, a bucket that {} does not name; add it there, or correct the registration",
                Setting::ClientBuckets.as_str()
            ));
        }
        let is_valid = |segment: &str| !matches!(segment, "" | "." | "..") && !segment.contains(char::is_control);
        let prefix = destination.prefix.trim_end_matches('/');
        if prefix.is_empty() || (prefix.len() <= OWN_PREFIX_LIMIT_BYTES && prefix.split('/').all(is_valid)) {
            return None;
        }
        Some(format!(
            "{OWN_DESTINATION} has an invalid prefix in `{bucket}`; write bucket/prefix with at most {OWN_PREFIX_LIMIT_BYTES} bytes of \
             prefix, without empty segments, segments of dots, and control characters"
        ))
    }
}

/// Reads a range of a fragment. Repeats the call as long as the bucket is overloaded: a failed attempt would read everything again, and
/// overload it more.
async fn read_fragment(bucket: BucketPrefix, key: String, range: Range<u64>) -> Result<Bytes, SourceError> {
    let range = format!("bytes={}-{}", range.start, range.end - 1);
    let get = bucket.client.get_object().bucket(&bucket.bucket).key(key).range(range);
    let mut backoff = Backoff::new(bucket.patience);
    loop {
        match get.clone().send().await.map_err(|error| source_error(&bucket.service, error)) {
            Ok(response) => {
                let body = response.body.collect().await.map_err(|error| SourceError::Unavailable(error.into()))?;
                return Ok(body.into_bytes());
            }
            Err(SourceError::Overloaded(_)) if backoff.pause().await => {}
            Err(error) => return Err(error),
        }
    }
}

impl OutputStore for S3OutputStore {
    type Writer = S3FileWriter;

    const BUFFERS_OPEN_FILES: bool = true;
    const COPIES_TO_PROMOTE: bool = true;

    async fn check(&self, own: Option<&str>) -> Result<(), StoreError> {
        let Some(own) = own else { return Ok(self.own.check().await?) };
        let destination = self.client_destination(own);
        match self.not_allowed(&destination) {
            Some(remedy) => Err(StoreError::Misconfigured { remedy, cause: "the destination is not allowed".into() }),
            None => Ok(destination.check().await?),
        }
    }

    async fn anonymization_config(&self, own: Option<&str>, name: &ConfigName, etag: Option<&str>) -> Result<ConfigLookup, StoreError> {
        let bucket = self.destination(own);
        let key = bucket.key(&format!("{ANONYMIZATION_FOLDER}/{}", name.as_str()));
        let get = bucket.client.get_object().bucket(&bucket.bucket).key(key).set_if_match(etag.map(str::to_owned));
        let response = match get.send().await {
            Ok(response) => response,
            Err(error) if error.as_service_error().is_some_and(GetObjectError::is_no_such_key) => return Ok(ConfigLookup::Absent),
            Err(error) if bucket.service.classify(&error) == ErrorClass::Stale => return Ok(ConfigLookup::Changed),
            Err(error) => return Err(bucket.service.store_error(error)),
        };
        let length = response.content_length().and_then(|length| u64::try_from(length).ok());
        if length.is_none_or(|length| length > MAX_CONFIG_BYTES) {
            return Ok(ConfigLookup::TooLong);
        }
        let no_etag = || StoreError::Unreadable { store: STORE, detail: "a configuration without an entity tag".to_owned() };
        let etag = response.e_tag.clone().ok_or_else(no_etag)?;
        let bytes = response.body.collect().await.map_err(|error| StoreError::NotApplied { store: STORE, cause: error.into() })?;
        Ok(ConfigLookup::Found(bytes.into_bytes(), etag))
    }

    async fn anonymization_keys(&self, own: Option<&str>, name: &ConfigName) -> Result<Option<Bytes>, StoreError> {
        let bucket = self.destination(own);
        let key = bucket.key(&format!("{ANONYMIZATION_FOLDER}/{}", name.keys_file()));
        let response = match bucket.client.get_object().bucket(&bucket.bucket).key(key).send().await {
            Ok(response) => response,
            Err(error) if error.as_service_error().is_some_and(GetObjectError::is_no_such_key) => return Ok(None),
            Err(error) => return Err(bucket.service.store_error(error)),
        };
        if response.content_length().and_then(|length| u64::try_from(length).ok()).is_none_or(|length| length > MAX_STORED_KEYS_BYTES) {
            let remedy =
                format!("the file `{}` is longer than {MAX_STORED_KEYS_BYTES} bytes; `headrace deid keygen` writes one", name.keys_file());
            return Err(StoreError::Misconfigured { remedy, cause: "the file is too long".into() });
        }
        let bytes = response.body.collect().await.map_err(|error| StoreError::NotApplied { store: STORE, cause: error.into() })?;
        Ok(Some(bytes.into_bytes()))
    }

    async fn new_fragment(&self, folder: &Folder, fragment: FragmentName) -> Result<S3FileWriter, StoreError> {
        Ok(S3FileWriter::new(self.folder(folder), fragment))
    }

    async fn promote(&self, folder: &Folder, fragment: &Fragment, file: OutputFileName) -> Result<(), StoreError> {
        let bucket = self.folder(folder);
        let (from, to) = (bucket.key(&fragment.name.to_string()), bucket.key(&file.to_string()));
        bucket.copy((&from, &to), fragment.summary, false).await
    }

    async fn renumber(&self, folder: &Folder, file: &OutputFile, number: u32) -> Result<(), StoreError> {
        let bucket = self.folder(folder);
        let renumbered = OutputFileName { number, ..file.name };
        let (from, to) = (bucket.key(&file.name.to_string()), bucket.key(&renumbered.to_string()));
        bucket.copy((&from, &to), file.summary, true).await
    }

    fn read(&self, folder: &Folder, fragment: &FragmentName, range: Range<u64>) -> ByteStream {
        let bucket = self.folder(folder);
        let key = bucket.key(&fragment.to_string());
        let reads = stream::iter(chunks(range)).map(move |chunk| read_fragment(bucket.clone(), key.clone(), chunk));
        Box::pin(reads.buffered(CONCURRENT_READS))
    }

    async fn file_access(&self, folder: &Folder, file: &OutputFile, request: FileRequest) -> Result<FileAccess, StoreError> {
        let bucket = self.folder(folder);
        let not_signed = |cause: BoxError| StoreError::NotApplied { store: STORE, cause };
        let config = PresigningConfig::expires_in(URL_LIFETIME).map_err(|error| not_signed(error.into()))?;
        let (client, key) = (&bucket.client, bucket.key(&file.name.to_string()));
        let presigned = match request {
            FileRequest::Content => {
                let get = client.get_object().bucket(&bucket.bucket).key(key).presigned(config).await;
                get.map_err(|error| bucket.service.store_error(error))?
            }
            FileRequest::Headers => {
                let head = client.head_object().bucket(&bucket.bucket).key(key).presigned(config).await;
                head.map_err(|error| bucket.service.store_error(error))?
            }
        };
        Ok(FileAccess::Redirect(presigned.uri().to_owned()))
    }

    async fn delete_all_except(&self, folder: &Folder, keep: &FileNames) -> Result<u64, StoreError> {
        delete_all_parts(self, folder, keep).await
    }

    async fn delete_part_except(&self, folder: &Folder, keep: &FileNames, after: Option<&str>) -> Result<DeletedPart, StoreError> {
        let bucket = self.folder(folder);
        if after.is_none() {
            bucket.abort_uploads().await?;
        }
        let page = bucket.list_part(after, self.files_per_part).await?;
        let is_kept = |path: &str| OutputFileName::parse(path).is_some_and(|name| keep.contains(&name));
        let keys: Vec<String> = page.paths.iter().filter(|path| !is_kept(path)).map(|path| bucket.key(path)).collect();
        let deleted = keys.len() as u64;
        bucket.delete(keys).await?;
        Ok(DeletedPart { deleted, next: page.paths.into_iter().next_back().filter(|_| page.has_more) })
    }
}
