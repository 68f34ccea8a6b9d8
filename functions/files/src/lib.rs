//! `GET [base]/_operations/files/[job]/[name]`: gives a client access to one exported file.

pub mod handler;
