//! Counts and words that clients and operators read: in manifests, in OperationOutcomes, in headers.

#![allow(clippy::indexing_slicing, reason = "an absent member of a JSON value is Null, which the tests then reject")]

use std::collections::BTreeSet;
use std::fs;

use headrace_tests::flows::{Result, SmartClient, run};
use headrace_tests::lake;
use reqwest::{Client, Method, Response};
use serde_json::{Value, json};

use crate::clients_cli::ClientsCli;
use crate::open_access::send_assertion;
use crate::process::Server;

/// A server over a lake of two patients, two groups and an observation of each patient.
struct Lab {
    _folder: tempfile::TempDir,
    server: Server,
    http: Client,
}

impl Lab {
    fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let lake = folder.path().join("lake");
        fs::create_dir(&lake)?;
        let patient = |id: &str| json!({ "resourceType": "Patient", "id": id });
        let observation =
            |id: &str| json!({ "resourceType": "Observation", "id": id, "subject": { "reference": format!("Patient/{id}") } });
        let group = |id: &str, members: &[&str]| {
            let members: Vec<Value> = members.iter().map(|id| json!({ "entity": { "reference": format!("Patient/{id}") } })).collect();
            json!({ "resourceType": "Group", "id": id, "type": "person", "actual": true, "member": members })
        };
        for (name, resources) in [
            ("Patient", vec![patient("a"), patient("b")]),
            ("Observation", vec![observation("a"), observation("b")]),
            ("Group", vec![group("g", &["a", "b"]), group("h", &["a"])]),
        ] {
            let lines: String = resources.iter().map(|resource| format!("{resource}\n")).collect();
            fs::write(lake.join(format!("{name}.ndjson")), lines)?;
        }
        let server = Server::start(&lake, &folder.path().join("state"), &[])?;
        Ok(Self { _folder: folder, server, http: Client::new() })
    }

    /// Sends a request with these headers to a path below the base URL, or to a URL.
    async fn send(&self, method: Method, url: &str, headers: &[(&str, &str)]) -> Result<Response> {
        let url = if url.starts_with("http") { url.to_owned() } else { format!("{}/{url}", self.server.base) };
        let mut request = self.http.request(method, url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Ok(request.send().await?)
    }

    /// Runs an export and returns its status URL and its manifest.
    async fn export(&self, operation: &str) -> Result<(String, Value)> {
        let accepted = self.send(Method::GET, operation, &[("accept", "application/fhir+json"), ("prefer", "respond-async")]).await?;
        let status = accepted.headers().get("content-location").ok_or("no Content-Location")?.to_str()?.to_owned();
        loop {
            let response = self.send(Method::GET, &status, &[("accept", "application/json")]).await?;
            if response.status() == 200 {
                return Ok((status, serde_json::from_str(&response.text().await?)?));
            }
            assert_eq!(response.status(), 202);
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    /// Returns `Type/id` of each resource that an export has.
    async fn exported(&self, operation: &str) -> Result<BTreeSet<String>> {
        let (_, manifest) = self.export(operation).await?;
        let mut found = BTreeSet::new();
        for file in manifest["output"].as_array().into_iter().flatten() {
            let text = self.send(Method::GET, file["url"].as_str().unwrap_or_default(), &[]).await?.text().await?;
            for line in text.lines() {
                let resource: Value = serde_json::from_str(line)?;
                found.insert(format!(
                    "{}/{}",
                    resource["resourceType"].as_str().unwrap_or_default(),
                    resource["id"].as_str().unwrap_or_default()
                ));
            }
        }
        Ok(found)
    }
}

/// Returns the media type of a response.
fn media_type(response: &Response) -> &str {
    response.headers().get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default()
}

#[test]
fn the_count_of_a_file_of_blocks_is_the_number_of_resources() -> Result<()> {
    run(async || {
        let lab = Lab::start()?;
        let (_, manifest) = lab.export("Patient/$export?organizeOutputBy=Patient&_type=Patient,Observation").await?;
        let file = &manifest["output"][0];
        let text = lab.send(Method::GET, file["url"].as_str().unwrap_or_default(), &[]).await?.text().await?;
        let headers = text.lines().filter(|line| line.contains("\"Parameters\"")).count();
        assert_eq!((text.lines().count(), headers, &file["count"]), (6, 2, &json!(4)), "{text}");
        Ok(())
    })
}

#[test]
fn no_export_has_the_members_of_a_group_that_it_is_not_about() -> Result<()> {
    run(async || {
        let lab = Lab::start()?;
        for (operation, expected) in [
            ("Group/g/$export?_type=Group", &["Group/g"][..]),
            ("Group/h/$export", &["Group/h", "Observation/a", "Patient/a"]),
            ("Patient/a/$export", &["Observation/a", "Patient/a"]),
            ("Patient/a/$export?_type=Group", &[]),
            ("Patient/$export?_type=Group", &["Group/g", "Group/h"]),
        ] {
            let found = lab.exported(operation).await?;
            assert_eq!(found.iter().map(String::as_str).collect::<Vec<_>>(), expected, "{operation}");
        }
        Ok(())
    })
}

#[test]
fn a_client_that_asks_for_plain_json_gets_it_from_each_deletion() -> Result<()> {
    run(async || {
        let lab = Lab::start()?;
        for (accept, expected) in
            [("application/json", "application/json"), ("application/fhir+json", "application/fhir+json"), ("*/*", "application/fhir+json")]
        {
            let (status, _) = lab.export("$export?_type=Patient").await?;
            for code in [202, 404] {
                let response = lab.send(Method::DELETE, &status, &[("accept", accept)]).await?;
                assert_eq!((response.status().as_u16(), media_type(&response)), (code, expected), "{accept}");
            }
        }
        Ok(())
    })
}

#[test]
fn parameters_and_headers_are_named_in_the_location_of_an_issue_and_elements_in_its_expression() -> Result<()> {
    run(async || {
        let lab = Lab::start()?;
        let asynchronous = [("accept", "application/fhir+json"), ("prefer", "respond-async")];
        for (url, headers, location) in [
            ("$export?_type=Dog", &asynchronous[..], "http._type"),
            ("$export?_since=never", &asynchronous, "http._since"),
            ("$export?_color=red", &asynchronous, "http._color"),
            ("$export", &[("accept", "text/html"), ("prefer", "respond-async")], "http.Accept"),
            ("$export", &asynchronous[..1], "http.Prefer"),
        ] {
            let response = lab.send(Method::GET, url, headers).await?;
            assert!(response.status().is_client_error(), "{url}");
            let outcome: Value = serde_json::from_str(&response.text().await?)?;
            let issue = &outcome["issue"][0];
            let named = issue["location"][0].as_str().unwrap_or_default();
            assert!(named.eq_ignore_ascii_case(location), "{url}: {outcome}");
            assert_eq!(issue.get("expression"), None, "{url}");
        }
        let body = json!({ "resourceType": "Parameters", "parameter": [{ "name": "_type", "valueQuantity": { "value": 7 } }] }).to_string();
        let request = lab.http.post(format!("{}/$export", lab.server.base)).body(body).header("content-type", "application/fhir+json");
        let response = request.header("accept", "application/fhir+json").header("prefer", "respond-async").send().await?;
        let outcome: Value = serde_json::from_str(&response.text().await?)?;
        assert!(outcome["issue"][0]["expression"][0].as_str().is_some_and(|path| path.starts_with("Parameters.parameter")), "{outcome}");
        Ok(())
    })
}

#[test]
fn a_key_url_that_cannot_be_reached_is_in_the_log() -> Result<()> {
    run(async || {
        let (cli, client) = (ClientsCli::new()?, SmartClient::new_es384("lab")?);
        cli.run(&["add", "lab", "--scope", "system/*.rs", "--jwks-url", "https://keys.example.invalid/jwks.json?secret=1"])??;
        let log = cli.folder.path().join("log");
        let server = Server::start_logging(&lake::sample_lake_dir(), &cli.state(), &[], &log)?;
        let response = send_assertion(&server, &client, &format!("{}/token", server.base), &[]).await?;
        assert!(response.status().is_client_error() || response.status().is_server_error());
        drop(server);
        let log = fs::read_to_string(log)?;
        let line = log.lines().find(|line| line.contains("a key set could not be read")).ok_or_else(|| format!("not in the log: {log}"))?;
        assert!(line.contains("https://keys.example.invalid/jwks.json") && !line.contains("secret=1"), "{line}");
        Ok(())
    })
}
