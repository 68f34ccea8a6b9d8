//! Tests of the S3 operations that exports use, through the SDK client with default settings.

use std::time::{Duration, UNIX_EPOCH};

use aws_sdk_s3::Client;
use aws_sdk_s3::config::Config;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::presigning::PresigningConfig;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumMode, ChecksumType, CompletedMultipartUpload, CompletedPart, Delete, ObjectIdentifier};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_types::base64;
use bytes::Bytes;
use headrace_local::stores::embedded::BoxError;
use s3s::crypto::{Checksum as _, Crc64Nvme};

use super::S3StandIn;

const BUCKET: &str = "exports";
const MIB: usize = 1024 * 1024;

/// Starts the stand-in with an empty bucket [`BUCKET`], and returns it with a client.
async fn start_s3() -> Result<(S3StandIn, Client), BoxError> {
    let s3 = S3StandIn::start()?;
    s3.create_bucket(BUCKET).await?;
    let client = s3.client();
    Ok((s3, client))
}

/// Generates bytes without short repetitions.
fn bytes(size: usize) -> Bytes {
    let mut state = 1_u32;
    let next = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    });
    next.take(size).collect()
}

/// Returns the HTTP status and the error code of an error.
fn error_status<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> (u16, String) {
    let status = error.raw_response().map_or(0, |response| response.status().as_u16());
    let code = error.as_service_error().and_then(ProvideErrorMetadata::code);
    (status, code.unwrap_or_default().to_owned())
}

/// Returns the CRC-64/NVME checksum of bytes in base64, as S3 writes it.
fn crc64(bytes: &[u8]) -> String {
    base64::encode(Crc64Nvme::checksum(bytes))
}

#[tokio::test]
async fn an_object_is_read_back_with_its_metadata() -> Result<(), BoxError> {
    let (s3, client) = start_s3().await?;
    let body = bytes(3 * MIB + 7);
    let put = client.put_object().bucket(BUCKET).key("a/Patient-1.ndjson").body(body.clone().into());
    let put = put.content_type("application/fhir+ndjson").content_encoding("gzip").metadata("count", "3");
    let put = put.send().await?;
    let head = client.head_object().bucket(BUCKET).key("a/Patient-1.ndjson").send().await?;
    assert_eq!(head.content_length(), Some(3 * 1024 * 1024 + 7));
    assert_eq!(head.e_tag(), put.e_tag());
    assert_eq!(head.content_type(), Some("application/fhir+ndjson"));
    assert_eq!(head.content_encoding(), Some("gzip"));
    assert_eq!(head.metadata().unwrap()["count"], "3");
    assert!(head.last_modified().is_some());
    assert_eq!(s3.get(BUCKET, "a/Patient-1.ndjson").await?, body);
    s3.put(BUCKET, "empty", Bytes::new()).await?;
    assert_eq!(s3.get(BUCKET, "empty").await?, Bytes::new());
    Ok(())
}

#[tokio::test]
async fn missing_objects_and_buckets_give_the_typed_errors() -> Result<(), BoxError> {
    let (_s3, client) = start_s3().await?;
    let error = client.head_object().bucket(BUCKET).key("none").send().await.unwrap_err();
    assert!(error.into_service_error().is_not_found());
    let error = client.get_object().bucket(BUCKET).key("none").send().await.unwrap_err();
    assert!(error.into_service_error().is_no_such_key());
    client.head_bucket().bucket(BUCKET).send().await?;
    let error = client.head_bucket().bucket("none").send().await.unwrap_err();
    assert!(error.into_service_error().is_not_found());
    let error = client.get_object().bucket("none").key("none").send().await.unwrap_err();
    assert_eq!(error_status(&error), (404, "NoSuchBucket".to_owned()));
    let error = client.put_object().bucket("none").key("none").send().await.unwrap_err();
    assert_eq!(error_status(&error), (404, "NoSuchBucket".to_owned()));
    let error = client.list_objects_v2().bucket("none").send().await.unwrap_err();
    assert!(error.into_service_error().is_no_such_bucket());
    Ok(())
}

#[tokio::test]
async fn a_folder_is_not_an_object() -> Result<(), BoxError> {
    let (s3, client) = start_s3().await?;
    s3.put(BUCKET, "a/b", "x").await?;
    let error = client.head_object().bucket(BUCKET).key("a").send().await.unwrap_err();
    assert!(error.into_service_error().is_not_found());
    let error = client.get_object().bucket(BUCKET).key("a").send().await.unwrap_err();
    assert!(error.into_service_error().is_no_such_key());
    client.delete_object().bucket(BUCKET).key("a").send().await?;
    assert_eq!(s3.keys(BUCKET, "").await?, ["a/b"]);
    Ok(())
}

#[tokio::test]
async fn a_range_of_a_pinned_version_is_exact() -> Result<(), BoxError> {
    let (s3, client) = start_s3().await?;
    let body = bytes(2 * MIB + 100);
    s3.put(BUCKET, "lake/Patient.ndjson", body.clone()).await?;
    let head = client.head_object().bucket(BUCKET).key("lake/Patient.ndjson").send().await?;
    let pinned = head.e_tag().unwrap();
    let get = |range: &str, pinned: &str| {
        let get = client.get_object().bucket(BUCKET).key("lake/Patient.ndjson");
        get.range(range).if_match(pinned).send()
    };
    for (range, expected) in [
        ("bytes=0-0", 0..1),
        ("bytes=10-2097161", 10..2 * MIB + 10),
        ("bytes=2097152-", 2 * MIB..2 * MIB + 100),
        ("bytes=2097200-9999999", 2 * MIB + 48..2 * MIB + 100),
        ("bytes=-5", 2 * MIB + 95..2 * MIB + 100),
    ] {
        let got = get(range, pinned).await?;
        let content_range = format!("bytes {}-{}/{}", expected.start, expected.end - 1, body.len());
        assert_eq!(got.content_range(), Some(content_range.as_str()));
        assert_eq!(got.body.collect().await?.into_bytes(), body.slice(expected), "{range}");
    }
    let error = get("bytes=2097252-", pinned).await.unwrap_err();
    assert_eq!(error_status(&error), (416, "InvalidRange".to_owned()));

    s3.put(BUCKET, "lake/Patient.ndjson", "changed").await?;
    let error = get("bytes=0-0", pinned).await.unwrap_err();
    assert_eq!(error_status(&error), (412, "PreconditionFailed".to_owned()));
    Ok(())
}

#[tokio::test]
async fn a_read_in_progress_keeps_its_version() -> Result<(), BoxError> {
    let (s3, client) = start_s3().await?;
    let body = bytes(8 * MIB);
    s3.put(BUCKET, "key", body.clone()).await?;
    let reader = client.get_object().bucket(BUCKET).key("key").send().await?;
    s3.put(BUCKET, "key", "new").await?;
    client.delete_object().bucket(BUCKET).key("key").send().await?;
    assert_eq!(reader.body.collect().await?.into_bytes(), body);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn exactly_one_of_many_conditional_writers_succeeds() -> Result<(), BoxError> {
    let (s3, client) = start_s3().await?;
    for round in 0..20 {
        let key = format!("part-{round}");
        let writers: Vec<_> = (0..32)
            .map(|n| {
                let put = client.put_object().bucket(BUCKET).key(&key).if_none_match("*");
                tokio::spawn(put.body(ByteStream::from(vec![n; 64 * 1024])).send())
            })
            .collect();
        let mut winners = Vec::new();
        for (n, writer) in writers.into_iter().enumerate() {
            match writer.await? {
                Ok(_) => winners.push(u8::try_from(n)?),
                Err(error) => assert_eq!(error_status(&error), (412, "PreconditionFailed".to_owned())),
            }
        }
        assert_eq!(winners.len(), 1);
        assert_eq!(s3.get(BUCKET, &key).await?, vec![winners[0]; 64 * 1024]);
    }
    Ok(())
}

#[tokio::test]
async fn a_listing_of_a_prefix_has_pages_in_order_with_etags() -> Result<(), BoxError> {
    let (s3, client) = start_s3().await?;
    for n in 0..23 {
        s3.put(BUCKET, &format!("lake/type=Patient/part-{n:02}.ndjson"), vec![b'x'; n]).await?;
    }
    s3.put(BUCKET, "lakeside", "no").await?;
    s3.put(BUCKET, "a", "no").await?;
    let list = client.list_objects_v2().bucket(BUCKET).prefix("lake/").max_keys(10);
    let mut pages = list.into_paginator().send();
    let (mut sizes, mut objects) = (Vec::new(), Vec::new());
    while let Some(page) = pages.next().await {
        let page = page?;
        sizes.push(page.contents().len());
        objects.extend(page.contents.unwrap_or_default());
    }
    assert_eq!(sizes, [10, 10, 3]);
    for (n, object) in objects.iter().enumerate() {
        let key = format!("lake/type=Patient/part-{n:02}.ndjson");
        assert_eq!(object.key(), Some(key.as_str()));
        assert_eq!(object.size(), Some(i64::try_from(n)?));
        let head = client.head_object().bucket(BUCKET).key(key).send().await?;
        assert_eq!(object.e_tag(), head.e_tag());
        assert!(object.last_modified().is_some());
    }
    let roots = client.list_objects_v2().bucket(BUCKET).delimiter("/").send().await?;
    let prefixes: Vec<_> = roots.common_prefixes().iter().filter_map(|prefix| prefix.prefix()).collect();
    assert_eq!(prefixes, ["lake/"]);
    Ok(())
}

#[tokio::test]
async fn delete_objects_lists_the_deleted_keys_and_ignores_missing_ones() -> Result<(), BoxError> {
    let (s3, client) = start_s3().await?;
    s3.put(BUCKET, "one", "1").await?;
    s3.put(BUCKET, "two", "2").await?;
    s3.put(BUCKET, "kept", "3").await?;
    let object = |key: &str| ObjectIdentifier::builder().key(key).build();
    let keys = vec![object("one")?, object("two")?, object("none")?];
    let delete = Delete::builder().set_objects(Some(keys)).build()?;
    let deleted = client.delete_objects().bucket(BUCKET).delete(delete).send().await?;
    assert_eq!(deleted.deleted().len(), 3);
    assert_eq!(s3.keys(BUCKET, "").await?, ["kept"]);

    let too_many = (0..1001).map(|n| object(&format!("key-{n}"))).collect::<Result<Vec<_>, _>>()?;
    let delete = Delete::builder().set_objects(Some(too_many)).build()?;
    let error = client.delete_objects().bucket(BUCKET).delete(delete).send().await.unwrap_err();
    assert_eq!(error_status(&error), (400, "MalformedXML".to_owned()));
    Ok(())
}

#[tokio::test]
async fn a_copy_keeps_bytes_and_metadata() -> Result<(), BoxError> {
    let (s3, client) = start_s3().await?;
    let put = client.put_object().bucket(BUCKET).key("lake/a b.ndjson").metadata("count", "1");
    put.content_type("application/fhir+ndjson").body(bytes(MIB).into()).send().await?;
    let copy = client.copy_object().bucket(BUCKET).key("out/Patient-1.ndjson");
    copy.copy_source(format!("{BUCKET}/lake/a%20b.ndjson")).send().await?;
    assert_eq!(s3.get(BUCKET, "out/Patient-1.ndjson").await?, bytes(MIB));
    let head = client.head_object().bucket(BUCKET).key("out/Patient-1.ndjson").send().await?;
    assert_eq!(head.metadata().unwrap()["count"], "1");
    assert_eq!(head.content_type(), Some("application/fhir+ndjson"));
    let copy = client.copy_object().bucket(BUCKET).key("out/none");
    let error = copy.copy_source(format!("{BUCKET}/none")).send().await.unwrap_err();
    assert_eq!(error_status(&error), (404, "NoSuchKey".to_owned()));
    Ok(())
}

#[tokio::test]
async fn a_presigned_url_works_until_it_is_altered_or_expires() -> Result<(), BoxError> {
    let (s3, client) = start_s3().await?;
    let body = bytes(100_000);
    s3.put(BUCKET, "out/Patient-1.ndjson", body.clone()).await?;
    let lifetime = Duration::from_secs(300);
    let sign = |config: PresigningConfig| {
        let get = client.get_object().bucket(BUCKET).key("out/Patient-1.ndjson");
        let get = get.response_content_type("application/fhir+ndjson");
        async move { get.presigned(config).await.map_err(BoxError::from) }
    };
    let signed = sign(PresigningConfig::expires_in(lifetime)?).await?;
    let got = s3.fetch_presigned(signed.uri()).await?;
    assert_eq!(got.status(), 200);
    assert_eq!(got.headers()["content-type"], "application/fhir+ndjson");
    assert_eq!(*got.body(), body);

    let other = signed.uri().replace("Patient-1", "Patient-2");
    assert_eq!(s3.fetch_presigned(&other).await?.status(), 403);
    let unsigned = signed.uri().split('?').next().unwrap_or_default();
    assert_eq!(s3.fetch_presigned(unsigned).await?.status(), 403);

    let signed_in_2023 = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let signed = sign(PresigningConfig::builder().start_time(signed_in_2023).expires_in(lifetime).build()?).await?;
    assert_eq!(s3.fetch_presigned(signed.uri()).await?.status(), 403);
    Ok(())
}

#[tokio::test]
async fn the_signature_of_a_request_is_verified() -> Result<(), BoxError> {
    let (s3, _) = start_s3().await?;
    let wrong = aws_sdk_s3::config::Credentials::new("AKIDSTANDIN", "wrong", None, None, "test");
    let client = s3.client_with(|config| config.credentials_provider(wrong));
    let error = client.get_object().bucket(BUCKET).key("none").send().await.unwrap_err();
    assert_eq!(error_status(&error), (403, "SignatureDoesNotMatch".to_owned()));
    Ok(())
}

#[tokio::test]
async fn the_checksum_of_the_sdk_is_accepted_as_header_and_as_trailer() -> Result<(), BoxError> {
    let (s3, client) = start_s3().await?;
    let body = bytes(MIB + 1);
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), &body)?;
    let streamed = ByteStream::from_path(file.path()).await?;
    for (key, stream) in [("buffered", ByteStream::from(body.clone())), ("streamed", streamed)] {
        let put = client.put_object().bucket(BUCKET).key(key).body(stream).send().await?;
        let sum = put.checksum_crc32().or(put.checksum_crc64_nvme());
        assert!(sum.is_some(), "{key}");
        assert_eq!(s3.get(BUCKET, key).await?, body);
    }
    Ok(())
}

#[tokio::test]
async fn a_checksum_of_the_caller_is_verified_stored_and_returned_on_request() -> Result<(), BoxError> {
    let (s3, client) = start_s3().await?;
    let body = bytes(MIB + 1);
    let put = |key: &str, sum: String| {
        let put = client.put_object().bucket(BUCKET).key(key).body(body.clone().into());
        put.checksum_crc64_nvme(sum).send()
    };
    let error = put("wrong", crc64(b"other")).await.unwrap_err();
    assert_eq!(error_status(&error), (400, "BadDigest".to_owned()));
    assert!(s3.keys(BUCKET, "").await?.is_empty());

    put("right", crc64(&body)).await?;
    let head = client.head_object().bucket(BUCKET).key("right");
    assert_eq!(head.clone().send().await?.checksum_crc64_nvme(), None);
    let head = head.checksum_mode(ChecksumMode::Enabled).send().await?;
    assert_eq!(head.checksum_crc64_nvme(), Some(crc64(&body).as_str()));
    // The SDK verifies it while reading.
    assert_eq!(s3.get(BUCKET, "right").await?, body);
    Ok(())
}

async fn upload(client: &Client, key: &str, parts: &[Bytes]) -> Result<(String, Vec<CompletedPart>), BoxError> {
    let begun = client.create_multipart_upload().bucket(BUCKET).key(key).metadata("count", "9");
    let begun = begun.checksum_algorithm(ChecksumAlgorithm::Crc64Nvme).checksum_type(ChecksumType::FullObject);
    let id = begun.send().await?.upload_id.unwrap_or_default();
    let mut completed = Vec::new();
    for (number, part) in (1..).zip(parts) {
        let sent = client.upload_part().bucket(BUCKET).key(key).upload_id(&id).part_number(number);
        let sent = sent.checksum_crc64_nvme(crc64(part)).body(part.clone().into()).send().await?;
        completed.push(CompletedPart::builder().part_number(number).set_e_tag(sent.e_tag).build());
    }
    Ok((id, completed))
}

fn list(parts: Vec<CompletedPart>) -> CompletedMultipartUpload {
    CompletedMultipartUpload::builder().set_parts(Some(parts)).build()
}

#[tokio::test]
async fn a_multipart_upload_is_visible_only_after_completion() -> Result<(), BoxError> {
    let (s3, client) = start_s3().await?;
    let body = bytes(12 * MIB);
    let parts = [body.slice(..5 * MIB), body.slice(5 * MIB..10 * MIB), body.slice(10 * MIB..)];
    client.put_object().bucket(BUCKET).key("key").body(bytes(10).into()).checksum_crc64_nvme(crc64(&bytes(10))).send().await?;
    let (id, completed) = upload(&client, "key", &parts).await?;
    assert_eq!(s3.get(BUCKET, "key").await?, bytes(10));
    let listed = client.list_parts().bucket(BUCKET).key("key").upload_id(&id).send().await?;
    assert_eq!(listed.parts().len(), 3);
    let open = client.list_multipart_uploads().bucket(BUCKET).prefix("k").send().await?;
    assert_eq!(open.uploads()[0].upload_id(), Some(id.as_str()));

    let complete = |sum: String| {
        let complete = client.complete_multipart_upload().bucket(BUCKET).key("key").upload_id(&id);
        complete.checksum_crc64_nvme(sum).multipart_upload(list(completed.clone())).send()
    };
    let error = complete(crc64(b"other")).await.unwrap_err();
    assert_eq!(error_status(&error), (400, "BadDigest".to_owned()));
    let done = complete(crc64(&body)).await?;
    assert!(done.e_tag().unwrap().ends_with("-3\""));
    let head = client.head_object().bucket(BUCKET).key("key").checksum_mode(ChecksumMode::Enabled).send().await?;
    assert_eq!(head.checksum_crc64_nvme(), Some(crc64(&body).as_str()));
    assert_eq!(head.metadata().unwrap()["count"], "9");
    assert_eq!(s3.get(BUCKET, "key").await?, body);
    let open = client.list_multipart_uploads().bucket(BUCKET).send().await?;
    assert!(open.uploads().is_empty());
    let error = complete(crc64(&body)).await.unwrap_err();
    assert_eq!(error_status(&error), (404, "NoSuchUpload".to_owned()));
    Ok(())
}

#[tokio::test]
async fn a_completed_upload_does_not_keep_the_checksum_of_the_previous_object() -> Result<(), BoxError> {
    let (s3, client) = start_s3().await?;
    s3.put(BUCKET, "key", "old").await?;
    let (id, completed) = upload(&client, "key", &[bytes(MIB)]).await?;
    let complete = client.complete_multipart_upload().bucket(BUCKET).key("key").upload_id(id);
    complete.multipart_upload(list(completed)).send().await?;
    assert_eq!(s3.get(BUCKET, "key").await?, bytes(MIB));
    Ok(())
}

#[tokio::test]
async fn invalid_part_lists_are_rejected_and_the_upload_stays_open() -> Result<(), BoxError> {
    let (s3, client) = start_s3().await?;
    let (id, completed) = upload(&client, "key", &[bytes(MIB), bytes(MIB)]).await?;
    let complete = |parts: Vec<CompletedPart>| {
        let complete = client.complete_multipart_upload().bucket(BUCKET).key("key").upload_id(&id);
        complete.multipart_upload(list(parts)).send()
    };
    let error = complete(completed.clone()).await.unwrap_err();
    assert_eq!(error_status(&error), (400, "EntityTooSmall".to_owned()));
    let error = complete(completed.iter().rev().cloned().collect()).await.unwrap_err();
    assert_eq!(error_status(&error), (400, "InvalidPartOrder".to_owned()));
    let forged = CompletedPart::builder().part_number(1).e_tag("\"0123\"").build();
    let error = complete(vec![forged]).await.unwrap_err();
    assert_eq!(error_status(&error), (400, "InvalidPart".to_owned()));
    let part = client.upload_part().bucket(BUCKET).key("key").upload_id(&id).part_number(3);
    let error = part.checksum_crc64_nvme(crc64(b"other")).body(bytes(10).into()).send().await.unwrap_err();
    assert_eq!(error_status(&error), (400, "BadDigest".to_owned()));

    s3.put(BUCKET, "key", "first").await?;
    let late = client.complete_multipart_upload().bucket(BUCKET).key("key").upload_id(&id);
    let late = late.if_none_match("*").multipart_upload(list(completed[..1].to_vec()));
    let error = late.send().await.unwrap_err();
    assert_eq!(error_status(&error), (412, "PreconditionFailed".to_owned()));

    client.abort_multipart_upload().bucket(BUCKET).key("key").upload_id(&id).send().await?;
    let abort = client.abort_multipart_upload().bucket(BUCKET).key("key").upload_id(&id);
    let error = abort.send().await.unwrap_err();
    assert_eq!(error_status(&error), (404, "NoSuchUpload".to_owned()));
    assert_eq!(s3.get(BUCKET, "key").await?, "first");
    Ok(())
}

/// Shows the gaps that the `standins` module documents. If an assertion fails, a gap is closed: correct that list.
#[tokio::test]
async fn the_known_gaps_of_this_s3_are_as_documented() -> Result<(), BoxError> {
    let (s3, client) = start_s3().await?;
    s3.put(BUCKET, "a", "an object").await?;
    let put = client.put_object().bucket(BUCKET).key("a/b").body(bytes(1).into());
    let put = put.customize().config_override(Config::builder().retry_config(RetryConfig::disabled()));
    assert_eq!(error_status(&put.send().await.unwrap_err()).0, 500);

    s3.put(BUCKET, "b//c", "x").await?;
    assert_eq!(s3.keys(BUCKET, "").await?, ["a", "b/c"]);

    let put = client.put_object().bucket(BUCKET).key("a").body(bytes(1).into()).send().await?;
    assert_eq!(put.version_id(), None);
    let head = client.head_object().bucket(BUCKET).key("a").checksum_mode(ChecksumMode::Enabled);
    assert_eq!(head.send().await?.checksum_crc64_nvme(), None);
    Ok(())
}
