//! A set of names of output files.

use std::collections::BTreeMap;

use super::file::{OutputFileName, OutputKind};

/// A set of names of output files. The numbers of a kind are kept as ranges: those of a complete export have no gaps, so that the names of
/// any number of files take a few bytes for each kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileNames {
    /// The last number of each range by its first number, by kind. Ranges neither overlap nor touch.
    ranges: BTreeMap<OutputKind, BTreeMap<u32, u32>>,
}

impl FileNames {
    /// Returns true if the name is in the set.
    pub fn contains(&self, name: &OutputFileName) -> bool {
        let range = self.ranges.get(&name.kind).and_then(|ranges| ranges.range(..=name.number).next_back());
        range.is_some_and(|(_, last)| *last >= name.number)
    }

    /// Adds a name. A name that is in the set already changes nothing.
    pub fn insert(&mut self, name: OutputFileName) {
        if self.contains(&name) {
            return;
        }
        let number = name.number;
        let ranges = self.ranges.entry(name.kind).or_default();
        let last = number.checked_add(1).and_then(|next| ranges.remove(&next)).unwrap_or(number);
        match ranges.range_mut(..number).next_back() {
            Some((_, before)) if number.checked_sub(1) == Some(*before) => *before = last,
            Some(_) | None => {
                ranges.insert(number, last);
            }
        }
    }
}

impl Extend<OutputFileName> for FileNames {
    fn extend<T: IntoIterator<Item = OutputFileName>>(&mut self, names: T) {
        names.into_iter().for_each(|name| self.insert(name));
    }
}

impl FromIterator<OutputFileName> for FileNames {
    fn from_iter<T: IntoIterator<Item = OutputFileName>>(names: T) -> Self {
        let mut set = Self::default();
        set.extend(names);
        set
    }
}

impl<const N: usize> From<[OutputFileName; N]> for FileNames {
    fn from(names: [OutputFileName; N]) -> Self {
        names.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use headrace_fhir::definitions::ResourceType;
    use proptest::prelude::*;

    use super::*;

    const PATIENT: OutputKind = OutputKind::Output(ResourceType::PATIENT);

    fn name(kind: OutputKind, number: u32) -> OutputFileName {
        OutputFileName { kind, number }
    }

    #[test]
    fn the_names_of_a_complete_export_are_one_range_for_each_kind() {
        let names: FileNames = (1..=100_000).rev().map(|number| name(PATIENT, number)).chain([name(OutputKind::Error, 1)]).collect();
        assert_eq!(
            names.ranges.values().map(|ranges| ranges.iter().collect::<Vec<_>>()).collect::<Vec<_>>(),
            [[(&1, &100_000)], [(&1, &1)]]
        );
        assert!(names.contains(&name(PATIENT, 100_000)) && names.contains(&name(OutputKind::Error, 1)));
        assert!(!names.contains(&name(PATIENT, 100_001)) && !names.contains(&name(OutputKind::Error, 2)));
        assert!(!names.contains(&name(OutputKind::Deleted, 1)));
    }

    #[test]
    fn the_largest_number_is_a_number_like_others() {
        let names = FileNames::from([name(PATIENT, u32::MAX), name(PATIENT, u32::MAX - 1), name(PATIENT, 0)]);
        assert!(names.contains(&name(PATIENT, u32::MAX)) && names.contains(&name(PATIENT, 0)) && !names.contains(&name(PATIENT, 1)));
    }

    proptest! {
        #[test]
        fn a_set_has_what_was_added_in_any_order(added in prop::collection::vec((any::<bool>(), 0_u32..30), 0..60)) {
            let names = added.iter().map(|(is_patient, number)| name(if *is_patient { PATIENT } else { OutputKind::Error }, *number));
            let (set, names): (FileNames, Vec<_>) = (names.clone().collect(), names.collect());
            for number in 0..32 {
                for kind in [PATIENT, OutputKind::Error, OutputKind::Deleted] {
                    prop_assert_eq!(set.contains(&name(kind, number)), names.contains(&name(kind, number)));
                }
            }
            let touch = |ranges: &BTreeMap<u32, u32>| ranges.values().zip(ranges.keys().skip(1)).any(|(last, first)| last + 1 >= *first);
            prop_assert!(!set.ranges.values().any(touch));
        }
    }
}
