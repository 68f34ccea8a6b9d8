//! The simulator: its model of DynamoDB against the engine of the local product, and small exports.

mod costs;
mod exports;
mod figures;
mod rates;
mod sentences;
mod splits;
mod table;
