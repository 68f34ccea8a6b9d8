//! `redact`: removes values, except for the parts of dates, ages and zip codes that HIPAA's safe harbor method allows.

use std::borrow::Cow;

use rust_decimal::Decimal;
use time::Date;

use crate::deid::config::Parameters;
use crate::deid::fhirpath::{parse_date, parse_decimal, split_date_offset};
use crate::deid::primitive::{PrimitiveContext, PrimitiveRole};
use crate::deid::security_labels::SecurityLabel;

/// The highest age that may be revealed.
const MAX_AGE: i32 = 89;

/// Returns the part of a value that is kept (`None` if it is removed), and the security label.
pub(in crate::deid) fn redact<'v>(
    primitive: PrimitiveContext,
    value: &'v str,
    parameters: &Parameters,
    today: Date,
) -> (Option<Cow<'v, str>>, SecurityLabel) {
    let kept = match primitive.role {
        PrimitiveRole::Date | PrimitiveRole::DateTime if parameters.keeps_partial_dates => year_of(value, today),
        PrimitiveRole::AgeValue if parameters.keeps_partial_ages => {
            parse_decimal(value).filter(|age| *age <= Decimal::from(MAX_AGE)).map(|_| value)
        }
        PrimitiveRole::PostalCode if parameters.keeps_partial_zip_codes => {
            return (Some(partial_zip_code(value, &parameters.restricted_zip_codes).into()), SecurityLabel::Abstracted);
        }
        PrimitiveRole::Date
        | PrimitiveRole::DateTime
        | PrimitiveRole::AgeValue
        | PrimitiveRole::PostalCode
        | PrimitiveRole::Reference
        | PrimitiveRole::BundleAddress
        | PrimitiveRole::BundleSearch
        | PrimitiveRole::Other => None,
    };
    (kept.map(Into::into), SecurityLabel::Redacted)
}

/// Returns the year of a date, or `None` if it reveals an age over 89 or the value is not a date.
fn year_of(value: &str, today: Date) -> Option<&str> {
    // Like in Microsoft's tool, the year of a date with an offset remains, although FHIR does not allow the offset.
    let date = value.split_once('T').map_or_else(|| split_date_offset(value).0, |(date, _)| date);
    let (year, month, day) = parse_date(date)?;
    if is_over_max_age(year, month, day, today) { None } else { date.get(..4) }
}

/// Returns true if a person born on this date is over 89. A missing month or day counts as the first.
pub(super) fn is_over_max_age(year: i32, month: Option<u8>, day: Option<u8>, today: Date) -> bool {
    let birthday = (month.unwrap_or(1), day.unwrap_or(1));
    let is_before_birthday = (u8::from(today.month()), today.day()) < birthday;
    today.year() - year - i32::from(is_before_birthday) > MAX_AGE
}

/// Replaces the digits of a zip code after the third character by zeros; all digits in a restricted area.
fn partial_zip_code(value: &str, restricted: &[String]) -> String {
    let kept = if restricted.iter().any(|area| value.starts_with(area.as_str())) { 0 } else { 3 };
    value.chars().enumerate().map(|(index, c)| if index >= kept && c.is_numeric() { '0' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use time::macros::date;

    use super::*;

    #[test]
    fn a_person_turns_90_on_the_birthday() {
        for (year, month, day, is_over) in [
            (1936, Some(11), Some(21), true),
            (1936, Some(11), Some(22), false),
            (1936, Some(12), None, false),
            (1936, Some(11), None, true),
            (1936, None, None, true),
            (1937, None, None, false),
            (2030, None, None, false),
        ] {
            assert_eq!(is_over_max_age(year, month, day, date!(2026 - 11 - 21)), is_over, "{year} {month:?} {day:?}");
        }
    }

    #[test]
    fn digits_after_the_third_character_of_a_foreign_postal_code_are_zeros() {
        assert_eq!(partial_zip_code("SW1A 1AA", &[]), "SW1A 0AA");
        assert_eq!(partial_zip_code("12", &[]), "12");
        assert_eq!(partial_zip_code("٣٦٠٠١", &[]), "٣٦٠00");
    }
}
