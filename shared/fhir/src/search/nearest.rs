//! Names that somebody may have meant.

/// At most three of `names` that are a slip of the pen or two away from `meant`, the nearest first.
pub(super) fn nearest(meant: &str, names: impl Iterator<Item = &'static str>) -> Vec<&'static str> {
    // A name is short; what is longer is none, and would cost time.
    if meant.len() > 64 {
        return Vec::new();
    }
    let mut near: Vec<_> = names.map(|name| (slips(meant, name), name)).filter(|(slips, name)| *slips <= 1 + name.len() / 4).collect();
    near.sort_unstable();
    near.into_iter().map(|(_, name)| name).take(3).collect()
}

/// How many letters have to be put in, left out or exchanged to make one of the other; case does not count.
fn slips(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (line, a) in one.bytes().enumerate() {
        let mut diagonal = line;
        let mut left = line + 1;
        let mut next = vec![left];
        for (b, &above) in other.bytes().zip(row.iter().skip(1)) {
            left = (diagonal + usize::from(!a.eq_ignore_ascii_case(&b))).min(above + 1).min(left + 1);
            diagonal = above;
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_counted() {
        for (one, other, expected) in
            [("", "abc", 3), ("abc", "", 3), ("kitten", "sitting", 3), ("Date", "date", 0), ("categry", "category", 1)]
        {
            assert_eq!(slips(one, other), expected, "{one} {other}");
        }
    }
}
