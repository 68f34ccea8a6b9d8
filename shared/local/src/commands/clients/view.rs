//! Formats registrations for an operator.

use std::collections::BTreeSet;

use headrace_core::access::{Client, ClientKeys};
use serde_json::Value;

use super::jwks;
use crate::commands::table::{format_table_within, terminal_columns};
use crate::server::state_access::RunningAccess;
use crate::terminal::printable;

/// Formats the authentication of a client: its key ids, its key URL, or its external identity.
pub(super) fn format_keys(keys: &ClientKeys) -> String {
    match keys {
        ClientKeys::JwksUrl(url) => format!("at {url}"),
        ClientKeys::Jwks(text) => jwks::validate_key_set(text).map_or_else(|_| "invalid key set".to_owned(), |key_ids| key_ids.join(", ")),
        ClientKeys::External => "external identity".to_owned(),
    }
}

/// Returns `disabled` or `enabled`.
fn state(client: &Client) -> &'static str {
    if client.is_disabled { "disabled" } else { "enabled" }
}

/// Formats clients as a table, one per line.
pub(super) fn format_clients(clients: &[Client]) -> String {
    if clients.is_empty() {
        return "no clients are registered; register one with `headrace clients add`\n".to_owned();
    }
    let mut rows = vec![["CLIENT_ID", "NAME", "STATE", "SCOPES", "GROUPS", "DATA", "KEYS", "CHANGED"].map(str::to_owned)];
    rows.extend(clients.iter().map(|client| {
        let name = client.name.clone().unwrap_or_default();
        let (scopes, keys) = (client.scopes.to_string(), format_keys(&client.keys));
        let (groups, data) = (format_groups(client, "any"), format_configurations(client, "any"));
        [client.id.0.clone(), name, state(client).to_owned(), scopes, groups, data, keys, client.changed_at.instant()]
    }));
    format_table_within(&rows, terminal_columns())
}

/// Joins names with commas.
fn join(names: &BTreeSet<String>) -> String {
    names.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// Formats the groups that a client may export, or `any` if it is not restricted to groups.
fn format_groups(client: &Client, any: &str) -> String {
    client.groups.as_ref().map_or_else(|| any.to_owned(), |groups| format!("only {}", join(groups)))
}

/// Formats the anonymization configurations with which a client may export, or `any` if it may export without one.
pub(super) fn format_configurations(client: &Client, any: &str) -> String {
    client.anonymization_configs.as_ref().map_or_else(|| any.to_owned(), |fixed| format!("only with {fixed}"))
}

/// Formats all details of one client.
pub(super) fn format_client(client: &Client) -> String {
    let groups = format_groups(client, "any group, patient and system exports");
    let containers = client.containers.as_ref().map(|names| names.iter().map(|name| name.as_str().to_owned()).collect());
    let default = || "server default".to_owned();
    let lines = [
        ("client_id", client.id.0.clone()),
        ("name", client.name.clone().unwrap_or_default()),
        ("state", state(client).to_owned()),
        ("keys", format_keys(&client.keys)),
        ("scopes", client.scopes.to_string()),
        ("groups", groups),
        ("data", format_configurations(client, "any, also in clear")),
        ("containers", containers.as_ref().map_or_else(default, join)),
        ("max exports", client.max_exports.map_or_else(default, |limit| limit.to_string())),
        ("destination", client.destination.clone().unwrap_or_else(default)),
        ("webhook", client.webhook.as_ref().map_or_else(|| "none".to_owned(), |webhook| webhook.server().to_owned())),
        ("registered", client.created_at.instant()),
        ("changed", client.changed_at.instant()),
    ];
    lines.iter().map(|(label, value)| format!("{}\n", format!("{label:16} {}", printable(value)).trim_end())).collect()
}

/// Returns a client as JSON. Of its webhook it has the server alone.
pub(super) fn client_json(client: &Client) -> Result<Value, serde_json::Error> {
    let mut json = serde_json::to_value(Client { webhook: None, ..client.clone() })?;
    if let (Some(members), Some(webhook)) = (json.as_object_mut(), &client.webhook) {
        members.insert("webhook".to_owned(), webhook.server().into());
    }
    Ok(json)
}

/// Text for the removal of the last client.
pub(super) const LAST_CLIENT_REMOVED: &str =
    "No client is left: a server rejects every request until one is registered. It stays so unless it is started with --access none.\n";

/// Returns what the operator must know about servers on the state folder after a registration: of the one that runs, or of the next
/// one if this is the first client.
pub(super) fn access_notice(running: Option<RunningAccess>, is_first: bool) -> Option<&'static str> {
    match running {
        Some(RunningAccess::Open) => Some(
            "The server that runs on this state folder was started with --access none: anyone who can reach it can export.\n\
             Restart it without --access none.\n",
        ),
        Some(RunningAccess::OpenByDefault) if !is_first => {
            Some("The server that runs on this state folder still rejects every request, until it is restarted.\n")
        }
        Some(RunningAccess::OpenByDefault) => Some(
            "The server that runs on this state folder was open. From now on it rejects every request: restart it, so that it\n\
             issues access tokens.\n",
        ),
        Some(RunningAccess::Controlled) => None,
        None if is_first => Some("This is the first client. A server that is started on this state folder now requires access tokens.\n"),
        None => None,
    }
}

/// Formats the instructions to give to a new client, and then the notice.
pub(super) fn format_registered(client: &Client, base: Option<&str>, notice: Option<&str>) -> String {
    let (id, scopes) = (&client.id.0, &client.scopes);
    let replace = if base.is_none() { " (replace [base] by the URL of the server, or give --base-url)" } else { "" };
    let base = base.map_or("[base]", |base| base.trim_end_matches('/'));
    let advice = match &client.keys {
        ClientKeys::Jwks(_) => Some(
            "The keys are copied into the registration. To change them, the client sends new public keys, and you run\n\
             `headrace clients rotate`: at least once a year, and immediately if a private key may be compromised.\n",
        ),
        ClientKeys::JwksUrl(_) => Some(
            "The keys are read from the client's URL. The client rotates them itself, at least once a year, and keeps the old\n\
             keys beside the new ones for an hour.\n",
        ),
        ClientKeys::External => None,
    };
    let mut output = match advice {
        None => format!("registered `{id}` with an external identity and the scopes {scopes}\n"),
        Some(advice) => format!(
            "registered `{id}`\n\nsend to the client{replace}:\n  client_id  {id}\n  base URL   {base}\n  token URL  {base}/token (also in \
             {base}/.well-known/smart-configuration)\n  method     private_key_jwt with ES384 or RS384\n  scopes     \
             {scopes}\n\n{advice}"
        ),
    };
    if client.anonymization_configs.is_some() {
        output += &format!(
            "\nIt may export {}: each kick-off names one as _anonymizationConfig, and a _container.\n",
            format_configurations(client, "any data")
        );
    }
    if let Some(notice) = notice {
        output += &format!("\n{notice}");
    }
    output
}
