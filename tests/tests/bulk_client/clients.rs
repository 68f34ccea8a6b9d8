//! The HTTP clients of the project are those that the security handbook lists.

use std::collections::BTreeSet;
use std::fs;

use headrace_tests::flows::Result;
use headrace_tests::workspace;
use walkdir::WalkDir;

/// Expressions that make a connection or a client of HTTP.
const CLIENTS: [&str; 8] = [
    "Client::builder()",
    "Client::new()",
    "reqwest::get(",
    "reqwest::blocking",
    "hyper_util::client",
    "hyper::client",
    "TcpStream::connect",
    "http_client_fn(",
];

/// Returns the files of the program and the functions that make an HTTP client, without their tests.
fn files_with_clients() -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for folder in ["shared", "functions"] {
        for entry in WalkDir::new(workspace::root().join(folder)) {
            let entry = entry?;
            let path = entry.path().strip_prefix(workspace::root())?.to_string_lossy().into_owned();
            if !path.ends_with(".rs") || path.contains("/tests") {
                continue;
            }
            let source = fs::read_to_string(entry.path())?;
            let code = source.split("#[cfg(test)]").next().unwrap_or_default();
            if CLIENTS.iter().any(|client| code.contains(client)) {
                found.insert(path);
            }
        }
    }
    Ok(found)
}

#[test]
fn the_http_clients_of_the_project_are_those_of_the_table() -> Result<()> {
    let handbook = fs::read_to_string(workspace::root().join("docs/security.md"))?;
    let table = handbook.split("## Outgoing connections").nth(1).and_then(|rest| rest.split("\n## ").next()).ok_or("no table")?;
    for file in files_with_clients()? {
        assert!(table.contains(&format!("(../{file})")), "{file} makes a client of HTTP that docs/security.md does not list");
    }
    assert!(files_with_clients()?.contains("shared/client/src/transport.rs"), "the search finds nothing");
    Ok(())
}

#[test]
fn every_client_of_reqwest_decides_about_proxies_and_redirects_itself() -> Result<()> {
    for file in files_with_clients()? {
        let source = fs::read_to_string(workspace::root().join(&file))?;
        if source.contains("reqwest") {
            assert!(source.contains(".no_proxy()") && source.contains(".redirect(Policy::none())"), "{file}");
        }
    }
    Ok(())
}
