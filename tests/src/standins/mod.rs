//! S3, SQS and KMS in this process, for tests: no socket, no account, nothing left behind.
//!
//! DynamoDB's stand-in is the local product's own, `headrace_local::stores::embedded`, where its gaps are listed.
//!
//! A stand-in agrees with AWS only as far as somebody looked. What each of these cannot show, and what shows it instead:
//!
//! **S3** ([`s3`], on `s3s` and `s3s-fs` 0.14.1; `s3/patched.rs` lists what is mended). Signatures, presigned URLs and
//! their expiry are checked, checksums too. Pinned by `the_known_gaps_of_this_s3_are_as_documented`: no key may be a
//! folder of another (`a` and `a/b`), empty folders in keys collapse (`a//b`), there are no versions. Known from its
//! code:
//! * contention: a lost `If-None-Match` race is always 412, where S3 may also say 409 `ConditionalRequestConflict`
//!   ("try again"); nothing is ever throttled (503 `SlowDown`) or slow. The fault tests inject those answers.
//! * nobody is refused: no IAM, bucket policy, ACL, encryption or public access block. `.ci/run` deploys with IAM on.
//! * lifecycle rules do nothing; stray uploads stay until aborted.
//! * S3 computes a CRC64NVME for every object, here only a checksum that was sent is known; of a multipart upload only
//!   one given at its completion.
//! * `If-Modified-Since`, reads by part number, tags, part copies, `If-Match` at a completion, paging of part and upload
//!   listings: absent.
//! * time and memory measured through it are partly its own: a listing walks the whole bucket for each page, an upload
//!   is held in memory, and of the time of a large PUT (0.2 GB/s, unoptimised build) MD5 takes 37 % and SHA-256, by
//!   which the SDK signs a body from memory and this side checks it, 24 %. A GET is a read of the page cache.
//!
//! **SQS** ([`sqs`], on `rustack-sqs` 0.12). Visibility, delay, long polls, receive counts and redrive to a DLQ are as on
//! AWS. Pinned by `the_known_gaps_of_this_sqs_are_as_documented`: signatures are not checked, bodies end at 256 KiB (1
//! MiB on AWS), messages cannot be moved back from a DLQ. Known from its code:
//! * it delivers once and in order, where AWS delivers at least once and in any; the fault tests repeat, reorder and
//!   delay messages themselves.
//! * nothing is throttled, lost or slow; retention and the limit on messages in flight do not exist.
//! * queues live in memory and in the async runtime that made them.
//! * there is no event source mapping: tests call the handlers with messages they received. `.ci/run` has one.
//!
//! **KMS** ([`kms`], our own). It signs with a real key, and refuses what KMS would refuse of a signature. It knows one key
//! and two calls: no key policies, grants, throttling, disabled keys or other regions. `.ci/run` has IAM on.

pub mod kms;
pub mod s3;
pub mod sqs;
