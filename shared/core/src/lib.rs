//! Domain logic of FHIR bulk exports, independent of AWS, HTTP and the system clock.
//!
//! Data types are in folders by subject. [`flow`] has one file per operation. [`ports`] are the traits that connect the
//! operations to stores, queues and the clock. `docs/architecture.md` defines the rules P1 to P11 of the pipeline.
//!
//! Imports run in one direction: a folder imports only from those before it in the list [`vocab`], [`access`], [`schedule`], [`request`],
//! [`job`], [`output`], [`audit`], [`events`], [`ports`].

pub mod access;
#[cfg(test)]
mod arbitrary;
pub mod audit;
pub mod cohort;
pub mod events;
pub mod flow;
pub mod job;
pub mod lake;
pub mod lines;
pub mod metering;
pub mod output;
pub mod patients;
pub mod ports;
pub mod request;
pub mod schedule;
pub mod versions;
pub mod vocab;
