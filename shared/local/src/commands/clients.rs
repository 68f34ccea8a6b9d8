//! `headrace clients`: manages client registrations in a state folder or a deployment's job table. It can run beside a
//! server, because the server reads the registration at every request.

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

use crate::cli::{ClientsArgs, ClientsCommand, KeygenArgs, RegistryLocation};
use crate::commands::job_table::{JobTableError, open_existing_job_table, open_job_table};
use crate::commands::webhooks::{WebhookError, describe_webhook, registered_webhook};
use crate::server::state::StateError;
use crate::server::state_access::{record_access_control, running_access};
use crate::stores::client_key::{GeneratedKey, KeyError};
use crate::stores::private::{create_new_private_file, create_new_public_file};
use crate::terminal::{json_text, print_result};

pub use registration::RegistrationError;

/// File name of a new private key.
const PRIVATE_KEY_FILE: &str = "private.jwk";

/// File name of the JSON Web Key Set with its public key.
const PUBLIC_KEYS_FILE: &str = "jwks.json";

/// Number of clients that one query reads.
const CLIENTS_PER_PAGE: u16 = 100;

/// Failure of `headrace clients`.
#[derive(Debug, thiserror::Error)]
pub enum ClientsCommandError {
    /// The registration is invalid.
    #[error(transparent)]
    Registration(#[from] RegistrationError),
    /// The webhook is invalid.
    #[error(transparent)]
    Webhook(#[from] WebhookError),
    /// The client_id is already registered.
    #[error("`{0}` is already registered; `headrace clients show` shows it, `headrace clients rotate` replaces its keys")]
    AlreadyRegistered(String),
    /// The client_id is not registered.
    #[error("no client `{0}` is registered; `headrace clients list` lists all clients")]
    NotRegistered(String),
    /// The client has no keys here that could be replaced.
    #[error("`{0}` has an external identity and no keys here; change its credentials in AWS IAM or at the identity provider")]
    ExternalIdentity(String),
    /// The registration was changed concurrently.
    #[error("`{0}` was changed by another command at the same time; check it with `headrace clients show`, then try again")]
    ConcurrentChange(String),
    /// The key could not be generated.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The file could not be written.
    #[error("`{path}` cannot be written; existing files are never replaced")]
    Write {
        /// Path of the file.
        path: PathBuf,
        /// Error of the file system.
        #[source]
        cause: io::Error,
    },
    /// The state folder cannot be read or written.
    #[error(transparent)]
    State(#[from] StateError),
    /// The job table cannot be opened.
    #[error(transparent)]
    JobTable(#[from] JobTableError),
    /// The job table failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The registration cannot be serialized.
    #[error("the registration cannot be written as JSON")]
    Json(#[from] serde_json::Error),
}

/// Runs `headrace clients` and prints its result.
pub async fn run_clients(args: &ClientsArgs) -> Result<(), ClientsCommandError> {
    let output = match &args.command {
        ClientsCommand::Add(add) => {
            let client = registration::new_client(add, SystemClock.now())?;
            let store = open_job_table(&add.registry).await?;
            let is_first = store.clients(None, 1).await?.clients.is_empty();
            let running = match &add.registry.table {
                Some(_) => None,
                // Before the registration: a server that is open by default closes with it.
                None => {
                    record_access_control(&add.registry.state)?;
                    running_access(&add.registry.state)?
                }
            };
            if !store.put_client(&client, None).await? {
                return Err(ClientsCommandError::AlreadyRegistered(client.id.0));
            }
            let notice = view::access_notice(running, is_first && add.registry.table.is_none());
            view::format_registered(&client, add.base_url.as_deref(), notice)
                + &registration::missing_configurations(&add.configurations, &client, &add.registry)
        }
        ClientsCommand::List(list) => {
            let clients = list_clients(&open_existing_job_table(&list.registry).await?).await?;
            if list.json {
                json_text(&clients.iter().map(view::client_json).collect::<Result<Vec<_>, _>>()?)?
            } else {
                view::format_clients(&clients)
            }
        }
        ClientsCommand::Show(show) => {
            let client = find_client(&open_existing_job_table(&show.registry).await?, &show.id).await?;
            if show.json { json_text(&view::client_json(&client)?)? } else { view::format_client(&client) }
        }
        ClientsCommand::Disable(client) => {
            update_client(&client.registry, &client.id, |registered| registered.is_disabled = true).await?;
            format!("`{}` is disabled from its next request on; its running exports continue\n", client.id.0)
        }
        ClientsCommand::Enable(client) => {
            update_client(&client.registry, &client.id, |registered| registered.is_disabled = false).await?;
            format!("`{}` is enabled\n", client.id.0)
        }
        ClientsCommand::Rotate(rotate) => {
            let keys = registration::new_keys(&rotate.keys, rotate.registry.table.is_none())?;
            let client = update_client(&rotate.registry, &rotate.id, |client| {
                if client.keys != ClientKeys::External {
                    client.replace_keys(keys);
                }
            });
            let client = client.await?;
            if client.keys == ClientKeys::External {
                return Err(ClientsCommandError::ExternalIdentity(client.id.0));
            }
            format!("`{}` has new keys: {}; the old keys and tokens are no longer accepted\n", client.id.0, view::format_keys(&client.keys))
        }
        ClientsCommand::Change(change) => {
            let configurations = registration::fixed_configurations(&change.data.configurations);
            let client = update_client(&change.registry, &change.id, |client| client.anonymization_configs = configurations).await?;
            let allowed = view::format_configurations(&client, "any data");
            let missing = registration::missing_configurations(&change.data.configurations, &client, &change.registry);
            format!("`{}` may export {allowed} from its next request on\n{missing}", client.id.0)
        }
        ClientsCommand::Webhook(args) => {
            // A mistyped path or client must not leave a key behind.
            find_client(&open_existing_job_table(&args.registry).await?, &args.id).await?;
            let webhook = registered_webhook(&args.webhook, &args.registry)?;
            let client = update_client(&args.registry, &args.id, |client| client.webhook = webhook).await?;
            describe_webhook(&client.id.0, client.webhook.as_ref())
        }
        ClientsCommand::Remove(args) => {
            let store = open_existing_job_table(&args.registry).await?;
            let client = find_client(&store, &args.id).await?;
            if args.registry.table.is_none() {
                record_access_control(&args.registry.state)?;
            }
            if !store.remove_client(&client.id, client.changed_at).await? {
                return Err(ClientsCommandError::ConcurrentChange(client.id.0));
            }
            let is_last = store.clients(None, 1).await?.clients.is_empty();
            let last = if is_last { view::LAST_CLIENT_REMOVED } else { "" };
            format!("`{}` is removed; its exports remain until they expire, and nobody can read them\n{last}", client.id.0)
        }
        ClientsCommand::Keygen(args) => generate_key_pair(args)?,
    };
    print_result(&output);
    Ok(())
}

/// Returns the registration of a client, or an error if there is none.
async fn find_client(store: &DynamoJobStore, id: &Caller) -> Result<Client, ClientsCommandError> {
    store.client(id).await?.ok_or_else(|| ClientsCommandError::NotRegistered(id.0.clone()))
}

/// Returns all registrations, ordered by client_id.
pub async fn list_clients(store: &DynamoJobStore) -> Result<Vec<Client>, StoreError> {
    let (mut clients, mut after) = (Vec::new(), None);
    loop {
        let page = store.clients(after.as_ref(), CLIENTS_PER_PAGE).await?;
        clients.extend(page.clients);
        after = page.next;
        if after.is_none() {
            return Ok(clients);
        }
    }
}

/// Changes a registration, or fails if it was changed after it was read.
async fn update_client(registry: &RegistryLocation, id: &Caller, update: impl FnOnce(&mut Client)) -> Result<Client, ClientsCommandError> {
    let store = open_existing_job_table(registry).await?;
    let mut client = find_client(&store, id).await?;
    let read_version = client.changed_at;
    update(&mut client);
    // The time is also the version of the registration, so it must grow even if the clock was set back.
    client.changed_at = SystemClock.now().max(Millis(read_version.0 + 1));
    if store.put_client(&client, Some(read_version)).await? { Ok(client) } else { Err(ClientsCommandError::ConcurrentChange(client.id.0)) }
}

/// Generates a key pair and writes both files.
fn generate_key_pair(args: &KeygenArgs) -> Result<String, ClientsCommandError> {
    let key = GeneratedKey::new(args.alg)?;
    std::fs::create_dir_all(&args.out).map_err(|cause| ClientsCommandError::Write { path: args.out.clone(), cause })?;
    let (private, public) = (args.out.join(PRIVATE_KEY_FILE), args.out.join(PUBLIC_KEYS_FILE));
    write_text(&private, create_new_private_file(&private), &serde_json::to_string_pretty(&key.private)?)?;
    write_text(&public, create_new_public_file(&public), &serde_json::to_string_pretty(&key.public)?)?;
    Ok(format!(
        "{}: the private key; keep it with the client and send it to nobody\n{}: the public key; register it with `headrace clients add --jwks`\n",
        private.display(),
        public.display()
    ))
}

/// Writes text to a file that was just created.
fn write_text(path: &Path, created: io::Result<File>, text: &str) -> Result<(), ClientsCommandError> {
    let written = created.and_then(|mut file| writeln!(file, "{text}"));
    written.map_err(|cause| ClientsCommandError::Write { path: path.to_owned(), cause })
}
