//! Limits the `error` file: the first entries about an object are written one by one, the others are only counted.

/// The number of entries about one object that are written one by one.
pub(super) const ENTRIES_PER_OBJECT: u64 = 200;

/// Entries of the `error` file since the last checkpoint, about one object of the lake.
///
/// A checkpoint starts with a new limit, so that a second attempt from the same cursor writes the same entries.
#[derive(Debug, Default)]
pub(super) struct ReportLimit {
    object: Option<String>,
    entries: u64,
    last_offset: Option<u64>,
}

impl ReportLimit {
    /// Returns true if the entries so far are about another object.
    pub(super) fn is_about_another_object(&self, location: Option<(&str, u64)>) -> bool {
        self.object.as_deref() != location.map(|(object, _)| object)
    }

    /// Counts an entry. Returns true if it is written on its own.
    ///
    /// * `location`: object and offset. `None` for de-identified exports.
    pub(super) fn count(&mut self, location: Option<(&str, u64)>) -> bool {
        if self.is_about_another_object(location) {
            self.object = location.map(|(object, _)| object.to_owned());
        }
        self.last_offset = location.map(|(_, offset)| offset);
        self.entries += 1;
        self.entries <= ENTRIES_PER_OBJECT
    }

    /// Starts again. Returns the text about the entries that were only counted, or `None` if all were written.
    ///
    /// * `what`: what the entries are about, in the plural, such as `lines of the lake were left out`.
    pub(super) fn take_summary(&mut self, what: &str) -> Option<String> {
        let Self { object, entries, last_offset } = std::mem::take(self);
        let more = entries.checked_sub(ENTRIES_PER_OBJECT).filter(|more| *more > 0)?;
        let place = match (object, last_offset) {
            (Some(object), Some(offset)) => format!(": object `{object}`, the last at byte {offset}"),
            (Some(_) | None, _) => String::new(),
        };
        Some(format!("{more} more {what}{place}; {ENTRIES_PER_OBJECT} were reported one by one"))
    }
}
