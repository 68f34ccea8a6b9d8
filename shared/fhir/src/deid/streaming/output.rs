//! The output of the streaming engine: text that is copied, and text that is left out.

use super::StreamingWriter;
use super::entries::{EntryState, Savepoint};

impl StreamingWriter<'_> {
    /// Copies the text between `copied_to` and `end`.
    pub(super) fn copy_up_to(&mut self, end: usize) {
        if let Some(piece) = self.scanner.text.as_bytes().get(self.copied_to..end) {
            self.out.extend_from_slice(piece);
        }
        self.copied_to = end;
    }

    /// Returns a savepoint at the current position.
    pub(super) fn savepoint(&self) -> Savepoint {
        Savepoint { output_length: self.out.len(), copied_to: self.copied_to }
    }

    /// Discards the output since the savepoint.
    pub(super) fn roll_back(&mut self, savepoint: &Savepoint) {
        self.out.truncate(savepoint.output_length);
        self.copied_to = savepoint.copied_to;
    }

    /// Prepares for a member or an item that begins at `begin`.
    pub(super) fn begin_entry(&mut self, entries: &EntryState, begin: usize) {
        // A comma follows an entry that was left out. The first entry that is kept must not be preceded by it.
        if !entries.has_kept && self.copied_to >= entries.last_end {
            self.copied_to = begin;
        }
    }

    /// Finishes a member or an item that ends at the reader's position, and leaves it out unless `is_kept`.
    pub(super) fn end_entry(&mut self, entries: &mut EntryState, is_kept: bool) {
        let end = self.scanner.position;
        if is_kept {
            entries.has_kept = true;
        } else {
            if self.copied_to < entries.last_end {
                self.copy_up_to(entries.last_end);
            }
            self.copied_to = end;
        }
        entries.last_end = end;
    }
}
