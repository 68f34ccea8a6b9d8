//! `redact`: removes values, except for the parts of dates, ages and zip codes that HIPAA's safe harbor method allows.

use std::borrow::Cow;

use rust_decimal::Decimal;

use super::age_limit::{AgeLimit, MAX_AGE};
use crate::deid::config::Parameters;
use crate::deid::fhirpath::{parse_date, parse_decimal, split_date_offset};
use crate::deid::primitive::{PrimitiveContext, PrimitiveRole};
use crate::deid::security_labels::SecurityLabel;

/// Returns the part of a value that is kept (`None` if it is removed), and the security label.
pub(in crate::deid) fn redact<'v>(
    primitive: PrimitiveContext,
    value: &'v str,
    parameters: &Parameters,
    age_limit: AgeLimit,
) -> (Option<Cow<'v, str>>, SecurityLabel) {
    let kept = match primitive.role {
        PrimitiveRole::Date | PrimitiveRole::DateTime if parameters.keeps_partial_dates => year_of(value, age_limit),
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
        | PrimitiveRole::Address
        | PrimitiveRole::ElementId
        | PrimitiveRole::Other => None,
    };
    (kept.map(Into::into), SecurityLabel::Redacted)
}

/// Returns the year of a date, or `None` if it can reveal an age over 89 or the value is not a date.
fn year_of(value: &str, age_limit: AgeLimit) -> Option<&str> {
    // Like in Microsoft's tool, the year of a date with an offset remains, although FHIR does not allow the offset.
    let date = value.split_once('T').map_or_else(|| split_date_offset(value).0, |(date, _)| date);
    let (year, ..) = parse_date(date)?;
    if age_limit.removes_year(year) { None } else { date.get(..4) }
}

/// Replaces the digits of a zip code after the third character by zeros; all digits in a restricted area.
fn partial_zip_code(value: &str, restricted: &[String]) -> String {
    let kept = if restricted.iter().any(|area| value.starts_with(area.as_str())) { 0 } else { 3 };
    value.chars().enumerate().map(|(index, c)| if index >= kept && c.is_numeric() { '0' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_after_the_third_character_of_a_foreign_postal_code_are_zeros() {
        assert_eq!(partial_zip_code("SW1A 1AA", &[]), "SW1A 0AA");
        assert_eq!(partial_zip_code("12", &[]), "12");
        assert_eq!(partial_zip_code("٣٦٠٠١", &[]), "٣٦٠00");
    }
}
