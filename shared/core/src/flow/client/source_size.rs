//! Measures what an export would read, from the listing of the lake alone.

use headrace_fhir::definitions::TypeSet;

use crate::job::task::Encoding;
use crate::lake::slices::{SlicePlanner, encoding_from_name};
use crate::ports::ResourceSource;
use crate::vocab::error::SourceError;

/// The objects of the lake that an export would read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SourceSize {
    /// The number of objects.
    pub objects: u64,
    /// The bytes of these objects, as they are stored.
    pub bytes: u64,
    /// The number of these objects that are compressed.
    pub compressed: u64,
    /// The number of NDJSON objects that are skipped, because their names hold another type or they are empty.
    pub skipped: u64,
}

/// Lists the lake and measures the objects that an export would read.
///
/// * `types_to_read`: the types that names are trusted about; `None` reads all objects.
pub async fn source_size(source: &impl ResourceSource, types_to_read: Option<TypeSet>) -> Result<SourceSize, SourceError> {
    let planner = SlicePlanner::new(1, 1, types_to_read);
    let (mut size, mut after) = (SourceSize::default(), None::<String>);
    loop {
        let page = source.list(after.as_deref()).await?;
        for pin in page.objects.iter().map(|object| &object.pin) {
            match encoding_from_name(&pin.object) {
                Some(encoding) if planner.reads(pin) => {
                    size.objects += 1;
                    size.bytes += pin.size;
                    size.compressed += u64::from(matches!(encoding, Encoding::Gzip | Encoding::Zstd));
                }
                Some(_) => size.skipped += 1,
                None => {}
            }
        }
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(size),
        }
    }
}
