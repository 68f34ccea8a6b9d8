//! Takes the time of an export from the clock and the watermark of the lake.

use std::time::Duration;

use headrace_fhir::instant::Instant;

use crate::job::{ExportTime, Watermark};
use crate::lake::watermark::{WATERMARK_OBJECT, check_publication, check_unpublished, parse_watermark, unusable_watermark};
use crate::ports::{MetadataObject, ResourceSource};
use crate::vocab::clock::Millis;
use crate::vocab::error::SourceError;
use crate::vocab::lake_settings::LakeWatermark;

/// The precision of the times at which objects arrive: S3 drops fractions of a second.
const ARRIVAL_PRECISION: Duration = Duration::from_secs(1);

/// Determines the time of an export that is planned `now`. Fails if the watermark object is wrong, or missing although the setting
/// requires it, and by every rule if the lake may have a part of a synchronization: of the first one, or of changes at or before the watermark.
///
/// The lake must be listed after this call: what is listed then is complete up to the time that the object said before.
pub async fn determine_export_time(source: &impl ResourceSource, setting: LakeWatermark, now: Millis) -> Result<ExportTime, SourceError> {
    // Whatever the setting promises about the lake, a synchronization may have left a part in it. Any other content of the object is left to
    // the rules that use it.
    let object = source.read_metadata(WATERMARK_OBJECT).await?;
    object.as_ref().map_or(Ok(()), check_publication)?;
    Ok(ExportTime::new(now, watermark_by(setting, object.as_ref(), now)?))
}

/// Checks a lake again after it was listed: an export must not have a part of a synchronization that has begun to publish since its time was
/// taken.
pub(super) async fn check_listed(source: &impl ResourceSource, watermark: Watermark) -> Result<(), SourceError> {
    let Some(object) = source.read_metadata(WATERMARK_OBJECT).await? else { return Ok(()) };
    check_publication(&object)?;
    match watermark {
        // The lake had no watermark object.
        Watermark::Unstated => check_unpublished(&object),
        Watermark::Now | Watermark::Lag(_) | Watermark::Arrival | Watermark::Object(_) => Ok(()),
    }
}

/// Reads the watermark of the lake as the setting says.
pub async fn read_watermark(source: &impl ResourceSource, setting: LakeWatermark, now: Millis) -> Result<Watermark, SourceError> {
    let object = match setting {
        LakeWatermark::Auto | LakeWatermark::Object => source.read_metadata(WATERMARK_OBJECT).await?,
        LakeWatermark::Now | LakeWatermark::Arrival | LakeWatermark::Lag(_) => None,
    };
    watermark_by(setting, object.as_ref(), now)
}

/// Returns the watermark of a lake with this watermark object as the setting says.
fn watermark_by(setting: LakeWatermark, object: Option<&MetadataObject>, now: Millis) -> Result<Watermark, SourceError> {
    match setting {
        LakeWatermark::Now => Ok(Watermark::Now),
        LakeWatermark::Arrival => Ok(Watermark::Arrival),
        LakeWatermark::Lag(lag) => Ok(Watermark::Lag(Millis(0) + lag)),
        LakeWatermark::Auto | LakeWatermark::Object => match object {
            Some(object) => Ok(Watermark::Object(parse_watermark(object, now)?)),
            None if setting == LakeWatermark::Object => Err(unusable_watermark("does not exist")),
            None => Ok(Watermark::Unstated),
        },
    }
}

/// Returns true if an object that arrived at this time counts as new to a reader that has everything up to `since`.
///
/// Exports by arrival must not miss an object whose time was rounded down. The count of what other exports leave out must not name an
/// object that arrived before.
pub(super) fn arrived_after(arrived: Millis, since: Instant, watermark: Watermark) -> bool {
    let latest = if watermark.includes_arrivals() { arrived + ARRIVAL_PRECISION } else { arrived };
    Instant::from_millis(latest.0) > since
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arrival_is_never_missed_because_its_time_was_rounded_down() {
        let since = Instant::parse("2026-11-29T10:30:00.500Z").unwrap();
        for (arrived, counted, included) in
            [("2026-11-29T10:30:00Z", false, true), ("2026-11-29T10:29:59Z", false, false), ("2026-11-29T10:30:01Z", true, true)]
        {
            let arrived = Millis::from_instant(Instant::parse(arrived).unwrap()).unwrap();
            assert_eq!(arrived_after(arrived, since, Watermark::Unstated), counted);
            assert_eq!(arrived_after(arrived, since, Watermark::Arrival), included);
        }
    }
}
