//! Names that are similar to a misspelled one.

/// Returns the known name with the most similar spelling, if it is similar enough.
pub(in crate::deid) fn closest_name(name: &str, known: &mut dyn Iterator<Item = &'static str>) -> Option<&'static str> {
    // The name itself is no suggestion: it exists, and is wrong where it stands.
    let (distance, closest) = known.filter(|known| *known != name).map(|known| (distance(name, known), known)).min()?;
    (distance <= 2 && distance * 2 < closest.len()).then_some(closest)
}

/// Returns the distance of two names. Names that differ only in the case of their letters are as close as two names can be.
fn distance(left: &str, right: &str) -> usize {
    if left.eq_ignore_ascii_case(right) { 0 } else { edit_distance(left, right) }
}

/// Returns the Levenshtein distance of two texts, in bytes.
fn edit_distance(left: &str, right: &str) -> usize {
    // One row of the matrix at a time: `row` holds the distances of the previous row.
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (index, byte) in left.bytes().enumerate() {
        let mut diagonal = index;
        let mut previous = index + 1;
        let mut next_row = vec![previous];
        for (above, other) in row.iter().skip(1).zip(right.bytes()) {
            previous = (diagonal + usize::from(byte != other)).min(above + 1).min(previous + 1);
            diagonal = *above;
            next_row.push(previous);
        }
        row = next_row;
    }
    row.last().copied().unwrap_or_default()
}
