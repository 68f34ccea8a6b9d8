//! `headrace lake` over lakes in S3, as a program and through the adapter with failures at every call.

#![allow(clippy::indexing_slicing, reason = "an absent member of a JSON value is Null, which the tests then reject")]

use std::fs;
use std::io::{self, Read};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::{
    BeforeDeserializationInterceptorContextRef, BeforeTransmitInterceptorContextRef,
};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::{ConfigBag, Storable, StoreReplace};
use axum::Router;
use axum::body::{Body, to_bytes};
use headrace_aws::{S3Lake, S3LakeWriter};
use headrace_core::job::task::Pin;
use headrace_core::ports::CopyOutcome;
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::lake_settings::LakeWatermark;
use headrace_lake::add::{AddError, AddReport, AddSettings, TableVersions, WatermarkChange, add_to_bucket};
use headrace_lake::compact::{CompactError, CompactReport, CompactSettings, compact_bucket};
use headrace_lake::progress::Progress;
use headrace_lake::writing::{LakeBucket, LockClock, RewriteSettings, unfinished_runs_in};
use headrace_local::stores::lake_bucket::BlockingLakeBucket;
use headrace_tests::flows::{Result, run};
use headrace_tests::standins::s3::S3StandIn;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use super::process;

const BUCKET: &str = "lake-bucket";
const PREFIX: &str = "fhir";

/// The time of the first run: 2026-11-29T10:30:00Z.
const NOW: Millis = Millis(1_795_948_200_000);

/// The time after which the lock of a run that was stopped has ended.
const LOCK_END: Duration = Duration::from_secs(601);

/// Reads the lines of compressed objects.
async fn decompress(bytes: &[u8]) -> Result<Vec<String>> {
    let mut decoder = async_compression::tokio::bufread::ZstdDecoder::new(bytes);
    decoder.multiple_members(true);
    let mut text = String::new();
    decoder.read_to_string(&mut text).await?;
    Ok(text.lines().map(str::to_owned).collect())
}

/// Returns the keys of a lake's objects with data.
async fn data_keys(s3: &S3StandIn) -> Result<Vec<String>> {
    Ok(s3.keys(BUCKET, "").await?.into_iter().filter(|key| !key.contains("_headrace")).collect())
}

/// Returns the keys of a lake's internal objects, other than receipts and the watermark.
async fn leftovers(s3: &S3StandIn) -> Result<Vec<String>> {
    let is_lasting = |key: &str| key.contains("_headrace/added/") || key.ends_with("_headrace/watermark.json");
    Ok(s3.keys(BUCKET, "").await?.into_iter().filter(|key| key.contains("_headrace") && !is_lasting(key)).collect())
}

/// Returns the lines that exports of a lake in S3 read, sorted.
async fn bucket_lines(s3: &S3StandIn) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for key in data_keys(s3).await? {
        lines.extend(decompress(&s3.get(BUCKET, &key).await?).await?);
    }
    lines.sort();
    Ok(lines)
}

/// Returns the lines that exports of a lake in a directory read, sorted.
async fn directory_lines(lake: &Path) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for entry in walkdir::WalkDir::new(lake) {
        let entry = entry?;
        if entry.file_type().is_file() && !entry.path().to_string_lossy().contains("_headrace") {
            lines.extend(decompress(&fs::read(entry.path())?).await?);
        }
    }
    lines.sort();
    Ok(lines)
}

/// Returns a Bundle of resources.
fn bundle(resources: &[Value]) -> String {
    let entries: Vec<Value> = resources.iter().map(|resource| json!({ "resource": resource })).collect();
    json!({ "resourceType": "Bundle", "type": "collection", "entry": entries }).to_string()
}

/// Returns a version of a Patient.
fn patient(id: &str, version: u32) -> Value {
    json!({
        "resourceType": "Patient",
        "id": id,
        "identifier": [{ "system": "urn:mrn", "value": id }],
        "meta": { "versionId": version.to_string(), "lastUpdated": format!("2026-01-{version:02}T00:00:00Z") },
    })
}

/// Returns an Observation whose Patient is named by an identifier.
fn observation(id: &str, patient: &str) -> Value {
    json!({
        "resourceType": "Observation",
        "id": id,
        "meta": { "lastUpdated": "2026-01-01T00:00:00Z" },
        "subject": { "reference": format!("Patient?identifier=urn:mrn|{patient}") },
    })
}

/// S3 over HTTP, and a folder in which the program runs.
struct S3Server {
    s3: S3StandIn,
    url: String,
    folder: TempDir,
    _tasks: JoinSet<()>,
}

impl S3Server {
    /// Starts S3 with an empty bucket.
    async fn start() -> Result<Self> {
        let s3 = S3StandIn::start()?;
        s3.create_bucket(BUCKET).await?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let service = s3.clone();
        let app = Router::new().fallback(move |request: axum::extract::Request| {
            let service = service.clone();
            async move {
                let (head, body) = request.into_parts();
                let bytes = to_bytes(body, usize::MAX).await.unwrap_or_default();
                match service.respond(http::Request::from_parts(head, bytes)).await {
                    Ok(response) => response.map(Body::from),
                    Err(error) => http::Response::builder().status(500).body(Body::from(error.to_string())).unwrap_or_default(),
                }
            }
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { drop(axum::serve(listener, app).await) });
        Ok(Self { s3, url, folder: tempfile::tempdir()?, _tasks: tasks })
    }

    /// Writes a file of the input.
    fn write(&self, name: &str, content: &str) -> Result<()> {
        let path = self.folder.path().join(name);
        fs::create_dir_all(path.parent().ok_or("no folder")?)?;
        Ok(fs::write(path, content)?)
    }

    /// Runs the program. Returns its exit status, standard output and standard error.
    async fn headrace(&self, arguments: &[&str]) -> Result<(Option<i32>, String, String)> {
        let mut command = process::headrace(arguments);
        let (access_key, secret_key) = S3StandIn::CREDENTIALS;
        command.current_dir(self.folder.path()).stdin(Stdio::null()).env("AWS_ENDPOINT_URL", &self.url);
        command.env("AWS_ACCESS_KEY_ID", access_key).env("AWS_SECRET_ACCESS_KEY", secret_key).env("AWS_REGION", "eu-central-1");
        command.env("AWS_EC2_METADATA_DISABLED", "true").env_remove("AWS_PROFILE").env("TMPDIR", self.folder.path());
        let output = tokio::task::spawn_blocking(move || command.output()).await??;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok((output.status.code(), text(&output.stdout), text(&output.stderr)))
    }
}

#[test]
fn a_lake_in_s3_is_filled_checked_and_compacted_like_one_in_a_directory() -> Result<()> {
    run(async || {
        let server = S3Server::start().await?;
        let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("samples/bundles");
        let samples = samples.to_str().ok_or("a path that is not text")?;
        server.write("more/a.json", &bundle(&[patient("ann", 1), observation("o", "ben")]))?;
        server.write("later/b.json", &bundle(&[patient("ann", 2), patient("ben", 1)]))?;
        let s3_lake = format!("s3://{BUCKET}/{PREFIX}/");
        let mut outputs = Vec::new();
        for lake in [s3_lake.as_str(), "lake"] {
            let mut texts = Vec::new();
            for input in [samples, "more", "more", "later"] {
                let add = ["lake", "add", input, lake, "--quiet", "--complete-up-to", "2026-11-29T10:00:00Z"];
                let (code, stdout, stderr) = server.headrace(&add).await?;
                texts.push((code, stdout, stderr));
            }
            let (code, stdout, stderr) = server.headrace(&["lake", "check", lake, "--quiet", "--json"]).await?;
            let mut report: Value = serde_json::from_str(&stdout).map_err(|_| stderr)?;
            report["checkedAt"].take();
            // The threads share the lines out, and the compressed size depends on how.
            report["types"].as_object_mut().into_iter().flatten().for_each(|(_, counts)| drop(counts["storedBytes"].take()));
            texts.push((code, report["types"].to_string(), report["findings"].to_string()));
            outputs.push(texts);
        }
        assert!(outputs[0].iter().any(|(_, stdout, _)| stdout.contains("1 resource of the lake was written again")), "{outputs:?}");
        assert_eq!(
            outputs[0][2].1,
            "nothing to do: the same input was added before\nwatermark: it stays at 2026-11-29T10:00:00.000Z, which is not earlier\n"
        );
        assert_eq!(outputs[0], outputs[1]);
        let lines = bucket_lines(&server.s3).await?;
        assert_eq!(lines, directory_lines(&server.folder.path().join("lake")).await?);
        for arguments in [&["--quiet"][..], &["--quiet", "--now"]] {
            let mut firsts = Vec::new();
            for lake in [s3_lake.as_str(), "lake"] {
                let (code, stdout, stderr) = server.headrace(&[&["lake", "compact", lake][..], arguments].concat()).await?;
                assert_eq!(code, Some(0), "{stderr}");
                // The order of lines in an object is left to the threads, and with it the compressed size, which is in parentheses.
                firsts.push(stdout.lines().next().map(|line| line.split(['(', ')']).step_by(2).collect::<String>()));
            }
            assert_eq!(firsts[0], firsts[1], "{arguments:?}");
            let check = server.headrace(&["lake", "check", &s3_lake, "--quiet"]).await?.1;
            assert_eq!(check.contains("wait for their removal"), arguments.len() == 1, "{check}");
            assert_eq!(bucket_lines(&server.s3).await?, directory_lines(&server.folder.path().join("lake")).await?);
        }
        let compacted = bucket_lines(&server.s3).await?;
        assert!(compacted.len() < lines.len() && compacted.iter().all(|line| lines.contains(line)));
        assert_eq!(leftovers(&server.s3).await?, Vec::<String>::new());
        assert!(server.s3.keys(BUCKET, "").await?.iter().all(|key| key.starts_with("fhir/")));
        // Nothing stays in the folder of temporary files.
        let temporary = fs::read_dir(server.folder.path())?.filter_map(std::result::Result::ok).map(|entry| entry.file_name());
        assert!(temporary.into_iter().all(|name| ["more", "later", "lake"].iter().any(|known| name == *known)));
        Ok(())
    })
}

#[test]
fn a_lake_in_s3_that_another_process_writes_is_refused_until_its_lock_ends() -> Result<()> {
    run(async || {
        let server = S3Server::start().await?;
        server.write("in/a.json", &bundle(&[patient("ann", 1)]))?;
        let lake = format!("s3://{BUCKET}/{PREFIX}");
        let lock = |until: u64| format!(r#"{{"holder":"other","until":{until}}}"#);
        let key = format!("{PREFIX}/_headrace/lock");
        for (content, words) in [
            (lock(4_000_000_000_000), "another process writes the lake `s3://lake-bucket/fhir` (headrace lake add or compact)"),
            ("mine".to_owned(), "`s3://lake-bucket/fhir/_headrace/lock` is not the lock of a headrace command"),
        ] {
            server.s3.put(BUCKET, &key, content.clone()).await?;
            for command in [&["lake", "add", "in", &lake][..], &["lake", "compact", &lake]] {
                let (code, _, stderr) = server.headrace(command).await?;
                assert!(code == Some(1) && stderr.contains(words), "{stderr}");
            }
            assert_eq!(server.s3.get(BUCKET, &key).await?, content.as_bytes(), "the lock stays");
        }
        assert_eq!(data_keys(&server.s3).await?, Vec::<String>::new());
        // The process was stopped a while ago.
        server.s3.put(BUCKET, &key, lock(NOW.0)).await?;
        let (code, _, stderr) = server.headrace(&["lake", "add", "in", &lake]).await?;
        assert_eq!(code, Some(0), "{stderr}");
        assert_eq!(bucket_lines(&server.s3).await?.len(), 1);
        let missing = server.headrace(&["lake", "add", "in", "s3://no-such-bucket/x"]).await?;
        assert!(missing.0 == Some(1) && missing.2.contains("no-such-bucket"), "{missing:?}");
        Ok(())
    })
}

#[test]
fn a_new_lake_in_s3_is_not_made_inside_another_one() -> Result<()> {
    run(async || {
        let server = S3Server::start().await?;
        server.write("in/a.json", &bundle(&[patient("ann", 1)]))?;
        let add = async |prefix: &str| server.headrace(&["lake", "add", "in", &format!("s3://{BUCKET}/{prefix}")]).await;
        assert_eq!(add("fhir/r4").await?.0, Some(0));
        let keys = server.s3.keys(BUCKET, "").await?;
        for inside in ["fhir/r4/new", "fhir/r4/2026/new/"] {
            let (code, _, stderr) = add(inside).await?;
            let words = format!("`s3://{BUCKET}/{}` is inside the lake `s3://{BUCKET}/fhir/r4`", inside.trim_end_matches('/'));
            assert!(code == Some(1) && stderr.contains(&words), "{inside}: {stderr}");
        }
        assert_eq!(server.s3.keys(BUCKET, "").await?, keys, "nothing was written");
        for outside in ["fhir/r4b", "fhir/r4/_new/lake", "fhir/r4/"] {
            let (code, _, stderr) = add(outside).await?;
            assert_eq!(code, Some(0), "{outside}: {stderr}");
        }
        let (code, _, stderr) = add("fhir").await?;
        let words = format!("`s3://{BUCKET}/fhir` contains the lake `s3://{BUCKET}/fhir/r4");
        assert!(code == Some(1) && stderr.contains(&words), "{stderr}");
        Ok(())
    })
}

/// Returns a table's item of a patient.
fn patient_item(tenant: &str) -> Value {
    json!({ "Item": {
        "id": { "S": format!("{tenant}|p") },
        "_id": { "S": "p" },
        "_tenantId": { "S": tenant },
        "vid": { "N": "1" },
        "resourceType": { "S": "Patient" },
        "documentStatus": { "S": "AVAILABLE" },
        "lockEndTs": { "N": "1580428800000" },
        "meta": { "M": { "versionId": { "S": "1" }, "lastUpdated": { "S": "2020-01-31T00:00:00.000Z" } } },
    } })
}

#[test]
fn a_lake_in_s3_with_data_of_a_tenant_is_refused_for_another_one_by_name() -> Result<()> {
    run(async || {
        let server = S3Server::start().await?;
        server.write("table/data/f0.json", &format!("{}\n{}\n", patient_item("t1"), patient_item("t2")))?;
        server.write("table/manifest-files.json", &format!("{}\n", json!({ "itemCount": 2, "dataFileS3Key": "data/f0.json" })))?;
        let summary = json!({ "exportTime": "2020-02-01T00:00:00Z", "outputFormat": "DYNAMODB_JSON", "itemCount": 2 });
        server.write("table/manifest-summary.json", &summary.to_string())?;
        let one = format!("s3://{BUCKET}/one");
        for (tenants, first) in [(one.clone(), Some("t1")), (format!("s3://{BUCKET}/tenants"), None)] {
            let first: Vec<&str> = first.into_iter().flat_map(|tenant| ["--tenant", tenant]).collect();
            let (code, _, stderr) = server.headrace(&[&["lake", "add", "table", &tenants][..], &first[..]].concat()).await?;
            assert_eq!(code, Some(0), "{tenants}: {stderr}");
        }
        let keys = server.s3.keys(BUCKET, "").await?;
        for lake in [one, format!("s3://{BUCKET}/tenants/t1")] {
            let (code, _, stderr) = server.headrace(&["lake", "add", "table", &lake, "--tenant", "t2"]).await?;
            assert!(code == Some(1) && stderr.contains(r#"the lake has data of the tenant "t1""#), "{lake}: {stderr}");
        }
        assert_eq!(server.s3.keys(BUCKET, "").await?, keys, "nothing was written");
        Ok(())
    })
}

/// The side of a call on which the process stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    /// The call is not sent.
    Before,
    /// The answer does not arrive.
    After,
}

/// Mark of a call that changes something.
#[derive(Clone, Copy, Debug)]
struct IsChange(bool);

impl Storable for IsChange {
    type Storer = StoreReplace<Self>;
}

/// An interceptor that stops a process at one of its changes: that call, and all later ones, fail.
#[derive(Clone, Debug)]
struct StopAt {
    stop: Stop,
    left: Arc<AtomicUsize>,
}

impl StopAt {
    /// Fails if the process has stopped. Counts a change.
    fn pass(&self, is_change: bool) -> std::result::Result<(), BoxError> {
        let change = usize::from(is_change);
        let counted = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| (left > 0).then(|| left - change.min(left)));
        if counted.is_ok() { Ok(()) } else { Err("the test stops the process here".into()) }
    }
}

impl Intercept for StopAt {
    fn name(&self) -> &'static str {
        "StopAt"
    }

    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        bag: &mut ConfigBag,
    ) -> std::result::Result<(), BoxError> {
        let is_change = !["GET", "HEAD"].contains(&context.request().method());
        bag.interceptor_state().store_put(IsChange(is_change));
        if self.stop == Stop::Before {
            return self.pass(is_change);
        }
        if self.left.load(Ordering::Relaxed) == 0 { Err("the test has stopped the process".into()) } else { Ok(()) }
    }

    fn read_before_deserialization(
        &self,
        _: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        bag: &mut ConfigBag,
    ) -> std::result::Result<(), BoxError> {
        if self.stop == Stop::After && bag.load::<IsChange>().is_some_and(|is_change| is_change.0) {
            self.pass(true)?;
            return if self.left.load(Ordering::Relaxed) == 0 { Err("the answer is lost".into()) } else { Ok(()) };
        }
        Ok(())
    }
}

/// A lake in S3 that is written without the program.
struct TestBucket {
    s3: S3StandIn,
    input: TempDir,
}

impl TestBucket {
    /// Creates an empty lake, and an input.
    async fn new(files: &[(&str, String)]) -> Result<Self> {
        let (s3, input) = (S3StandIn::start()?, tempfile::tempdir()?);
        s3.create_bucket(BUCKET).await?;
        let bucket = Self { s3, input };
        bucket.set_input(files)?;
        Ok(bucket)
    }

    /// Replaces the input.
    fn set_input(&self, files: &[(&str, String)]) -> Result<()> {
        for entry in fs::read_dir(self.input.path())? {
            fs::remove_file(entry?.path())?;
        }
        files.iter().try_for_each(|(name, content)| Ok(fs::write(self.input.path().join(name), content)?))
    }

    /// Returns the access of a process that stops at its `changes`th change.
    fn access(&self, changes: usize, stop: Stop) -> BlockingLakeBucket {
        let client = self.s3.client_with(|config| config.interceptor(StopAt { stop, left: Arc::new(AtomicUsize::new(changes)) }));
        let (writer, lake) = (S3LakeWriter::new(&client, BUCKET, PREFIX), S3Lake::new(&client, BUCKET, PREFIX));
        BlockingLakeBucket { writer, lake, shown: format!("s3://{BUCKET}/{PREFIX}"), runtime: Handle::current() }
    }

    /// Returns the access of a process that does not stop.
    fn whole(&self) -> BlockingLakeBucket {
        self.access(usize::MAX, Stop::Before)
    }

    /// Adds the input.
    async fn add(&self, bucket: impl LakeBucket + 'static, now: Millis) -> Result<std::result::Result<AddReport, AddError>> {
        let settings = AddSettings {
            format: None,
            complete_up_to: Some(Millis(NOW.0 - 3_600_000)),
            versions: TableVersions::Newest,
            binaries: None,
            tenant: None,
            rewrite: rewrite_settings(now),
        };
        let (from, clock): (_, LockClock) = (self.input.path().to_owned(), Arc::new(move || now));
        Ok(tokio::task::spawn_blocking(move || add_to_bucket(&from, Arc::new(bucket), clock, &settings, &Arc::new(Progress::default())))
            .await?)
    }

    /// Compacts the lake.
    async fn compact(
        &self,
        bucket: BlockingLakeBucket,
        now: Millis,
        removes_now: bool,
    ) -> Result<std::result::Result<CompactReport, CompactError>> {
        let settings = CompactSettings {
            export_deadline: Duration::from_secs(3_600),
            removes_now,
            watermark: LakeWatermark::Auto,
            rewrite: rewrite_settings(now),
        };
        let (source, clock): (_, LockClock) = (bucket.lake.clone(), Arc::new(move || now));
        let runtime = Handle::current();
        let progress = Arc::new(Progress::default());
        let compacted =
            tokio::task::spawn_blocking(move || compact_bucket(&source, (Arc::new(bucket), clock), &settings, &progress, &runtime));
        Ok(compacted.await?)
    }

    /// Returns the number of runs that were interrupted while they made their files visible.
    async fn unfinished_runs(&self) -> Result<u64> {
        let bucket = self.whole();
        Ok(tokio::task::spawn_blocking(move || unfinished_runs_in(&bucket)).await??)
    }

    /// Returns the watermark object.
    async fn watermark(&self) -> Option<String> {
        let bytes = self.s3.get(BUCKET, &format!("{PREFIX}/_headrace/watermark.json")).await.ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// Returns the settings of a run at this time.
fn rewrite_settings(now: Millis) -> RewriteSettings {
    RewriteSettings { temp_folder: std::env::temp_dir(), workers: 2, sort_bytes: 100_000, line_bytes: 100_000, now, seed: [5; 16] }
}

/// Returns an input of three files.
fn three_files() -> Vec<(&'static str, String)> {
    let resources = |number: &str| vec![patient(number, 1), observation(number, number)];
    vec![("a.json", bundle(&resources("1"))), ("b.json", bundle(&resources("2"))), ("c.json", bundle(&resources("3")))]
}

#[test]
fn an_addition_to_s3_that_stops_at_any_change_leaves_nothing_half_visible_and_nothing_twice() -> Result<()> {
    run(async || {
        let whole = TestBucket::new(&three_files()).await?;
        assert!(whole.add(whole.whole(), NOW).await?.is_ok());
        let (expected, watermark) = (bucket_lines(&whole.s3).await?, whole.watermark().await);
        assert!(expected.len() == 6 && watermark.is_some());
        let mut stops = 0;
        for (changes, stop) in (1..40).flat_map(|changes| [(changes, Stop::Before), (changes, Stop::After)]) {
            let lake = TestBucket::new(&three_files()).await?;
            let added = lake.add(lake.access(changes, stop), NOW).await?;
            stops += usize::from(added.is_err());
            let (lines, is_unfinished) = (bucket_lines(&lake.s3).await?, lake.unfinished_runs().await? > 0);
            assert!(is_unfinished || lines.is_empty() || lines == expected, "{changes} {stop:?}");
            assert!(lines.iter().all(|line| expected.contains(line)), "{changes} {stop:?}");
            assert!(lake.watermark().await.is_none() || lines == expected, "the watermark is written last: {changes} {stop:?}");
            // Its lock ends, and the same command runs again.
            let again = lake.add(lake.whole(), NOW + LOCK_END).await?;
            assert!(again.is_ok(), "{changes} {stop:?}: {again:?}");
            assert_eq!(
                (bucket_lines(&lake.s3).await?, lake.watermark().await),
                (expected.clone(), watermark.clone()),
                "{changes} {stop:?}"
            );
            assert_eq!(leftovers(&lake.s3).await?, Vec::<String>::new(), "{changes} {stop:?}");
        }
        assert!(stops > 20, "only {stops} stops");
        Ok(())
    })
}

#[test]
fn a_compaction_in_s3_that_stops_at_any_change_loses_nothing() -> Result<()> {
    /// Creates a lake with two versions of a resource.
    async fn filled() -> Result<TestBucket> {
        let lake = TestBucket::new(&three_files()).await?;
        for files in [vec![("d.json", bundle(&[patient("1", 2)]))], vec![("e.json", bundle(&[patient("1", 3), patient("4", 1)]))]] {
            assert!(lake.add(lake.whole(), NOW).await?.is_ok());
            lake.set_input(&files)?;
        }
        assert!(lake.add(lake.whole(), NOW).await?.is_ok());
        Ok(lake)
    }
    run(async || {
        let whole = filled().await?;
        let before = bucket_lines(&whole.s3).await?;
        let later = NOW + Duration::from_secs(60);
        let report = whole.compact(whole.whole(), later, true).await??;
        assert_eq!((report.versions_before, report.versions_after), (9, 7));
        let expected = bucket_lines(&whole.s3).await?;
        assert!(expected.len() == 7 && before.len() == 9);
        let mut stops = 0;
        for (changes, stop) in (1..40).flat_map(|changes| [(changes, Stop::Before), (changes, Stop::After)]) {
            let lake = filled().await?;
            stops += usize::from(lake.compact(lake.access(changes, stop), later, true).await?.is_err());
            let lines = bucket_lines(&lake.s3).await?;
            assert!(expected.iter().all(|line| lines.contains(line)), "{changes} {stop:?}: {lines:?}");
            assert!(lines.iter().all(|line| before.contains(line)), "{changes} {stop:?}");
            let again = lake.compact(lake.whole(), later + LOCK_END, true).await?;
            assert!(again.is_ok(), "{changes} {stop:?}: {again:?}");
            assert_eq!(bucket_lines(&lake.s3).await?, expected, "{changes} {stop:?}");
            assert_eq!(leftovers(&lake.s3).await?, Vec::<String>::new(), "{changes} {stop:?}");
        }
        assert!(stops > 20, "only {stops} stops");
        Ok(())
    })
}

/// A lake in whose watermark another pipeline writes at the moment at which a run makes its objects visible.
struct WatermarkMover(BlockingLakeBucket);

/// The watermark of the other pipeline.
const MOVED: &str = r#"{"completeUpTo":"2026-11-29T10:10:00Z","pipeline":"other"}"#;

impl LakeBucket for WatermarkMover {
    fn shown(&self) -> String {
        self.0.shown()
    }

    fn prefix(&self) -> &str {
        self.0.prefix()
    }

    fn has_key(&self, start: &str) -> io::Result<bool> {
        self.0.has_key(start)
    }

    fn list(&self, start: &str) -> io::Result<Vec<Pin>> {
        self.0.list(start)
    }

    fn read(&self, object: &str) -> io::Result<Option<(Vec<u8>, String)>> {
        self.0.read(object)
    }

    fn open(&self, pin: &Pin) -> Box<dyn Read + Send> {
        self.0.open(pin)
    }

    fn upload(&self, object: &str, file: &Path) -> io::Result<()> {
        self.0.upload(object, file)
    }

    fn put_if(&self, object: &str, expected: Option<&str>, content: &[u8]) -> io::Result<Option<String>> {
        if object.ends_with("/commit") {
            self.0.put_if("_headrace/watermark.json", None, MOVED.as_bytes())?;
        }
        self.0.put_if(object, expected, content)
    }

    fn copy(&self, from: &str, to: &str) -> io::Result<CopyOutcome> {
        self.0.copy(from, to)
    }

    fn remove(&self, objects: &[String]) -> io::Result<()> {
        self.0.remove(objects)
    }

    fn remove_if(&self, object: &str, etag: &str) -> io::Result<()> {
        self.0.remove_if(object, etag)
    }
}

#[test]
fn a_watermark_that_another_pipeline_moves_meanwhile_is_not_overwritten() -> Result<()> {
    run(async || {
        let lake = TestBucket::new(&three_files()).await?;
        let report = lake.add(WatermarkMover(lake.whole()), NOW).await??;
        assert_eq!(report.watermarks, [(String::new(), WatermarkChange::KeptOfOthers)]);
        assert_eq!(lake.watermark().await.as_deref(), Some(MOVED));
        assert_eq!(bucket_lines(&lake.s3).await?.len(), 6, "the resources are there");
        Ok(())
    })
}

#[test]
fn a_large_file_is_uploaded_in_parts_and_an_object_is_never_replaced() -> Result<()> {
    run(async || {
        let lake = TestBucket::new(&[]).await?;
        let writer = lake.whole().writer;
        let (large, small) = (lake.input.path().join("large"), lake.input.path().join("small"));
        fs::write(&large, vec![7; (33 << 20) + 5])?;
        fs::write(&small, "small")?;
        writer.upload("_headrace/staging/r/1", &large).await?;
        writer.upload("_headrace/staging/r/2", &small).await?;
        let calls: Vec<_> = lake.s3.writes().into_iter().map(|write| write.operation).collect();
        assert_eq!(calls.iter().filter(|call| **call == "CreateMultipartUpload").count(), 1, "{calls:?}");
        for _ in 0..2 {
            assert_eq!(writer.copy("_headrace/staging/r/1", "Patient/1").await?, CopyOutcome::Copied);
        }
        assert_eq!(writer.copy("_headrace/staging/r/2", "Patient/1").await?, CopyOutcome::Occupied);
        assert_eq!(lake.s3.get(BUCKET, "fhir/Patient/1").await?.len(), (33 << 20) + 5);
        writer.remove(&["_headrace/staging/r/1".to_owned(), "_headrace/staging/r/1".to_owned()]).await?;
        assert_eq!(writer.copy("_headrace/staging/r/1", "Patient/1").await?, CopyOutcome::Copied, "an earlier attempt has copied it");
        assert_eq!(writer.copy("_headrace/staging/r/1", "Patient/2").await?, CopyOutcome::Missing);
        let etag = writer.write_if("lock", None, "1".into()).await?.ok_or("it exists")?;
        assert_eq!(writer.write_if("lock", None, "2".into()).await?, None);
        let newer = writer.write_if("lock", Some(&etag), "2".into()).await?.ok_or("it has changed")?;
        assert_eq!(writer.write_if("lock", Some(&etag), "3".into()).await?, None);
        writer.remove_if("lock", &etag).await?;
        assert_eq!(lake.s3.get(BUCKET, "fhir/lock").await?, "2");
        writer.remove_if("lock", &newer).await?;
        assert_eq!(writer.read("lock").await?, None);
        Ok(())
    })
}
