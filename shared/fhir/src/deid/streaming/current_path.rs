//! The path of the element that the streaming engine writes.

use std::fmt;

/// The nesting that few resources exceed.
pub(super) const USUAL_DEPTH: usize = 16;

/// The path of the current element, as failures and noise use it.
pub(super) struct CurrentPath {
    pub(super) root: &'static str,
    pub(super) segments: Vec<(&'static str, Option<usize>)>,
}

impl fmt::Display for CurrentPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.root)?;
        for (name, index) in &self.segments {
            // Each perturbed number formats its path. Single calls are faster than `write!` for a segment.
            f.write_str(".")?;
            f.write_str(name)?;
            if let Some(index) = index {
                f.write_str("[")?;
                index.fmt(f)?;
                f.write_str("]")?;
            }
        }
        Ok(())
    }
}
