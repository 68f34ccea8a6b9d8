//! `POST [base]/token`: gives a registered client an access token for an assertion that it has signed (SMART Backend
//! Services).

mod assertion;
pub mod handler;
mod issue;
mod refusal;
