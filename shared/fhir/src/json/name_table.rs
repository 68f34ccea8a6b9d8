//! Things found by their names. One comparison of two words finds almost every name.

/// What is found by its name.
pub(crate) trait Named {
    /// The name: no other thing of the same table has it.
    fn name(&self) -> &'static str;
}

/// Things by name.
#[derive(Debug)]
pub(crate) struct NameTable<T> {
    entries: Vec<(Ends, T)>,
    /// One more than the index of an entry, or 0. A power of two, at least twice as many as entries.
    places: Vec<u16>,
}

impl<T: Named> NameTable<T> {
    /// Of these.
    pub(crate) fn new(things: impl IntoIterator<Item = T>) -> Self {
        let entries: Vec<_> = things.into_iter().map(|thing| (Ends::of(thing.name()), thing)).collect();
        let count = (entries.len() * 2).next_power_of_two();
        let mut places = vec![0; count];
        for (number, (ends, _)) in (1..).zip(&entries) {
            let mut place = ends.hash();
            // There are more places than entries.
            while places.get(place % count).is_some_and(|taken| *taken != 0) {
                place += 1;
            }
            if let Some(free) = places.get_mut(place % count) {
                *free = number;
            }
        }
        Self { entries, places }
    }

    /// What has this name.
    #[inline]
    pub(crate) fn get(&self, name: &str) -> Option<&T> {
        let ends = Ends::of(name);
        let mut place = ends.hash();
        loop {
            let number = *self.places.get(place & (self.places.len() - 1))?;
            let (known, thing) = self.entries.get(usize::from(number.checked_sub(1)?))?;
            if *known == ends && (name.len() <= 16 || thing.name() == name) {
                return Some(thing);
            }
            place += 1;
        }
    }

    /// Everything, in the order in which it came.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.entries.iter().map(|(_, thing)| thing)
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
    use crate::{FhirVersion, TypedMember};

    impl Named for TypedMember {
        fn name(&self) -> &'static str {
            self.name
        }
    }

    #[test]
    fn every_member_of_every_type_is_found_and_nothing_else() {
        for version in FhirVersion::ALL {
            let structures = version.structures();
            for of in structures.definitions() {
                let members: Vec<_> = structures.members(of).collect();
                let table = NameTable::new(members.iter().copied());
                for member in &members {
                    assert_eq!(table.get(member.name).map(Named::name), Some(member.name));
                    for other in ["", &member.name[1..], &format!("{}x", member.name), &member.name.to_ascii_uppercase()] {
                        let is_member = members.iter().any(|member| member.name == other);
                        assert_eq!(table.get(other).is_some(), is_member, "{other}");
                    }
                }
            }
        }
    }
}
