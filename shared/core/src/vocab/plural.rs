//! Counts in sentences.

/// Returns a count with the words that follow it: `one` behind 1, else `many`.
pub fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_singular_and_everything_else_is_plural() {
        assert_eq!(counted(1, "line is", "lines are"), "1 line is");
        for count in [0, 2, 1_000] {
            assert_eq!(counted(count, "line is", "lines are"), format!("{count} lines are"));
        }
    }
}
