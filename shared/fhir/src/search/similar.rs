//! Suggestions for misspelt names.

/// Returns up to three of `names` with a small edit distance to `name`, the most similar first.
pub(super) fn similar_names(name: &str, names: impl Iterator<Item = &'static str>) -> Vec<&'static str> {
    // No name is that long, and the distance would take long to compute.
    if name.len() > 64 {
        return Vec::new();
    }
    let distances = names.map(|candidate| (edit_distance(name, candidate), candidate));
    let mut similar: Vec<_> = distances.filter(|(distance, candidate)| *distance <= 1 + candidate.len() / 4).collect();
    similar.sort_unstable();
    similar.into_iter().map(|(_, candidate)| candidate).take(3).collect()
}

/// Returns the Levenshtein distance of two names, without regard to case.
fn edit_distance(one: &str, other: &str) -> usize {
    // One row of the distance matrix at a time.
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (index, a) in one.bytes().enumerate() {
        let mut diagonal = index;
        let mut left = index + 1;
        let mut next_row = vec![left];
        for (b, &above) in other.bytes().zip(row.iter().skip(1)) {
            left = (diagonal + usize::from(!a.eq_ignore_ascii_case(&b))).min(above + 1).min(left + 1);
            diagonal = above;
            next_row.push(left);
        }
        row = next_row;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_edit_distance_counts_changes_of_one_letter() {
        for (one, other, expected) in
            [("", "abc", 3), ("abc", "", 3), ("kitten", "sitting", 3), ("Date", "date", 0), ("categry", "category", 1)]
        {
            assert_eq!(edit_distance(one, other), expected, "{one} {other}");
        }
    }
}
