//! S3: the lake that is read, and the destination that is written.

mod audit;
mod draft;
mod lake;
mod parts;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{RequestChecksumCalculation, ResponseChecksumValidation};
use headrace_core::request::JobKey;
use headrace_core::vocab::error::{BoxError, StoreError};

pub use audit::S3AuditFiles;
pub use lake::S3Lake;
pub use parts::S3PartStore;

use crate::errors::{Called, Sorted};

/// A client with our checksums instead of the SDK's: a part's CRC-64/NVME is computed while it is written and verified
/// by S3 on receipt; ranges of objects have no checksum to validate, and are read under `If-Match`.
fn with_our_checksums(client: &Client) -> Client {
    let config = client
        .config()
        .to_builder()
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .build();
    Client::from_conf(config)
}

/// A bucket and the prefix below which everything lies.
#[derive(Clone, Debug)]
struct Place {
    client: Client,
    bucket: String,
    /// Empty, or ending in a slash.
    prefix: String,
    /// What is written is encrypted under this key; `None` is as the bucket says.
    key: Option<JobKey>,
    called: Called,
}

/// Why a bucket cannot be used.
enum Trouble {
    /// A setting or a permission.
    Misconfigured { remedy: String, cause: BoxError },
    /// Something that may pass.
    Passing(StoreError),
}

impl Place {
    fn new(client: &Client, bucket: &str, prefix: &str, what: &'static str, setting: &'static str) -> Self {
        Self {
            client: with_our_checksums(client),
            bucket: bucket.to_owned(),
            prefix: folder(prefix),
            key: None,
            called: Called::new(what, setting, bucket),
        }
    }

    /// The key of an object.
    fn object(&self, below: &str) -> String {
        format!("{}{below}", self.prefix)
    }

    /// Whether the bucket is there and may be listed. Its answers have no body, so the status alone tells.
    async fn check(&self) -> Result<(), Trouble> {
        let Err(error) = self.client.head_bucket().bucket(&self.bucket).send().await else { return Ok(()) };
        match error.raw_response().map(|response| response.status().as_u16()) {
            Some(404) => Err(Trouble::Misconfigured { remedy: self.called.absent(), cause: error.into() }),
            Some(301) => Err(Trouble::Misconfigured { remedy: self.called.elsewhere(), cause: error.into() }),
            Some(403) => Err(Trouble::Misconfigured { remedy: self.called.denied(), cause: error.into() }),
            Some(_) | None => match self.called.sort(&error) {
                Sorted::Absent => Err(Trouble::Misconfigured { remedy: self.called.absent(), cause: error.into() }),
                Sorted::Denied => Err(Trouble::Misconfigured { remedy: self.called.denied(), cause: error.into() }),
                Sorted::KeyUnusable => Err(Trouble::Misconfigured { remedy: self.called.key_unusable(), cause: error.into() }),
                Sorted::Unusable => Err(Trouble::Misconfigured { remedy: self.called.unusable(), cause: error.into() }),
                Sorted::NotApplied | Sorted::Unknown | Sorted::Stale => Err(Trouble::Passing(self.called.store_error(error))),
            },
        }
    }
}

/// A prefix as it stands before keys: empty, or ending in a slash.
fn folder(prefix: &str) -> String {
    match prefix.trim_matches('/') {
        "" => String::new(),
        trimmed => format!("{trimmed}/"),
    }
}

#[cfg(test)]
mod tests;
