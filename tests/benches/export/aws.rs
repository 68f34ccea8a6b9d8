//! Exports through the AWS adapters, over in-process stand-ins.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use aws_sdk_s3::config::{RequestChecksumCalculation, ResponseChecksumValidation};
use aws_sdk_s3::primitives::ByteStream;
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use headrace_core::job::file_names::FileNames;
use headrace_core::ports::OutputStore as _;
use headrace_core::vocab::lake_settings::LakeSettings;
use headrace_local::stores::embedded::EmbeddedDynamo;
use headrace_tests::lake;
use headrace_tests::measurements::functions::{ExportFunctions, LAKE, OUT};
use headrace_tests::standins::disk_s3;
use headrace_tests::standins::s3::S3StandIn;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::BoxError;
use crate::table::{Row, print, time};

/// Size of range requests, as in the adapters.
const GET_BYTES: u64 = 8 << 20;
const GETS_IN_FLIGHT: usize = 2;

/// Size of written objects, as in the adapters.
const PUT_BYTES: u64 = 64_000_000;

/// Compares exports with plain GETs and PUTs of the same bytes through the same stand-in, and exports over an S3 of files with copies
/// of the files.
pub(crate) fn measure(dir: &Path, scratch: &Path, runs: usize) -> Result<(), BoxError> {
    let (runtime, bytes) = (Runtime::new()?, crate::lakes::stored_bytes(dir)?);
    let workers = std::thread::available_parallelism()?.get();
    let s3 = runtime.block_on(stand_in(dir))?;
    let deployment = runtime.block_on(Deployment::start(S3Backend::StandIn(&s3), workers))?;
    let row = Row { name: "AWS adapters, stand-ins", baseline: "plain GET+PUT, same", bytes, runs };
    row.compare(|| deployment.time(&runtime), || Ok(time(|| runtime.block_on(transfer_lake(&s3, workers)))?.0))?;
    drop((deployment, s3));
    let root = tempfile::tempdir_in(scratch)?;
    let deployment = runtime.block_on(Deployment::start(S3Backend::Folder { lake: dir, root: root.path() }, workers))?;
    let copied = root.path().join("copied");
    let row = Row { name: "AWS adapters, S3 of files", baseline: "copy of the files", bytes, runs };
    row.compare(
        || {
            let timing = deployment.time(&runtime)?;
            fs::remove_dir_all(root.path().join(OUT))?;
            Ok(timing)
        },
        || {
            let (timing, ()) = time(|| copy(dir, &copied))?;
            fs::remove_dir_all(&copied)?;
            Ok(timing)
        },
    )?;
    print("(the first includes the checks and signatures of the S3 stand-in; the second uses an S3 that only reads and writes files)");
    Ok(())
}

/// Copies the files of a lake to the folder `to`.
fn copy(from: &Path, to: &Path) -> Result<(), BoxError> {
    for file in lake::files(from)? {
        let to = to.join(&file);
        fs::create_dir_all(to.parent().unwrap_or(&to))?;
        fs::copy(from.join(&file), to)?;
    }
    Ok(())
}

/// Starts a stand-in with a copy of the lake.
async fn stand_in(dir: &Path) -> Result<S3StandIn, BoxError> {
    let s3 = S3StandIn::start()?;
    s3.create_bucket(LAKE).await?;
    s3.create_bucket(OUT).await?;
    for file in lake::files(dir)? {
        let key = file.to_str().ok_or("a file's name is not UTF-8")?;
        s3.put(LAKE, key, fs::read(dir.join(&file))?).await?;
    }
    Ok(s3)
}

/// Copies every object of the lake with range requests into objects of an output file's size. This is the minimum work of an export.
async fn transfer_lake(s3: &S3StandIn, concurrency: usize) -> Result<(), BoxError> {
    let client = s3.client_with(|config| {
        config
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
    });
    let listed = client.list_objects_v2().bucket(LAKE).send().await?;
    let mut files = Vec::new();
    for object in listed.contents() {
        let (key, size) = (object.key().unwrap_or_default(), u64::try_from(object.size().unwrap_or_default())?);
        files.extend((0..size).step_by(usize::try_from(PUT_BYTES)?).map(|start| (key, start..size.min(start + PUT_BYTES))));
    }
    let client = &client;
    let transfers = stream::iter(files).map(|(key, range)| async move {
        let gets = range.clone().step_by(usize::try_from(GET_BYTES)?).map(|start| {
            let range = format!("bytes={start}-{}", range.end.min(start + GET_BYTES) - 1);
            async move {
                let response = client.get_object().bucket(LAKE).key(key).range(range).send().await?;
                Ok::<_, BoxError>(response.body.collect().await?.into_bytes())
            }
        });
        let gets: Vec<_> = gets.collect();
        let pieces: Vec<Bytes> = stream::iter(gets).buffered(GETS_IN_FLIGHT).try_collect().await?;
        let body = ByteStream::from(pieces.concat());
        client.put_object().bucket(OUT).key(format!("plain-{key}-{}", range.start)).body(body).send().await?;
        Ok::<_, BoxError>(())
    });
    transfers.buffer_unordered(concurrency).try_collect().await
}

/// S3 behind the adapters.
enum S3Backend<'a> {
    /// S3 stand-in of the tests, which holds the lake.
    StandIn(&'a S3StandIn),
    /// S3 of plain files without any checks.
    Folder {
        /// Folder of the lake's bucket.
        lake: &'a Path,
        /// Folder that contains the other buckets.
        root: &'a Path,
    },
}

/// Functions that an export needs, with workers.
struct Deployment {
    functions: Arc<ExportFunctions>,
    _workers: JoinSet<Result<(), BoxError>>,
}

impl Deployment {
    /// Starts the functions with this number of concurrent workers.
    async fn start(s3: S3Backend<'_>, workers: usize) -> Result<Self, BoxError> {
        let client = match s3 {
            S3Backend::StandIn(s3) => s3.client(),
            S3Backend::Folder { lake, root } => disk_s3::client(lake, root),
        };
        let dynamo = EmbeddedDynamo::in_memory()?.client();
        let functions = Arc::new(ExportFunctions::create(&client, dynamo, LakeSettings::default()).await?);
        let mut worker_tasks = JoinSet::new();
        for _ in 0..workers {
            let functions = Arc::clone(&functions);
            worker_tasks.spawn(async move {
                loop {
                    functions.run_task().await?;
                }
            });
        }
        Ok(Self { functions, _workers: worker_tasks })
    }

    /// Measures one export from the kick-off to the complete job, then deletes its files.
    fn time(&self, runtime: &Runtime) -> Result<crate::table::Timing, BoxError> {
        let export = async { self.functions.wait_for(&self.functions.kick_off("/$export").await?).await };
        let (timing, job) = time(|| runtime.block_on(export))?;
        runtime.block_on(self.functions.output.delete_all_except(&job.folder(), &FileNames::default()))?;
        Ok(timing)
    }
}
