//! The names in the open objects of a JSON text, to notice a member that may occur twice.

use arrayvec::ArrayVec;

/// The greatest number of names in the open objects that is supported.
const MAX_NAMES: usize = 128;

/// The greatest number of open objects that is supported.
const MAX_OBJECTS: usize = 32;

/// The hashes of the names in the open objects, one object after the other.
pub(crate) struct OpenNames {
    hashes: ArrayVec<u32, MAX_NAMES>,
    /// The innermost object.
    current: ObjectNames,
    /// The objects around it.
    outer: ArrayVec<ObjectNames, MAX_OBJECTS>,
}

/// The names of one object.
#[derive(Clone, Copy, Default)]
struct ObjectNames {
    /// The index of its first hash.
    first_hash: usize,
    /// Two bits for each name. A name is new if one of its bits is not set, so hardly any name is compared with the others.
    filter: [u64; 2],
}

impl Default for OpenNames {
    /// Starts with one open object, the root.
    fn default() -> Self {
        Self { hashes: ArrayVec::new(), current: ObjectNames::default(), outer: ArrayVec::new() }
    }
}

impl OpenNames {
    /// Starts an object in the current one. Returns `None` if there are too many.
    #[inline(always)]
    pub(crate) fn open_object(&mut self) -> Option<()> {
        self.outer.try_push(self.current).ok()?;
        self.current = ObjectNames { first_hash: self.hashes.len(), filter: [0; 2] };
        Some(())
    }

    /// Ends the current object: the one around it goes on with its own names.
    #[inline(always)]
    pub(crate) fn close_object(&mut self) {
        self.hashes.truncate(self.current.first_hash);
        if let Some(outer) = self.outer.pop() {
            self.current = outer;
        }
    }

    /// Adds a name to the current object. Returns `None` if the object may have it already, or if there are too many names.
    #[inline(always)]
    pub(super) fn add(&mut self, hash: u64) -> Option<()> {
        let bits = [1 << (hash >> 58), 1 << (hash >> 52 & 63)];
        let [first, second] = self.current.filter;
        let short = u32::try_from(hash >> 32).unwrap_or_default();
        // Equal hashes only mean that the names may be equal. The general parser compares them.
        if first & bits[0] != 0 && second & bits[1] != 0 && self.hashes.get(self.current.first_hash..)?.contains(&short) {
            return None;
        }
        self.current.filter = [first | bits[0], second | bits[1]];
        self.hashes.try_push(short).ok()
    }
}
