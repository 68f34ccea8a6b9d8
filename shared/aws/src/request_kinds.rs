//! The kinds of requests to S3, by which they are priced.

use headrace_core::job::Usage;
use headrace_core::metering::count;

/// Counts a request to S3 for the attempt that makes it, by the name of its operation. Those that are not known are not counted.
pub fn count_object_request(operation: &str) {
    count(|usage| {
        if let Some(counter) = counter(usage, operation) {
            *counter += 1;
        }
    });
}

/// Returns the counter of an operation.
fn counter<'a>(usage: &'a mut Usage, operation: &str) -> Option<&'a mut u64> {
    match operation {
        "GetObject" | "HeadObject" | "HeadBucket" => Some(&mut usage.gets),
        "PutObject" | "CreateMultipartUpload" | "UploadPart" | "CompleteMultipartUpload" => Some(&mut usage.puts),
        "CopyObject" => Some(&mut usage.copies),
        "ListObjectsV2" | "ListMultipartUploads" => Some(&mut usage.lists),
        "DeleteObjects" | "AbortMultipartUpload" => Some(&mut usage.deletes),
        _ => None,
    }
}
