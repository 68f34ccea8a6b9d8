//! `GET` or `POST [base]/$export`: accepts an export, or estimates it.

mod estimate;
pub mod handler;
