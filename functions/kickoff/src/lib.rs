//! `GET` or `POST [base]/$export`: accepts an export and answers 202.

pub mod handler;
