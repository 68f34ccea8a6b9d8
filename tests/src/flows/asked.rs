//! What each function asks AWS for, as IAM sees it: the action, the resource, and what conditions look at.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_dynamodb::operation as dynamo;
use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_kms::operation as kms;
use aws_sdk_s3::operation as s3;
use aws_sdk_sqs::operation as sqs;
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::{BeforeSerializationInterceptorContextRef, Input};
use aws_smithy_types::config_bag::ConfigBag;
use headrace_core::vocab::error::BoxError;
use tokio::task::futures::TaskLocalFuture;

/// The region and the account of every stand-in.
pub const PLACE: &str = "eu-central-1:111122223333";

/// The condition key for the prefix of a listing.
pub const PREFIX: &str = "s3:prefix";

/// The condition key for the partitions that a call to DynamoDB touches.
pub const LEADING_KEYS: &str = "dynamodb:LeadingKeys";

/// The condition key for the service that uses a KMS key on the caller's behalf.
pub const VIA_SERVICE: &str = "kms:ViaService";

/// The condition key for how KMS is asked to sign.
pub const SIGNING_ALGORITHM: &str = "kms:SigningAlgorithm";

tokio::task_local! {
    static FUNCTION: &'static str;
}

/// The same work, done by this function.
pub fn by<F: Future>(function: &'static str, work: F) -> Pin<Box<TaskLocalFuture<&'static str, F>>> {
    Box::pin(FUNCTION.scope(function, work))
}

/// One permission that a call needs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Asked {
    /// The function that called.
    pub function: &'static str,
    /// Such as `dynamodb:GetItem`.
    pub action: &'static str,
    /// The ARN.
    pub resource: String,
    /// The values of condition keys.
    pub context: BTreeMap<&'static str, String>,
}

/// Remembers what functions ask for. Calls that no function makes are the test's own and pass.
///
/// The parts of a multipart upload travel in a task of their own and are not seen; they need what its begin and end need.
#[derive(Clone, Debug, Default)]
pub struct Askings(Arc<Mutex<BTreeSet<Asked>>>);

impl Askings {
    /// Everything so far, each once.
    pub fn so_far(&self) -> BTreeSet<Asked> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Intercept for Askings {
    fn name(&self) -> &'static str {
        "what functions ask for"
    }

    fn read_before_execution(&self, context: &BeforeSerializationInterceptorContextRef<'_>, _: &mut ConfigBag) -> Result<(), BoxError> {
        let Ok(function) = FUNCTION.try_with(|function| *function) else { return Ok(()) };
        let needs = needs(context.input()).ok_or_else(|| format!("nobody has said what IAM asks for {:?}", context.input()))?;
        let mut asked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        asked.extend(needs.into_iter().map(|Need { action, resource, context }| Asked { function, action, resource, context }));
        Ok(())
    }
}

struct Need {
    action: &'static str,
    resource: String,
    context: BTreeMap<&'static str, String>,
}

impl Need {
    fn of(action: &'static str, resource: String) -> Self {
        Self { action, resource, context: BTreeMap::new() }
    }

    fn with(mut self, key: &'static str, value: Option<&str>) -> Self {
        self.context.extend(value.map(|value| (key, value.to_owned())));
        self
    }
}

/// What IAM asks for a call (Service Authorization Reference of each service); `None` for one that is not listed here.
fn needs(input: &Input) -> Option<Vec<Need>> {
    dynamo_needs(input).or_else(|| s3_needs(input)).or_else(|| sqs_needs(input)).or_else(|| kms_needs(input))
}

fn table(name: Option<&str>) -> String {
    format!("arn:aws:dynamodb:{PLACE}:table/{}", name.unwrap_or_default())
}

fn item(action: &'static str, name: Option<&str>, item: Option<&std::collections::HashMap<String, AttributeValue>>) -> Need {
    let partition = item.and_then(|item| item.get("pk")?.as_s().ok()).map(String::as_str);
    Need::of(action, table(name)).with(LEADING_KEYS, partition)
}

fn dynamo_needs(input: &Input) -> Option<Vec<Need>> {
    if let Some(get) = input.downcast_ref::<dynamo::get_item::GetItemInput>() {
        return Some(vec![item("dynamodb:GetItem", get.table_name(), get.key())]);
    }
    if let Some(put) = input.downcast_ref::<dynamo::put_item::PutItemInput>() {
        return Some(vec![item("dynamodb:PutItem", put.table_name(), put.item())]);
    }
    if let Some(update) = input.downcast_ref::<dynamo::update_item::UpdateItemInput>() {
        return Some(vec![item("dynamodb:UpdateItem", update.table_name(), update.key())]);
    }
    if let Some(delete) = input.downcast_ref::<dynamo::delete_item::DeleteItemInput>() {
        return Some(vec![item("dynamodb:DeleteItem", delete.table_name(), delete.key())]);
    }
    if let Some(query) = input.downcast_ref::<dynamo::query::QueryInput>() {
        let resource =
            query.index_name().map_or_else(|| table(query.table_name()), |index| format!("{}/index/{index}", table(query.table_name())));
        // The key condition begins with the partition: `pk = :pk AND …`.
        let placeholder = query.key_condition_expression()?.split_whitespace().nth(2)?;
        let partition = query.expression_attribute_values()?.get(placeholder)?.as_s().ok()?;
        return Some(vec![Need::of("dynamodb:Query", resource).with(LEADING_KEYS, Some(partition))]);
    }
    // A transaction needs the permissions of the writes inside it, none of its own.
    let transaction = input.downcast_ref::<dynamo::transact_write_items::TransactWriteItemsInput>()?;
    let mut needs = Vec::new();
    for write in transaction.transact_items() {
        needs.extend(write.put().map(|put| item("dynamodb:PutItem", Some(put.table_name()), Some(put.item()))));
        needs.extend(write.update().map(|update| item("dynamodb:UpdateItem", Some(update.table_name()), Some(update.key()))));
        needs.extend(write.delete().map(|delete| item("dynamodb:DeleteItem", Some(delete.table_name()), Some(delete.key()))));
        let check = write.condition_check();
        needs.extend(check.map(|check| item("dynamodb:ConditionCheckItem", Some(check.table_name()), Some(check.key()))));
    }
    Some(needs)
}

fn bucket(name: Option<&str>) -> String {
    format!("arn:aws:s3:::{}", name.unwrap_or_default())
}

fn object(action: &'static str, name: Option<&str>, key: Option<&str>) -> Need {
    Need::of(action, format!("{}/{}", bucket(name), key.unwrap_or_default()))
}

/// S3 encrypts under the key on behalf of whoever writes, and decrypts it for the parts of an upload and for a copy.
fn under(key: Option<&str>, actions: &[&'static str]) -> impl Iterator<Item = Need> {
    let need =
        |action: &&'static str| key.map(|key| Need::of(action, key.to_owned()).with(VIA_SERVICE, Some("s3.eu-central-1.amazonaws.com")));
    actions.iter().filter_map(need).collect::<Vec<_>>().into_iter()
}

fn s3_needs(input: &Input) -> Option<Vec<Need>> {
    if let Some(head) = input.downcast_ref::<s3::head_bucket::HeadBucketInput>() {
        return Some(vec![Need::of("s3:ListBucket", bucket(head.bucket()))]);
    }
    if let Some(list) = input.downcast_ref::<s3::list_objects_v2::ListObjectsV2Input>() {
        return Some(vec![Need::of("s3:ListBucket", bucket(list.bucket())).with(PREFIX, list.prefix())]);
    }
    if let Some(list) = input.downcast_ref::<s3::list_multipart_uploads::ListMultipartUploadsInput>() {
        return Some(vec![Need::of("s3:ListBucketMultipartUploads", bucket(list.bucket()))]);
    }
    if let Some(get) = input.downcast_ref::<s3::get_object::GetObjectInput>() {
        return Some(vec![object("s3:GetObject", get.bucket(), get.key())]);
    }
    if let Some(head) = input.downcast_ref::<s3::head_object::HeadObjectInput>() {
        return Some(vec![object("s3:GetObject", head.bucket(), head.key())]);
    }
    if let Some(put) = input.downcast_ref::<s3::put_object::PutObjectInput>() {
        let encrypted = under(put.ssekms_key_id(), &["kms:GenerateDataKey"]);
        return Some([object("s3:PutObject", put.bucket(), put.key())].into_iter().chain(encrypted).collect());
    }
    if let Some(create) = input.downcast_ref::<s3::create_multipart_upload::CreateMultipartUploadInput>() {
        let encrypted = under(create.ssekms_key_id(), &["kms:GenerateDataKey", "kms:Decrypt"]);
        return Some([object("s3:PutObject", create.bucket(), create.key())].into_iter().chain(encrypted).collect());
    }
    if let Some(complete) = input.downcast_ref::<s3::complete_multipart_upload::CompleteMultipartUploadInput>() {
        return Some(vec![object("s3:PutObject", complete.bucket(), complete.key())]);
    }
    if let Some(abort) = input.downcast_ref::<s3::abort_multipart_upload::AbortMultipartUploadInput>() {
        return Some(vec![object("s3:AbortMultipartUpload", abort.bucket(), abort.key())]);
    }
    if let Some(copy) = input.downcast_ref::<s3::copy_object::CopyObjectInput>() {
        let from = copy.copy_source()?.trim_start_matches('/');
        let both = [Need::of("s3:GetObject", bucket(Some(from))), object("s3:PutObject", copy.bucket(), copy.key())];
        return Some(both.into_iter().chain(under(copy.ssekms_key_id(), &["kms:GenerateDataKey", "kms:Decrypt"])).collect());
    }
    let delete = input.downcast_ref::<s3::delete_objects::DeleteObjectsInput>()?;
    let keys = delete.delete()?.objects().iter();
    Some(keys.map(|gone| object("s3:DeleteObject", delete.bucket(), Some(gone.key()))).collect())
}

fn sqs_needs(input: &Input) -> Option<Vec<Need>> {
    let queue = |url: Option<&str>| format!("arn:aws:sqs:{PLACE}:{}", url.and_then(|url| url.rsplit('/').next()).unwrap_or_default());
    if let Some(batch) = input.downcast_ref::<sqs::send_message_batch::SendMessageBatchInput>() {
        return Some(vec![Need::of("sqs:SendMessage", queue(batch.queue_url()))]);
    }
    let send = input.downcast_ref::<sqs::send_message::SendMessageInput>()?;
    Some(vec![Need::of("sqs:SendMessage", queue(send.queue_url()))])
}

/// Keys are named by their ARNs, as settings name them.
fn kms_needs(input: &Input) -> Option<Vec<Need>> {
    let key = |arn: Option<&str>| arn.unwrap_or_default().to_owned();
    if let Some(get) = input.downcast_ref::<kms::get_public_key::GetPublicKeyInput>() {
        return Some(vec![Need::of("kms:GetPublicKey", key(get.key_id()))]);
    }
    if let Some(encrypt) = input.downcast_ref::<kms::encrypt::EncryptInput>() {
        return Some(vec![Need::of("kms:Encrypt", key(encrypt.key_id()))]);
    }
    if let Some(decrypt) = input.downcast_ref::<kms::decrypt::DecryptInput>() {
        return Some(vec![Need::of("kms:Decrypt", key(decrypt.key_id()))]);
    }
    let sign = input.downcast_ref::<kms::sign::SignInput>()?;
    let algorithm = sign.signing_algorithm().map(|algorithm| algorithm.as_str());
    Some(vec![Need::of("kms:Sign", key(sign.key_id())).with(SIGNING_ALGORITHM, algorithm)])
}
