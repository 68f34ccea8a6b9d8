//! The commands of the program, one file each.

pub mod audit;
pub mod clients;
pub(crate) mod table;
pub mod deid;
pub mod keys;
