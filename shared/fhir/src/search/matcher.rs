//! Comparison of a query's values with the elements at a parameter's paths.

use super::element_test::ElementTest;
use super::reference::targets_type;
use crate::head::Resource;
use crate::json::{ElementPath, JsonType, JsonValue};

/// A path and the kind of element that it leads to.
#[derive(Clone, Debug)]
pub(super) struct SearchedPath<K> {
    pub(super) path: ElementPath,
    pub(super) kind: K,
}

/// The values of a clause and the paths to the elements that they are compared with.
#[derive(Clone, Debug)]
pub(super) struct ElementMatcher<K, T> {
    pub(super) paths: Vec<SearchedPath<K>>,
    pub(super) tests: Vec<T>,
}

impl<K: Copy, T: ElementTest<K>> ElementMatcher<K, T> {
    /// Returns true if one of the values matches an element below `root`.
    pub(super) fn matches(&self, root: PathRoot<'_, '_>) -> bool {
        self.paths.iter().any(|searched| root.visit(&searched.path, &mut |value| T::any_matches(&self.tests, searched.kind, value)))
    }
}

/// The start of a path: a resource, whose root members are indexed, or an element within it.
#[derive(Clone, Copy)]
pub(super) enum PathRoot<'r, 'a> {
    Resource(&'r Resource<'a>),
    Value(JsonValue<'a>),
}

impl<'a> PathRoot<'_, 'a> {
    /// Passes each value at the end of `path` to `visit`, until `visit` returns true. Returns true if it did. Null values, and
    /// references to a type that the path does not allow, are skipped.
    pub(super) fn visit(self, path: &ElementPath, visit: &mut impl FnMut(JsonValue<'a>) -> bool) -> bool {
        let mut visit_allowed = |value: JsonValue<'a>| {
            let is_allowed = value.json_type() != JsonType::Null && path.target_type.is_none_or(|type_name| targets_type(value, type_name));
            is_allowed && visit(value)
        };
        match (self, path.root()) {
            (Self::Resource(resource), Some(root)) => {
                resource.member(root).is_some_and(|member| path.visit_below_root(member, &mut visit_allowed))
            }
            (Self::Resource(resource), None) => visit_allowed(resource.json()),
            (Self::Value(value), _) => path.visit(value, &mut visit_allowed),
        }
    }
}
