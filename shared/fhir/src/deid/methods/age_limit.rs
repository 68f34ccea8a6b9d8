//! The limit of dates: those that reveal an age over 89 are removed.

use time::{Date, Duration};

use super::date_shift::MAX_DAYS;

/// The highest age that may be revealed.
pub(super) const MAX_AGE: i32 = 89;

/// The days of the longest year.
const DAYS_OF_YEAR: i64 = 366;

/// The decision about dates that reveal an age over 89.
///
/// A date that is there in one night and gone in the next would tell the true birthday to a reader who can join exports, by pseudonyms or by the
/// order of their lines. A date that is still there would tell that the birthday is to come, and with that a bound of its shift. Therefore the
/// decision follows from what the reader sees anyway: the shifted date, or the year.
#[derive(Clone, Copy, Debug)]
pub(in crate::deid) struct AgeLimit {
    today: Date,
    /// The last shifted date that is removed.
    last_removed: Date,
}

impl AgeLimit {
    /// Creates the limit of an export. Dates move by at most 50 days, or by `fixed_days` if that is given.
    ///
    /// The limit is not before the shifted date of anybody over 89, by whatever number of days that date was shifted.
    pub(in crate::deid) fn new(today: Date, fixed_days: Option<i32>) -> Self {
        let fixed_days = i64::from(fixed_days.unwrap_or_default());
        // The limit must not tell a larger number of days, by which all dates of the export move.
        let days = if fixed_days > MAX_DAYS { (fixed_days / DAYS_OF_YEAR + 1) * DAYS_OF_YEAR } else { MAX_DAYS };
        let birthday = born_before(today, MAX_AGE + 1);
        Self { today, last_removed: birthday.saturating_add(Duration::days(days)) }
    }

    /// Returns true if a date must be removed that would be exported as `shifted`.
    pub(super) fn removes_date(self, shifted: Date) -> bool {
        shifted <= self.last_removed
    }

    /// Returns true if the year of a date must be removed: somebody born in it reaches an age over 89 in the year of the export.
    pub(super) fn removes_year(self, year: i32) -> bool {
        self.today.year() - year > MAX_AGE
    }
}

/// Returns the last birth date of people who have this age on a day.
fn born_before(today: Date, age: i32) -> Date {
    let in_year = |day: Date| day.replace_year(today.year() - age);
    // A year without February 29 has the day before it.
    in_year(today).or_else(|_| in_year(today.saturating_sub(Duration::DAY))).unwrap_or(Date::MIN)
}

#[cfg(test)]
mod tests {
    use time::macros::date;

    use super::*;

    /// Returns true if a person born on a date is over 89 on a day.
    fn is_over_max_age(born: Date, today: Date) -> bool {
        let day_of_year = |date: Date| (u8::from(date.month()), date.day());
        today.year() - born.year() - i32::from(day_of_year(today) < day_of_year(born)) > MAX_AGE
    }

    #[test]
    fn nobody_over_89_remains_by_whatever_number_of_days_the_date_is_shifted() {
        for today in [date!(2026 - 11 - 21), date!(2028 - 02 - 29), date!(2027 - 01 - 01)] {
            let limit = AgeLimit::new(today, None);
            let exported = born_before(today, 90);
            for days_after in -120..120 {
                let shifted = exported + Duration::days(days_after);
                assert_eq!(limit.removes_date(shifted), days_after <= 50, "{today} {shifted}");
                let is_over = (-50..=50).any(|days| is_over_max_age(shifted - Duration::days(days), today));
                assert!(!is_over || limit.removes_date(shifted), "{today} {shifted}");
            }
        }
    }

    #[test]
    fn a_fixed_shift_of_more_than_50_days_hides_everybody_over_89() {
        let today = date!(2026 - 11 - 21);
        let limit = AgeLimit::new(today, Some(400));
        let removes = |born: Date| limit.removes_date(born + Duration::days(400));
        assert!(removes(date!(1936 - 11 - 21)));
        // The limit is two years of 366 days behind, whatever the exact number of days is.
        let last = date!(1936 - 11 - 21) + Duration::days(2 * 366 - 400);
        assert!(removes(last) && !removes(last + Duration::DAY));
    }

    #[test]
    fn nobody_over_89_has_a_year_that_remains() {
        for today in [date!(2026 - 01 - 01), date!(2026 - 11 - 21), date!(2026 - 12 - 31)] {
            let limit = AgeLimit::new(today, None);
            assert!(limit.removes_year(1936) && !limit.removes_year(1937) && !limit.removes_year(2030), "{today}");
            assert!(!is_over_max_age(date!(1937 - 01 - 01), today), "{today}");
        }
    }
}
