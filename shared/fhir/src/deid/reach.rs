//! Where a rule can come to in a type, whatever stands in its resources.

use std::collections::{BTreeSet, HashSet};

use super::fhirpath::Step;
use super::rule::Rule;
use super::shapes::{Shape, Shapes};
use super::tree::is_of_type;
use crate::FhirVersion;
use crate::definitions::structure::{Definition, Kind, TypedMember};

/// An element to which a way can lead.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) definition: Definition,
    /// Its name; of a resource its type.
    pub(super) element: &'static str,
}

/// Follows ways of steps through the types of a version.
#[derive(Clone, Copy)]
pub(super) struct Ways {
    pub(super) version: FhirVersion,
    pub(super) shapes: &'static Shapes,
}

/// What a rule can come to.
#[derive(Clone, Debug, Default)]
pub(super) struct Reach {
    /// The elements at the ends of its ways.
    pub(super) ends: Vec<Place>,
    /// Whether it may go on into the resources within.
    pub(super) crosses: bool,
}

impl Ways {
    pub(super) fn shape(&self, of: Definition) -> Option<&'static Shape> {
        self.shapes.get(&of)
    }

    /// Which positions of a way there are at an element, coming with `position`: the steps that only look are taken. The
    /// end of the way is among them where it is reached.
    pub(super) fn settle(&self, way: &[Step], position: usize, at: Place, into: &mut BTreeSet<usize>) {
        let next = || (position + 1, at);
        let (next, stays) = match way.get(position) {
            None => (None, true),
            Some(Step::Child(_) | Step::AnyChild | Step::Below | Step::Everywhere) => (None, true),
            Some(Step::Within) => (Some(next()), true),
            Some(Step::TypeIs(name)) => {
                (Some(next()).filter(|_| self.shape(at.definition).is_some_and(|shape| shape.name == &**name)), false)
            }
            Some(Step::NameIs(name)) => (Some(next()).filter(|_| at.element == &**name), false),
            Some(Step::OfType(name)) => (Some(next()).filter(|_| is_of_type(self.version.structures(), at.definition, name)), false),
        };
        if stays {
            into.insert(position);
        }
        if let Some((position, at)) = next {
            self.settle(way, position, at, into);
        }
    }

    /// The positions with which a way that stands at `position` comes to a child.
    pub(super) fn descend(way: &[Step], position: usize, child: &TypedMember) -> [Option<usize>; 2] {
        let next = Some(position + 1);
        let stays = Some(position);
        match way.get(position) {
            None | Some(Step::TypeIs(_) | Step::NameIs(_) | Step::OfType(_)) => [None, None],
            Some(Step::Child(name)) => [next.filter(|_| child.element == &**name), None],
            Some(Step::AnyChild) => [next, None],
            Some(Step::Within) => [stays.filter(|_| !child.is_resource), None],
            Some(Step::Below) => [next, stays.filter(|_| !child.is_resource)],
            Some(Step::Everywhere) => [next, stays],
        }
    }

    /// Whether a way that comes to a resource within with this position can go on there.
    pub(super) fn may_enter(&self, way: &[Step], position: usize, child: &TypedMember) -> bool {
        let is_resource = |name: &str| {
            self.version.structures().named(name).and_then(|of| self.shape(of)).is_some_and(|shape| shape.kind == Kind::Resource)
        };
        match way.get(position) {
            Some(Step::TypeIs(name) | Step::OfType(name)) => is_resource(name),
            Some(Step::NameIs(name)) => child.element == &**name,
            None | Some(Step::Child(_) | Step::AnyChild | Step::Within | Step::Below | Step::Everywhere) => true,
        }
    }

    /// Whether a rule asks for names that resources within have: a resource's own name depends on where it is.
    pub(super) fn may_name_resource(&self, rule: &Rule) -> bool {
        let mut names = rule.select.paths.iter().flatten().filter_map(|step| match step {
            Step::NameIs(name) => Some(name),
            Step::Child(_) | Step::AnyChild | Step::Within | Step::Below | Step::Everywhere | Step::TypeIs(_) | Step::OfType(_) => None,
        });
        names
            .any(|name| self.shapes.values().flat_map(|shape| &shape.members).any(|member| member.is_resource && member.element == &**name))
    }

    /// What a rule can come to in a type.
    pub(super) fn reach(&self, rule: &Rule, root: Definition, skips_extensions: bool) -> Reach {
        let mut reach = Reach::default();
        let Some(shape) = self.shape(root).filter(|shape| rule.is_for(shape.name)) else { return reach };
        for way in &rule.select.paths {
            let mut seen = HashSet::new();
            let mut open = vec![(Place { definition: root, element: shape.name }, 0)];
            while let Some((at, position)) = open.pop() {
                let mut settled = BTreeSet::new();
                self.settle(way, position, at, &mut settled);
                for position in settled {
                    // The end of a way is where a rule is; nothing goes on from there.
                    if position == way.len() {
                        reach.ends.push(at);
                        continue;
                    }
                    let Some(shape) = self.shape(at.definition).filter(|_| seen.insert((at.definition, position))) else { continue };
                    if skips_extensions && shape.name == "Extension" {
                        continue;
                    }
                    for child in &shape.members {
                        for position in Self::descend(way, position, child).into_iter().flatten() {
                            if child.is_resource {
                                reach.crosses |= self.may_enter(way, position, child);
                            } else {
                                open.push((Place { definition: child.definition, element: child.element }, position));
                            }
                        }
                    }
                }
            }
        }
        reach
    }
}
