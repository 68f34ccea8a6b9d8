//! Checks that S3 makes before it stores or returns an object, and that `s3s-fs` makes too late or not at all.

use bytes::Bytes;
use futures_util::StreamExt as _;
use s3s::checksum::ChecksumHasher;
use s3s::dto::{Checksum, ETag, ETagCondition, HeadObjectOutput, StreamingBlob};
use s3s::{S3Request, S3Result, s3_error};

/// Reads the whole body into memory, so that no lock is held while a client sends.
pub(super) async fn collect(body: Option<StreamingBlob>) -> S3Result<Bytes> {
    let Some(mut body) = body else {
        return Ok(Bytes::new());
    };
    let mut pieces = Vec::new();
    while let Some(piece) = body.next().await {
        pieces.push(piece.map_err(|_| s3_error!(IncompleteBody))?);
    }
    match pieces.as_slice() {
        [whole] => Ok(whole.clone()),
        pieces => Ok(pieces.concat().into()),
    }
}

/// Returns the checksums that the caller sent, as headers or trailers. Must be called after the body was collected.
pub(super) fn declared<T>(request: &S3Request<T>) -> Checksum {
    let sent = |name: &str| {
        let from = |headers: &http::HeaderMap| {
            let value = headers.get(name)?.to_str().ok()?;
            Some(value.to_owned())
        };
        let trailers = request.trailing_headers.as_ref();
        from(&request.headers).or_else(|| trailers?.read(from)?)
    };
    Checksum {
        checksum_crc32: sent("x-amz-checksum-crc32"),
        checksum_crc32c: sent("x-amz-checksum-crc32c"),
        checksum_crc64nvme: sent("x-amz-checksum-crc64nvme"),
        checksum_sha1: sent("x-amz-checksum-sha1"),
        checksum_sha256: sent("x-amz-checksum-sha256"),
        checksum_type: None,
    }
}

/// Returns an error if the bytes do not match the declared checksums.
pub(super) fn verify<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, declared: &Checksum) -> S3Result<()> {
    let mut hasher = ChecksumHasher {
        crc32: declared.checksum_crc32.as_ref().map(|_| Default::default()),
        crc32c: declared.checksum_crc32c.as_ref().map(|_| Default::default()),
        sha1: declared.checksum_sha1.as_ref().map(|_| Default::default()),
        sha256: declared.checksum_sha256.as_ref().map(|_| Default::default()),
        crc64nvme: declared.checksum_crc64nvme.as_ref().map(|_| Default::default()),
    };
    for piece in pieces {
        hasher.update(piece);
    }
    if hasher.finalize() == *declared { Ok(()) } else { Err(s3_error!(BadDigest, "a checksum does not match the body")) }
}

/// Checks `If-Match` and `If-None-Match` of a read.
pub(super) fn check_conditions(
    object: &HeadObjectOutput,
    if_match: Option<&ETagCondition>,
    if_none_match: Option<&ETagCondition>,
) -> S3Result<()> {
    let meets = |condition: &ETagCondition, compare: fn(&ETag, &ETag) -> bool| match condition {
        ETagCondition::Any => true,
        ETagCondition::ETag(wanted) => object.e_tag.as_ref().is_some_and(|actual| compare(actual, wanted)),
    };
    if if_match.is_some_and(|wanted| !meets(wanted, ETag::strong_cmp)) {
        return Err(s3_error!(PreconditionFailed, "At least one of the pre-conditions you specified did not hold"));
    }
    if if_none_match.is_some_and(|known| meets(known, ETag::weak_cmp)) {
        return Err(s3_error!(NotModified));
    }
    Ok(())
}
