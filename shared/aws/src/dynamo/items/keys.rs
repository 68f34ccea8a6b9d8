//! The keys of items: partitions, and sort keys in the order in which items are read.

use std::ops::RangeInclusive;

use aws_sdk_dynamodb::types::AttributeValue;
use headrace_core::audit::AuditRecordKey;
use headrace_core::job::file::{Bucket, FragmentName, OutputFileName, OutputKind};
use headrace_core::ports::FragmentSelection;
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::ids::{Caller, JobId};

use super::Item;
use super::values::text;

/// The number of partitions of the index of due items.
pub(in crate::dynamo) const DUE_SHARDS: u32 = 16;

/// The sort key of a job.
pub(in crate::dynamo) const JOB_SK: &str = "JOB";

/// The partition of the queue, sorted by the time at which jobs were queued.
pub(in crate::dynamo) const QUEUE_PK: &str = "QUEUE";

/// The partition of the events that are not delivered yet, sorted by time.
pub(in crate::dynamo) const OUTBOX_PK: &str = "OUTBOX";

/// The partition of the events that could not be delivered, sorted by time.
pub(in crate::dynamo) const UNDELIVERED_PK: &str = "UNDELIVERED";

/// The partition of the schedules, sorted by name.
pub(in crate::dynamo) const SCHEDULES_PK: &str = "SCHEDULES";

/// The partition of the audit records that are not sealed yet, sorted by time.
pub(in crate::dynamo) const AUDIT_PK: &str = "AUDIT";

/// The partition of the audit records about callers that were not authenticated. Requests of strangers do not use up the capacity of
/// [`AUDIT_PK`], which every download and token needs.
pub(in crate::dynamo) const AUDIT_UNKNOWN_PK: &str = "AUDITUNKNOWN";

/// Returns the partition key of a job.
fn job_pk(job: &JobId) -> AttributeValue {
    text(format!("JOB#{job}"))
}

/// Returns the primary key of an item of a job.
pub(in crate::dynamo) fn job_key(job: &JobId, sk: impl Into<String>) -> Item {
    Item::from([("pk".to_owned(), job_pk(job)), ("sk".to_owned(), text(sk))])
}

/// Returns the primary key of an item that belongs to no job.
pub(in crate::dynamo) fn plain_key(pk: &str, sk: &str) -> Item {
    Item::from([("pk".to_owned(), text(pk)), ("sk".to_owned(), text(sk))])
}

/// Returns the sort key of the item with a task's state.
pub(in crate::dynamo) fn task_sk(task: u32) -> String {
    format!("TASK#{task:010}")
}

/// Returns the sort key of the item with a task's work.
pub(in crate::dynamo) fn work_sk(task: u32) -> String {
    format!("WORK#{task:010}")
}

/// Returns the beginning of the sort keys of the output files that were recorded since the round `since`, in which an export starts from
/// scratch.
pub(in crate::dynamo) fn output_files_since(since: u32) -> String {
    format!("OUTPUT#{since:04}#")
}

/// Returns the sort key of an output file that was recorded since the round `since`.
pub(in crate::dynamo) fn output_file_sk(since: u32, name: OutputFileName) -> String {
    format!("{}{}#{:010}", output_files_since(since), name.kind.as_str(), name.number)
}

/// Returns the sort key of the item with the last reserved number of a kind, since the round `since`.
pub(in crate::dynamo) fn file_numbers_sk(since: u32) -> String {
    format!("NUMBERS#{since:04}")
}

/// Returns the beginning of the sort keys of the counters of a round.
pub(in crate::dynamo) fn round_counters(round: u32) -> String {
    format!("COUNTER#{round:04}#")
}

/// Returns the sort key of a counter of a round.
pub(in crate::dynamo) fn round_counter_sk(round: u32, counter: u32) -> String {
    format!("{}{counter:04}", round_counters(round))
}

/// Returns the sort key of a part of the list of a job's files.
pub(in crate::dynamo) fn file_list_sk(part: u32) -> String {
    format!("FILES#{part:010}")
}

/// The group of fragments of all exported kinds in sort keys. Every other kind is a group of its own.
const EXPORTED_FRAGMENTS: &str = "output";

/// Returns the group of a kind of fragments. Sort keys begin with it, so a query reads one group and no other.
fn fragment_group(kind: OutputKind) -> &'static str {
    if kind.is_exported() { EXPORTED_FRAGMENTS } else { kind.as_str() }
}

/// Returns the sort key of a fragment.
pub(in crate::dynamo) fn fragment_sk(round: u32, name: FragmentName) -> String {
    let (group, kind) = (fragment_group(name.kind), name.kind.as_str());
    format!("FRAGMENT#{group}#{round:04}#{kind}#{:010}#{:010}#{:010}", name.task, name.attempt, name.fencing_token)
}

/// Returns the first and the last possible sort key of these fragments. Other fragments may lie between them only if the selection has
/// several buckets.
pub(in crate::dynamo) fn fragment_sk_range(rounds: &RangeInclusive<u32>, selection: &FragmentSelection) -> [String; 2] {
    let (first, last) = (rounds.start(), rounds.end());
    // `$` is the character after `#`, and `:` the one after `9`.
    match selection {
        FragmentSelection::Exported => {
            [format!("FRAGMENT#{EXPORTED_FRAGMENTS}#{first:04}#"), format!("FRAGMENT#{EXPORTED_FRAGMENTS}#{last:04}$")]
        }
        FragmentSelection::Kind(kind) => {
            let group = fragment_group(*kind);
            [format!("FRAGMENT#{group}#{first:04}#"), format!("FRAGMENT#{group}#{last:04}$")]
        }
        FragmentSelection::KindOfTasks(kind, tasks) => {
            let (group, kind) = (fragment_group(*kind), kind.as_str());
            [
                format!("FRAGMENT#{group}#{first:04}#{kind}#{:010}#", tasks.start),
                format!("FRAGMENT#{group}#{last:04}#{kind}#{:010}#", tasks.end),
            ]
        }
        FragmentSelection::Buckets(buckets) => {
            let name = |bucket: u8| Bucket::from_number(bucket).map_or("bucket-:", |bucket| OutputKind::Bucket(bucket).as_str());
            [format!("FRAGMENT#{}#", name(buckets.start)), format!("FRAGMENT#{}#", name(buckets.end))]
        }
    }
}

/// Returns the sort key of a queued job.
pub(in crate::dynamo) fn queue_sk(queued_at: Millis, job: &JobId) -> String {
    format!("{:016}#{job}", queued_at.0)
}

/// Returns the primary key of the item of a queued job.
pub(in crate::dynamo) fn queue_key(queued_at: Millis, job: &JobId) -> Item {
    plain_key(QUEUE_PK, &queue_sk(queued_at, job))
}

/// Returns the primary key of the counter of a client's active jobs. Without an owner, returns that of the counter of all active jobs.
pub(in crate::dynamo) fn quota_key(owner: Option<&Caller>) -> Item {
    let pk = owner.map_or_else(|| "QUOTA".to_owned(), |owner| format!("QUOTA#{}", owner.0));
    plain_key(&pk, "QUOTA")
}

/// Returns the primary key of the item of an idempotency key.
pub(in crate::dynamo) fn idempotency_key(digest: &str) -> Item {
    plain_key(&format!("IDEMPOTENCY#{digest}"), "IDEMPOTENCY")
}

/// Returns the sort key of an audit record. With an empty id, it comes before all records of this time.
pub(in crate::dynamo) fn audit_sk(at: Millis, id: &str) -> String {
    format!("{:016}#{id}", at.0)
}

/// Returns the primary key of the item of an audit record.
pub(in crate::dynamo) fn audit_key(key: &AuditRecordKey) -> Item {
    let partition = if key.is_of_unknown_caller() { AUDIT_UNKNOWN_PK } else { AUDIT_PK };
    plain_key(partition, &audit_sk(key.at, &key.id))
}

/// Returns the primary key of the item with the state of the audit chain.
pub(in crate::dynamo) fn audit_chain_key() -> Item {
    plain_key("AUDITCHAIN", "AUDITCHAIN")
}

/// Returns the partition of the index of due items in which a task lies.
pub(in crate::dynamo) fn due_shard(task: u32) -> AttributeValue {
    text(format!("due#{}", task % DUE_SHARDS))
}
