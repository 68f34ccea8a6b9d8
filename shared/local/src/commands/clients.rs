//! `headrace clients`: who may come in, as an operator manages it. Beside a server that runs, or on a deployment's table:
//! a registration is looked up at every request.

pub mod jwks;
mod registration;
mod view;

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use headrace_aws::DynamoJobStore;
use headrace_core::access::{Client, ClientKeys};
use headrace_core::ports::{AccessStore as _, Clock as _};
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::error::StoreError;
use headrace_core::vocab::ids::Caller;
use headrace_edge::system::SystemClock;

use crate::cli::{Action, Clients, Keygen, Place};
use crate::client::client_key::{GeneratedKey, KeyError};
use crate::server::state::{StateFolder, StateError};
use crate::stores::private::{create_new_private_file, create_new_public_file};

pub use registration::RegistrationError;

/// The file of the private half of a new key.
const PRIVATE_KEY: &str = "private.jwk";

/// The file of its public half.
const PUBLIC_KEYS: &str = "jwks.json";

/// How many clients are read at once.
const PAGE: u16 = 100;

/// Why a command about clients failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientsCommandError {
    /// What it was told cannot be registered.
    #[error(transparent)]
    RegistrationError(#[from] RegistrationError),
    /// The name is taken.
    #[error("`{0}` is registered already; `headrace clients show` says as what, `rotate` replaces its keys")]
    Known(String),
    /// Nobody has the name.
    #[error("no client is named `{0}`; `headrace clients list` names them all")]
    Unknown(String),
    /// Its keys are not ours to replace.
    #[error("`{0}` is known elsewhere and has no keys here; change them where it is known")]
    KnownElsewhere(String),
    /// Two did it at once.
    #[error("somebody else changed `{0}` at the same moment; look at it with `headrace clients show`, then run this again")]
    Raced(String),
    /// A key was not made.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A file was not written.
    #[error("`{path}` cannot be written; an existing file is never replaced")]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// The state folder.
    #[error(transparent)]
    StateFolder(#[from] StateError),
    /// The job table.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What was asked for cannot be shown.
    #[error("the registration cannot be written as JSON")]
    Json(#[from] serde_json::Error),
}

/// Runs the command and prints what it did.
pub async fn clients(order: &Clients) -> Result<(), ClientsCommandError> {
    let said = match &order.action {
        Action::Add(add) => {
            let client = registration::client(add, SystemClock.now())?;
            let store = open(&add.place).await?;
            let is_first = store.clients(None, 1).await?.clients.is_empty();
            if !store.put_client(&client, None).await? {
                return Err(ClientsCommandError::Known(client.id.0));
            }
            view::welcome(&client, add.base_url.as_deref(), is_first && add.place.table.is_none())
        }
        Action::List(list) => {
            let clients = all(&open_existing(&list.place).await?).await?;
            if list.json { serde_json::to_string_pretty(&clients)? + "\n" } else { view::table(&clients) }
        }
        Action::Show(show) => {
            let client = known(&open_existing(&show.place).await?, &show.id).await?;
            if show.json { serde_json::to_string_pretty(&client)? + "\n" } else { view::sheet(&client) }
        }
        Action::Disable(named) => {
            change(&named.place, &named.id, |client| client.is_disabled = true).await?;
            format!("`{}` is shut out from its next request on; what it has started goes on\n", named.id.0)
        }
        Action::Enable(named) => {
            change(&named.place, &named.id, |client| client.is_disabled = false).await?;
            format!("`{}` may come in again\n", named.id.0)
        }
        Action::Rotate(rotate) => {
            let keys = registration::new_keys(&rotate.keys, rotate.place.table.is_none())?;
            let client = change(&rotate.place, &rotate.id, |client| {
                if client.keys != ClientKeys::Elsewhere {
                    client.keys = keys;
                }
            });
            let client = client.await?;
            if client.keys == ClientKeys::Elsewhere {
                return Err(ClientsCommandError::KnownElsewhere(client.id.0));
            }
            format!("`{}` has new keys: {}; the old ones count no longer\n", client.id.0, view::keys(&client.keys))
        }
        Action::Remove(named) => {
            let store = open_existing(&named.place).await?;
            let client = known(&store, &named.id).await?;
            if !store.remove_client(&client.id, client.changed_at).await? {
                return Err(ClientsCommandError::Raced(client.id.0));
            }
            format!("`{}` is forgotten; its exports stay in its name until their time is over\n", client.id.0)
        }
        Action::Keygen(order) => keygen(order)?,
    };
    // A reader that has gone away wants no more.
    drop(io::stdout().write_all(said.as_bytes()));
    Ok(())
}

async fn open(place: &Place) -> Result<DynamoJobStore, ClientsCommandError> {
    match &place.table {
        Some(table) => Ok(headrace_aws::Clients::connect().await.jobs(table)),
        None => Ok(StateFolder::open(&place.state).await?.jobs),
    }
}

/// The same, where a mistaken name must not make an empty state.
async fn open_existing(place: &Place) -> Result<DynamoJobStore, ClientsCommandError> {
    match &place.table {
        Some(_) => open(place).await,
        None => Ok(StateFolder::open_existing(&place.state).await?.jobs),
    }
}

async fn known(store: &DynamoJobStore, id: &Caller) -> Result<Client, ClientsCommandError> {
    store.client(id).await?.ok_or_else(|| ClientsCommandError::Unknown(id.0.clone()))
}

/// All registrations, by name.
pub async fn all(store: &DynamoJobStore) -> Result<Vec<Client>, StoreError> {
    let (mut clients, mut after) = (Vec::new(), None);
    loop {
        let page = store.clients(after.as_ref(), PAGE).await?;
        clients.extend(page.clients);
        after = page.next;
        if after.is_none() {
            return Ok(clients);
        }
    }
}

/// Changes a registration as it was read, or not at all.
async fn change(place: &Place, id: &Caller, to: impl FnOnce(&mut Client)) -> Result<Client, ClientsCommandError> {
    let store = open_existing(place).await?;
    let mut client = known(&store, id).await?;
    let seen = client.changed_at;
    to(&mut client);
    // Later than before by any clock: the time is also by what changes are told apart.
    client.changed_at = SystemClock.now().max(Millis(seen.0 + 1));
    if store.put_client(&client, Some(seen)).await? { Ok(client) } else { Err(ClientsCommandError::Raced(client.id.0)) }
}

/// Makes a key pair.
fn keygen(order: &Keygen) -> Result<String, ClientsCommandError> {
    let made = GeneratedKey::new(order.alg)?;
    std::fs::create_dir_all(&order.out).map_err(|cause| ClientsCommandError::Write { path: order.out.clone(), cause })?;
    let (private, public) = (order.out.join(PRIVATE_KEY), order.out.join(PUBLIC_KEYS));
    write_text(&private, create_new_private_file(&private), &serde_json::to_string_pretty(&made.private)?)?;
    write_text(&public, create_new_public_file(&public), &serde_json::to_string_pretty(&made.public)?)?;
    Ok(format!(
        "{}: the private key; it stays with the client and is sent to nobody\n{}: its public half; register it with `headrace clients add --jwks`\n",
        private.display(),
        public.display()
    ))
}

fn write_text(path: &Path, created: io::Result<File>, text: &str) -> Result<(), ClientsCommandError> {
    let written = created.and_then(|mut file| writeln!(file, "{text}"));
    written.map_err(|cause| ClientsCommandError::Write { path: path.to_owned(), cause })
}
