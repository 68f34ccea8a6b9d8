//! `GET` or `POST [base]/$export`: accepts an export.

pub mod handler;
