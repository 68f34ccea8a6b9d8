//! Names of anonymization configurations, and entity tags of their files.

use serde::{Deserialize, Serialize};

use crate::vocab::text::stored_as_text;

/// The folder of a destination that holds the configurations for exports to it.
pub const ANONYMIZATION_FOLDER: &str = "anonymization";

/// The folder of a destination in a bucket that holds the folders of exports. It is apart from the folder of configurations, so that a
/// lifecycle rule can expire the former and keep the latter.
pub const EXPORTS_FOLDER: &str = "exports";
