//! The members of an object, found by their names in JSON.

use crate::structure::{Definition, Kind, TypedMember};

/// Members by name. One comparison of two words finds almost every name.
#[derive(Debug)]
pub(super) struct Table {
    edges: Vec<Edge>,
    /// Places: one more than the index of an edge, or 0. A power of two, at least twice as many as edges.
    places: Vec<u16>,
}

/// What a member leads to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Edge {
    ends: Ends,
    pub(super) name: &'static str,
    pub(super) element: &'static str,
    pub(super) definition: Definition,
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
            ends: Ends::of(member.name),
            name: member.name,
            element: member.element,
            definition: member.definition,
            index,
            is_list: member.is_list,
            is_resource: member.is_resource,
            is_primitive: kind == Kind::Primitive,
            state,
        };
        let edges: Vec<_> = members.into_iter().enumerate().map(edge).collect();
        let mut places = vec![0; (edges.len() * 2).next_power_of_two()];
        for (index, edge) in edges.iter().enumerate() {
            let mut place = edge.ends.hash();
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
        let ends = Ends::of(name);
        let mut place = ends.hash();
        loop {
            let number = *self.places.get(place & (self.places.len() - 1))?;
            let edge = self.edges.get(usize::from(number.checked_sub(1)?))?;
            if edge.ends == ends && (name.len() <= 16 || edge.name == name) {
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

/// The length of a name and its first and last eight bytes: of up to sixteen bytes all there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ends {
    length: usize,
    first: u64,
    last: u64,
}

impl Ends {
    #[inline]
    fn of(name: &str) -> Self {
        let bytes = name.as_bytes();
        let (first, last) = match (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
            (Some(first), Some(last)) => (u64::from_le_bytes(*first), u64::from_le_bytes(*last)),
            (None, _) | (_, None) => match (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
                (Some(first), Some(last)) => (u32::from_le_bytes(*first).into(), u32::from_le_bytes(*last).into()),
                (None, _) | (_, None) => (bytes.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)), 0),
            },
        };
        Self { length: bytes.len(), first, last }
    }

    #[inline]
    fn hash(self) -> usize {
        // A multiplication spreads all bits; the upper half depends on all of them.
        let mixed = (self.first ^ self.last.rotate_left(29)).wrapping_add(self.length as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 40) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FhirVersion;

    #[test]
    fn every_member_is_found_and_nothing_else() {
        for version in FhirVersion::ALL {
            let structures = version.structures();
            for of in structures.definitions() {
                let members: Vec<_> = structures.members(of).collect();
                let table = Table::new(members.iter().map(|member| (*member, Kind::Complex, 0)).collect());
                for member in &members {
                    assert_eq!(table.get(member.name).map(|edge| edge.name), Some(member.name));
                    for other in ["", &member.name[1..], &format!("{}x", member.name), &member.name.to_ascii_uppercase()] {
                        let is_member = members.iter().any(|member| member.name == other);
                        assert_eq!(table.get(other).is_some(), is_member, "{other}");
                    }
                }
            }
        }
    }
}
