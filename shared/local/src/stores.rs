//! Implementations of the ports for one machine: directories, key files and an embedded DynamoDB.

pub mod client_key;
pub mod deid_keys;
pub mod deployment;
pub mod directory;
pub mod embedded;
pub mod encryptor;
pub(crate) mod io_fault;
#[cfg(feature = "deployment")]
pub mod lake_bucket;
pub(crate) mod private;
pub mod signer;

pub(crate) use headrace_lake::regular_file;
