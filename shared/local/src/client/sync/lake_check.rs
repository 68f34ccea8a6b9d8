//! Checks the lake of a synchronization before anything is read from the server.

use std::path::Path;

use headrace_core::job::ExportError;
use headrace_core::lake::origin::{normalize_base_url, recorded_origin};
use headrace_core::lake::watermark::WATERMARK_OBJECT;
use headrace_core::ports::ResourceSource as _;
use headrace_lake::writing::{SyncLock, check_outside_of_lakes};

use super::error::SyncCommandError;
use crate::stores::directory::DirectoryLake;

/// Checks that a run may fill the lake from the server with this base URL. Returns the name of the server in the lake: the base URL as an
/// earlier run has written it, else in its normal form.
pub(super) async fn check_lake(lake: &Path, base: &str) -> Result<String, SyncCommandError> {
    check_outside_of_lakes(lake)?;
    let requested = normalize_base_url(base);
    let source = DirectoryLake::open(lake);
    let watermark = source.read_metadata(WATERMARK_OBJECT).await.map_err(ExportError::from)?;
    let name = match recorded_origin(&source, watermark.as_ref()).await.map_err(ExportError::from)? {
        Some(recorded) if normalize_base_url(&recorded) == requested => recorded,
        Some(filled_from) => return Err(SyncCommandError::OtherOrigin { lake: lake.to_owned(), filled_from, requested }),
        None => requested,
    };
    SyncLock::check(lake)?;
    Ok(name)
}
