//! What outlives a process.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use aws_lambda_events::event::sqs::SqsMessage;
use aws_sdk_dynamodb::types::AttributeValue;
use base64::Engine as _;
use bytes::Bytes;
use headrace_aws::{DynamoJobStore, KmsSealer, S3AuditFiles, S3Lake, S3PartStore, SqsTaskQueue, TableSchema};
use headrace_core::ports::{AuditFiles, OutputStore, ResourceSource, TaskQueue};
use headrace_local::server::queue::LocalQueue;
use headrace_local::stores::directory::{DirectoryAudit, DirectoryLake, DirectoryParts};
use headrace_local::stores::embedded::EmbeddedDynamo;
use headrace_local::stores::sealer::FileSealer;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use super::Result;
use super::asked::Askings;
use crate::lake;
use crate::standins::kms::{KmsStandIn, SEALING_KEY};
use crate::standins::s3::S3StandIn;
use crate::standins::sqs::SqsStandIn;

/// The job table's name.
pub(super) const TABLE: &str = "headrace";

const LAKE: &str = "lake-bucket";
const DESTINATION: &str = "export-bucket";
const AUDIT: &str = "audit-bucket";

/// A bucket that clients may have destinations in.
const CLIENTS: &str = "client-bucket";

/// The stores of one deployment, and how a test looks behind them.
pub trait Stage: Clone + Send + Sync + 'static {
    /// The queue as one process sees it.
    type Queue: TaskQueue + Clone + 'static;
    /// The lake.
    type Source: ResourceSource + Clone + 'static;
    /// The destination.
    type Parts: OutputStore + Clone + 'static;
    /// The audit files.
    type Audit: AuditFiles + Clone + 'static;

    /// Whether requests come through a gateway that knows who sent them.
    const HAS_GATEWAY: bool;

    /// The engine behind the job table.
    fn dynamo(&self) -> &EmbeddedDynamo;

    /// The ports of a new process.
    fn ports(&self) -> (Self::Queue, Self::Source, Self::Parts);

    /// The audit files.
    fn audit(&self) -> Self::Audit;

    /// The next message, if one waits.
    fn receive(&self, queue: &Self::Queue) -> impl Future<Output = Result<Option<SqsMessage>>> + Send;

    /// Deletes a message, or has it delivered again.
    fn settle(&self, queue: &Self::Queue, message: &SqsMessage, again: bool) -> impl Future<Output = Result<()>> + Send;

    /// The bodies of the messages that were put aside.
    fn put_aside(&self) -> impl Future<Output = Result<Vec<String>>> + Send;

    /// Every file in the destination, by its path below it.
    fn files(&self) -> impl Future<Output = Result<BTreeMap<String, Bytes>>> + Send;

    /// A destination that a client can have of its own, as the client is registered with it.
    fn own(&self) -> String;

    /// Every file in there, by its path below it.
    fn own_files(&self) -> impl Future<Output = Result<BTreeMap<String, Bytes>>> + Send;

    /// Follows a presigned URL.
    fn follow(&self, url: &str) -> impl Future<Output = Result<Bytes>> + Send;

    /// Writes an object of the lake, or removes it.
    fn change_lake(&self, object: &str, bytes: Option<Bytes>) -> impl Future<Output = Result<()>> + Send;

    /// The job table.
    fn jobs(&self) -> DynamoJobStore;

    /// Lays an anonymization configuration where exports look for it.
    fn configure(&self, name: &str, config: &str) -> impl Future<Output = Result<()>> + Send;

    /// Every item of the job table as DynamoDB JSON, by key; without what is recorded for auditors, which even a refused
    /// request leaves.
    fn items(&self) -> impl Future<Output = Result<BTreeMap<String, Value>>> + Send {
        let client = self.dynamo().client();
        async move {
            let mut items = BTreeMap::new();
            let mut after = None;
            loop {
                let page = client.scan().table_name(TABLE).limit(1_000).set_exclusive_start_key(after).send().await?;
                for item in page.items() {
                    let json: Map<String, Value> =
                        item.iter().map(|(name, value)| Ok((name.clone(), dynamo_json(value)?))).collect::<Result<_>>()?;
                    let key = ["pk", "sk"].map(|name| json.get(name).and_then(|value| value.get("S")?.as_str()).unwrap_or_default());
                    if key.first() != Some(&"AUDIT") {
                        items.insert(key.join(" "), json.into());
                    }
                }
                after = page.last_evaluated_key;
                if after.is_none() {
                    return Ok(items);
                }
            }
        }
    }

    /// Writes an item given as DynamoDB JSON into the job table.
    fn put_item(&self, json: &Value) -> impl Future<Output = Result<()>> + Send {
        let put = self.dynamo().client().put_item().table_name(TABLE);
        let item = json.as_object().map(|json| json.iter().map(|(name, value)| Ok((name.clone(), attribute(value)?))).collect());
        async move {
            let item: Result<_> = item.ok_or("an item is a JSON object")?;
            Ok(put.set_item(Some(item?)).send().await.map(drop)?)
        }
    }
}

fn dynamo_json(value: &AttributeValue) -> Result<Value> {
    let text = value.as_s().map(|text| json!({ "S": text }));
    let number = text.or_else(|other| other.as_n().map(|digits| json!({ "N": digits })));
    let bytes = number.or_else(|other| {
        other.as_b().map(|blob| json!({ "B": base64::engine::general_purpose::STANDARD.encode(blob) })).map_err(|_| other)
    });
    bytes.map_err(|other| format!("the job table holds texts, numbers and bytes only, and not {other:?}").into())
}

fn attribute(json: &Value) -> Result<AttributeValue> {
    let member = |name: &str| json.get(name).and_then(Value::as_str).map(str::to_owned);
    let text = member("S").map(AttributeValue::S);
    let number = || member("N").map(AttributeValue::N);
    text.or_else(number).ok_or_else(|| format!("{json} is neither a text nor a number").into())
}

async fn job_table() -> Result<EmbeddedDynamo> {
    let dynamo = EmbeddedDynamo::memory()?;
    TableSchema::create(&dynamo.client(), TABLE).await?;
    Ok(dynamo)
}

/// The adapters of AWS over stand-ins.
#[derive(Clone)]
pub struct Aws {
    dynamo: EmbeddedDynamo,
    /// The stand-in behind both buckets.
    pub s3: S3StandIn,
    sqs: SqsStandIn,
    queue_url: String,
    dlq_url: String,
    kms: KmsStandIn,
    /// What functions ask for.
    pub askings: Askings,
}

impl Aws {
    /// An empty deployment.
    pub async fn empty() -> Result<Self> {
        let (s3, sqs) = (S3StandIn::start()?, SqsStandIn::start());
        s3.create_bucket(LAKE).await?;
        s3.create_bucket(DESTINATION).await?;
        s3.create_bucket(CLIENTS).await?;
        s3.create_bucket(AUDIT).await?;
        let (queue_url, dlq_url) = sqs.create_queue_with_dlq("tasks", 5_400, 5).await?;
        Ok(Self { dynamo: job_table().await?, s3, sqs, queue_url, dlq_url, kms: KmsStandIn::start(), askings: Askings::default() })
    }

    /// With a copy of the lake in `dir`.
    pub async fn over(dir: &Path) -> Result<Self> {
        let stage = Self::empty().await?;
        for file in lake::files(dir)? {
            let object = file.to_str().ok_or("a name that is not UTF-8")?;
            stage.change_lake(object, Some(fs::read(dir.join(&file))?.into())).await?;
        }
        Ok(stage)
    }

    /// Begins an upload in the folder of the job at this status URL, as a worker does that is killed then; its key. `None`
    /// while there is no folder.
    pub async fn leave_upload(&self, status: &str) -> Result<Option<String>> {
        let marker = format!("-{}/", status.rsplit('/').next().unwrap_or_default());
        for bucket in [DESTINATION, CLIENTS] {
            let keys = self.s3.keys(bucket, "").await?;
            if let Some((before, _)) = keys.iter().find_map(|key| key.split_once(&marker)) {
                let key = format!("{before}{marker}left-behind");
                self.s3.client().create_multipart_upload().bucket(bucket).key(&key).send().await?;
                return Ok(Some(key));
            }
        }
        Ok(None)
    }

    /// The ports as they are when a setting names other buckets.
    pub fn ports_with(&self, source: &str, destination: &str) -> (SqsTaskQueue, S3Lake, S3PartStore) {
        let s3 = self.s3.client_with(|config| config.interceptor(self.askings.clone()));
        let sqs = self.sqs.client().config().to_builder().interceptor(self.askings.clone()).build();
        let queue = SqsTaskQueue::new(aws_sdk_sqs::Client::from_conf(sqs), &self.queue_url).with_dead_letters(&self.dlq_url);
        let parts = S3PartStore::new(&s3, destination, "out").with_client_buckets([CLIENTS.to_owned()].into());
        (queue, S3Lake::new(&s3, source, "fhir"), parts)
    }

    async fn files_of(&self, bucket: &str, prefix: &str) -> Result<BTreeMap<String, Bytes>> {
        let mut files = BTreeMap::new();
        for key in self.s3.keys(bucket, "").await? {
            let bytes = self.s3.get(bucket, &key).await?;
            let below = key.strip_prefix(prefix).ok_or_else(|| format!("{key} lies outside the prefix"))?;
            files.insert(below.to_owned(), bytes);
        }
        Ok(files)
    }
}

impl Stage for Aws {
    type Queue = SqsTaskQueue;
    type Source = S3Lake;
    type Parts = S3PartStore;
    type Audit = S3AuditFiles;

    const HAS_GATEWAY: bool = true;

    fn dynamo(&self) -> &EmbeddedDynamo {
        &self.dynamo
    }

    fn jobs(&self) -> DynamoJobStore {
        let dynamo = self.dynamo.client().config().to_builder().interceptor(self.askings.clone()).build();
        let kms = self.kms.client().config().to_builder().interceptor(self.askings.clone()).build();
        let sealer = KmsSealer::new(aws_sdk_kms::Client::from_conf(kms), SEALING_KEY);
        DynamoJobStore::new(aws_sdk_dynamodb::Client::from_conf(dynamo), TABLE).with_sealer(sealer)
    }

    fn ports(&self) -> (SqsTaskQueue, S3Lake, S3PartStore) {
        self.ports_with(LAKE, DESTINATION)
    }

    async fn configure(&self, name: &str, config: &str) -> Result<()> {
        self.s3.put(DESTINATION, &format!("out/anonymization/{name}"), Bytes::copy_from_slice(config.as_bytes())).await
    }

    fn audit(&self) -> S3AuditFiles {
        S3AuditFiles::new(&self.s3.client_with(|config| config.interceptor(self.askings.clone())), AUDIT, "audit/")
    }

    async fn receive(&self, _: &SqsTaskQueue) -> Result<Option<SqsMessage>> {
        let got = self.sqs.client().receive_message().queue_url(&self.queue_url).max_number_of_messages(1).send().await?;
        Ok(got.messages.unwrap_or_default().into_iter().next().map(|received| {
            let mut message = SqsMessage::default();
            message.message_id = received.message_id;
            message.receipt_handle = received.receipt_handle;
            message.body = received.body;
            message.event_source = Some("aws:sqs".to_owned());
            message
        }))
    }

    async fn settle(&self, _: &SqsTaskQueue, message: &SqsMessage, again: bool) -> Result<()> {
        let (client, url) = (self.sqs.client(), &self.queue_url);
        let handle = message.receipt_handle.clone().unwrap_or_default();
        if again {
            client.change_message_visibility().queue_url(url).receipt_handle(handle).visibility_timeout(0).send().await?;
        } else {
            client.delete_message().queue_url(url).receipt_handle(handle).send().await?;
        }
        Ok(())
    }

    async fn put_aside(&self) -> Result<Vec<String>> {
        let got =
            self.sqs.client().receive_message().queue_url(&self.dlq_url).max_number_of_messages(10).visibility_timeout(0).send().await?;
        Ok(got.messages.unwrap_or_default().into_iter().filter_map(|message| message.body).collect())
    }

    async fn files(&self) -> Result<BTreeMap<String, Bytes>> {
        self.files_of(DESTINATION, "out/").await
    }

    fn own(&self) -> String {
        format!("{CLIENTS}/clinic 7/exports")
    }

    async fn own_files(&self) -> Result<BTreeMap<String, Bytes>> {
        self.files_of(CLIENTS, "clinic 7/exports/").await
    }

    async fn follow(&self, url: &str) -> Result<Bytes> {
        let response = self.s3.fetch(url).await?;
        if response.status() == 200 {
            Ok(response.into_body())
        } else {
            Err(format!("the presigned URL answers {}", response.status()).into())
        }
    }

    async fn change_lake(&self, object: &str, bytes: Option<Bytes>) -> Result<()> {
        let key = format!("fhir/{object}");
        match bytes {
            Some(bytes) => self.s3.put(LAKE, &key, bytes).await,
            None => Ok(self.s3.client().delete_object().bucket(LAKE).key(key).send().await.map(drop)?),
        }
    }
}

/// The stores of `headrace serve`, in a temporary folder. The queue is gone with each process.
#[derive(Clone)]
pub struct OneMachine {
    dynamo: EmbeddedDynamo,
    folder: std::sync::Arc<TempDir>,
    lake: PathBuf,
}

impl OneMachine {
    /// Over the lake in `dir`, which is only read.
    pub async fn over(dir: &Path) -> Result<Self> {
        Ok(Self { dynamo: job_table().await?, folder: std::sync::Arc::new(tempfile::tempdir()?), lake: dir.to_path_buf() })
    }

    /// Over a lake of these files, which may be changed.
    pub async fn with(files: &[(&str, &[u8])]) -> Result<Self> {
        let mut stage = Self::over(Path::new("")).await?;
        stage.lake = stage.folder.path().join("lake");
        for (object, bytes) in files {
            stage.change_lake(object, Some(Bytes::copy_from_slice(bytes))).await?;
        }
        Ok(stage)
    }

    fn destination(&self) -> PathBuf {
        self.folder.path().join("files")
    }
}

impl Stage for OneMachine {
    type Queue = LocalQueue;
    type Source = DirectoryLake;
    type Parts = DirectoryParts;
    type Audit = DirectoryAudit;

    const HAS_GATEWAY: bool = false;

    fn dynamo(&self) -> &EmbeddedDynamo {
        &self.dynamo
    }

    fn ports(&self) -> (LocalQueue, DirectoryLake, DirectoryParts) {
        (LocalQueue::default(), DirectoryLake::open(&self.lake), DirectoryParts::open(self.destination()).apart_from(&self.lake))
    }

    fn jobs(&self) -> DynamoJobStore {
        let sealer = FileSealer::new(self.folder.path().join("keys/secrets.key"));
        DynamoJobStore::new(self.dynamo.client(), TABLE).with_sealer(sealer)
    }

    async fn configure(&self, name: &str, config: &str) -> Result<()> {
        let folder = self.destination().join("anonymization");
        fs::create_dir_all(&folder)?;
        Ok(fs::write(folder.join(name), config)?)
    }

    fn audit(&self) -> DirectoryAudit {
        DirectoryAudit::open(self.folder.path().join("audit"))
    }

    async fn receive(&self, queue: &LocalQueue) -> Result<Option<SqsMessage>> {
        let Some(task) = queue.try_next().await else { return Ok(None) };
        let mut message = SqsMessage::default();
        message.message_id = Some(task.to_string());
        message.body = Some(serde_json::to_string(&task)?);
        Ok(Some(message))
    }

    async fn settle(&self, queue: &LocalQueue, message: &SqsMessage, again: bool) -> Result<()> {
        if again {
            let task = serde_json::from_str(message.body.as_deref().unwrap_or_default())?;
            queue.announce(&[task], std::time::Duration::ZERO).await?;
        }
        Ok(())
    }

    async fn put_aside(&self) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    async fn files(&self) -> Result<BTreeMap<String, Bytes>> {
        files_below(&self.destination())
    }

    fn own(&self) -> String {
        self.folder.path().join("clinic 7").display().to_string()
    }

    async fn own_files(&self) -> Result<BTreeMap<String, Bytes>> {
        files_below(Path::new(&self.own()))
    }

    async fn follow(&self, url: &str) -> Result<Bytes> {
        Err(format!("one machine redirects nobody, yet it did to {url}").into())
    }

    async fn change_lake(&self, object: &str, bytes: Option<Bytes>) -> Result<()> {
        let path = self.lake.join(object);
        match bytes {
            Some(bytes) => {
                fs::create_dir_all(path.parent().unwrap_or(&self.lake))?;
                Ok(fs::write(path, bytes)?)
            }
            None => Ok(fs::remove_file(path)?),
        }
    }
}

fn files_below(root: &Path) -> Result<BTreeMap<String, Bytes>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if let Some(below) = path.strip_prefix(root)?.to_str() {
                files.insert(below.to_owned(), fs::read(&path)?.into());
            }
        }
    }
    Ok(files)
}
