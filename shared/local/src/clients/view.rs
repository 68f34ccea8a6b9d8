//! Registrations as an operator reads them.

use std::collections::BTreeSet;

use headrace_core::access::{Client, ClientKeys};

use super::jwks;

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
    let mut widths = [0; 5];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let line = |row: &[String; 5]| {
        let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    rows.iter().map(line).collect()
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

/// What an operator does after a client was registered.
pub(super) fn welcome(client: &Client, base: Option<&str>) -> String {
    let id = &client.id.0;
    let base = base.map_or("[base]", |base| base.trim_end_matches('/'));
    let scopes = &client.scopes;
    match &client.keys {
        ClientKeys::Elsewhere => format!("registered `{id}`, known elsewhere, for: {scopes}\n"),
        ClientKeys::Jwks(_) | ClientKeys::JwksUrl(_) => {
            let mut said = format!(
                "registered `{id}`\n\ntell the client:\n  client_id      {id}\n  base           {base}\n  token URL      {base}/token, also named at {base}/.well-known/smart-configuration\n  method         private_key_jwt with RS384 or ES384, tokens for five minutes\n  scopes         {scopes}\n\n"
            );
            said += match &client.keys {
                ClientKeys::Jwks(_) => {
                    "Its keys are registered as they are now. Before it changes them, it has to send the new public keys\nfor `headrace clients rotate`. Let it do so at least once a year, and at once when a private key may be lost.\n"
                }
                ClientKeys::JwksUrl(_) | ClientKeys::Elsewhere => {
                    "Its keys are read from its URL: it changes them by itself, at least once a year, old and new side by side for\na day.\n"
                }
            };
            said
        }
    }
}
