//! The store of registered clients, used client assertions and token keys.

use crate::access::{Client, ClientPage, TokenKey};
use crate::vocab::clock::Millis;
use crate::vocab::error::StoreError;
use crate::vocab::ids::Caller;

/// The store of registered clients, used client assertions and token keys.
pub trait AccessStore: Send + Sync {
    /// Returns the registration of a client, or `None` if the client is not registered.
    fn client(&self, id: &Caller) -> impl Future<Output = Result<Option<Client>, StoreError>> + Send;

    /// Lists up to `limit` registrations, sorted by client id, starting after `after`.
    fn clients(&self, after: Option<&Caller>, limit: u16) -> impl Future<Output = Result<ClientPage, StoreError>> + Send;

    /// Writes a registration. `seen` is the `changed_at` of the registration that it replaces, or `None` for a new client.
    /// Returns false if another process has changed the registration since then.
    fn put_client(&self, client: &Client, seen: Option<Millis>) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Deletes a registration whose `changed_at` is `seen`. Returns false if another process has changed the registration
    /// since then.
    fn remove_client(&self, id: &Caller, seen: Millis) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Remembers a used client assertion until this time. Returns false if it was used before. `digest` is a hash of the
    /// assertion, so that the assertion itself is not stored.
    fn remember_assertion(&self, digest: &str, until: Millis) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Returns the token key with this key id, which verifies access tokens, or `None` if it is unknown.
    fn token_key(&self, kid: &str) -> impl Future<Output = Result<Option<TokenKey>, StoreError>> + Send;

    /// Stores a token key. This happens before the first token that it has signed is issued.
    fn put_token_key(&self, key: &TokenKey) -> impl Future<Output = Result<(), StoreError>> + Send;
}
