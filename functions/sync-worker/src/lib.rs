//! Consumes the queue of synchronizations: fetches resources from the FHIR server and writes the lake, one task per message. No other
//! function may read the server's credential.

pub mod handler;
pub mod origin;
