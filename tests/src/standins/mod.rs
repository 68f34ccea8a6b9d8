//! In-process stand-ins of S3, SQS, KMS, Secrets Manager and EventBridge for tests. They need no sockets and no AWS account, and leave nothing behind.
//!
//! The stand-in of DynamoDB is the embedded database of the local server, `headrace_local::stores::embedded`, which lists its gaps. Tests
//! that run hundreds of exports use the simulator's model, which is compared with it ([`dynamo_model`]).
//!
//! The stand-ins differ from AWS in the following ways.
//!
//! **S3** ([`s3`], based on `s3s` and `s3s-fs` 0.14.1; `s3/patched.rs` lists what is corrected). Signatures, presigned URLs with
//! their expiry, and checksums are verified. The test `the_known_gaps_of_this_s3_are_as_documented` shows these gaps: a key cannot
//! be a folder of another (`a` and `a/b`), empty folders in keys are removed (`a//b`), and there are no versions. Other gaps:
//! * A lost `If-None-Match` race always gives 412, where S3 may also return 409 `ConditionalRequestConflict`. Nothing is throttled
//!   (503 `SlowDown`) or slow. Fault tests inject those responses.
//! * There is no access control: no IAM, bucket policies, ACLs or public access block. Encryption is recorded, not applied.
//!   `.ci/run` deploys with IAM enabled.
//! * Lifecycle rules do nothing. Incomplete uploads stay until they are aborted.
//! * S3 computes a CRC64NVME for every object. The stand-in only knows checksums that were sent; for a multipart upload, only the
//!   one of its completion.
//! * Not supported: `If-Modified-Since`, reads by part number, tags, part copies, `If-Match` at completion, and paging of part and
//!   upload listings.
//! * Measurements include the cost of the stand-in. A listing walks the whole bucket for each page, and an upload is kept in memory.
//!   A large PUT runs at 0.2 GB/s in an unoptimised build; MD5 takes 37 % of that time, and the SHA-256 of signatures 24 %. A GET
//!   reads from the page cache.
//!
//! **SQS** ([`sqs`], based on `rustack-sqs` 0.12). Visibility timeouts, delays, long polling, receive counts and redrive to a DLQ
//! work as on AWS. The test `the_known_gaps_of_this_sqs_are_as_documented` shows these gaps: signatures are not verified, bodies are
//! limited to 256 KiB (1 MiB on AWS), and messages cannot be moved back from a DLQ. Other gaps:
//! * Messages are delivered once and in order, where AWS delivers at least once and in any order. Fault tests repeat, reorder and
//!   delay messages themselves.
//! * Nothing is throttled, lost or slow. There is no retention period and no limit on messages in flight.
//! * Queues live in memory, in the async runtime that created them.
//! * There is no event source mapping: tests call the handlers with received messages. `.ci/run` has one.
//!
//! **KMS** ([`kms`], our own). It signs and encrypts with real keys, and rejects invalid signing requests like KMS. It has one RSA
//! key, one symmetric key and four operations. There are no key policies, grants, throttling, disabled keys or other regions.
//! `.ci/run` deploys with IAM enabled.
//!
//! **Secrets Manager** ([`secrets`], our own). It has one secret and one operation, and checks no permissions.
//!
//! Measurements use an S3 that only stores files ([`disk_s3`]), and a FHIR server that generates its resources ([`generating_server`]).
//!
//! **EventBridge** ([`event_bridge`], our own). It has one bus and one operation, and checks no permissions. It has no rules and no targets,
//! and does not limit the size of a call.

pub mod disk_s3;
pub mod dynamo_model;
pub mod event_bridge;
pub mod fhir_server;
pub mod generating_server;
pub mod kms;
pub mod s3;
pub mod secrets;
pub mod sqs;
