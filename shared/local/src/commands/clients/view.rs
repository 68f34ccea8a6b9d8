//! Registrations as an operator reads them.

use std::collections::BTreeSet;

use headrace_core::access::{Client, ClientKeys};

use super::jwks;
use crate::commands::table::format_table;

/// How a client proves who it is, in few words.
pub(super) fn keys(keys: &ClientKeys) -> String {
    match keys {
        ClientKeys::JwksUrl(url) => format!("at {url}"),
        ClientKeys::Jwks(text) => jwks::check(text).map_or_else(|_| "given, and unusable".to_owned(), |names| names.join(", ")),
        ClientKeys::Elsewhere => "known elsewhere".to_owned(),
    }
}

fn state(client: &Client) -> &'static str {
    if client.is_disabled { "shut out" } else { "may come in" }
}

/// One line each.
pub(super) fn table(clients: &[Client]) -> String {
    if clients.is_empty() {
        return "no client is registered; `headrace clients add` registers one\n".to_owned();
    }
    let mut rows = vec![["CLIENT_ID", "NAME", "STATE", "KEYS", "CHANGED"].map(str::to_owned)];
    rows.extend(clients.iter().map(|client| {
        let name = client.name.clone().unwrap_or_default();
        [client.id.0.clone(), name, state(client).to_owned(), keys(&client.keys), client.changed_at.instant()]
    }));
    format_table(&rows)
}

/// All of one client.
pub(super) fn sheet(client: &Client) -> String {
    let names = |names: &BTreeSet<String>| names.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    let groups = client
        .groups
        .as_ref()
        .map_or_else(|| "any, and the other levels".to_owned(), |groups| format!("{} and nothing else", names(groups)));
    let containers = client.containers.as_ref().map(|them| them.iter().map(|one| one.as_str().to_owned()).collect());
    let default = || "what the server says".to_owned();
    let lines = [
        ("client_id", client.id.0.clone()),
        ("name", client.name.clone().unwrap_or_default()),
        ("state", state(client).to_owned()),
        ("keys", keys(&client.keys)),
        ("scopes", client.scopes.to_string()),
        ("groups", groups),
        ("containers", containers.as_ref().map_or_else(default, names)),
        ("exports at work", client.jobs.map_or_else(default, |jobs| format!("at most {jobs}"))),
        ("destination", client.destination.clone().unwrap_or_else(default)),
        ("registered", client.created_at.instant()),
        ("changed", client.changed_at.instant()),
    ];
    lines.iter().map(|(what, text)| format!("{}\n", format!("{what:16} {text}").trim_end())).collect()
}

/// What an operator does after a client was registered. `shuts`: whether a server that was started before lets in everybody.
pub(super) fn welcome(client: &Client, base: Option<&str>, shuts: bool) -> String {
    let (id, scopes) = (&client.id.0, &client.scopes);
    let base = base.map_or("[base]", |base| base.trim_end_matches('/'));
    let advice = match &client.keys {
        ClientKeys::Jwks(_) => Some(
            "Its keys are registered as they are now. Before it changes them it has to send the new public ones, for\n\
             `headrace clients rotate`: at least once a year, and at once when a private key may be known to others.\n",
        ),
        ClientKeys::JwksUrl(_) => Some(
            "Its keys are read from its URL: it changes them by itself, at least once a year, and keeps the old ones there\n\
             beside the new ones for an hour.\n",
        ),
        ClientKeys::Elsewhere => None,
    };
    let mut said = match advice {
        None => format!("registered `{id}`, known elsewhere, for {scopes}\n"),
        Some(advice) => format!(
            "registered `{id}`\n\ntell the client:\n  client_id  {id}\n  base       {base}\n  token URL  {base}/token (as \
             {base}/.well-known/smart-configuration says)\n  how        private_key_jwt with ES384 or RS384\n  scopes     \
             {scopes}\n\n{advice}"
        ),
    };
    if shuts {
        said += "\nIt is the first one. A server that runs in this state already lets everybody in: restart it.\n";
    }
    said
}
