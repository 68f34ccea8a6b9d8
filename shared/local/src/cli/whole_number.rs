//! Whole numbers as values of options.

/// Returns a parser of whole numbers from `smallest` to `largest`. Its error names both.
pub(super) fn whole_number<N: TryFrom<u64>>(smallest: u64, largest: u64) -> impl Fn(&str) -> Result<N, String> + Clone {
    move |text: &str| {
        let number = text.parse::<u64>().ok().filter(|number| (smallest..=largest).contains(number));
        number.and_then(|number| N::try_from(number).ok()).ok_or_else(|| format!("write a whole number from {smallest} to {largest}"))
    }
}
