//! Ports: the traits through which the core uses stores, queues, signers and the clock.
//!
//! Most ports have two production implementations: one for AWS and one for a single machine. `docs/architecture.md` lists them.

mod access;
mod all;
mod audit;
mod clock;
mod encryptor;
mod events;
mod feed;
mod jobs;
mod output;
mod queue;
mod schedules;
mod signer;
mod signing;
mod source;
mod tasks;

pub use access::AccessStore;
pub use all::{AllPorts, Ports};
pub use audit::{AuditFileListing, AuditFiles, AuditTrail, AuditWrite};
pub use clock::Clock;
pub use encryptor::JobSecretEncryptor;
pub use events::{DecryptedWebhook, EventBus, EventOutbox, EventReceiver, EventResults, EventSender, NoEventBus};
pub use feed::{CopyOutcome, Feed, LakeFeed, LakeWriter, NoFeed, OriginError, OriginPage, OriginRequest, OriginServer, PAGE_LIMIT_BYTES};
pub use jobs::{DueItem, DueSubject, JobLists, JobPage, JobStore, QueueStart, QueuedJob};
pub use output::{ConfigLookup, DeletedPart, FileAccess, FileRequest, FileWriter, OutputStore, delete_all_parts};
pub use queue::{ReceivedMessage, TaskQueue, TaskReceiver};
pub use schedules::ScheduleStore;
pub use signer::TokenSigner;
pub use signing::{SignatureFuture, UnsignedRequest};
pub use source::{
    ArchivedObject, ByteStream, ListedObject, METADATA_LIMIT_BYTES, MetadataObject, ObjectPage, ResourceSource, SkippedEntry,
};
pub use tasks::{
    FRAGMENTS_PER_CHECKPOINT, FragmentSelection, LeaseSettings, OUTPUT_FILES_PER_CHECKPOINT, PROMOTIONS_PER_CHECKPOINT,
    TASK_BYTES_PER_UPDATE, TASKS_PER_UPDATE, TaskStore,
};
