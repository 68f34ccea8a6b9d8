//! The ports on one machine.

pub mod directory;
pub mod embedded;
pub(crate) mod private;
pub mod encryptor;
pub mod signer;
