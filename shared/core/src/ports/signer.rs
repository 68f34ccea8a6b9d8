//! The signer of access tokens.

use crate::access::PublicKey;
use crate::vocab::error::StoreError;

/// The signer of access tokens. The private key never leaves it.
pub trait TokenSigner: Send + Sync {
    /// Returns the public key. It does not change during the life of the process.
    fn key(&self) -> impl Future<Output = Result<PublicKey, StoreError>> + Send;

    /// Signs a message. Returns the signature in the format that JOSE defines for the key's algorithm.
    fn sign(&self, message: &[u8]) -> impl Future<Output = Result<Vec<u8>, StoreError>> + Send;
}
