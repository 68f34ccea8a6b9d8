//! `GET [base]/$export`: accepts an export and answers 202.

pub mod handler;
