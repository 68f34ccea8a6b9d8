//! `redact`, and what is left of dates, ages and zip codes by HIPAA's safe-harbor method.

use rust_decimal::Decimal;
use time::Date;

use super::config::Parameters;
use super::fhirpath::{decimal, read_date};
use super::labels::Label;
use super::leaf::{Leaf, Role};

/// Ages up to here may be told.
const OLDEST: i32 = 89;

/// What is left of a value (`None`: nothing), and the label that says so.
pub(super) fn redact<'v>(leaf: Leaf, value: &'v str, parameters: &Parameters, today: Date) -> (Option<std::borrow::Cow<'v, str>>, Label) {
    let left = match leaf.role {
        Role::Date | Role::DateTime if parameters.partial_dates => year(value, today),
        Role::Age if parameters.partial_ages => decimal(value).filter(|age| *age <= Decimal::from(OLDEST)).map(|_| value),
        Role::PostalCode if parameters.partial_zip_codes => {
            return (Some(zip_code(value, &parameters.restricted_zip_codes).into()), Label::Abstracted);
        }
        Role::Date | Role::DateTime | Role::Age | Role::PostalCode | Role::Reference | Role::Other => None,
    };
    (left.map(Into::into), Label::Redacted)
}

/// The year of a date, unless it tells an age that may not be told. What is no date is not told either.
fn year(value: &str, today: Date) -> Option<&str> {
    let date = value.split_once('T').map_or(value, |(date, _)| date);
    let (year, month, day) = read_date(date)?;
    if is_too_old(year, month, day, today) { None } else { date.get(..4) }
}

/// Whether somebody born on this day is older than may be told; of a part that is missing the first is taken.
pub(super) fn is_too_old(year: i32, month: Option<u8>, day: Option<u8>, today: Date) -> bool {
    let birthday = (month.unwrap_or(1), day.unwrap_or(1));
    let is_to_come = (u8::from(today.month()), today.day()) < birthday;
    today.year() - year - i32::from(is_to_come) > OLDEST
}

/// The first three digits; of an area where few people live, none.
fn zip_code(value: &str, restricted: &[String]) -> String {
    let kept = if restricted.iter().any(|area| value.starts_with(area.as_str())) { 0 } else { 3 };
    value.chars().enumerate().map(|(at, c)| if at >= kept && c.is_numeric() { '0' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use time::macros::date;

    use super::*;

    #[test]
    fn somebody_is_ninety_on_the_birthday() {
        for (year, month, day, is_old) in [
            (1936, Some(11), Some(21), true),
            (1936, Some(11), Some(22), false),
            (1936, Some(12), None, false),
            (1936, Some(11), None, true),
            (1936, None, None, true),
            (1937, None, None, false),
            (2030, None, None, false),
        ] {
            assert_eq!(is_too_old(year, month, day, date!(2026 - 11 - 21)), is_old, "{year} {month:?} {day:?}");
        }
    }

    #[test]
    fn of_other_countries_codes_the_digits_behind_the_third_character_go() {
        assert_eq!(zip_code("SW1A 1AA", &[]), "SW1A 0AA");
        assert_eq!(zip_code("12", &[]), "12");
        assert_eq!(zip_code("٣٦٠٠١", &[]), "٣٦٠00");
    }
}
