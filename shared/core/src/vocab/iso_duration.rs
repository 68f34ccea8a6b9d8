//! Durations as ISO 8601 writes them.

use std::time::Duration;

/// The units of a duration with their seconds, in the order in which they must appear: before and after the `T`.
const DATE_UNITS: [(char, u64); 2] = [('W', 7 * 86_400), ('D', 86_400)];
const TIME_UNITS: [(char, u64); 3] = [('H', 3_600), ('M', 60), ('S', 1)];

/// Parses an ISO 8601 duration in whole weeks, days, hours, minutes and seconds: `PT15M`, `P1DT12H`. Returns `None` for any other
/// text. Years and months are not accepted, because their length depends on the calendar.
pub fn parse_iso_duration(text: &str) -> Option<Duration> {
    let (date, time) = match text.strip_prefix('P')?.split_once('T') {
        Some((_, "")) => return None,
        Some(parts) => parts,
        None => (text.strip_prefix('P').filter(|date| !date.is_empty())?, ""),
    };
    let seconds = parse_units(date, &DATE_UNITS)?.checked_add(parse_units(time, &TIME_UNITS)?)?;
    Some(Duration::from_secs(seconds))
}

/// Parses numbers with units, each unit at most once and in this order. Returns their sum in seconds; an empty text is 0.
fn parse_units(mut text: &str, units: &[(char, u64)]) -> Option<u64> {
    let mut seconds = 0_u64;
    for (unit, length) in units {
        let Some((number, rest)) = text.split_once(*unit) else { continue };
        let is_number = (1..=9).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit());
        let number: u64 = number.parse().ok().filter(|_| is_number)?;
        seconds = seconds.checked_add(number.checked_mul(*length)?)?;
        text = rest;
    }
    text.is_empty().then_some(seconds)
}

/// Formats a duration of whole seconds as ISO 8601: `PT15M`, `P1DT12H`. Zero is `PT0S`.
pub fn format_iso_duration(duration: Duration) -> String {
    let mut rest = duration.as_secs();
    if rest == 0 {
        return "PT0S".to_owned();
    }
    let (days, mut text) = (rest / 86_400, "P".to_owned());
    if days > 0 {
        text += &format!("{days}D");
    }
    rest %= 86_400;
    if rest > 0 {
        text.push('T');
    }
    for (unit, length) in TIME_UNITS {
        if rest / length > 0 {
            text += &format!("{}{unit}", rest / length);
        }
        rest %= length;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_whole_weeks_days_hours_minutes_and_seconds() {
        for (text, seconds) in
            [("PT15M", 900), ("PT90S", 90), ("PT1H30M", 5_400), ("P1D", 86_400), ("P1DT12H", 129_600), ("P2W", 1_209_600), ("PT0S", 0)]
        {
            assert_eq!(parse_iso_duration(text), Some(Duration::from_secs(seconds)), "{text}");
        }
        for text in [
            "",
            "P",
            "PT",
            "P1DT",
            "15M",
            "PT15",
            "PT-15M",
            "PT+15M",
            "-PT15M",
            "pt15m",
            "PT15m",
            "PT1M1H",
            "PT1M1M",
            "P1M",
            "P1Y",
            "PT1.5H",
            "PT 15M",
            "PT15M ",
            "PT9999999999S",
            "P1H",
            "PT1D",
            "PTM",
            "P1DT1H ago",
            "PT1½M",
        ] {
            assert_eq!(parse_iso_duration(text), None, "{text}");
        }
    }

    #[test]
    fn a_formatted_duration_parses_to_itself() {
        for (seconds, text) in [(0, "PT0S"), (900, "PT15M"), (5_400, "PT1H30M"), (86_400, "P1D"), (129_661, "P1DT12H1M1S")] {
            assert_eq!(format_iso_duration(Duration::from_secs(seconds)), text);
            assert_eq!(parse_iso_duration(text), Some(Duration::from_secs(seconds)));
        }
    }
}
