//! Where a clause looks, and for what.

use super::reference::is_to;
use crate::json::{Json, Shape};
use crate::{Path, Resource};

/// A path and what stands at its end.
#[derive(Clone, Debug)]
pub(super) struct Place<E> {
    pub(super) path: Path,
    pub(super) element: E,
}

/// Values of a query and the places where one of them may be found.
#[derive(Clone, Debug)]
pub(super) struct Lookup<E, T> {
    pub(super) places: Vec<Place<E>>,
    pub(super) tests: Vec<T>,
}

/// A value of a query that elements of the kind `E` can be compared with.
pub(super) trait Accept<E>: Sized {
    /// Whether one of `tests` accepts the value of an element.
    fn any_accepts(tests: &[Self], element: E, value: Json<'_>) -> bool;
}

impl<E: Copy, T: Accept<E>> Lookup<E, T> {
    pub(super) fn finds(&self, base: Base<'_, '_>) -> bool {
        self.places.iter().any(|place| base.any(&place.path, &mut |value| T::any_accepts(&self.tests, place.element, value)))
    }
}

/// Where paths begin: at a resource's root, whose members are known, or at a value below.
#[derive(Clone, Copy)]
pub(super) enum Base<'r, 'a> {
    Root(&'r Resource<'a>),
    Below(Json<'a>),
}

impl<'a> Base<'_, 'a> {
    /// Gives each value at the end of `path` to `visit`, until that says `true`; whether it did.
    pub(super) fn any(self, path: &Path, visit: &mut impl FnMut(Json<'a>) -> bool) -> bool {
        let mut visit_told = |value: Json<'a>| {
            let is_told = value.shape() != Shape::Null && path.target.is_none_or(|kind| is_to(value, kind));
            is_told && visit(value)
        };
        match (self, path.root()) {
            (Self::Root(resource), Some(root)) => resource.member(root).is_some_and(|member| path.any_below_root(member, &mut visit_told)),
            (Self::Root(resource), None) => visit_told(resource.json()),
            (Self::Below(json), _) => path.any(json, &mut visit_told),
        }
    }
}
