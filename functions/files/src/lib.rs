//! `GET [base]/_operations/files/[job]/[name]`: gives a client access to one file.

pub mod handler;
