//! The destination in S3.

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::operation::get_object::GetObjectError;
use aws_sdk_s3::presigning::PresigningConfig;
use aws_sdk_s3::types::{Delete, MetadataDirective, ObjectIdentifier};
use futures_util::{StreamExt, stream};
use headrace_core::job::anonymization::{self, ConfigName, Configuration};
use headrace_core::job::folder::Folder;
use headrace_core::output::file::{Content, FragmentName, OutputFileName, Part, Tail};
use headrace_core::ports::{Access, ByteStream, OutputStore};
use headrace_core::vocab::error::{SourceError, StoreError};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::draft::S3Draft;
use super::lake::{pieces, source_error};
use super::{Place, folder};
use crate::errors::{Called, Sorted};

pub(super) const WHAT: &str = "the destination";

/// The media type of every file (Bulk Data Access, "Bulk Data Output File Request").
pub(super) const NDJSON: &str = "application/fhir+ndjson";

/// The metadata that tells a file's content: how a second writer of one name recognises its own bytes.
pub(super) const CRC_METADATA: &str = "crc64";

/// How long a presigned URL lives: as short as a bearer token should (Bulk Data Access, "Bulk Data Output File Request").
const GRANT: Duration = Duration::from_secs(300);

/// What a copy source keeps unencoded.
const KEY_CHARS: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Where a client's own destination is said.
const OWN: &str = "`destination` in the client's registration";

/// The longest prefix of a client's own destination, in bytes: a key has 1024, and the job's folder and the file's name come
/// behind it.
const OWN_PREFIX_BYTES: usize = 512;

/// The destination.
#[derive(Clone, Debug)]
pub struct S3PartStore {
    place: Place,
    client_buckets: BTreeSet<String>,
}

impl S3PartStore {
    /// The destination below `prefix` of `bucket`.
    pub fn new(client: &Client, bucket: &str, prefix: &str) -> Self {
        Self { place: Place::new(client, bucket, prefix, WHAT, "HEADRACE_DESTINATION_BUCKET"), client_buckets: BTreeSet::new() }
    }

    /// Clients may have destinations of their own in these buckets, `bucket` or `bucket/prefix`, in the same region. Only
    /// [`OutputStore::check`] asks: a job keeps the destination that it was accepted with.
    #[must_use]
    pub fn with_client_buckets(self, client_buckets: BTreeSet<String>) -> Self {
        Self { client_buckets, ..self }
    }

    /// A client's own destination.
    fn own(&self, destination: &str) -> Place {
        let (bucket, prefix) = destination.split_once('/').unwrap_or((destination, ""));
        Place { bucket: bucket.to_owned(), prefix: folder(prefix), called: Called::new(WHAT, OWN, bucket), ..self.place.clone() }
    }

    /// Where a client's files go, or the deployment's.
    fn destination(&self, own: Option<&str>) -> Place {
        own.map_or_else(|| self.place.clone(), |own| self.own(own))
    }

    /// The folder of one job.
    fn folder(&self, folder: &Folder) -> Place {
        let mut place = self.destination(folder.destination.as_deref());
        place.prefix = format!("{}{}/", place.prefix, folder.path);
        place.called.key = folder.key.as_ref().map(|key| key.name.clone());
        place.key.clone_from(&folder.key);
        place
    }

    /// Why a client's own destination is not accepted, before anybody looks whether it is there.
    fn refusal(&self, own: &Place) -> Option<String> {
        let bucket = &own.bucket;
        if !self.client_buckets.contains(bucket) {
            return Some(format!(
                "{OWN} says `{bucket}`, and HEADRACE_CLIENT_BUCKETS does not name that bucket; add it there, or correct the registration"
            ));
        }
        let is_plain = |segment: &str| !matches!(segment, "" | "." | "..") && !segment.contains(char::is_control);
        let prefix = own.prefix.trim_end_matches('/');
        if prefix.is_empty() || (prefix.len() <= OWN_PREFIX_BYTES && prefix.split('/').all(is_plain)) {
            return None;
        }
        Some(format!(
            "{OWN} has a prefix in `{bucket}` that cannot be used; write bucket/prefix with at most {OWN_PREFIX_BYTES} bytes of prefix, \
             without empty segments, dots alone and control characters"
        ))
    }
}

/// Has a request write under the key of its place. The bucket key spares KMS a call per object.
macro_rules! encrypted {
    ($place:expr, $request:expr) => {
        match &$place.key {
            None => $request,
            Some(key) => $request
                .server_side_encryption(aws_sdk_s3::types::ServerSideEncryption::AwsKms)
                .ssekms_key_id(&key.arn)
                .bucket_key_enabled(true),
        }
    };
}
pub(super) use encrypted;

/// A checksum as our metadata has it.
pub(super) fn hex(content: Content) -> String {
    format!("{:016x}", content.crc64)
}

impl Place {
    /// Copies within the bucket, on the server's side. Unless it `replaces` it, an object of that name stays as it is
    /// (rule P4): it is fine if it has the same content.
    pub(super) async fn copy(&self, (from, to): (&str, &str), content: Content, replaces: bool) -> Result<(), StoreError> {
        let source = format!("{}/{}", self.bucket, utf8_percent_encode(from, KEY_CHARS));
        let copy = encrypted!(self, self.client.copy_object()).bucket(&self.bucket).key(to).copy_source(source);
        let copy = if replaces { copy } else { copy.if_none_match("*") };
        let sent =
            copy.metadata_directive(MetadataDirective::Replace).metadata(CRC_METADATA, hex(content)).content_type(NDJSON).send().await;
        match sent {
            Ok(_) => Ok(()),
            Err(error) if self.called.sort(&error) == Sorted::Stale => self.must_hold(to, content).await,
            Err(error) => Err(self.called.store_error(error)),
        }
    }

    /// Whether the object holds these very bytes: an earlier attempt may have written them before it died.
    pub(super) async fn must_hold(&self, key: &str, content: Content) -> Result<(), StoreError> {
        let head = self.client.head_object().bucket(&self.bucket).key(key).send().await;
        let head = head.map_err(|error| self.called.store_error(error))?;
        let length = head.content_length().and_then(|length| u64::try_from(length).ok());
        let crc = head.metadata().and_then(|metadata| metadata.get(CRC_METADATA));
        if length == Some(content.bytes) && crc == Some(&hex(content)) { Ok(()) } else { Err(StoreError::Stale) }
    }

    /// Aborts the multipart uploads that dead attempts have left: their bytes are invisible, and stay.
    async fn abort_uploads(&self) -> Result<(), StoreError> {
        let listed = self.client.list_multipart_uploads().bucket(&self.bucket).prefix(&self.prefix).send().await;
        // A thousand at most; the next sweep meets the rest.
        for upload in listed.map_err(|error| self.called.store_error(error))?.uploads() {
            let abort = self.client.abort_multipart_upload().bucket(&self.bucket);
            let aborted = abort.set_key(upload.key.clone()).set_upload_id(upload.upload_id.clone()).send().await;
            match aborted {
                Ok(_) => {}
                Err(error) if error.raw_response().is_some_and(|response| response.status().as_u16() == 404) => {}
                Err(error) => return Err(self.called.store_error(error)),
            }
        }
        Ok(())
    }

    /// Deletes objects; absent ones do no harm.
    pub(super) async fn delete(&self, keys: Vec<String>) -> Result<(), StoreError> {
        let unbuilt = |error: aws_sdk_s3::error::BuildError| StoreError::NotApplied { what: WHAT, cause: error.into() };
        // A thousand is the most that one call takes.
        for batch in keys.chunks(1_000) {
            let objects = batch.iter().map(|key| ObjectIdentifier::builder().key(key).build().map_err(unbuilt));
            let objects = objects.collect::<Result<Vec<_>, _>>()?;
            let delete = Delete::builder().set_objects(Some(objects)).quiet(true).build().map_err(unbuilt)?;
            let sent = self.client.delete_objects().bucket(&self.bucket).delete(delete).send().await;
            let sent = sent.map_err(|error| self.called.store_error(error))?;
            if let Some(error) = sent.errors().first() {
                let cause = format!("an object was not deleted: {}", error.code().unwrap_or_default()).into();
                return Err(StoreError::NotApplied { what: WHAT, cause });
            }
        }
        Ok(())
    }
}

impl OutputStore for S3PartStore {
    type Draft = S3Draft;

    async fn check(&self, own: Option<&str>) -> Result<(), StoreError> {
        let Some(own) = own else { return Ok(self.place.check().await?) };
        let own = self.own(own);
        match self.refusal(&own) {
            Some(remedy) => Err(StoreError::Misconfigured { remedy, cause: "it was not looked at".into() }),
            None => Ok(own.check().await?),
        }
    }

    async fn configuration(&self, own: Option<&str>, name: &ConfigName, etag: Option<&str>) -> Result<Configuration, StoreError> {
        let place = self.destination(own);
        let key = place.object(&format!("{}/{}", anonymization::FOLDER, name.as_str()));
        let sent = place.client.get_object().bucket(&place.bucket).key(key).set_if_match(etag.map(str::to_owned)).send().await;
        let answer = match sent {
            Ok(answer) => answer,
            Err(error) if error.as_service_error().is_some_and(GetObjectError::is_no_such_key) => return Ok(Configuration::Absent),
            Err(error) if place.called.sort(&error) == Sorted::Stale => return Ok(Configuration::Changed),
            Err(error) => return Err(place.called.store_error(error)),
        };
        let (length, etag) = (answer.content_length().and_then(|length| u64::try_from(length).ok()), answer.e_tag.clone());
        if length.is_none_or(|length| length > anonymization::LIMIT_BYTES) {
            return Ok(Configuration::TooLong);
        }
        let etag = etag.ok_or_else(|| StoreError::Unreadable { what: WHAT, detail: "a configuration without an entity tag".to_owned() })?;
        let bytes = answer.body.collect().await.map_err(|error| StoreError::NotApplied { what: WHAT, cause: error.into() })?;
        Ok(Configuration::Found(bytes.into_bytes(), etag))
    }

    async fn draft(&self, folder: &Folder, tail: FragmentName) -> Result<S3Draft, StoreError> {
        Ok(S3Draft::new(self.folder(folder), tail))
    }

    async fn adopt(&self, folder: &Folder, tail: &Tail, part: OutputFileName) -> Result<(), StoreError> {
        let place = self.folder(folder);
        let (from, to) = (place.object(&tail.name.to_string()), place.object(&part.to_string()));
        place.copy((&from, &to), tail.content, false).await
    }

    fn read(&self, folder: &Folder, tail: &FragmentName, range: Range<u64>) -> ByteStream {
        let place = self.folder(folder);
        let key = place.object(&tail.to_string());
        let gets = stream::iter(pieces(range)).map(move |piece| {
            let (place, key) = (place.clone(), key.clone());
            async move {
                let range = format!("bytes={}-{}", piece.start, piece.end - 1);
                let sent = place.client.get_object().bucket(&place.bucket).key(key).range(range).send().await;
                let answer = sent.map_err(|error| source_error(&place.called, error))?;
                let body = answer.body.collect().await.map_err(|error| SourceError::Unavailable(error.into()))?;
                Ok(body.into_bytes())
            }
        });
        Box::pin(gets.buffered(2))
    }

    async fn grant(&self, folder: &Folder, part: &Part) -> Result<Access, StoreError> {
        let place = self.folder(folder);
        let unsigned = |cause: headrace_core::vocab::error::BoxError| StoreError::NotApplied { what: WHAT, cause };
        let terms = PresigningConfig::expires_in(GRANT).map_err(|error| unsigned(error.into()))?;
        let request = place.client.get_object().bucket(&place.bucket).key(place.object(&part.name.to_string()));
        let signed = request.presigned(terms).await.map_err(|error| place.called.store_error(error))?;
        Ok(Access::Redirect(signed.uri().to_owned()))
    }

    async fn sweep(&self, folder: &Folder, keep: &BTreeSet<OutputFileName>) -> Result<u64, StoreError> {
        let place = self.folder(folder);
        place.abort_uploads().await?;
        let mut deleted = 0;
        let mut after = None;
        loop {
            let page = place
                .client
                .list_objects_v2()
                .bucket(&place.bucket)
                .prefix(&place.prefix)
                .set_continuation_token(after)
                .send()
                .await
                .map_err(|error| place.called.store_error(error))?;
            let is_kept = |key: &str| {
                let name = key.strip_prefix(&place.prefix).and_then(OutputFileName::parse);
                name.is_some_and(|name| keep.contains(&name))
            };
            let keys: Vec<String> =
                page.contents().iter().filter_map(|object| object.key()).filter(|key| !is_kept(key)).map(str::to_owned).collect();
            deleted += keys.len() as u64;
            place.delete(keys).await?;
            after = page.next_continuation_token().map(str::to_owned);
            if after.is_none() {
                return Ok(deleted);
            }
        }
    }
}
