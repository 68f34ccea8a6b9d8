//! Transitions of the automaton: from an element to one of its members.

use crate::definitions::{MemberDefinition, TypeDefinition, TypeKind};
use crate::json::name_table::HasName;

/// A member of an element, and the state that it leads to.
#[derive(Clone, Copy, Debug)]
pub(in crate::deid) struct Transition {
    /// The name in JSON, such as `valueQuantity`.
    pub(in crate::deid) name: &'static str,
    /// The name in FHIR, such as `value`.
    pub(in crate::deid) element: &'static str,
    pub(in crate::deid) definition: TypeDefinition,
    /// The index of the member in its element's definition, counted from 0.
    pub(in crate::deid) index: usize,
    pub(in crate::deid) is_list: bool,
    pub(in crate::deid) is_resource: bool,
    pub(in crate::deid) is_primitive: bool,
    /// True if the member is a primitive that stays as it is.
    pub(in crate::deid) is_unchanged_primitive: bool,
    /// True if the member is the `value` of its element, with any type.
    pub(in crate::deid) is_value: bool,
    /// The number of the member's state.
    pub(in crate::deid) next_state: u32,
}

impl Transition {
    /// Creates the transition to a member of the given kind. `is_unchanged` is true if no rule changes the member itself.
    pub(super) fn new(index: usize, member: MemberDefinition, kind: TypeKind, is_unchanged: bool, next_state: u32) -> Self {
        Self {
            name: member.name,
            element: member.element,
            definition: member.definition,
            index,
            is_list: member.is_list,
            is_resource: member.is_resource,
            is_primitive: kind == TypeKind::Primitive,
            is_unchanged_primitive: is_unchanged && kind == TypeKind::Primitive,
            is_value: member.element == "value",
            next_state,
        }
    }
}

impl HasName for Transition {
    fn name(&self) -> &'static str {
        self.name
    }
}
