//! State of multipart uploads. `s3s-fs` stores the bytes of parts, this module what listings and checks need.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use s3s::dto::{CompletedPart, ETag, MultipartUpload, Part, Timestamp};
use s3s::{S3Result, s3_error};

/// Minimum size of every part except the last.
const MIN_PART_BYTES: usize = 5 * 1024 * 1024;

/// Open uploads by upload id.
#[derive(Default)]
pub(super) struct Uploads(Mutex<BTreeMap<String, Upload>>);

struct Upload {
    bucket: String,
    key: String,
    started_at: Timestamp,
    parts: BTreeMap<i32, (ETag, usize)>,
}

impl Uploads {
    /// Locks the open uploads and returns them by id.
    fn all(&self) -> MutexGuard<'_, BTreeMap<String, Upload>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an open upload without parts.
    pub(super) fn begin(&self, id: &str, bucket: &str, key: &str, started_at: Timestamp) {
        let upload = Upload { bucket: bucket.to_owned(), key: key.to_owned(), started_at, parts: BTreeMap::new() };
        self.all().insert(id.to_owned(), upload);
    }

    /// Returns an error if there is no open upload with this id for the object.
    pub(super) fn check_is_open(&self, id: &str, bucket: &str, key: &str) -> S3Result<()> {
        let all = self.all();
        let upload = all.get(id);
        if upload.is_some_and(|upload| upload.bucket == bucket && upload.key == key) {
            Ok(())
        } else {
            Err(s3_error!(NoSuchUpload, "The specified upload does not exist"))
        }
    }

    /// Records an uploaded part. A part with the same number replaces the earlier one.
    pub(super) fn record(&self, id: &str, number: i32, e_tag: ETag, size_bytes: usize) {
        if let Some(upload) = self.all().get_mut(id) {
            upload.parts.insert(number, (e_tag, size_bytes));
        }
    }

    /// Returns an error if S3 would reject this list of parts at completion.
    pub(super) fn check_part_list(&self, id: &str, listed: &[CompletedPart]) -> S3Result<()> {
        let all = self.all();
        let Some(upload) = all.get(id) else {
            return Err(s3_error!(NoSuchUpload));
        };
        if !listed.is_sorted_by(|before, after| before.part_number < after.part_number) {
            return Err(s3_error!(InvalidPartOrder));
        }
        for (index, part) in listed.iter().enumerate() {
            let recorded = part.part_number.and_then(|number| upload.parts.get(&number));
            let Some((_, size_bytes)) = recorded.filter(|(e_tag, _)| part.e_tag.as_ref() == Some(e_tag)) else {
                return Err(s3_error!(InvalidPart));
            };
            if index + 1 < listed.len() && *size_bytes < MIN_PART_BYTES {
                return Err(s3_error!(EntityTooSmall));
            }
        }
        Ok(())
    }

    /// Removes an upload that was completed or aborted.
    pub(super) fn end(&self, id: &str) {
        self.all().remove(id);
    }

    /// Lists the parts of an upload by number.
    pub(super) fn parts(&self, id: &str) -> Vec<Part> {
        let all = self.all();
        let parts = all.get(id).into_iter().flat_map(|upload| &upload.parts);
        let parts = parts.map(|(number, (e_tag, size_bytes))| Part {
            part_number: Some(*number),
            e_tag: Some(e_tag.clone()),
            size: i64::try_from(*size_bytes).ok(),
            ..Part::default()
        });
        parts.collect()
    }

    /// Lists the open uploads of a bucket with this key prefix, sorted by key.
    pub(super) fn with_prefix(&self, bucket: &str, prefix: &str) -> Vec<MultipartUpload> {
        let all = self.all();
        let matching = all.iter().filter(|(_, upload)| upload.bucket == bucket && upload.key.starts_with(prefix));
        let mut uploads: Vec<_> = matching
            .map(|(id, upload)| MultipartUpload {
                key: Some(upload.key.clone()),
                upload_id: Some(id.clone()),
                initiated: Some(upload.started_at.clone()),
                ..MultipartUpload::default()
            })
            .collect();
        uploads.sort_by(|one, other| one.key.cmp(&other.key));
        uploads
    }
}
