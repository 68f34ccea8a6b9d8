//! Runs exports to their end and checks what must hold of every complete export.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use aws_lambda_events::event::sqs::SqsMessage;
use bytes::Bytes;
use headrace_core::patients::is_block_header;
use headrace_core::vocab::ids::TaskId;

use super::{Deployment, Manifest, Result, ServiceProcess, TestResponse};

/// Interval of the reaper's schedule.
pub const REAPER_INTERVAL: Duration = Duration::from_secs(60);

/// Limit on reaper runs, above what any test's job needs.
const MAX_REAPER_RUNS: usize = 40;

/// Limit on message deliveries, above what any test's job needs.
const MAX_DELIVERIES: usize = 20_000;

/// Complete export with all its files downloaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompletedExport {
    /// Export manifest.
    pub manifest: Manifest,
    /// Contents of every file of the manifest, by file name.
    pub files: BTreeMap<String, Bytes>,
}

impl CompletedExport {
    /// Returns the lines of all output files, without those of deletions.
    pub fn lines(&self) -> Vec<Vec<u8>> {
        let output = self.manifest.output.iter().filter(|entry| !entry.is_deletion_file());
        let output = output.filter_map(|entry| self.files.get(entry.name()));
        output.flat_map(|file| lines(file)).collect()
    }

    /// Returns the lines of all output files, sorted.
    pub fn sorted_lines(&self) -> Vec<Vec<u8>> {
        let mut lines = self.lines();
        lines.sort();
        lines
    }

    /// Returns the deleted resources as sorted `Type/id` references.
    ///
    /// # Errors
    ///
    /// If a line of a deletion file is not a transaction Bundle with exactly one DELETE entry.
    pub fn deleted_references(&self) -> Result<Vec<String>> {
        let files = self.files.iter().filter(|(name, _)| name.starts_with("deleted-"));
        let mut references = Vec::new();
        for line in files.flat_map(|(_, file)| lines(file)) {
            let bundle: serde_json::Value = serde_json::from_slice(&line)?;
            let text = |path: &str| bundle.pointer(path).and_then(serde_json::Value::as_str);
            let is_valid = text("/resourceType") == Some("Bundle")
                && text("/type") == Some("transaction")
                && text("/entry/0/request/method") == Some("DELETE")
                && bundle.pointer("/entry/1").is_none();
            let url = text("/entry/0/request/url").filter(|_| is_valid);
            references.push(url.ok_or_else(|| format!("{bundle} is not a deletion"))?.to_owned());
        }
        references.sort();
        Ok(references)
    }

    /// Returns the number of output files per resource type.
    pub fn file_counts_by_type(&self) -> BTreeMap<&str, usize> {
        let mut counts = BTreeMap::new();
        for entry in &self.manifest.output {
            *counts.entry(entry.resource_type.as_str()).or_default() += 1;
        }
        counts
    }
}

/// Splits a file into its lines, without their newlines.
fn lines(file: &[u8]) -> Vec<Vec<u8>> {
    file.split_inclusive(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\n").unwrap_or(line).to_vec()).collect()
}

impl<S: Deployment> ServiceProcess<S> {
    /// Delivers messages until the queue is empty. The lowest task number comes first, so that every process works in the same order.
    pub async fn deliver_all(&self) -> Result<()> {
        let mut pending = Vec::new();
        for _ in 0..MAX_DELIVERIES {
            while let Some(message) = self.receive().await? {
                pending.push((task_number(&message), message));
            }
            pending.sort_by_key(|(number, _)| std::cmp::Reverse(*number));
            let Some((_, message)) = pending.pop() else { return Ok(()) };
            self.deliver(message).await?;
        }
        Err(format!("the queue is not empty after {MAX_DELIVERIES} deliveries").into())
    }

    /// Delivers messages and advances the clock until the job has ended. Returns the final status response.
    pub async fn run_until_done(&self, status: &str) -> Result<TestResponse> {
        self.deliver_all().await?;
        for _ in 0..MAX_REAPER_RUNS {
            let response = self.request("GET", status).await?;
            // 503 is the status response to an injected fault.
            if response.status != 202 && response.status != 503 {
                return Ok(response);
            }
            self.reap_after(2 * REAPER_INTERVAL).await?;
            self.deliver_all().await?;
        }
        Err(format!("the export has not ended: {:?}", self.request("GET", status).await?).into())
    }

    /// Runs the export to its end like [`Self::run_until_done`]. It must complete. Returns the downloaded and checked export.
    pub async fn complete(&self, status: &str) -> Result<CompletedExport> {
        let response = self.run_until_done(status).await?;
        if response.status != 200 {
            return Err(format!("the export did not complete: {response:?}").into());
        }
        self.download_export(status, &response).await
    }

    /// Downloads the files of a manifest and checks what must hold of every export: line counts, unique names, gapless file numbers,
    /// and no other files in the job's folder.
    pub async fn download_export(&self, status: &str, response: &TestResponse) -> Result<CompletedExport> {
        let mut manifest: Manifest = serde_json::from_slice(&response.body)?;
        // Every attempt that a crash repeats adds to the usage, so that exports are compared without it.
        manifest.take_usage().ok_or("the manifest does not say what the export has used")?;
        let mut files = BTreeMap::new();
        for entry in manifest.output.iter().chain(&manifest.error).chain(manifest.deleted.iter().flatten()) {
            let target = entry
                .url
                .find("/_operations")
                .and_then(|at| entry.url.get(at..))
                .ok_or("the URL of a file does not belong to this service")?;
            let bytes = self.download(target).await?;
            let count = lines(&bytes).iter().filter(|line| !is_block_header(line)).count();
            if count != entry.count || !bytes.ends_with(b"\n") {
                return Err(format!("{} has {count} lines where the manifest says {}", entry.name(), entry.count).into());
            }
            if files.insert(entry.name().to_owned(), bytes).is_some() {
                return Err(format!("{} is named twice", entry.name()).into());
            }
        }
        let export = CompletedExport { manifest, files };
        check_file_numbers(&export)?;
        self.check_no_extra_files(status, &export).await?;
        Ok(export)
    }

    /// Returns an error if the job's folder holds anything else than the files of the manifest (rule P4).
    pub async fn check_no_extra_files(&self, status: &str, export: &CompletedExport) -> Result<()> {
        let stored = self.stored_files(status).await?;
        if stored == export.files {
            return Ok(());
        }
        let names = |files: &BTreeMap<String, Bytes>| files.iter().map(|(name, bytes)| (name.clone(), bytes.len())).collect::<Vec<_>>();
        Err(format!("the folder holds {:?}, the manifest lists {:?}", names(&stored), names(&export.files)).into())
    }

    /// Returns all files in the job's folder, in the deployment's or the client's destination.
    pub async fn stored_files(&self, status: &str) -> Result<BTreeMap<String, Bytes>> {
        let job = status.rsplit('/').next().unwrap_or_default();
        let marker = format!("-{job}/");
        let files = self.deployment.output_files().await?.into_iter().chain(self.deployment.client_files().await?);
        Ok(files.filter_map(|(path, bytes)| Some((path.split_once(&marker)?.1.to_owned(), bytes))).collect())
    }
}

/// Returns the task number in a message, or `None` if the message does not contain a task id.
fn task_number(message: &SqsMessage) -> Option<u32> {
    serde_json::from_str::<TaskId>(message.body.as_deref()?).ok().map(|task| task.task)
}

/// Returns an error if the file numbers of an output kind are not 1, 2, 3, …
fn check_file_numbers(export: &CompletedExport) -> Result<()> {
    let mut numbers = BTreeMap::<&str, BTreeSet<usize>>::new();
    for name in export.files.keys() {
        let (kind, number) = name
            .strip_suffix(".ndjson")
            .and_then(|stem| stem.rsplit_once('-'))
            .ok_or_else(|| format!("{name} is not the name of an output file"))?;
        numbers.entry(kind).or_default().insert(number.parse()?);
    }
    match numbers.iter().find(|(_, found)| !found.iter().copied().eq(1..=found.len())) {
        None => Ok(()),
        Some((kind, found)) => Err(format!("the numbers of {kind} have gaps: {found:?}").into()),
    }
}
