//! Recognizes a lake inside another one by the names of its objects. Exports of the outer lake would mix the resources of both.

use crate::lake::slices::is_foreign;
use crate::vocab::error::SourceError;

/// The internal folder of a lake, for files that are not data. Exports do not read it.
pub const OWN_FOLDER: &str = "_headrace";

/// Returns the folder of the lake inside this one that an object belongs to: a folder that exports read, and that has an internal folder.
pub fn inner_lake(object: &str) -> Option<&str> {
    let (folder, _) = object.split_once("/_headrace/")?;
    (!folder.is_empty() && !folder.split('/').any(is_foreign)).then_some(folder)
}

/// Returns the error for a lake that has another one in this folder.
pub fn contains_lake(folder: &str) -> SourceError {
    let remedy = format!(
        "the lake contains another one in its folder `{folder}`, and the resources of both would be mixed: name one of the lakes, or move \
         one to a place outside of the other"
    );
    SourceError::Misconfigured { remedy, cause: "the lake contains another one".into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_internal_folder_of_a_folder_that_is_read_makes_a_lake() {
        for (object, expected) in [
            ("t1/_headrace/watermark.json", Some("t1")),
            ("2026/t1/_headrace/added/r.ndjson", Some("2026/t1")),
            ("_headrace/watermark.json", None),
            ("_headrace/staging/t1/_headrace/watermark.json", None),
            ("_old/t1/_headrace/watermark.json", None),
            (".trash/t1/_headrace/watermark.json", None),
            ("/_headrace/watermark.json", None),
            ("t1/Patient/_headrace.ndjson", None),
            ("t1/x_headrace/a", None),
        ] {
            assert_eq!(inner_lake(object), expected, "{object}");
        }
    }
}
