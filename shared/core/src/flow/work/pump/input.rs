//! The inputs of a task that reads and writes lines.

use std::ops::Range;

use bytes::Bytes;

use crate::job::file::{FragmentPart, OutputKind};
use crate::job::task::{Encoding, Slice, Work};

/// Returns the slices or fragments of a task as inputs.
pub(super) fn inputs_of(work: &Work) -> Vec<Input> {
    let fragments = work.fragments().iter().cloned().map(Input::Fragment);
    slice_inputs(work.slices()).into_iter().chain(fragments).collect()
}

/// Returns each slice as an input.
pub(super) fn slice_inputs(slices: &[Slice]) -> Vec<Input> {
    slices.iter().cloned().map(Input::Slice).collect()
}

/// Returns the extents of the slices among the inputs.
pub(super) fn slice_extents(inputs: &[Input]) -> Vec<SliceExtent> {
    inputs.iter().filter_map(Input::slice_extent).collect()
}

/// An input of a task.
pub(in crate::flow::work) enum Input {
    /// Lines of the lake, which have to be selected.
    Slice(Slice),
    /// Lines of one kind that are already selected.
    Fragment(FragmentPart),
    /// Lines of one kind that are in no file yet.
    Lines(OutputKind, Bytes),
}

impl Input {
    /// Returns the extent of a slice, and `None` for other inputs.
    fn slice_extent(&self) -> Option<SliceExtent> {
        match self {
            Self::Slice(slice) => Some(SliceExtent { range: slice.start..slice.end, is_plain: slice.encoding == Encoding::Plain }),
            Self::Fragment(_) | Self::Lines(..) => None,
        }
    }
}

/// The stored byte range of a slice.
pub(super) struct SliceExtent {
    pub(super) range: Range<u64>,
    /// True if the object is not compressed, so that the cursor's offset counts stored bytes.
    pub(super) is_plain: bool,
}
