//! Checks the lake of a synchronization before anything is read from the server.

use std::path::Path;

use headrace_core::job::ExportError;
use headrace_core::lake::sync_report::{SYNC_REPORT_OBJECT, SyncReport};
use headrace_core::lake::watermark::{WATERMARK_OBJECT, parse_filler};
use headrace_core::ports::ResourceSource as _;
use headrace_lake::writing::{SyncLock, check_outside_of_lakes};
use reqwest::Url;

use super::command::SyncCommandError;
use crate::stores::directory::DirectoryLake;

/// Checks that a run may fill the lake from the server with this base URL. Returns the name of the server in the lake: the base URL as an
/// earlier run has written it, else in its normal form.
pub(super) async fn check_lake(lake: &Path, base: &str) -> Result<String, SyncCommandError> {
    check_outside_of_lakes(lake)?;
    let requested = normal_form(base);
    let name = match recorded_origin(&DirectoryLake::open(lake)).await? {
        Some(recorded) if normal_form(&recorded) == requested => recorded,
        Some(filled_from) => return Err(SyncCommandError::OtherOrigin { lake: lake.to_owned(), filled_from, requested }),
        None => requested,
    };
    SyncLock::check(lake)?;
    Ok(name)
}

/// Returns the base URL of the server that has filled a lake. `None` if no synchronization has.
///
/// The watermark names it. If the watermark was removed or replaced by another program, the report of the last run does.
async fn recorded_origin(lake: &DirectoryLake) -> Result<Option<String>, SyncCommandError> {
    let watermark = lake.read_metadata(WATERMARK_OBJECT).await.map_err(ExportError::from)?;
    if let Some(origin) = watermark.and_then(|object| parse_filler(&object).origin) {
        return Ok(Some(origin));
    }
    let report = lake.read_metadata(SYNC_REPORT_OBJECT).await.map_err(ExportError::from)?;
    let report = report.and_then(|object| serde_json::from_slice::<SyncReport>(&object.bytes).ok());
    // A first run that was incomplete has added nothing.
    Ok(report.filter(|report| report.is_complete || report.from.is_some()).map(|report| report.origin))
}

/// Returns a base URL in the form in which it is compared: scheme and host in lower case, without the port of the scheme and without a
/// slash at the end.
fn normal_form(base: &str) -> String {
    Url::parse(base).map_or_else(|_| base.to_owned(), String::from).trim_end_matches('/').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_server_are_equal_and_paths_are_not() {
        for same in ["https://h.example/R4", "HTTPS://H.Example/R4/", "https://h.example:443/R4"] {
            assert_eq!(normal_form(same), "https://h.example/R4");
        }
        for other in ["http://h.example/R4", "https://h.example/r4", "https://h.example:8443/R4", "https://h.example/R4/tenant"] {
            assert_ne!(normal_form(other), "https://h.example/R4");
        }
        assert_eq!(normal_form("https://h.example/"), "https://h.example");
    }
}
