//! Records the IAM permissions that each function uses: action, resource and the values of condition keys.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_dynamodb::operation as dynamo;
use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_eventbridge::operation as event_bridge;
use aws_sdk_kms::operation as kms;
use aws_sdk_s3::operation as s3;
use aws_sdk_secretsmanager::operation as secrets;
use aws_sdk_sqs::operation as sqs;
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::{BeforeSerializationInterceptorContextRef, Input};
use aws_smithy_types::config_bag::ConfigBag;
use headrace_core::vocab::error::BoxError;
use tokio::task::futures::TaskLocalFuture;

/// Region and account in the ARNs of all stand-ins.
pub const REGION_AND_ACCOUNT: &str = "eu-central-1:111122223333";

/// Condition key for the prefix of a bucket listing.
pub const PREFIX: &str = "s3:prefix";

/// Condition key for the partition keys that a DynamoDB call accesses.
pub const LEADING_KEYS: &str = "dynamodb:LeadingKeys";

/// Condition key for the AWS service that uses a KMS key on the caller's behalf.
pub const VIA_SERVICE: &str = "kms:ViaService";

/// Condition key for the names in the encryption context of a KMS call.
pub const ENCRYPTION_CONTEXT_KEYS: &str = "kms:EncryptionContextKeys";

/// Condition key for the job in the encryption context of a KMS call.
pub const ENCRYPTION_CONTEXT_JOB: &str = "kms:EncryptionContext:headrace:job";

/// Condition key for the purpose in the encryption context of a KMS call.
pub const KEY_PURPOSE: &str = "kms:EncryptionContext:purpose";

/// Condition key for the signing algorithm of a KMS call.
pub const SIGNING_ALGORITHM: &str = "kms:SigningAlgorithm";

tokio::task_local! {
    static FUNCTION: &'static str;
}

/// Runs `work` as the named Lambda function: its AWS calls are recorded as that function's.
pub fn run_as<F: Future>(function: &'static str, work: F) -> Pin<Box<TaskLocalFuture<&'static str, F>>> {
    Box::pin(FUNCTION.scope(function, work))
}

/// IAM permission that a call of a function needed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UsedPermission {
    /// Lambda function that made the call.
    pub function: &'static str,
    /// IAM action, such as `dynamodb:GetItem`.
    pub action: &'static str,
    /// ARN of the resource.
    pub resource: String,
    /// Values of the condition keys.
    pub context: BTreeMap<&'static str, String>,
}

/// SDK interceptor that records the permissions that functions use. Calls made outside [`run_as`] belong to the test and are ignored.
///
/// Uploads of single parts run in tasks of their own and are not recorded. They need the same permissions as
/// `CreateMultipartUpload` and `CompleteMultipartUpload`.
#[derive(Clone, Debug, Default)]
pub struct PermissionLog(Arc<Mutex<BTreeSet<UsedPermission>>>);

impl PermissionLog {
    /// Returns all recorded permissions without duplicates.
    pub fn all(&self) -> BTreeSet<UsedPermission> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Intercept for PermissionLog {
    fn name(&self) -> &'static str {
        "permission log"
    }

    fn read_before_execution(&self, context: &BeforeSerializationInterceptorContextRef<'_>, _: &mut ConfigBag) -> Result<(), BoxError> {
        let Ok(function) = FUNCTION.try_with(|function| *function) else { return Ok(()) };
        let required = required_permissions(context.input())
            .ok_or_else(|| format!("the permissions that {:?} needs are not listed in this file", context.input()))?;
        let mut used = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        used.extend(required.into_iter().map(|RequiredPermission { action, resource, context }| UsedPermission {
            function,
            action,
            resource,
            context,
        }));
        Ok(())
    }
}

/// Permission that IAM demands for a call.
struct RequiredPermission {
    action: &'static str,
    resource: String,
    context: BTreeMap<&'static str, String>,
}

impl RequiredPermission {
    /// Creates a permission without conditions.
    fn new(action: &'static str, resource: String) -> Self {
        Self { action, resource, context: BTreeMap::new() }
    }

    /// Adds a condition key with its value, unless the call has no value.
    fn with_condition(mut self, key: &'static str, value: Option<&str>) -> Self {
        self.context.extend(value.map(|value| (key, value.to_owned())));
        self
    }
}

/// Returns the permissions that IAM demands for a call, by the Service Authorization Reference of each service. `None` if the call is
/// not listed here.
fn required_permissions(input: &Input) -> Option<Vec<RequiredPermission>> {
    dynamodb_permissions(input)
        .or_else(|| s3_permissions(input))
        .or_else(|| sqs_permissions(input))
        .or_else(|| secret_permissions(input))
        .or_else(|| event_permissions(input))
        .or_else(|| kms_permissions(input))
}

/// Returns the ARN of a DynamoDB table.
fn table_arn(name: Option<&str>) -> String {
    format!("arn:aws:dynamodb:{REGION_AND_ACCOUNT}:table/{}", name.unwrap_or_default())
}

/// Returns the permission for an action on an item, with the partition key as a condition.
fn item_permission(
    action: &'static str,
    name: Option<&str>,
    item: Option<&std::collections::HashMap<String, AttributeValue>>,
) -> RequiredPermission {
    let partition = item.and_then(|item| item.get("pk")?.as_s().ok()).map(String::as_str);
    RequiredPermission::new(action, table_arn(name)).with_condition(LEADING_KEYS, partition)
}

/// Returns the permissions for a DynamoDB call, or `None` for another call.
fn dynamodb_permissions(input: &Input) -> Option<Vec<RequiredPermission>> {
    if let Some(get) = input.downcast_ref::<dynamo::get_item::GetItemInput>() {
        return Some(vec![item_permission("dynamodb:GetItem", get.table_name(), get.key())]);
    }
    if let Some(put) = input.downcast_ref::<dynamo::put_item::PutItemInput>() {
        return Some(vec![item_permission("dynamodb:PutItem", put.table_name(), put.item())]);
    }
    if let Some(update) = input.downcast_ref::<dynamo::update_item::UpdateItemInput>() {
        return Some(vec![item_permission("dynamodb:UpdateItem", update.table_name(), update.key())]);
    }
    if let Some(delete) = input.downcast_ref::<dynamo::delete_item::DeleteItemInput>() {
        return Some(vec![item_permission("dynamodb:DeleteItem", delete.table_name(), delete.key())]);
    }
    if let Some(query) = input.downcast_ref::<dynamo::query::QueryInput>() {
        let resource = query
            .index_name()
            .map_or_else(|| table_arn(query.table_name()), |index| format!("{}/index/{index}", table_arn(query.table_name())));
        // The key condition begins with the partition: `pk = :pk AND …`.
        let placeholder = query.key_condition_expression()?.split_whitespace().nth(2)?;
        let partition = query.expression_attribute_values()?.get(placeholder)?.as_s().ok()?;
        return Some(vec![RequiredPermission::new("dynamodb:Query", resource).with_condition(LEADING_KEYS, Some(partition))]);
    }
    // A transaction needs the permissions of the writes inside it, none of its own.
    let transaction = input.downcast_ref::<dynamo::transact_write_items::TransactWriteItemsInput>()?;
    let mut needs = Vec::new();
    for write in transaction.transact_items() {
        needs.extend(write.put().map(|put| item_permission("dynamodb:PutItem", Some(put.table_name()), Some(put.item()))));
        needs.extend(write.update().map(|update| item_permission("dynamodb:UpdateItem", Some(update.table_name()), Some(update.key()))));
        needs.extend(write.delete().map(|delete| item_permission("dynamodb:DeleteItem", Some(delete.table_name()), Some(delete.key()))));
        let check = write.condition_check();
        needs.extend(check.map(|check| item_permission("dynamodb:ConditionCheckItem", Some(check.table_name()), Some(check.key()))));
    }
    Some(needs)
}

/// Returns the ARN of an S3 bucket.
fn bucket_arn(name: Option<&str>) -> String {
    format!("arn:aws:s3:::{}", name.unwrap_or_default())
}

/// Returns the permission for an action on an S3 object. `name` is the bucket.
fn object_permission(action: &'static str, name: Option<&str>, key: Option<&str>) -> RequiredPermission {
    RequiredPermission::new(action, format!("{}/{}", bucket_arn(name), key.unwrap_or_default()))
}

/// Returns the permissions on a KMS key that S3 uses on the writer's behalf: it encrypts new objects, and decrypts data keys for the
/// parts of an upload and for a copy.
fn key_permissions(key: Option<&str>, actions: &[&'static str]) -> impl Iterator<Item = RequiredPermission> {
    let need = |action: &&'static str| {
        key.map(|key| RequiredPermission::new(action, key.to_owned()).with_condition(VIA_SERVICE, Some("s3.eu-central-1.amazonaws.com")))
    };
    actions.iter().filter_map(need).collect::<Vec<_>>().into_iter()
}

/// Returns the permissions for an S3 call, or `None` for another call.
fn s3_permissions(input: &Input) -> Option<Vec<RequiredPermission>> {
    if let Some(head) = input.downcast_ref::<s3::head_bucket::HeadBucketInput>() {
        return Some(vec![RequiredPermission::new("s3:ListBucket", bucket_arn(head.bucket()))]);
    }
    if let Some(list) = input.downcast_ref::<s3::list_objects_v2::ListObjectsV2Input>() {
        return Some(vec![RequiredPermission::new("s3:ListBucket", bucket_arn(list.bucket())).with_condition(PREFIX, list.prefix())]);
    }
    if let Some(list) = input.downcast_ref::<s3::list_multipart_uploads::ListMultipartUploadsInput>() {
        return Some(vec![RequiredPermission::new("s3:ListBucketMultipartUploads", bucket_arn(list.bucket()))]);
    }
    if let Some(get) = input.downcast_ref::<s3::get_object::GetObjectInput>() {
        return Some(vec![object_permission("s3:GetObject", get.bucket(), get.key())]);
    }
    if let Some(head) = input.downcast_ref::<s3::head_object::HeadObjectInput>() {
        return Some(vec![object_permission("s3:GetObject", head.bucket(), head.key())]);
    }
    if let Some(put) = input.downcast_ref::<s3::put_object::PutObjectInput>() {
        let encrypted = key_permissions(put.ssekms_key_id(), &["kms:GenerateDataKey"]);
        return Some([object_permission("s3:PutObject", put.bucket(), put.key())].into_iter().chain(encrypted).collect());
    }
    if let Some(create) = input.downcast_ref::<s3::create_multipart_upload::CreateMultipartUploadInput>() {
        let encrypted = key_permissions(create.ssekms_key_id(), &["kms:GenerateDataKey", "kms:Decrypt"]);
        return Some([object_permission("s3:PutObject", create.bucket(), create.key())].into_iter().chain(encrypted).collect());
    }
    if let Some(complete) = input.downcast_ref::<s3::complete_multipart_upload::CompleteMultipartUploadInput>() {
        return Some(vec![object_permission("s3:PutObject", complete.bucket(), complete.key())]);
    }
    if let Some(abort) = input.downcast_ref::<s3::abort_multipart_upload::AbortMultipartUploadInput>() {
        return Some(vec![object_permission("s3:AbortMultipartUpload", abort.bucket(), abort.key())]);
    }
    if let Some(copy) = input.downcast_ref::<s3::copy_object::CopyObjectInput>() {
        let from = copy.copy_source()?.trim_start_matches('/');
        let both =
            [RequiredPermission::new("s3:GetObject", bucket_arn(Some(from))), object_permission("s3:PutObject", copy.bucket(), copy.key())];
        return Some(both.into_iter().chain(key_permissions(copy.ssekms_key_id(), &["kms:GenerateDataKey", "kms:Decrypt"])).collect());
    }
    let delete = input.downcast_ref::<s3::delete_objects::DeleteObjectsInput>()?;
    let keys = delete.delete()?.objects().iter();
    Some(keys.map(|gone| object_permission("s3:DeleteObject", delete.bucket(), Some(gone.key()))).collect())
}

/// Returns the permissions for an SQS call, or `None` for another call.
fn sqs_permissions(input: &Input) -> Option<Vec<RequiredPermission>> {
    let queue =
        |url: Option<&str>| format!("arn:aws:sqs:{REGION_AND_ACCOUNT}:{}", url.and_then(|url| url.rsplit('/').next()).unwrap_or_default());
    if let Some(batch) = input.downcast_ref::<sqs::send_message_batch::SendMessageBatchInput>() {
        return Some(vec![RequiredPermission::new("sqs:SendMessage", queue(batch.queue_url()))]);
    }
    if let Some(receive) = input.downcast_ref::<sqs::receive_message::ReceiveMessageInput>() {
        return Some(vec![RequiredPermission::new("sqs:ReceiveMessage", queue(receive.queue_url()))]);
    }
    if let Some(delete) = input.downcast_ref::<sqs::delete_message::DeleteMessageInput>() {
        return Some(vec![RequiredPermission::new("sqs:DeleteMessage", queue(delete.queue_url()))]);
    }
    if let Some(change) = input.downcast_ref::<sqs::change_message_visibility::ChangeMessageVisibilityInput>() {
        return Some(vec![RequiredPermission::new("sqs:ChangeMessageVisibility", queue(change.queue_url()))]);
    }
    let send = input.downcast_ref::<sqs::send_message::SendMessageInput>()?;
    Some(vec![RequiredPermission::new("sqs:SendMessage", queue(send.queue_url()))])
}

/// Returns the permissions for a call of Secrets Manager. Secrets are named by their ARNs.
fn secret_permissions(input: &Input) -> Option<Vec<RequiredPermission>> {
    let get = input.downcast_ref::<secrets::get_secret_value::GetSecretValueInput>()?;
    Some(vec![RequiredPermission::new("secretsmanager:GetSecretValue", get.secret_id().unwrap_or_default().to_owned())])
}

/// Returns the permissions for a call of EventBridge: one for each bus.
fn event_permissions(input: &Input) -> Option<Vec<RequiredPermission>> {
    let put = input.downcast_ref::<event_bridge::put_events::PutEventsInput>()?;
    let buses: BTreeSet<&str> = put.entries().iter().filter_map(|entry| entry.event_bus_name()).collect();
    let arn = |bus: &str| format!("arn:aws:events:{REGION_AND_ACCOUNT}:event-bus/{bus}");
    Some(buses.into_iter().map(|bus| RequiredPermission::new("events:PutEvents", arn(bus))).collect())
}

/// Adds the condition keys of an encryption context, which has one name here.
fn with_encryption_context(need: RequiredPermission, context: Option<&std::collections::HashMap<String, String>>) -> RequiredPermission {
    let name = context.and_then(|context| context.keys().next());
    let job = context.and_then(|context| context.get("headrace:job"));
    need.with_condition(ENCRYPTION_CONTEXT_KEYS, name.map(String::as_str)).with_condition(ENCRYPTION_CONTEXT_JOB, job.map(String::as_str))
}

/// Returns the permissions for a KMS call. Key ids in calls are ARNs, because settings hold ARNs.
fn kms_permissions(input: &Input) -> Option<Vec<RequiredPermission>> {
    let key = |arn: Option<&str>| arn.unwrap_or_default().to_owned();
    if let Some(get) = input.downcast_ref::<kms::get_public_key::GetPublicKeyInput>() {
        return Some(vec![RequiredPermission::new("kms:GetPublicKey", key(get.key_id()))]);
    }
    if let Some(encrypt) = input.downcast_ref::<kms::encrypt::EncryptInput>() {
        let need = RequiredPermission::new("kms:Encrypt", key(encrypt.key_id()));
        return Some(vec![with_encryption_context(need, encrypt.encryption_context())]);
    }
    if let Some(decrypt) = input.downcast_ref::<kms::decrypt::DecryptInput>() {
        let purpose = decrypt.encryption_context().and_then(|context| context.get("purpose")).map(String::as_str);
        let need = RequiredPermission::new("kms:Decrypt", key(decrypt.key_id()));
        return Some(vec![with_encryption_context(need, decrypt.encryption_context()).with_condition(KEY_PURPOSE, purpose)]);
    }
    let sign = input.downcast_ref::<kms::sign::SignInput>()?;
    let algorithm = sign.signing_algorithm().map(|algorithm| algorithm.as_str());
    Some(vec![RequiredPermission::new("kms:Sign", key(sign.key_id())).with_condition(SIGNING_ALGORITHM, algorithm)])
}
