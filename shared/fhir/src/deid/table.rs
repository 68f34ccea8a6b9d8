//! The members of an object, found by their names in JSON.

use crate::structure::{Kind, TypedMember};

/// Members by name. One comparison finds almost every name: places are hashes of a name's length and ends.
#[derive(Debug)]
pub(super) struct Table {
    edges: Vec<Edge>,
    /// Places: one more than the index of an edge, or 0. A power of two, at least twice as many as edges.
    places: Vec<u16>,
}

/// What a member leads to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Edge {
    pub(super) name: &'static str,
    pub(super) element: &'static str,
    /// Counted from 0 within its object.
    pub(super) index: usize,
    pub(super) is_list: bool,
    pub(super) is_resource: bool,
    pub(super) is_primitive: bool,
    pub(super) state: u32,
}

impl Table {
    /// Of members, what stands there and their states.
    pub(super) fn new(members: Vec<(TypedMember, Kind, u32)>) -> Self {
        let edge = |(index, (member, kind, state)): (usize, (TypedMember, Kind, u32))| Edge {
            name: member.name,
            element: member.element,
            index,
            is_list: member.is_list,
            is_resource: member.is_resource,
            is_primitive: kind == Kind::Primitive,
            state,
        };
        let edges: Vec<_> = members.into_iter().enumerate().map(edge).collect();
        let mut places = vec![0; (edges.len() * 2).next_power_of_two()];
        for (index, edge) in edges.iter().enumerate() {
            let mut place = hash(edge.name);
            let count = places.len();
            // There are more places than edges.
            while places.get(place % count).is_some_and(|taken| *taken != 0) {
                place += 1;
            }
            if let (Some(free), Ok(number)) = (places.get_mut(place % count), u16::try_from(index + 1)) {
                *free = number;
            }
        }
        Self { edges, places }
    }

    /// The member of this name.
    #[inline]
    pub(super) fn get(&self, name: &str) -> Option<&Edge> {
        let mut place = hash(name);
        loop {
            let number = *self.places.get(place & (self.places.len() - 1))?;
            let edge = self.edges.get(usize::from(number.checked_sub(1)?))?;
            if edge.name == name {
                return Some(edge);
            }
            place += 1;
        }
    }

    /// Every member.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Edge> {
        self.edges.iter()
    }
}

/// Names of one object differ in length, or at their beginning, or at their end.
#[inline]
fn hash(name: &str) -> usize {
    let bytes = name.as_bytes();
    let at = |place: usize| bytes.get(place).map_or(0, |byte| usize::from(*byte));
    let last = bytes.len().wrapping_sub(1);
    let mixed = at(0).wrapping_mul(0x9e37) ^ at(last).wrapping_mul(0x85eb) ^ at(last / 2).wrapping_mul(0xc2b3) ^ bytes.len().wrapping_mul(0x27d5);
    mixed ^ (mixed >> 7)
}
