//! Where the members of an object lead to.

use crate::definitions::structure::{Definition, Kind, TypedMember};
use crate::json::name_table::Named;

/// What a member leads to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Edge {
    pub(super) name: &'static str,
    pub(super) element: &'static str,
    pub(super) definition: Definition,
    /// Counted from 0 within its object.
    pub(super) index: usize,
    pub(super) is_list: bool,
    pub(super) is_resource: bool,
    pub(super) is_primitive: bool,
    /// Whether it is the `value` of its element, of whatever type.
    pub(super) is_value: bool,
    pub(super) state: u32,
}

impl Edge {
    /// A member, what stands there and its state.
    pub(super) fn new(index: usize, member: TypedMember, kind: Kind, state: u32) -> Self {
        Self {
            name: member.name,
            element: member.element,
            definition: member.definition,
            index,
            is_list: member.is_list,
            is_resource: member.is_resource,
            is_primitive: kind == Kind::Primitive,
            is_value: member.element == "value",
            state,
        }
    }
}

impl Named for Edge {
    fn name(&self) -> &'static str {
        self.name
    }
}
