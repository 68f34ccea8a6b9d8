//! Registrations of clients, used assertions, and keys that verify access tokens.

use headrace_core::access::{Client, ClientPage, TokenKey};
use headrace_core::ports::AccessStore;
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::error::StoreError;
use headrace_core::vocab::ids::Caller;

use super::DynamoJobStore;
use super::items::{self, Attributes, Item};
use super::transact::{Update, Write, WriteOutcome};

/// The partition of all registrations. There are few, and they are listed by client id.
const CLIENTS_PK: &str = "CLIENTS";

/// Returns the primary key of the item of a client registration.
fn client_key(id: &Caller) -> Item {
    items::plain_key(CLIENTS_PK, &id.0)
}

/// Returns the primary key of the item of a token key.
fn token_key(kid: &str) -> Item {
    items::plain_key(&format!("TOKENKEY#{kid}"), "TOKENKEY")
}

impl AccessStore for DynamoJobStore {
    async fn client(&self, id: &Caller) -> Result<Option<Client>, StoreError> {
        let item = self.get_key(client_key(id)).await?;
        item.map(|item| Attributes(&item).required_json("client")).transpose()
    }

    async fn clients(&self, after: Option<&Caller>, limit: u16) -> Result<ClientPage, StoreError> {
        let query = self.partition_query(CLIENTS_PK).set_exclusive_start_key(after.map(client_key)).limit(i32::from(limit));
        let page = self.query_page(query).await?;
        let clients: Vec<Client> = page.items().iter().map(|item| Attributes(item).required_json("client")).collect::<Result<_, _>>()?;
        let next = page.last_evaluated_key.as_ref().and_then(|_| clients.last()).map(|last| last.id.clone());
        Ok(ClientPage { clients, next })
    }

    async fn put_client(&self, client: &Client, seen: Option<Millis>) -> Result<bool, StoreError> {
        let update =
            Update::new(client_key(&client.id)).set("client", items::json(client)?).set("changed_at", items::millis(client.changed_at));
        let update = match seen {
            None => update.when("attribute_not_exists(pk)"),
            Some(seen) => update.when("changed_at = :seen").value(":seen", items::millis(seen)),
        };
        Ok(self.update(update).await? == WriteOutcome::Applied)
    }

    async fn remove_client(&self, id: &Caller, seen: Millis) -> Result<bool, StoreError> {
        Ok(self.transact(&[Write::DeleteUnchanged(client_key(id), seen)]).await? == WriteOutcome::Applied)
    }

    async fn remember_assertion(&self, digest: &str, until: Millis) -> Result<bool, StoreError> {
        let update = Update::new(items::plain_key(&format!("ASSERTION#{digest}"), "ASSERTION"))
            .when("attribute_not_exists(pk)")
            .set("ttl", items::ttl_seconds(until));
        Ok(self.update(update).await? == WriteOutcome::Applied)
    }

    async fn token_key(&self, kid: &str) -> Result<Option<TokenKey>, StoreError> {
        let item = self.get_key(token_key(kid)).await?;
        item.map(|item| Attributes(&item).required_json("key")).transpose()
    }

    async fn put_token_key(&self, key: &TokenKey) -> Result<(), StoreError> {
        let update = Update::new(token_key(&key.kid)).set("key", items::json(key)?).set("ttl", items::ttl_seconds(key.expires_at));
        self.update(update).await.map(drop)
    }
}
