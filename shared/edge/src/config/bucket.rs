//! The buckets of a deployment. None of them may lie where the lake is read.

use std::collections::BTreeSet;

use headrace_core::lake::slices::is_foreign;
use headrace_core::request::EXPORTS_FOLDER;
use headrace_core::vocab::ids::is_bucket_name;
use headrace_core::vocab::setting::Setting;

use super::{ConfigError, SettingSource};

/// A bucket and the key prefix that limits its use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// The bucket's name.
    pub name: String,
    /// The key prefix. An empty one means the whole bucket.
    pub prefix: String,
}

impl Bucket {
    /// Reads the settings of the source bucket, which holds the lake. The default prefix is empty.
    pub(super) fn read_source(settings: &impl SettingSource) -> Result<Self, ConfigError> {
        Ok(Self { name: settings.required(Setting::SourceBucket)?, prefix: settings.get(Setting::SourcePrefix).unwrap_or_default() })
    }

    /// Reads the settings of the destination bucket, which receives exported files. The default prefix is empty.
    pub(super) fn read_destination(settings: &impl SettingSource) -> Result<Self, ConfigError> {
        Ok(Self {
            name: settings.required(Setting::DestinationBucket)?,
            prefix: settings.get(Setting::DestinationPrefix).unwrap_or_default(),
        })
    }

    /// Reads the settings of the source and of the destination bucket. Rejects a destination whose files are read as part of the lake.
    pub(super) fn read_source_and_destination(settings: &impl SettingSource) -> Result<(Self, Self), ConfigError> {
        let (source, destination) = (Self::read_source(settings)?, Self::read_destination(settings)?);
        let exports = format!("{}{EXPORTS_FOLDER}/", folder(&destination.prefix));
        source.check_apart(&destination.name, &exports, Setting::DestinationBucket)?;
        Ok((source, destination))
    }

    /// Reads the settings of the audit bucket, which holds sealed audit files. The default prefix is `audit/`. Rejects one whose files are
    /// read as part of the lake.
    pub(super) fn read_audit(settings: &impl SettingSource, lake: &Self) -> Result<Self, ConfigError> {
        let audit = Self {
            name: settings.required(Setting::AuditBucket)?,
            prefix: settings.get(Setting::AuditPrefix).unwrap_or_else(|| "audit/".to_owned()),
        };
        lake.check_apart(&audit.name, &folder(&audit.prefix), Setting::AuditBucket)?;
        Ok(audit)
    }

    /// Checks that objects below a prefix of a bucket are not read as part of this lake, and that the lake is not below it. `setting` names
    /// the bucket.
    fn check_apart(&self, bucket: &str, prefix: &str, setting: Setting) -> Result<(), ConfigError> {
        let lake = folder(&self.prefix);
        let is_mixed = match prefix.strip_prefix(&lake) {
            Some(below) => !below.split('/').any(is_foreign),
            None => lake.starts_with(prefix),
        };
        if self.name != bucket || !is_mixed {
            return Ok(());
        }
        let problem = format!(
            "names `{bucket}`, the bucket of the lake, and the prefixes overlap (`{prefix}` and `{lake}`), so that exports would read what is \
             written there as part of the lake: name another bucket, or prefixes that are apart"
        );
        Err(ConfigError { setting, problem })
    }
}

/// Returns a prefix that ends with a slash, or an empty one.
fn folder(prefix: &str) -> String {
    let prefix = prefix.trim_end_matches('/');
    if prefix.is_empty() { String::new() } else { format!("{prefix}/") }
}

/// Reads a comma-separated list of bucket names. The lake's bucket is rejected: exported files would be read as part of the
/// lake.
pub(super) fn read_client_buckets(settings: &impl SettingSource, lake: &Bucket) -> Result<BTreeSet<String>, ConfigError> {
    let parse = |name: &str| {
        let invalid = |problem| Err(ConfigError { setting: Setting::ClientBuckets, problem });
        match name.trim() {
            name if !is_bucket_name(name) => {
                invalid(format!("names `{name}`: a bucket name is 3 to 63 characters of a-z, 0-9, hyphen and dot"))
            }
            name if name == lake.name => {
                invalid(format!("names `{name}`, the bucket of the lake: name only buckets that hold no source data"))
            }
            name => Ok(name.to_owned()),
        }
    };
    let list = settings.get(Setting::ClientBuckets);
    list.iter().flat_map(|list| list.split(',')).map(parse).collect()
}
