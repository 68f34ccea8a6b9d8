//! `POST [base]/token`: issues an access token to a registered client for a signed assertion (SMART Backend Services).

mod assertion;
mod error;
pub mod handler;
mod issuer;
