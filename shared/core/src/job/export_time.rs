//! The time of an export: the moment whose state of the lake it shows.

use serde::{Deserialize, Serialize};

use crate::vocab::clock::Millis;

/// The time of an export. The plan task takes it once, before it lists the lake (rule P3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportTime {
    /// The moment whose state of the lake the export shows: the manifest's `transactionTime`. Never later than the watermark.
    pub transaction_time: Millis,
    /// The time at which the plan began.
    pub planned_at: Millis,
    /// The moment up to which the lake was complete then.
    #[serde(default, skip_serializing_if = "Watermark::is_unstated")]
    pub watermark: Watermark,
}

/// The moment up to which the lake is complete, and who says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Watermark {
    /// No statement up to when the lake is complete. The time of the plan is a guess.
    #[default]
    Unstated,
    /// The time of the plan, by the operator's setting.
    Now,
    /// The time of the plan minus this delay in milliseconds, by the operator's setting.
    Lag(Millis),
    /// The time that the watermark object of the lake says.
    Object(Millis),
    /// The time of the plan. Resources that arrive later than they changed count by the arrival of their object.
    Arrival,
}

impl ExportTime {
    /// Creates the time of an export: the earlier one of `planned_at` and the watermark.
    pub fn new(planned_at: Millis, watermark: Watermark) -> Self {
        let transaction_time = match watermark {
            Watermark::Unstated | Watermark::Now | Watermark::Arrival => planned_at,
            Watermark::Lag(lag) => Millis(planned_at.0.saturating_sub(lag.0)),
            Watermark::Object(complete_up_to) => planned_at.min(complete_up_to),
        };
        Self { transaction_time, planned_at, watermark }
    }
}

impl Watermark {
    /// Returns true if nobody has said up to when the lake is complete.
    pub fn is_unstated(&self) -> bool {
        *self == Self::Unstated
    }

    /// Returns true if an export with `_since` also contains the resources of objects that arrived after it.
    pub fn includes_arrivals(self) -> bool {
        self == Self::Arrival
    }

    /// Returns true if an export with `_since` has to know which objects arrived after it.
    pub fn needs_arrivals(self) -> bool {
        match self {
            Self::Unstated | Self::Arrival => true,
            Self::Now | Self::Lag(_) | Self::Object(_) => false,
        }
    }

    /// Returns the time that the watermark object of the lake says. `None` if another rule gave the watermark.
    pub fn object_time(self) -> Option<Millis> {
        match self {
            Self::Object(complete_up_to) => Some(complete_up_to),
            Self::Unstated | Self::Now | Self::Lag(_) | Self::Arrival => None,
        }
    }

    /// Returns the name of the rule that gave the watermark.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unstated => "unstated",
            Self::Now => "now",
            Self::Lag(_) => "delay",
            Self::Object(_) => "object",
            Self::Arrival => "arrival",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_transaction_time_is_the_earlier_one_of_now_and_the_watermark() {
        let now = Millis(10_000);
        for (watermark, expected) in [
            (Watermark::Unstated, 10_000),
            (Watermark::Now, 10_000),
            (Watermark::Arrival, 10_000),
            (Watermark::Lag(Millis(900)), 9_100),
            (Watermark::Lag(Millis(90_000)), 0),
            (Watermark::Object(Millis(7)), 7),
            (Watermark::Object(Millis(10_001)), 10_000),
        ] {
            let time = ExportTime::new(now, watermark);
            assert_eq!((time.transaction_time, time.planned_at), (Millis(expected), now), "{watermark:?}");
        }
    }

    #[test]
    fn the_stored_time_of_an_export_round_trips() {
        for watermark in [Watermark::Unstated, Watermark::Now, Watermark::Lag(Millis(5)), Watermark::Object(Millis(7)), Watermark::Arrival]
        {
            let time = ExportTime::new(Millis(10), watermark);
            let json = serde_json::to_string(&time).unwrap();
            assert_eq!(serde_json::from_str::<ExportTime>(&json).unwrap(), time, "{json}");
        }
    }
}
