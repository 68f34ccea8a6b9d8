//! The limit of dates: those that reveal an age over 89 are removed.

use time::{Date, Duration};

use super::date_shift::MAX_DAYS;

/// The highest age that may be revealed.
pub(super) const MAX_AGE: i32 = 89;

/// The days of the longest year.
const DAYS_OF_YEAR: i64 = 366;

/// The decision about dates that reveal an age over 89.
///
/// In exports that a reader can join, a date that is there in one night and gone in the next would tell the true birthday. There the decision
/// follows from what the reader sees anyway: the shifted date, or the year.
#[derive(Clone, Copy, Debug)]
pub(in crate::deid) struct AgeLimit {
    today: Date,
    /// The last shifted date that is removed; `None` if the true date decides.
    last_removed: Option<Date>,
}

impl AgeLimit {
    /// Creates the limit of Microsoft's tool: the true date decides.
    pub(in crate::deid) fn of_true_dates(today: Date) -> Self {
        Self { today, last_removed: None }
    }

    /// Creates the limit of exports that a reader can join. Dates move by at most 50 days, or by `fixed_days` if that is given.
    ///
    /// The limit is not before the shifted date of anybody over 89, by whatever number of days that date was shifted.
    pub(in crate::deid) fn of_exported_dates(today: Date, fixed_days: Option<i32>) -> Self {
        let fixed_days = i64::from(fixed_days.unwrap_or_default());
        // The limit must not tell a larger number of days, by which all dates of the export move.
        let days = if fixed_days > MAX_DAYS { (fixed_days / DAYS_OF_YEAR + 1) * DAYS_OF_YEAR } else { MAX_DAYS };
        let birthday = born_before(today, MAX_AGE + 1);
        Self { today, last_removed: Some(birthday.saturating_add(Duration::days(days))) }
    }

    /// Returns true if a date must be removed that would be exported as `shifted`.
    pub(super) fn removes_date(self, date: Date, shifted: Date) -> bool {
        match self.last_removed {
            Some(last_removed) => shifted <= last_removed,
            None => self.is_over_max_age(date.year(), Some(date.month().into()), Some(date.day())),
        }
    }

    /// Returns true if the year of a date must be removed. A missing month or day counts as the first.
    pub(super) fn removes_year(self, year: i32, month: Option<u8>, day: Option<u8>) -> bool {
        match self.last_removed {
            Some(_) => self.today.year() - year > MAX_AGE,
            None => self.is_over_max_age(year, month, day),
        }
    }

    /// Returns true if a person born on this date is over 89.
    fn is_over_max_age(self, year: i32, month: Option<u8>, day: Option<u8>) -> bool {
        let birthday = (month.unwrap_or(1), day.unwrap_or(1));
        let is_before_birthday = (u8::from(self.today.month()), self.today.day()) < birthday;
        self.today.year() - year - i32::from(is_before_birthday) > MAX_AGE
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

    #[test]
    fn a_person_turns_90_on_the_birthday() {
        let limit = AgeLimit::of_true_dates(date!(2026 - 11 - 21));
        for (year, month, day, is_over) in [
            (1936, Some(11), Some(21), true),
            (1936, Some(11), Some(22), false),
            (1936, Some(12), None, false),
            (1936, Some(11), None, true),
            (1936, None, None, true),
            (1937, None, None, false),
            (2030, None, None, false),
        ] {
            assert_eq!(limit.removes_year(year, month, day), is_over, "{year} {month:?} {day:?}");
        }
    }

    // The true date and the shift must not matter, and nobody over 89 may remain.
    #[test]
    fn the_exported_date_alone_decides_in_exports_that_can_be_joined() {
        for today in [date!(2026 - 11 - 21), date!(2028 - 02 - 29), date!(2027 - 01 - 01)] {
            let limit = AgeLimit::of_exported_dates(today, None);
            let true_limit = AgeLimit::of_true_dates(today);
            let exported = born_before(today, 90);
            for days_after in -120..120 {
                let shifted = exported + Duration::days(days_after);
                let removes: Vec<bool> = (-50..=50).map(|days| limit.removes_date(shifted - Duration::days(days), shifted)).collect();
                assert!(removes.iter().all(|removed| *removed == (days_after <= 50)), "{today} {shifted}");
                let is_over = (-50..=50).any(|days| true_limit.removes_date(shifted - Duration::days(days), shifted));
                assert!(!is_over || days_after <= 50, "{today} {shifted}");
            }
        }
    }

    #[test]
    fn a_fixed_shift_of_more_than_50_days_hides_everybody_over_89() {
        let today = date!(2026 - 11 - 21);
        let limit = AgeLimit::of_exported_dates(today, Some(400));
        let removes = |born: Date| limit.removes_date(born, born + Duration::days(400));
        assert!(removes(date!(1936 - 11 - 21)));
        // The limit is two years of 366 days behind, whatever the exact number of days is.
        let last = date!(1936 - 11 - 21) + Duration::days(2 * 366 - 400);
        assert!(removes(last) && !removes(last + Duration::DAY));
    }

    #[test]
    fn the_year_alone_decides_about_years_in_exports_that_can_be_joined() {
        let limit = AgeLimit::of_exported_dates(date!(2026 - 11 - 21), None);
        for (month, day) in [(None, None), (Some(1), Some(1)), (Some(12), Some(31))] {
            assert!(limit.removes_year(1936, month, day) && !limit.removes_year(1937, month, day), "{month:?} {day:?}");
        }
    }
}
