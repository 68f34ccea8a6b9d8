//! Export requests: parameters and headers of a kick-off, and their validation.

mod accepted_remarks;
mod anonymization_config;
mod associated_data;
mod encryption_key;
mod error;
mod export_request;
mod fixed_configuration;
mod folder_layout;
mod lists;
mod named_values;
mod parameter;
mod patients;
mod permissions;
mod preferences;
mod raw;
mod remark_name;
mod resolve;
mod resolved_configuration;
mod single;

pub use accepted_remarks::{AcceptedRemarks, InvalidRemarkNames};
pub use anonymization_config::{AnonymizationConfig, MAX_CONFIG_BYTES};
pub use associated_data::AssociatedData;
pub use encryption_key::{EncryptionKey, InvalidEncryptionKey};
pub use error::{IgnoredParameter, RequestError};
pub use export_request::ExportRequest;
pub use folder_layout::{FolderLayout, InvalidFolderLayout};
pub use parameter::Parameter;
pub use preferences::Preferences;
pub use remark_name::RemarkNames;
pub use resolve::{ExportPolicy, RawKickOff, ResolvedRequest, is_resource_id};
pub use resolved_configuration::ResolvedConfiguration;

pub use crate::vocab::config_name::{ANONYMIZATION_FOLDER, ConfigName, EXPORTS_FOLDER, KEYS_SUFFIX};

#[cfg(test)]
mod tests;
