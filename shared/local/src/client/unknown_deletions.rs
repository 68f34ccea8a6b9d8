//! Says before an export of changes of which types the deletions are not known in the lake.

use std::path::Path;

use headrace_core::lake::watermark::{LakeFiller, WATERMARK_OBJECT, parse_filler};
use headrace_core::ports::ResourceSource as _;

use super::progress::print_line;
use crate::stores::directory::DirectoryLake;

/// Prints on standard error of which types the lake does not have all deletions, as its watermark says.
pub(super) async fn print_unknown_deletions(lake: &Path) {
    // The export itself says what is wrong with a watermark that cannot be read.
    let Ok(Some(watermark)) = DirectoryLake::open(lake).read_metadata(WATERMARK_OBJECT).await else { return };
    if let Some(types) = types_of_unknown_deletions(&parse_filler(&watermark)) {
        print_line(&format!(
            "attention: it is not known which resources the server has deleted, of {types}: the lake may still have them, and increments lack their \
             deletions"
        ));
    }
}

/// Returns the types with the moments from which their deletions are not known. `None` if there are none.
fn types_of_unknown_deletions(filler: &LakeFiller) -> Option<String> {
    let types: Vec<String> = filler.deletions_known_up_to.iter().map(|(kind, from)| format!("{kind} from {from} on")).collect();
    (!types.is_empty()).then(|| types.join(", "))
}

#[cfg(test)]
mod tests {
    use headrace_fhir::definitions::ResourceType;
    use headrace_fhir::instant::Instant;

    use super::*;

    #[test]
    fn types_are_named_with_the_moment_from_which_their_deletions_are_unknown() {
        assert_eq!(types_of_unknown_deletions(&LakeFiller::default()), None);
        let known = [(ResourceType::PATIENT, Instant::from_millis(1_769_846_400_000))];
        let filler = LakeFiller { deletions_known_up_to: known.into(), ..LakeFiller::default() };
        assert_eq!(types_of_unknown_deletions(&filler).as_deref(), Some("Patient from 2026-01-31T08:00:00Z on"));
    }
}
