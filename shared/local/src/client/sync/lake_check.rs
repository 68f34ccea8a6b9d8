//! Checks the lake of a synchronization before anything is read from the server.

use std::path::Path;

use headrace_core::job::ExportError;
use headrace_core::job::sync::SyncRequest;
use headrace_core::lake::origin::{normalize_base_url, recorded_origin};
use headrace_core::lake::watermark::{WATERMARK_OBJECT, parse_filler};
use headrace_core::ports::ResourceSource as _;
use headrace_lake::writing::{SyncLock, check_outside_of_lakes, check_without_inner_lakes};

use super::error::SyncCommandError;
use crate::stores::directory::DirectoryLake;

/// Checks that a run may fill the lake from the server with this base URL. Returns the name of the server in the lake: the base URL as an
/// earlier run has written it, else in its normal form.
pub(super) async fn check_lake(lake: &Path, base: &str) -> Result<String, SyncCommandError> {
    check_outside_of_lakes(lake)?;
    check_without_inner_lakes(lake)?;
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

/// Returns true if a request continues a lake, or there is none: the same server fills it, and it has no type that is not requested. The lake
/// may have a part of the types that an interrupted synchronization was adding.
pub(super) async fn is_continued_by(lake: &Path, request: &SyncRequest) -> Result<bool, SyncCommandError> {
    let lake = DirectoryLake::open(lake);
    let watermark = lake.read_metadata(WATERMARK_OBJECT).await.map_err(ExportError::from)?;
    let origin = recorded_origin(&lake, watermark.as_ref()).await.map_err(ExportError::from)?;
    if origin.is_some_and(|origin| normalize_base_url(&origin) != normalize_base_url(&request.origin)) {
        return Ok(false);
    }
    let filler = watermark.as_ref().map(parse_filler).unwrap_or_default();
    let mut types = filler.types.into_iter().flatten().chain(filler.publishing_types);
    Ok(types.all(|kind| request.types.as_ref().is_none_or(|requested| requested.contains(&kind))))
}
