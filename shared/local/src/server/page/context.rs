//! The information about its server that the page needs.

use serde::Serialize;

/// Description of the server for the page.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PageContext {
    /// Path of the base URL, relative to the page.
    pub(crate) api: &'static str,
    /// Base URL, as people know it.
    pub(crate) server: String,
    /// The `client_id`, if the program logs in for the page.
    pub(crate) client: Option<String>,
    /// True if the page cannot ask the server for anything, because it has no access token.
    pub(crate) needs_token: bool,
    /// True if the page can manage schedules and events.
    pub(crate) manages_schedules: bool,
}

impl PageContext {
    /// Returns the description as JSON.
    pub(super) fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}
