//! Layouts of the folders below a container (`_format`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::named_values::parse_named_values;
use crate::vocab::text::stored_as_text;

/// The placeholder for the time of the kick-off.
const TIMESTAMP: &str = "<timestamp>";

/// The placeholder for the id of the job.
const ID: &str = "<id>";

/// Values of `_format` that stand for FHIR JSON, as everywhere in FHIR. No layout can have one of these names.
pub(super) const JSON_FORMATS: [&str; 3] = ["json", "application/json", "application/fhir+json"];

/// The layout of a job's folder: a path with the placeholder `<id>`, and `<timestamp>` if wanted. The operator names layouts,
/// and `_format` selects one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FolderLayout(String);

/// The error for an invalid list of layouts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("names `{0}`: a layout is written name=folders, such as monthly=<timestamp>/<id>, with <id> in it and no name twice")]
pub struct InvalidFolderLayout(String);

impl FolderLayout {
    /// Parses a layout: segments of letters, digits, `-`, `_`, `.` and the two placeholders, without a slash at either end. A
    /// final segment `<resourcename>`, as Azure has it, is accepted and ignored, because every file is named by its type.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.strip_suffix("/<resourcename>").unwrap_or(text);
        let is_segment = |segment: &str| {
            let plain = segment.replace(TIMESTAMP, "t").replace(ID, "i");
            let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
            !plain.is_empty() && !plain.starts_with('.') && !plain.starts_with('_') && plain.bytes().all(is_allowed)
        };
        (text.contains(ID) && text.len() <= 200 && text.split('/').all(is_segment)).then(|| Self(text.to_owned()))
    }

    /// Parses the operator's layouts, `name=layout;name=layout`. A name is 1 to 64 letters, digits, `-`, `_` and `.`.
    pub fn parse_list(text: &str) -> Result<BTreeMap<String, Self>, InvalidFolderLayout> {
        let parse = |name: &str, layout: &str| if JSON_FORMATS.contains(&name) { None } else { Self::parse(layout) };
        parse_named_values(text, parse).map_err(InvalidFolderLayout)
    }

    /// Returns the layout with its placeholders, as the client has sent it.
    fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the path of a job's folder: the layout with the job's timestamp and id in place of the placeholders.
    pub fn to_path(&self, timestamp: &str, id: &str) -> String {
        self.0.replace(TIMESTAMP, timestamp).replace(ID, id)
    }
}

stored_as_text!(FolderLayout, Self::parse, "not a layout");
