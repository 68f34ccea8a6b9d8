//! Checks the lake of a synchronization before anything is read from the server.

use std::path::Path;

use headrace_core::job::ExportError;
use headrace_core::lake::origin::normalize_base_url;
use headrace_core::lake::sync_report::{SYNC_REPORT_OBJECT, SyncReport};
use headrace_core::lake::watermark::{WATERMARK_OBJECT, parse_filler};
use headrace_core::ports::ResourceSource as _;
use headrace_lake::writing::{SyncLock, check_outside_of_lakes, check_without_tenants};

use super::error::SyncCommandError;
use crate::stores::directory::DirectoryLake;

/// Checks that a run may fill the lake from the server with this base URL. Returns the name of the server in the lake: the base URL as an
/// earlier run has written it, else in its normal form.
pub(super) async fn check_lake(lake: &Path, base: &str) -> Result<String, SyncCommandError> {
    check_outside_of_lakes(lake)?;
    check_without_tenants(lake)?;
    let requested = normalize_base_url(base);
    let name = match recorded_origin(&DirectoryLake::open(lake)).await? {
        Some(recorded) if normalize_base_url(&recorded) == requested => recorded,
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
