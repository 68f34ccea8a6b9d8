//! Bundles: splits their text into entries, each with the unchanged text of its resource. No tree is built.
//!
//! [`Bundle`] is for a Bundle that is in memory, such as a page of a search. [`BundleSplitter`] is for files of any size.

mod entry;
mod error;
mod header;
mod splitter;

pub use entry::BundleEntry;
pub use error::BundleError;
pub use header::{BundleHeader, BundleLink};
pub use splitter::{BundlePart, BundleSplitter};

/// A Bundle in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bundle<'a> {
    /// The members beside the entries.
    pub header: BundleHeader,
    /// The entries in order.
    pub entries: Vec<BundleEntry<'a>>,
}

impl<'a> Bundle<'a> {
    /// Parses a Bundle. The resources in its entries are valid JSON, but nothing else is known of them:
    /// [`crate::head::ResourceHead::parse`] validates them.
    pub fn parse(text: &'a [u8]) -> Result<Self, BundleError> {
        let mut splitter = BundleSplitter::new(usize::MAX);
        splitter.push(text);
        let (mut ranges, mut header) = (Vec::new(), None);
        while let Some(part) = splitter.next_part()? {
            match part {
                BundlePart::Entry { offset, text } => {
                    let start = usize::try_from(offset).unwrap_or(usize::MAX);
                    ranges.push(start..start.saturating_add(text.len()));
                }
                BundlePart::End { offset, .. } if header.is_some() => return Err(BundleError::NotJson { offset }),
                BundlePart::End { header: end, .. } => header = Some(end),
            }
        }
        splitter.finish()?;
        let header = header.ok_or(BundleError::Truncated { offset: text.len() as u64 })?;
        let entry = |range: std::ops::Range<usize>| BundleEntry::parse(text.get(range.clone()).unwrap_or_default(), range.start as u64);
        Ok(Self { header, entries: ranges.into_iter().map(entry).collect::<Result<_, _>>()? })
    }

    /// Returns the URL of the link with this relation, such as `next`.
    pub fn link(&self, relation: &str) -> Option<&str> {
        self.header.link(relation)
    }
}

#[cfg(test)]
mod tests;
