//! Stores and queues of a deployment under test. They outlive the processes of the service.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use aws_lambda_events::event::sqs::SqsMessage;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::AttributeValue;
use base64::Engine as _;
use bytes::Bytes;
use headrace_aws::{
    DynamoJobStore, KEYS_CONTEXT, KmsSecretEncryptor, S3AuditFiles, S3Lake, S3LakeWriter, S3OutputStore, SqsTaskQueue, TableSchema,
};
use headrace_core::ports::{AuditFiles, OutputStore, ResourceSource, TaskQueue};
use headrace_core::vocab::clock::Millis;
use headrace_local::server::queue::LocalQueue;
use headrace_local::stores::directory::{DirectoryAudit, DirectoryLake, DirectoryOutputStore};
use headrace_local::stores::embedded::EmbeddedDynamo;
use headrace_local::stores::encryptor::FileSecretEncryptor;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use super::Result;
use super::permissions::PermissionLog;
use crate::lake;
use crate::standins::dynamo_model::DynamoModel;
use crate::standins::kms::{ENCRYPTION_KEY, KmsStandIn};
use crate::standins::s3::S3StandIn;
use crate::standins::sqs::SqsStandIn;

/// Name of the job table.
pub(super) const TABLE: &str = "headrace";

const LAKE: &str = "lake-bucket";
const DESTINATION: &str = "export-bucket";
const AUDIT: &str = "audit-bucket";

/// Bucket in which clients may have their own destinations.
const CLIENTS: &str = "client-bucket";

/// Returns the audit records that are not sealed yet, as they are stored.
pub async fn unsealed_audit_records(deployment: &impl Deployment) -> Result<Vec<Value>> {
    let page = deployment.dynamo().scan().table_name(TABLE).limit(1_000).send().await?;
    let records = page.items().iter().filter_map(|item| item.get("record")?.as_s().ok());
    records.map(|record| Ok(serde_json::from_str(record)?)).collect()
}

/// Stores and queue of one deployment, with access for tests to what they hold.
pub trait Deployment: Clone + Send + Sync + 'static {
    /// Task queue of one process.
    type Queue: TaskQueue + Clone + 'static;
    /// Lake.
    type Lake: ResourceSource + Clone + 'static;
    /// Output destination.
    type Output: OutputStore + Clone + 'static;
    /// Storage of audit files.
    type Audit: AuditFiles + Clone + 'static;

    /// True if requests come through API Gateway, which authenticates IAM callers.
    const HAS_GATEWAY: bool;

    /// Returns a client of the database of the job table.
    fn dynamo(&self) -> Client;

    /// Creates queue, lake and output store for a new process.
    fn ports(&self) -> (Self::Queue, Self::Lake, Self::Output);

    /// Returns the storage of audit files.
    fn audit_files(&self) -> Self::Audit;

    /// Receives the next message, if there is one.
    fn receive(&self, queue: &Self::Queue) -> impl Future<Output = Result<Option<SqsMessage>>> + Send;

    /// Deletes a message, or returns it to the queue.
    fn finish_message(&self, queue: &Self::Queue, message: &SqsMessage, redeliver: bool) -> impl Future<Output = Result<()>> + Send;

    /// Returns the bodies of the messages in the dead-letter queue. Empty for a deployment without such a queue.
    fn dead_letters(&self) -> impl Future<Output = Result<Vec<String>>> + Send;

    /// Returns the contents of every file in the output destination, by its path there.
    fn output_files(&self) -> impl Future<Output = Result<BTreeMap<String, Bytes>>> + Send;

    /// Returns a destination for a single client, in the form used in registrations.
    fn client_destination(&self) -> String;

    /// Returns the contents of every file in the client's destination, by its path there.
    fn client_files(&self) -> impl Future<Output = Result<BTreeMap<String, Bytes>>> + Send;

    /// Downloads from a presigned URL.
    fn fetch_presigned(&self, url: &str) -> impl Future<Output = Result<Bytes>> + Send;

    /// Writes an object of the lake. `None` removes it.
    fn set_lake_object(&self, object: &str, bytes: Option<Bytes>) -> impl Future<Output = Result<()>> + Send;

    /// Creates a job store over the job table.
    fn job_store(&self) -> DynamoJobStore;

    /// Stores an anonymization configuration where exports look for it.
    fn put_anonymization_config(&self, name: &str, config: &str) -> impl Future<Output = Result<()>> + Send;

    /// Stores the keys of an anonymization configuration, protected as an operator does it.
    fn put_anonymization_keys(&self, config: &str, keys: &str) -> impl Future<Output = Result<()>> + Send;

    /// Encrypts the secret of a webhook as an operator does it.
    fn encrypt_webhook_secret(&self, secret: &str) -> impl Future<Output = Result<Vec<u8>>> + Send;

    /// Returns every item of the job table as DynamoDB JSON, by key. Audit records are left out: even rejected requests write them.
    fn job_table_items(&self) -> impl Future<Output = Result<BTreeMap<String, Value>>> + Send {
        let client = self.dynamo();
        async move {
            let mut items = BTreeMap::new();
            let mut after = None;
            loop {
                let page = client.scan().table_name(TABLE).limit(1_000).set_exclusive_start_key(after).send().await?;
                for item in page.items() {
                    let json: Map<String, Value> =
                        item.iter().map(|(name, value)| Ok((name.clone(), to_dynamo_json(value)?))).collect::<Result<_>>()?;
                    let key = ["pk", "sk"].map(|name| json.get(name).and_then(|value| value.get("S")?.as_str()).unwrap_or_default());
                    if !key.first().is_some_and(|partition| partition.starts_with("AUDIT")) || key.first() == Some(&"AUDITCHAIN") {
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

    /// Writes an item, given as DynamoDB JSON, into the job table.
    fn put_job_table_item(&self, json: &Value) -> impl Future<Output = Result<()>> + Send {
        let put = self.dynamo().put_item().table_name(TABLE);
        let item = json.as_object().map(|json| json.iter().map(|(name, value)| Ok((name.clone(), from_dynamo_json(value)?))).collect());
        async move {
            let item: Result<_> = item.ok_or("an item must be a JSON object")?;
            Ok(put.set_item(Some(item?)).send().await.map(drop)?)
        }
    }
}

/// Converts an attribute value to DynamoDB JSON. Fails for all types except strings, numbers and binary values.
fn to_dynamo_json(value: &AttributeValue) -> Result<Value> {
    let text = value.as_s().map(|text| json!({ "S": text }));
    let number = text.or_else(|other| other.as_n().map(|digits| json!({ "N": digits })));
    let bytes = number.or_else(|other| {
        other.as_b().map(|blob| json!({ "B": base64::engine::general_purpose::STANDARD.encode(blob) })).map_err(|_| other)
    });
    bytes.map_err(|other| format!("the job table must hold only strings, numbers and binary values, but holds {other:?}").into())
}

/// Converts DynamoDB JSON to an attribute value. Fails for all types except strings and numbers.
fn from_dynamo_json(json: &Value) -> Result<AttributeValue> {
    let member = |name: &str| json.get(name).and_then(Value::as_str).map(str::to_owned);
    let text = member("S").map(AttributeValue::S);
    let number = || member("N").map(AttributeValue::N);
    text.or_else(number).ok_or_else(|| format!("{json} is neither a string nor a number").into())
}

/// Creates a DynamoDB in memory with an empty job table.
async fn create_job_table() -> Result<Client> {
    let dynamo = EmbeddedDynamo::in_memory()?.client();
    TableSchema::create(&dynamo, TABLE).await?;
    Ok(dynamo)
}

/// Deployment of the AWS adapters over stand-ins.
#[derive(Clone)]
pub struct AwsDeployment {
    dynamo: Client,
    /// Stand-in that holds all buckets.
    pub s3: S3StandIn,
    pub(super) sqs: SqsStandIn,
    queue_url: String,
    dlq_url: String,
    kms: KmsStandIn,
    /// Permissions that functions use.
    pub permission_log: PermissionLog,
}

impl AwsDeployment {
    /// Creates a deployment with an empty lake.
    pub async fn new() -> Result<Self> {
        Self::with_job_table(create_job_table().await?).await
    }

    /// Creates a deployment with an empty lake and the job table that this client reaches.
    pub async fn with_job_table(dynamo: Client) -> Result<Self> {
        let (s3, sqs) = (S3StandIn::start()?, SqsStandIn::start());
        s3.create_bucket(LAKE).await?;
        s3.create_bucket(DESTINATION).await?;
        s3.create_bucket(CLIENTS).await?;
        s3.create_bucket(AUDIT).await?;
        let (queue_url, dlq_url) = sqs.create_queue_with_dlq("tasks", 5_400, 5).await?;
        Ok(Self { dynamo, s3, sqs, queue_url, dlq_url, kms: KmsStandIn::start(), permission_log: PermissionLog::default() })
    }

    /// Creates a deployment with a copy of the lake in `dir`.
    pub async fn with_lake(dir: &Path) -> Result<Self> {
        let deployment = Self::new().await?;
        for file in lake::files(dir)? {
            let object = file.to_str().ok_or("the name of a lake file is not UTF-8")?;
            deployment.set_lake_object(object, Some(fs::read(dir.join(&file))?.into())).await?;
        }
        Ok(deployment)
    }

    /// Starts a multipart upload in the folder of the job at this status URL and leaves it incomplete, like a worker that is killed.
    /// Returns its key, or `None` if the job has no folder yet.
    pub async fn leave_incomplete_upload(&self, status: &str) -> Result<Option<String>> {
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

    /// Writes files of these names into the folder of the complete job at this status URL, like workers that have lost their leases.
    pub async fn leave_unrecorded_files(&self, status: &str, names: &[String]) -> Result<()> {
        let marker = format!("-{}/", status.rsplit('/').next().unwrap_or_default());
        let keys = self.s3.keys(DESTINATION, "").await?;
        let (before, _) = keys.iter().find_map(|key| key.split_once(&marker)).ok_or("the job has no folder")?;
        for name in names {
            self.s3.put(DESTINATION, &format!("{before}{marker}{name}"), Bytes::from_static(b"{}\n")).await?;
        }
        Ok(())
    }

    /// Creates the ports of a process whose settings name these buckets.
    pub fn ports_for_buckets(&self, source: &str, destination: &str) -> (SqsTaskQueue, S3Lake, S3OutputStore) {
        let s3 = self.s3.client_with(|config| config.interceptor(self.permission_log.clone()));
        let sqs = self.sqs.client().config().to_builder().interceptor(self.permission_log.clone()).build();
        let queue = SqsTaskQueue::new(aws_sdk_sqs::Client::from_conf(sqs), &self.queue_url).with_dead_letters(&self.dlq_url);
        let output = S3OutputStore::new(&s3, destination, "out").with_client_buckets([CLIENTS.to_owned()].into());
        (queue, S3Lake::new(&s3, source, "fhir"), output)
    }

    /// Returns a writer of the lake.
    pub fn lake_writer(&self) -> S3LakeWriter {
        S3LakeWriter::new(&self.s3.client_with(|config| config.interceptor(self.permission_log.clone())), LAKE, "fhir")
    }

    /// Returns a client of the queue at this URL, with the dead-letter queue of the deployment.
    pub fn queue_at(&self, url: &str) -> SqsTaskQueue {
        let sqs = self.sqs.client().config().to_builder().interceptor(self.permission_log.clone()).build();
        SqsTaskQueue::new(aws_sdk_sqs::Client::from_conf(sqs), url).with_dead_letters(&self.dlq_url)
    }

    /// Returns the objects of the lake, by their keys below its prefix.
    pub async fn lake_objects(&self) -> Result<BTreeMap<String, Bytes>> {
        let mut objects = BTreeMap::new();
        for key in self.s3.keys(LAKE, "fhir/").await? {
            objects.insert(key.trim_start_matches("fhir/").to_owned(), self.s3.get(LAKE, &key).await?);
        }
        Ok(objects)
    }

    /// Returns the contents of all objects of a bucket, which must lie below `prefix`, by the rest of their keys.
    async fn read_files(&self, bucket: &str, prefix: &str) -> Result<BTreeMap<String, Bytes>> {
        let mut files = BTreeMap::new();
        for key in self.s3.keys(bucket, "").await? {
            let bytes = self.s3.get(bucket, &key).await?;
            let below = key.strip_prefix(prefix).ok_or_else(|| format!("{key} is not below the prefix"))?;
            // Jobs' folders are in a folder of their own, beside the anonymization configurations.
            files.insert(below.strip_prefix("exports/").unwrap_or(below).to_owned(), bytes);
        }
        Ok(files)
    }
}

impl Deployment for AwsDeployment {
    type Queue = SqsTaskQueue;
    type Lake = S3Lake;
    type Output = S3OutputStore;
    type Audit = S3AuditFiles;

    const HAS_GATEWAY: bool = true;

    fn dynamo(&self) -> Client {
        self.dynamo.clone()
    }

    fn job_store(&self) -> DynamoJobStore {
        let dynamo = self.dynamo.config().to_builder().interceptor(self.permission_log.clone()).build();
        let kms = self.kms.client().config().to_builder().interceptor(self.permission_log.clone()).build();
        let sealer = KmsSecretEncryptor::new(aws_sdk_kms::Client::from_conf(kms), ENCRYPTION_KEY);
        DynamoJobStore::new(Client::from_conf(dynamo), TABLE).with_encryptor(sealer)
    }

    fn ports(&self) -> (SqsTaskQueue, S3Lake, S3OutputStore) {
        self.ports_for_buckets(LAKE, DESTINATION)
    }

    async fn put_anonymization_config(&self, name: &str, config: &str) -> Result<()> {
        self.s3.put(DESTINATION, &format!("out/anonymization/{name}"), Bytes::copy_from_slice(config.as_bytes())).await
    }

    async fn put_anonymization_keys(&self, config: &str, keys: &str) -> Result<()> {
        let bytes = self.encrypt_webhook_secret(keys).await?;
        self.s3.put(DESTINATION, &format!("out/anonymization/{config}.keys"), bytes).await
    }

    // With the encryption context of all that operators encrypt.
    async fn encrypt_webhook_secret(&self, secret: &str) -> Result<Vec<u8>> {
        let request = self.kms.client().encrypt().key_id(ENCRYPTION_KEY).plaintext(aws_sdk_kms::primitives::Blob::new(secret));
        let encrypted = request.encryption_context(KEYS_CONTEXT.0, KEYS_CONTEXT.1).send().await?;
        Ok(encrypted.ciphertext_blob.ok_or("no ciphertext")?.into_inner())
    }

    fn audit_files(&self) -> S3AuditFiles {
        S3AuditFiles::new(&self.s3.client_with(|config| config.interceptor(self.permission_log.clone())), AUDIT, "audit/")
    }

    async fn receive(&self, _: &SqsTaskQueue) -> Result<Option<SqsMessage>> {
        let received = self.sqs.client().receive_message().queue_url(&self.queue_url).max_number_of_messages(1).send().await?;
        Ok(received.messages.unwrap_or_default().into_iter().next().map(|received| {
            let mut message = SqsMessage::default();
            message.message_id = received.message_id;
            message.receipt_handle = received.receipt_handle;
            message.body = received.body;
            message.event_source = Some("aws:sqs".to_owned());
            message
        }))
    }

    async fn finish_message(&self, _: &SqsTaskQueue, message: &SqsMessage, redeliver: bool) -> Result<()> {
        let (client, url) = (self.sqs.client(), &self.queue_url);
        let handle = message.receipt_handle.clone().unwrap_or_default();
        if redeliver {
            client.change_message_visibility().queue_url(url).receipt_handle(handle).visibility_timeout(0).send().await?;
        } else {
            client.delete_message().queue_url(url).receipt_handle(handle).send().await?;
        }
        Ok(())
    }

    async fn dead_letters(&self) -> Result<Vec<String>> {
        let received =
            self.sqs.client().receive_message().queue_url(&self.dlq_url).max_number_of_messages(10).visibility_timeout(0).send().await?;
        Ok(received.messages.unwrap_or_default().into_iter().filter_map(|message| message.body).collect())
    }

    async fn output_files(&self) -> Result<BTreeMap<String, Bytes>> {
        self.read_files(DESTINATION, "out/").await
    }

    fn client_destination(&self) -> String {
        format!("{CLIENTS}/clinic 7/exports")
    }

    async fn client_files(&self) -> Result<BTreeMap<String, Bytes>> {
        self.read_files(CLIENTS, "clinic 7/exports/").await
    }

    async fn fetch_presigned(&self, url: &str) -> Result<Bytes> {
        let response = self.s3.fetch_presigned(url).await?;
        if response.status() == 200 {
            Ok(response.into_body())
        } else {
            Err(format!("the request to the presigned URL was answered with {}", response.status()).into())
        }
    }

    async fn set_lake_object(&self, object: &str, bytes: Option<Bytes>) -> Result<()> {
        let key = format!("fhir/{object}");
        match bytes {
            Some(bytes) => self.s3.put(LAKE, &key, bytes).await,
            None => Ok(self.s3.client().delete_object().bucket(LAKE).key(key).send().await.map(drop)?),
        }
    }
}

/// Deployment with the stores of `headrace serve`, in a temporary folder. The queue is lost with each process.
///
/// The job table is in the simulator's model of DynamoDB, which takes less time than the embedded engine and can be copied. The tests of
/// the simulator compare the two. The embedded engine is below the other deployment, and below the tests of the program.
#[derive(Clone)]
pub struct LocalDeployment {
    dynamo: DynamoModel,
    folder: Arc<TempDir>,
    lake: PathBuf,
    /// Folder in which the lake is, if the deployment has one of its own.
    lake_folder: Arc<TempDir>,
}

impl LocalDeployment {
    /// Returns the encryptor with the key of the deployment.
    fn encryptor(&self) -> FileSecretEncryptor {
        FileSecretEncryptor::new(self.folder.path().join("keys/secrets.key"))
    }

    /// Creates a deployment that reads the lake in `dir`. Tests must not change that lake.
    pub async fn with_lake(dir: &Path) -> Result<Self> {
        let (folder, lake_folder) = (Arc::new(tempfile::tempdir()?), Arc::new(tempfile::tempdir()?));
        Ok(Self { dynamo: DynamoModel::with_job_table(TABLE).await?, folder, lake: dir.to_path_buf(), lake_folder })
    }

    /// Creates a deployment with a lake of these files, which tests may change.
    pub async fn with_files(files: &[(&str, &[u8])]) -> Result<Self> {
        let mut deployment = Self::with_lake(Path::new("")).await?;
        deployment.lake = deployment.lake_folder.path().join("lake");
        for (object, bytes) in files {
            deployment.set_lake_object(object, Some(Bytes::copy_from_slice(bytes))).await?;
        }
        Ok(deployment)
    }

    /// Copies the stores as they are now, as a crash would leave them. The copy reads the same lake.
    ///
    /// # Errors
    ///
    /// If a file cannot be copied.
    pub fn copy_stores(&self) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        copy_files(self.folder.path(), folder.path())?;
        Ok(Self {
            dynamo: self.dynamo.copy(),
            folder: Arc::new(folder),
            lake: self.lake.clone(),
            lake_folder: Arc::clone(&self.lake_folder),
        })
    }

    /// Writes a file of the lake that arrived at this time.
    pub fn put_lake_file(&self, object: &str, bytes: &[u8], arrived: Millis) -> Result<()> {
        let path = self.lake.join(object);
        fs::create_dir_all(path.parent().unwrap_or(&self.lake))?;
        fs::write(&path, bytes)?;
        let modified = UNIX_EPOCH + Duration::from_millis(arrived.0);
        Ok(fs::File::options().write(true).open(&path)?.set_modified(modified)?)
    }

    /// Returns the folder of the lake.
    pub fn lake(&self) -> &Path {
        &self.lake
    }

    /// Returns the folder of output files.
    pub(super) fn destination(&self) -> PathBuf {
        self.folder.path().join("files")
    }
}

impl Deployment for LocalDeployment {
    type Queue = LocalQueue;
    type Lake = DirectoryLake;
    type Output = DirectoryOutputStore;
    type Audit = DirectoryAudit;

    const HAS_GATEWAY: bool = false;

    fn dynamo(&self) -> Client {
        self.dynamo.client()
    }

    fn ports(&self) -> (LocalQueue, DirectoryLake, DirectoryOutputStore) {
        (
            LocalQueue::default(),
            DirectoryLake::open(&self.lake),
            DirectoryOutputStore::open(self.destination()).separate_from_lake(&self.lake),
        )
    }

    fn job_store(&self) -> DynamoJobStore {
        DynamoJobStore::new(self.dynamo(), TABLE).with_one_partition().with_encryptor(self.encryptor())
    }

    async fn encrypt_webhook_secret(&self, secret: &str) -> Result<Vec<u8>> {
        Ok(self.encryptor().encrypt_webhook_secret(secret.as_bytes())?)
    }

    async fn put_anonymization_config(&self, name: &str, config: &str) -> Result<()> {
        let folder = self.destination().join("anonymization");
        fs::create_dir_all(&folder)?;
        Ok(fs::write(folder.join(name), config)?)
    }

    async fn put_anonymization_keys(&self, config: &str, keys: &str) -> Result<()> {
        let path = self.destination().join("anonymization").join(format!("{config}.keys"));
        fs::write(&path, keys)?;
        Ok(fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?)
    }

    fn audit_files(&self) -> DirectoryAudit {
        DirectoryAudit::open(self.folder.path().join("audit"))
    }

    async fn receive(&self, queue: &LocalQueue) -> Result<Option<SqsMessage>> {
        let Some(task) = queue.try_next().await else { return Ok(None) };
        let mut message = SqsMessage::default();
        message.message_id = Some(task.to_string());
        message.body = Some(serde_json::to_string(&task)?);
        Ok(Some(message))
    }

    async fn finish_message(&self, queue: &LocalQueue, message: &SqsMessage, redeliver: bool) -> Result<()> {
        if redeliver {
            let task = serde_json::from_str(message.body.as_deref().unwrap_or_default())?;
            queue.announce(&[task], std::time::Duration::ZERO).await?;
        }
        Ok(())
    }

    async fn dead_letters(&self) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    async fn output_files(&self) -> Result<BTreeMap<String, Bytes>> {
        files_below(&self.destination())
    }

    fn client_destination(&self) -> String {
        self.folder.path().join("clinic 7").display().to_string()
    }

    async fn client_files(&self) -> Result<BTreeMap<String, Bytes>> {
        files_below(Path::new(&self.client_destination()))
    }

    async fn fetch_presigned(&self, url: &str) -> Result<Bytes> {
        Err(format!("the local server redirected to {url}, but must send files itself").into())
    }

    async fn set_lake_object(&self, object: &str, bytes: Option<Bytes>) -> Result<()> {
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

/// Returns the contents of all files below `root`, by relative path. A missing folder counts as empty.
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

/// Copies files and folders with their modes.
fn copy_files(from: &Path, to: &Path) -> Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let copy = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            fs::create_dir(&copy)?;
            fs::set_permissions(&copy, entry.metadata()?.permissions())?;
            copy_files(&entry.path(), &copy)?;
        } else {
            fs::copy(entry.path(), &copy)?;
        }
    }
    Ok(())
}
