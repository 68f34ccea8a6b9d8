//! The rule for the watermark: when an addition makes a lake complete up to a later moment.
//!
//! The operator may say so. Otherwise the input must describe itself: it has all changes of a period, of all types, and the lake has
//! everything before that period.

use headrace_core::lake::watermark::{MAX_CLOCK_DIFFERENCE, parse_zoned_instant};
use headrace_core::vocab::clock::Millis;
use headrace_fhir::instant::Instant;

/// A statement up to when a lake is complete with the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Completeness {
    /// The operator says that the lake is complete up to this moment.
    Stated(Millis),
    /// The input has each change after `after`, up to `up_to`.
    Period { after: Millis, up_to: Millis },
}

/// The start of a period that has everything: nothing has changed before 1970.
pub(super) const BEGINNING: Millis = Millis(0);

impl Completeness {
    /// Returns the moment up to which the lake becomes complete.
    pub(super) fn up_to(self) -> Millis {
        match self {
            Self::Stated(up_to) | Self::Period { up_to, .. } => up_to,
        }
    }

    /// Checks that the moment is not later than now.
    pub(super) fn check_time(self, now: Millis) -> Result<Self, String> {
        let time = self.up_to();
        if time > now + MAX_CLOCK_DIFFERENCE {
            return Err(format!("no lake can be complete up to {}: it is {}", time.instant(), now.instant()));
        }
        Ok(self)
    }

    /// Checks that nothing of the input was left out that belongs to the lake.
    ///
    /// * `lost`: the number of such resources. `None` if it is not known.
    pub(super) fn check_losses(self, lost: Option<u64>) -> Result<Self, String> {
        match (self, lost) {
            // The operator knows better.
            (Self::Stated(_), _) | (Self::Period { .. }, Some(0)) => Ok(self),
            (Self::Period { .. }, Some(1)) => Err("1 resource of the input was left out".to_owned()),
            (Self::Period { .. }, Some(lost)) => Err(format!("{lost} resources of the input were left out")),
            (Self::Period { .. }, None) => Err("it is not known whether resources of the input were left out".to_owned()),
        }
    }
}

/// Parses the end of a period: an instant with a time zone, rounded down.
pub(super) fn period_end(text: &str) -> Option<Millis> {
    Millis::from_instant(parse_zoned_instant(text)?)
}

/// Parses the start of a period: an instant with a time zone, rounded up.
pub(super) fn period_start(text: &str) -> Option<Millis> {
    let instant = parse_zoned_instant(text)?;
    let start = Millis::from_instant(instant).unwrap_or(BEGINNING);
    Some(if Instant::from_millis(start.0) < instant { Millis(start.0 + 1) } else { start })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_is_never_longer_than_the_instants_say() {
        assert_eq!(period_end("2026-01-31T08:00:00.0009Z"), Some(Millis(1_769_846_400_000)));
        assert_eq!(period_start("2026-01-31T08:00:00.0009Z"), Some(Millis(1_769_846_400_001)));
        assert_eq!(period_start("2026-01-31T08:00:00Z"), Some(Millis(1_769_846_400_000)));
        assert_eq!(period_start("1970-01-01T00:00:00Z"), Some(BEGINNING));
        assert_eq!(period_start("1900-01-01T00:00:00Z"), Some(BEGINNING));
        for text in ["2026-01-31T08:00:00", "2026-01-31", "yesterday", ""] {
            assert_eq!((period_start(text), period_end(text)), (None, None), "{text}");
        }
    }

    #[test]
    fn a_clock_may_be_slightly_ahead_and_nothing_may_be_left_out() {
        let (now, minute) = (Millis(1_800_000_000_000), 60_000);
        let input = |up_to| Completeness::Period { after: BEGINNING, up_to: Millis(up_to) };
        assert!(input(now.0 + minute).check_time(now).is_ok() && input(now.0 + 10 * minute).check_time(now).is_err());
        assert!(Completeness::Stated(Millis(now.0 + 10 * minute)).check_time(now).is_err());
        assert!(input(1).check_losses(Some(0)).is_ok());
        assert!(input(1).check_losses(Some(1)).is_err() && input(1).check_losses(None).is_err());
        assert!(Completeness::Stated(Millis(1)).check_losses(Some(1)).is_ok());
    }
}
