//! What drives an export to its end, and what a finished one is checked for.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use aws_lambda_events::event::sqs::SqsMessage;
use bytes::Bytes;
use headrace_core::vocab::ids::TaskId;

use super::{Answer, Manifest, Result, Stage, World};

/// How often the schedule calls the reaper.
pub const MINUTE: Duration = Duration::from_secs(60);

/// More runs of the reaper than any test's job needs.
const ROUNDS: usize = 40;

/// More deliveries than any test's job needs.
const DELIVERIES: usize = 20_000;

/// A complete export as a client has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// Its manifest.
    pub manifest: Manifest,
    /// Every file of the manifest, by name.
    pub files: BTreeMap<String, Bytes>,
}

impl Finished {
    /// The lines of all output files.
    pub fn lines(&self) -> Vec<Vec<u8>> {
        let output = self.manifest.output.iter().filter(|entry| !entry.is_of_deletions());
        let output = output.filter_map(|entry| self.files.get(entry.name()));
        output.flat_map(|file| lines(file)).collect()
    }

    /// The same, sorted.
    pub fn sorted_lines(&self) -> Vec<Vec<u8>> {
        let mut lines = self.lines();
        lines.sort();
        lines
    }

    /// What the files of deletions name, each as `Type/id`, sorted.
    pub fn deleted(&self) -> Result<Vec<String>> {
        let files = self.files.iter().filter(|(name, _)| name.starts_with("deleted-"));
        let mut deleted = Vec::new();
        for line in files.flat_map(|(_, file)| lines(file)) {
            let bundle: serde_json::Value = serde_json::from_slice(&line)?;
            let word = |path: &str| bundle.pointer(path).and_then(serde_json::Value::as_str);
            let is_valid = word("/resourceType") == Some("Bundle")
                && word("/type") == Some("transaction")
                && word("/entry/0/request/method") == Some("DELETE")
                && bundle.pointer("/entry/1").is_none();
            let url = word("/entry/0/request/url").filter(|_| is_valid);
            deleted.push(url.ok_or_else(|| format!("{bundle} is no deletion"))?.to_owned());
        }
        deleted.sort();
        Ok(deleted)
    }

    /// How many files there are of each type.
    pub fn files_by_type(&self) -> BTreeMap<&str, usize> {
        let mut count = BTreeMap::new();
        for entry in &self.manifest.output {
            *count.entry(entry.kind.as_str()).or_default() += 1;
        }
        count
    }
}

fn lines(file: &[u8]) -> Vec<Vec<u8>> {
    file.split_inclusive(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\n").unwrap_or(line).to_vec()).collect()
}

impl<S: Stage> World<S> {
    /// Delivers messages until none waits, the lowest task first: a new process does the same work in the same order.
    pub async fn drain(&self) -> Result<()> {
        let mut waiting = Vec::new();
        for _ in 0..DELIVERIES {
            while let Some(message) = self.receive().await? {
                waiting.push((task_number(&message), message));
            }
            waiting.sort_by_key(|(number, _)| std::cmp::Reverse(*number));
            let Some((_, message)) = waiting.pop() else { return Ok(()) };
            self.deliver(message).await?;
        }
        Err("the queue does not run dry".into())
    }

    /// Works, and lets minutes pass, until the status is something else than 202.
    pub async fn run(&self, status: &str) -> Result<Answer> {
        self.drain().await?;
        for _ in 0..ROUNDS {
            let answer = self.ask("GET", status).await?;
            if answer.status != 202 && answer.status != 503 {
                return Ok(answer);
            }
            self.reap_after(2 * MINUTE).await?;
            self.drain().await?;
        }
        Err(format!("the export hangs: {:?}", self.ask("GET", status).await?).into())
    }

    /// The same for an export that must complete; what it is checked for holds of every export.
    pub async fn finish(&self, status: &str) -> Result<Finished> {
        let answer = self.run(status).await?;
        if answer.status != 200 {
            return Err(format!("the export did not complete: {answer:?}").into());
        }
        self.read_manifest(status, &answer).await
    }

    /// Downloads what a manifest names, and checks what holds of every export.
    pub async fn read_manifest(&self, status: &str, answer: &Answer) -> Result<Finished> {
        let manifest: Manifest = serde_json::from_slice(&answer.body)?;
        let mut files = BTreeMap::new();
        for entry in manifest.output.iter().chain(&manifest.error).chain(manifest.deleted.iter().flatten()) {
            let target = entry.url.find("/_operations").and_then(|at| entry.url.get(at..)).ok_or("a file's URL is not ours")?;
            let bytes = self.download(target).await?;
            let count = lines(&bytes).len();
            if count != entry.count || !bytes.ends_with(b"\n") {
                return Err(format!("{} has {count} lines where the manifest says {}", entry.name(), entry.count).into());
            }
            if files.insert(entry.name().to_owned(), bytes).is_some() {
                return Err(format!("{} is named twice", entry.name()).into());
            }
        }
        let finished = Finished { manifest, files };
        numbers_have_no_gaps(&finished)?;
        self.nothing_lies_beside(status, &finished).await?;
        Ok(finished)
    }

    /// The folder holds what the manifest names and nothing else (rule P4).
    pub async fn nothing_lies_beside(&self, status: &str, finished: &Finished) -> Result<()> {
        let stored = self.stored(status).await?;
        if stored == finished.files {
            return Ok(());
        }
        let names = |files: &BTreeMap<String, Bytes>| files.iter().map(|(name, bytes)| (name.clone(), bytes.len())).collect::<Vec<_>>();
        Err(format!("in the folder lies {:?}, the manifest has {:?}", names(&stored), names(&finished.files)).into())
    }

    /// The files in the folder of a job, in whichever destination.
    pub async fn stored(&self, status: &str) -> Result<BTreeMap<String, Bytes>> {
        let job = status.rsplit('/').next().unwrap_or_default();
        let marker = format!("-{job}/");
        let files = self.stage.files().await?.into_iter().chain(self.stage.own_files().await?);
        Ok(files.filter_map(|(path, bytes)| Some((path.split_once(&marker)?.1.to_owned(), bytes))).collect())
    }
}

fn task_number(message: &SqsMessage) -> Option<u32> {
    serde_json::from_str::<TaskId>(message.body.as_deref()?).ok().map(|task| task.task)
}

fn numbers_have_no_gaps(finished: &Finished) -> Result<()> {
    let mut numbers = BTreeMap::<&str, BTreeSet<usize>>::new();
    for name in finished.files.keys() {
        let (kind, number) =
            name.strip_suffix(".ndjson").and_then(|stem| stem.rsplit_once('-')).ok_or_else(|| format!("{name} is no name"))?;
        numbers.entry(kind).or_default().insert(number.parse()?);
    }
    match numbers.iter().find(|(_, found)| !found.iter().copied().eq(1..=found.len())) {
        None => Ok(()),
        Some((kind, found)) => Err(format!("the numbers of {kind} have gaps: {found:?}").into()),
    }
}
