//! Errors that the S3 stand-in does not produce: buckets in other regions, and keys that cannot be used.

use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use headrace_core::job::file::{FileName, FileSummary, FragmentName, OutputFile, OutputFileName, OutputKind};
use headrace_core::job::file_names::FileNames;
use headrace_core::job::folder::Folder;
use headrace_core::job::task::Pin;
use headrace_core::ports::{FileAccess, FileRequest, FileWriter as _, OutputStore as _, ResourceSource as _};
use headrace_core::request::EncryptionKey;
use headrace_core::vocab::error::{SourceError, StoreError};

use super::{S3Lake, S3OutputStore};
use crate::script::{Answer, Script};

/// A connection to S3 that returns the same response to every request.
#[derive(Clone, Debug)]
struct FixedResponse(u16, String);

impl HttpConnector for FixedResponse {
    fn call(&self, _: HttpRequest) -> HttpConnectorFuture {
        HttpConnectorFuture::ready(Ok(HttpResponse::new(self.0.try_into().unwrap(), SdkBody::from(self.1.clone()))))
    }
}

fn store(status: u16, code: &str) -> S3OutputStore {
    S3OutputStore::new(&client(status, code), "exports", "out").with_client_buckets(["clinic".to_owned()].into())
}

fn client(status: u16, code: &str) -> Client {
    let response = FixedResponse(status, if code.is_empty() { String::new() } else { format!("<Error><Code>{code}</Code></Error>") });
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::from_static("eu-central-1"))
        .credentials_provider(Credentials::new("id", "secret", None, None, "tests"))
        .retry_config(RetryConfig::disabled())
        .http_client(http_client_fn(move |_: &HttpConnectorSettings, _: &_| SharedHttpConnector::new(response.clone())));
    Client::from_conf(config.build())
}

/// Returns the remedy of an error that the operator must correct, and an empty text for other results.
fn remedy(result: Result<(), StoreError>) -> String {
    match result {
        Err(StoreError::Misconfigured { remedy, .. }) => remedy,
        Ok(())
        | Err(
            StoreError::NotApplied { .. }
            | StoreError::Overloaded { .. }
            | StoreError::Unknown { .. }
            | StoreError::Stale
            | StoreError::OutOfSpace { .. }
            | StoreError::Unreadable { .. },
        ) => String::new(),
    }
}

fn assert_contains(remedy: &str, words: &[&str]) {
    assert!(words.iter().all(|word| remedy.contains(word)), "{remedy}");
}

#[tokio::test]
async fn errors_of_a_bucket_name_the_setting_and_the_remedy() {
    for (status, expected) in [(301, "region of this service"), (403, "extend the policy"), (404, "create it")] {
        assert_contains(&remedy(store(status, "").check(None).await), &["HEADRACE_DESTINATION_BUCKET", "`exports`", expected]);
        assert_contains(&remedy(store(status, "").check(Some("clinic/out")).await), &["client's registration", "`clinic`", expected]);
    }
    assert!(matches!(store(503, "").check(Some("clinic")).await, Err(StoreError::Unknown { .. })));
}

/// Writes an empty file, encrypted with a key of the job if there is one.
async fn write(store: &S3OutputStore, destination: Option<&str>, key: Option<&str>) -> Result<(), StoreError> {
    let encryption_key = key.map(|name| EncryptionKey { name: name.to_owned(), arn: "arn:CANARY".to_owned() });
    let folder = Folder { destination: destination.map(str::to_owned), path: "x".to_owned(), encryption_key };
    let name = FragmentName { kind: OutputKind::parse("Patient").unwrap(), task: 2, attempt: 1, fencing_token: 1 };
    let writer = store.new_fragment(&folder, name).await?;
    writer.commit(FileName::Fragment(name), FileSummary { bytes: 0, lines: 0, crc64: 0 }).await
}

#[tokio::test]
async fn errors_of_an_encryption_key_show_its_name_and_not_its_arn() {
    let denied = store(403, "AccessDenied");
    let text = remedy(write(&denied, Some("clinic/out"), Some("trial")).await);
    assert_contains(&text, &["client's registration", "`clinic`", "HEADRACE_OUTPUT_KMS_KEYS", "`trial`", "extend the policies"]);
    assert!(!remedy(write(&denied, None, None).await).contains("HEADRACE_OUTPUT_KMS_KEYS"));
    for code in ["KMS.DisabledException", "KMS.NotFoundException", "KMS.KMSInvalidStateException", "KMS.InvalidKeyUsageException"] {
        let text = remedy(write(&store(400, code), None, Some("trial")).await);
        assert_contains(&text, &["HEADRACE_OUTPUT_KMS_KEYS", "`trial`", "enabled"]);
        assert!(!text.contains("CANARY"), "{text}");
        // Without a key of the job, the error is about the bucket's default key.
        assert_contains(&remedy(write(&store(400, code), None, None).await), &["HEADRACE_DESTINATION_BUCKET", "`exports`", "enabled"]);
    }
}

#[tokio::test]
async fn errors_of_the_lake_that_no_retry_mends_name_the_setting_and_the_remedy() {
    let pin = Pin { object: "Patient.ndjson".to_owned(), etag: "\"x\"".to_owned(), size: 10 };
    for (status, code, expected) in [
        (403, "AccessDenied", "extend the policy"),
        (403, "AllAccessDisabled", "extend the policy"),
        (403, "InvalidAccessKeyId", "extend the policy"),
        (301, "PermanentRedirect", "region of this service"),
        (400, "KMS.DisabledException", "enabled"),
        (400, "KMS.NotFoundException", "enabled"),
        (503, "SlowDown", ""),
        (500, "InternalError", ""),
    ] {
        let lake = S3Lake::new(&client(status, code), "lake", "").with_patience(Duration::from_millis(30));
        let read = lake.read(&pin, 0..10).next().await.unwrap().map(drop);
        for result in [lake.list(None).await.map(drop), read] {
            match result {
                Err(SourceError::Misconfigured { remedy, .. }) if !expected.is_empty() => {
                    assert_contains(&remedy, &["HEADRACE_SOURCE_BUCKET", "`lake`", expected]);
                }
                Err(SourceError::Overloaded(_)) if code == "SlowDown" => {}
                Err(SourceError::Unavailable(_)) if code == "InternalError" => {}
                other => panic!("{status} {code}: {other:?}"),
            }
        }
    }
    let missing = S3Lake::new(&client(404, "NoSuchBucket"), "lake", "").list(None).await.unwrap_err();
    assert_contains(&missing.to_string(), &["HEADRACE_SOURCE_BUCKET", "`lake`", "create it"]);
}

/// Returns a client that gets these answers and makes one try for each.
pub(super) fn scripted_client(answers: impl IntoIterator<Item = Answer>) -> (Client, Script) {
    let script = Script::new(answers);
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::from_static("eu-central-1"))
        .credentials_provider(Credentials::new("id", "secret", None, None, "tests"))
        .retry_config(RetryConfig::disabled())
        .http_client(script.http_client());
    (Client::from_conf(config.build()), script)
}

/// Returns a destination that gets these answers.
fn scripted_output(answers: impl IntoIterator<Item = Answer>) -> (S3OutputStore, Script) {
    let (client, script) = scripted_client(answers);
    (S3OutputStore::new(&client, "exports", "out").with_patience(Duration::from_millis(50)), script)
}

/// Returns a lake that gets these answers.
fn scripted_lake(answers: impl IntoIterator<Item = Answer>) -> (S3Lake, Script) {
    let (client, script) = scripted_client(answers);
    (S3Lake::new(&client, "lake", "fhir").with_patience(Duration::from_millis(50)), script)
}

/// Returns an error response of S3.
fn s3_error(status: u16, code: &str) -> Answer {
    Answer::Http(status, format!("<Error><Code>{code}</Code></Error>"))
}

fn done() -> Answer {
    Answer::Http(200, String::new())
}

fn folder() -> Folder {
    Folder { destination: None, path: "x".to_owned(), encryption_key: None }
}

const SUMMARY: FileSummary = FileSummary { bytes: 5, lines: 1, crc64: 7 };

fn output_file() -> OutputFileName {
    OutputFileName { kind: OutputKind::parse("Patient").unwrap(), number: 1 }
}

/// Writes an output file of five bytes.
async fn write_output_file(store: &S3OutputStore) -> Result<(), StoreError> {
    let kind = OutputKind::parse("Patient").unwrap();
    let mut writer = store.new_fragment(&folder(), FragmentName { kind, task: 2, attempt: 1, fencing_token: 1 }).await?;
    writer.write(Bytes::from_static(b"line\n")).await?;
    writer.commit(FileName::Output(output_file()), SUMMARY).await
}

/// Returns the answer to a HEAD of an object with this content.
fn head_of(summary: FileSummary) -> Answer {
    let headers = vec![("content-length", summary.bytes.to_string()), ("x-amz-meta-crc64", format!("{:016x}", summary.crc64))];
    Answer::WithHeaders(200, headers, String::new())
}

#[tokio::test]
async fn a_conditional_write_that_met_another_is_repeated() {
    let (store, script) = scripted_output([s3_error(409, "ConditionalRequestConflict"), s3_error(503, "SlowDown"), done()]);
    write_output_file(&store).await.unwrap();
    let sent = script.sent();
    assert!(sent.len() == 3 && sent.iter().all(|sent| sent.method == "PUT" && sent.uri.contains("/out/exports/x/Patient-1.ndjson")));
}

#[tokio::test]
async fn a_write_that_landed_before_its_repetition_is_compared_with_the_object() {
    let (store, _) = scripted_output([s3_error(409, "ConditionalRequestConflict"), s3_error(412, "PreconditionFailed"), head_of(SUMMARY)]);
    write_output_file(&store).await.unwrap();
    let other = FileSummary { crc64: 8, ..SUMMARY };
    let (store, _) = scripted_output([s3_error(412, "PreconditionFailed"), head_of(other)]);
    assert!(matches!(write_output_file(&store).await, Err(StoreError::Stale)));
}

#[tokio::test]
async fn a_bucket_that_stays_overloaded_is_reported_as_such() {
    for (status, code) in [(503, "SlowDown"), (409, "ConditionalRequestConflict"), (409, "OperationAborted")] {
        let (store, _) = scripted_output([s3_error(status, code)]);
        assert!(matches!(write_output_file(&store).await, Err(StoreError::Overloaded { .. })), "{code}");
    }
}

// S3 answers a copy with 200 before it is done. An error then is in the body.
#[tokio::test]
async fn a_copy_that_failed_after_its_status_is_an_error() {
    let fragment = headrace_core::job::file::Fragment {
        name: FragmentName { kind: OutputKind::parse("Patient").unwrap(), task: 2, attempt: 1, fencing_token: 1 },
        summary: SUMMARY,
    };
    let (store, _) = scripted_output([s3_error(200, "InternalError")]);
    let copied = store.promote(&folder(), &fragment, output_file()).await;
    assert!(matches!(copied, Err(StoreError::Unknown { .. } | StoreError::NotApplied { .. })), "{copied:?}");
}

#[tokio::test]
async fn a_completion_that_landed_before_its_repetition_is_compared_with_the_object() {
    const SIZE: usize = 73 << 20;
    let summary = FileSummary { bytes: SIZE as u64, ..SUMMARY };
    for (length, succeeds) in [(SIZE as u64, true), (SIZE as u64 - 1, false)] {
        let created = "<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>";
        let part = Answer::WithHeaders(200, vec![("etag", "\"e\"".to_owned())], String::new());
        let parts = std::iter::repeat_n(part, SIZE.div_ceil(32 << 20));
        let head = head_of(FileSummary { bytes: length, ..summary });
        let answers = [Answer::Http(200, created.to_owned())].into_iter().chain(parts).chain([s3_error(404, "NoSuchUpload"), head]);
        let (store, _) = scripted_output(answers);
        let name = FragmentName { kind: OutputKind::parse("Patient").unwrap(), task: 2, attempt: 1, fencing_token: 1 };
        let mut writer = store.new_fragment(&folder(), name).await.unwrap();
        writer.write(Bytes::from(vec![b'\n'; SIZE])).await.unwrap();
        let committed = writer.commit(FileName::Fragment(name), summary).await;
        assert_eq!(committed.is_ok(), succeeds, "{committed:?}");
    }
}

#[tokio::test]
async fn a_multipart_upload_waits_for_an_overloaded_bucket() {
    const SIZE: usize = 73 << 20;
    let created = "<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>";
    let part = || Answer::WithHeaders(200, vec![("etag", "\"e\"".to_owned())], String::new());
    let overloaded = || s3_error(503, "SlowDown");
    let created = Answer::Http(200, created.to_owned());
    let completed = Answer::Http(200, "<CompleteMultipartUploadResult></CompleteMultipartUploadResult>".to_owned());
    let (store, script) =
        scripted_output([overloaded(), created, part(), overloaded(), overloaded(), part(), part(), overloaded(), completed]);
    let name = FragmentName { kind: OutputKind::parse("Patient").unwrap(), task: 2, attempt: 1, fencing_token: 1 };
    let mut writer = store.new_fragment(&folder(), name).await.unwrap();
    writer.write(Bytes::from(vec![b'\n'; SIZE])).await.unwrap();
    writer.commit(FileName::Fragment(name), FileSummary { bytes: SIZE as u64, ..SUMMARY }).await.unwrap();
    let parts: Vec<_> = script.sent().iter().filter_map(|sent| sent.uri.split_once("partNumber=")?.1.chars().next()).collect();
    assert_eq!(parts, ['1', '2', '2', '2', '3']);
}

#[tokio::test]
async fn a_url_is_signed_for_the_method_of_the_request() {
    let (store, _) = scripted_output([done()]);
    let file = OutputFile { name: output_file(), summary: SUMMARY };
    let url = async |request| match store.file_access(&folder(), &file, request).await.unwrap() {
        FileAccess::Redirect(url) => url.split_once("X-Amz-Signature=").unwrap().1.to_owned(),
        FileAccess::Local(_) => panic!("S3 has no local files"),
    };
    assert_ne!(url(FileRequest::Content).await, url(FileRequest::Headers).await);
}

/// Returns a listing of these objects: key, storage class, restore status.
fn listing(objects: &[(&str, &str, &str)]) -> Answer {
    let object = |(key, class, restore): &(&str, &str, &str)| {
        format!(
            "<Contents><Key>{key}</Key><ETag>&quot;e&quot;</ETag><Size>5</Size><StorageClass>{class}</StorageClass>{restore}</Contents>"
        )
    };
    Answer::Http(200, format!("<ListBucketResult>{}</ListBucketResult>", objects.iter().map(object).collect::<String>()))
}

#[tokio::test]
async fn archived_objects_are_listed_separately_unless_they_are_restored() {
    let restored = "<RestoreStatus><IsRestoreInProgress>false</IsRestoreInProgress>\
                    <RestoreExpiryDate>2026-12-21T00:00:00.000Z</RestoreExpiryDate></RestoreStatus>";
    let in_progress = "<RestoreStatus><IsRestoreInProgress>true</IsRestoreInProgress></RestoreStatus>";
    let (lake, script) = scripted_lake([listing(&[
        ("fhir/a.ndjson", "STANDARD", ""),
        ("fhir/b.ndjson", "GLACIER", ""),
        ("fhir/c.ndjson", "GLACIER_IR", ""),
        ("fhir/d.ndjson", "DEEP_ARCHIVE", restored),
        ("fhir/e.ndjson", "DEEP_ARCHIVE", in_progress),
        ("fhir/f.ndjson", "INTELLIGENT_TIERING", ""),
    ])]);
    let page = lake.list(None).await.unwrap();
    assert_eq!(page.objects.iter().map(|listed| &*listed.pin.object).collect::<Vec<_>>(), ["a.ndjson", "c.ndjson", "d.ndjson", "f.ndjson"]);
    let archived: Vec<_> = page.archived.iter().map(|archived| (&*archived.pin.object, &*archived.storage_class)).collect();
    assert_eq!(archived, [("b.ndjson", "GLACIER"), ("e.ndjson", "DEEP_ARCHIVE")]);
    assert!(script.sent()[0].uri.contains("list-type=2"));
}

/// Reads five bytes of an object of the lake.
async fn read(lake: &S3Lake) -> Result<Vec<u8>, SourceError> {
    let pin = Pin { object: "a.ndjson".to_owned(), etag: "\"e\"".to_owned(), size: 5 };
    let pieces: Vec<Bytes> = lake.read(&pin, 0..5).try_collect().await?;
    Ok(pieces.concat())
}

#[tokio::test]
async fn an_object_that_was_archived_after_the_listing_is_named() {
    let body = "<Error><Code>InvalidObjectState</Code><StorageClass>INTELLIGENT_TIERING</StorageClass>\
                <AccessTier>DEEP_ARCHIVE_ACCESS</AccessTier></Error>";
    let (lake, _) = scripted_lake([Answer::Http(403, body.to_owned())]);
    let error = read(&lake).await.unwrap_err().to_string();
    assert!(["a.ndjson", "INTELLIGENT_TIERING", "DEEP_ARCHIVE_ACCESS", "restore"].iter().all(|word| error.contains(word)), "{error}");
}

#[tokio::test]
async fn a_read_whose_body_broke_off_is_repeated() {
    let (lake, script) = scripted_lake([Answer::Broken("li".to_owned(), 5), Answer::Lost, Answer::Broken("line\n".to_owned(), 5)]);
    assert_eq!(read(&lake).await.unwrap(), b"line\n");
    assert_eq!(script.sent().len(), 3);
}

#[tokio::test]
async fn an_overloaded_lake_is_reported_as_such() {
    let (lake, _) = scripted_lake([s3_error(503, "SlowDown")]);
    assert!(matches!(read(&lake).await, Err(SourceError::Overloaded(_))));
    assert!(matches!(lake.list(None).await, Err(SourceError::Overloaded(_))));
}

#[tokio::test]
async fn a_read_of_a_fragment_waits_for_an_overloaded_bucket() {
    let fragment = FragmentName { kind: OutputKind::parse("Patient").unwrap(), task: 2, attempt: 1, fencing_token: 1 };
    let content = Answer::Http(206, "line\n".to_owned());
    let (store, script) = scripted_output([s3_error(503, "SlowDown"), s3_error(503, "SlowDown"), content]);
    let pieces: Vec<Bytes> = store.read(&folder(), &fragment, 0..5).try_collect().await.unwrap();
    assert_eq!((pieces.concat(), script.sent().len()), (b"line\n".to_vec(), 3));
    let (store, _) = scripted_output([s3_error(503, "SlowDown")]);
    let read: Result<Vec<Bytes>, _> = store.read(&folder(), &fragment, 0..5).try_collect().await;
    assert!(matches!(read, Err(SourceError::Overloaded(_))));
}

#[tokio::test]
async fn a_bucket_with_requester_pays_is_distinguished_from_a_missing_permission() {
    let remedy = |result: Result<(), SourceError>| match result {
        Err(SourceError::Misconfigured { remedy, .. }) => remedy,
        other => panic!("{other:?}"),
    };
    let denied = || [Answer::Http(403, String::new()), s3_error(403, "AccessDenied")];
    let (lake, _) = scripted_lake(denied());
    assert_contains(&remedy(lake.check().await), &["HEADRACE_SOURCE_BUCKET", "extend the policy"]);
    let (lake, script) = scripted_lake([Answer::Http(403, String::new()), listing(&[])]);
    assert_contains(&remedy(lake.check().await), &["HEADRACE_SOURCE_BUCKET", "Requester Pays"]);
    assert!(script.sent()[1].uri.contains("max-keys=1"));
    let (lake, _) = scripted_lake([s3_error(403, "AccessDenied"), listing(&[])]);
    assert_contains(&remedy(lake.list(None).await.map(drop)), &["Requester Pays"]);
}

#[tokio::test]
async fn expired_credentials_and_a_wrong_clock_are_not_reported_as_a_missing_permission() {
    for (status, code) in [(400, "ExpiredToken"), (403, "RequestTimeTooSkewed")] {
        let (lake, _) = scripted_lake([s3_error(status, code)]);
        assert!(matches!(read(&lake).await, Err(SourceError::Unavailable(_))), "{code}");
    }
}

// The response to a deletion of many objects has the status 200 even if none of them was deleted.
#[tokio::test]
async fn an_object_that_may_not_be_deleted_is_a_missing_permission() {
    let uploads = "<ListMultipartUploadsResult></ListMultipartUploadsResult>";
    let objects = listing(&[("out/exports/x/Patient-1.ndjson", "STANDARD", "")]);
    for (code, words) in [("AccessDenied", Some("extend the policy")), ("InternalError", None)] {
        let failed = format!("<DeleteResult><Error><Key>k</Key><Code>{code}</Code></Error></DeleteResult>");
        let (store, _) = scripted_output([Answer::Http(200, uploads.to_owned()), objects.clone(), Answer::Http(200, failed)]);
        let deleted = store.delete_all_except(&folder(), &FileNames::default()).await.map(drop);
        match words {
            Some(words) => assert_contains(&remedy(deleted), &[words]),
            None => assert!(matches!(deleted, Err(StoreError::NotApplied { .. })), "{deleted:?}"),
        }
    }
}

/// Returns the names of the objects that a request deletes.
fn deleted_names(sent: &crate::script::Sent) -> Vec<String> {
    sent.body.split("<Key>").skip(1).filter_map(|rest| Some(rest.split_once("</Key>")?.0.to_owned())).collect()
}

// S3 does so while it skips versions that were deleted. A sweep that ends there would leave files for ever.
#[tokio::test]
async fn a_part_of_a_folder_goes_on_behind_an_answer_without_objects() {
    let uploads = Answer::Http(200, "<ListMultipartUploadsResult></ListMultipartUploadsResult>".to_owned());
    let page = |keys: &[&str], token: &str| {
        let objects: String = keys.iter().map(|key| format!("<Contents><Key>out/exports/x/{key}</Key></Contents>")).collect();
        let next = if token.is_empty() {
            "<IsTruncated>false</IsTruncated>".to_owned()
        } else {
            format!("<IsTruncated>true</IsTruncated><NextContinuationToken>{token}</NextContinuationToken>")
        };
        Answer::Http(200, format!("<ListBucketResult>{objects}{next}</ListBucketResult>"))
    };
    let deleted = Answer::Http(200, "<DeleteResult></DeleteResult>".to_owned());
    let answers = [uploads, page(&[], "one"), page(&["Patient-1.ndjson", "Patient-2.ndjson"], "two"), deleted.clone()];
    let (store, script) = scripted_output(answers.into_iter().chain([page(&["Patient-3.ndjson"], ""), deleted]));
    let keep = FileNames::from([OutputFileName::parse("Patient-1.ndjson").unwrap()]);
    let first = store.delete_part_except(&folder(), &keep, None).await.unwrap();
    assert_eq!((first.deleted, first.next.as_deref()), (1, Some("Patient-2.ndjson")));
    let second = store.delete_part_except(&folder(), &keep, first.next.as_deref()).await.unwrap();
    assert_eq!((second.deleted, second.next), (1, None));
    let sent = script.sent();
    let names: Vec<String> = sent.iter().flat_map(deleted_names).collect();
    assert_eq!(names, ["out/exports/x/Patient-2.ndjson", "out/exports/x/Patient-3.ndjson"]);
    // The position is a key, which another process may use long afterwards. Uploads were aborted before the first part.
    let last_list = sent.iter().rev().find(|sent| sent.method == "GET").unwrap();
    assert!(last_list.uri.contains("start-after=out%2Fexports%2Fx%2FPatient-2.ndjson"), "{}", last_list.uri);
    assert_eq!(sent.iter().filter(|sent| sent.uri.contains("uploads")).count(), 1);
}

#[tokio::test]
async fn all_unfinished_uploads_are_aborted_however_many_there_are() {
    let page = |names: std::ops::Range<usize>, is_truncated: bool| {
        let upload = |n: usize| format!("<Upload><Key>out/exports/x/{n}</Key><UploadId>id-{n}</UploadId></Upload>");
        let uploads: String = names.clone().map(upload).collect();
        let last = names.end - 1;
        Answer::Http(
            200,
            format!(
                "<ListMultipartUploadsResult><IsTruncated>{is_truncated}</IsTruncated><NextKeyMarker>out/exports/x/{last}</NextKeyMarker>\
                 <NextUploadIdMarker>id-{last}</NextUploadIdMarker>{uploads}</ListMultipartUploadsResult>"
            ),
        )
    };
    let aborted = |count: usize| std::iter::repeat_n(Answer::Http(204, String::new()), count);
    let answers = std::iter::once(page(1..41, true)).chain(aborted(40)).chain([page(41..43, false)]).chain(aborted(2));
    let (store, script) = scripted_output(answers.chain([listing(&[])]));
    assert_eq!(store.delete_all_except(&folder(), &FileNames::default()).await.unwrap(), 0);
    let sent = script.sent();
    assert_eq!(sent.iter().filter(|sent| sent.method == "DELETE").count(), 42);
    assert!(sent.iter().any(|sent| sent.uri.contains("upload-id-marker=id-40")), "{sent:?}");
}
