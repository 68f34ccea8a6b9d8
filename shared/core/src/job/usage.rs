//! What a job has used of the services that it runs on.

use serde::{Deserialize, Serialize};

/// Declares [`Usage`]: one field per stored name.
macro_rules! usage {
    ($($(#[$doc:meta])* $field:ident = $name:literal,)*) => {
        /// The usage of a job, summed over the attempts of its workers. Each attempt measures itself, see [`crate::metering`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
        #[serde(default)]
        pub struct Usage {
            $($(#[$doc])* pub $field: u64,)*
        }

        impl Usage {
            /// Returns the numbers with their names in stored items.
            pub fn named(self) -> impl Iterator<Item = (&'static str, u64)> {
                [$(($name, self.$field),)*].into_iter()
            }

            /// Creates the usage from the number that `read` returns for each name in stored items.
            pub fn from_named<E>(read: impl Fn(&str) -> Result<u64, E>) -> Result<Self, E> {
                Ok(Self { $($field: read($name)?,)* })
            }

            /// Adds the numbers of both sides.
            #[must_use]
            pub fn plus(self, other: Self) -> Self {
                Self { $($field: self.$field.saturating_add(other.$field),)* }
            }
        }
    };
}

usage! {
    /// The number of attempts that have recorded their usage.
    attempts = "used_attempts",
    /// The time of the attempts, in milliseconds.
    worker_ms = "used_ms",
    /// The time of the attempts multiplied by the memory of their function, in megabyte-milliseconds. 0 on one machine, whose workers have no
    /// memory of their own.
    worker_mb_ms = "used_mb_ms",
    /// The number of calls to the job table.
    table_requests = "used_table_requests",
    /// The consumed capacity of reads, in halves of a unit, because a read may cost half a unit.
    half_read_units = "used_half_read_units",
    /// The consumed capacity of writes, in units.
    write_units = "used_write_units",
    /// The number of reads of objects: GET and HEAD.
    gets = "used_gets",
    /// The number of writes of objects: PUT and the calls of a multipart upload.
    puts = "used_puts",
    /// The number of copies within the store.
    copies = "used_copies",
    /// The number of pages of listings.
    lists = "used_lists",
    /// The number of deleting calls, each of which may delete many objects.
    deletes = "used_deletes",
    /// The number of bytes read from objects.
    bytes_read = "used_bytes_read",
    /// The number of bytes written to objects.
    bytes_written = "used_bytes_written",
    /// The number of messages sent to the queue.
    messages = "used_messages",
}

impl Usage {
    /// Returns the megabytes of memory of the function that the attempts ran in, on average. `None` on one machine.
    pub fn memory_mb(self) -> Option<u64> {
        self.worker_mb_ms.checked_div(self.worker_ms).filter(|memory| *memory > 0)
    }

    /// Returns true if functions on AWS did the work, so that it has a price.
    pub fn is_on_aws(self) -> bool {
        // A first task may take less than a millisecond, but it consumes capacity.
        self.worker_mb_ms > 0 || self.write_units > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_sums_are_by_name() {
        let names: Vec<&str> = Usage::default().named().map(|(name, _)| name).collect();
        assert!(names.iter().all(|name| name.starts_with("used_")), "a name could be that of another attribute: {names:?}");
        let index = |name: &str| names.iter().zip(1..).find(|(known, _)| **known == name).map(|(_, index)| index).ok_or(());
        let counted = Usage::from_named(index).unwrap();
        assert_eq!(counted.named().map(|(_, number)| number).collect::<Vec<_>>(), (1..=14).collect::<Vec<_>>());
        let twice: Vec<u64> = counted.plus(counted).named().map(|(_, number)| number).collect();
        assert_eq!(twice, (1..=14).map(|number| 2 * number).collect::<Vec<_>>());
    }
}
