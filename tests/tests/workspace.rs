//! Consistency of facts that are defined in several places: crate dependencies, settings, metrics, routes and the schema of the table.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::setting::Setting;
use headrace_edge::config::{
    GroupsConfig, KickoffConfig, MetadataConfig, OutputConfig, ReaperConfig, SettingSource, StatusConfig, SyncWorkerConfig, TokenConfig,
    WorkerConfig,
};
use headrace_edge::telemetry::{Metric, OWN_TARGETS};
use headrace_local::server::http;
use headrace_local::server::service::ServerAccess;
use headrace_local::stores::embedded::EmbeddedDynamo;
use headrace_local::stores::signer::FileSigner;
use headrace_tests::flows::{Result, run, server_config, start_local_server};
use serde_json::Value;

const FUNCTIONS: [&str; 10] =
    ["cancel", "chunk-worker", "files", "groups", "kickoff", "metadata", "reaper", "status", "sync-worker", "token"];

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn folders_in(place: &str) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for entry in std::fs::read_dir(workspace().join(place))? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            names.insert(entry.file_name().to_string_lossy().into_owned());
        }
    }
    Ok(names)
}

/// Text of `template.yaml`. It is read line by line, which is enough here and needs no YAML parser.
struct Template(String);

impl Template {
    fn read() -> Result<Self> {
        Ok(Self(std::fs::read_to_string(workspace().join("template.yaml"))?))
    }

    /// Returns the resources with their lines, in order.
    fn resources(&self) -> Vec<(&str, Vec<&str>)> {
        let mut resources: Vec<(&str, Vec<&str>)> = Vec::new();
        let lines = self.0.lines().skip_while(|line| *line != "Resources:").skip(1);
        for line in lines.take_while(|line| line.is_empty() || line.starts_with(' ')) {
            let is_name = line.starts_with("  ") && !line.starts_with("   ") && !line.trim_start().starts_with('#');
            match (is_name, resources.last_mut()) {
                (true, _) => resources.push((line.trim().trim_end_matches(':'), Vec::new())),
                (false, Some((_, lines))) => lines.push(line),
                (false, None) => {}
            }
        }
        resources
    }

    /// Returns the resources of this type with their lines.
    fn of_type(&self, kind: &str) -> Vec<(&str, Vec<&str>)> {
        let kind = format!("    Type: {kind}");
        self.resources().into_iter().filter(|(_, lines)| lines.contains(&kind.as_str())).collect()
    }

    /// Returns the lines of a resource.
    fn resource(&self, name: &str) -> Result<Vec<&str>> {
        let resource = self.resources().into_iter().find(|(resource, _)| *resource == name);
        resource.map(|(_, lines)| lines).ok_or_else(|| format!("template.yaml has no {name}").into())
    }
}

/// Converts a resource name to the function's name: `ChunkWorkerFunction` to `chunk-worker`.
fn function_name(function: &str) -> String {
    let mut function_name = String::new();
    for c in function.trim_end_matches("Function").chars() {
        if c.is_ascii_uppercase() && !function_name.is_empty() {
            function_name.push('-');
        }
        function_name.push(c.to_ascii_lowercase());
    }
    function_name
}

/// Returns the value of `name: value` in a line, also within `{ name: value, … }`.
fn value<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = line.split_once(&format!("{name}: "))?;
    rest.split([',', '}']).next().map(str::trim)
}

#[test]
fn crates_depend_only_on_inner_crates() -> Result<()> {
    let metadata = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(workspace())
        .output()?;
    let metadata: Value = serde_json::from_slice(&metadata.stdout)?;
    let mut crates = BTreeMap::<&str, BTreeSet<&str>>::new();
    for package in metadata["packages"].as_array().ok_or("no packages")? {
        let dependencies = package["dependencies"].as_array().ok_or("no dependencies")?.iter();
        let named = dependencies.filter(|dependency| dependency["kind"] != "dev").filter_map(|dependency| dependency["name"].as_str());
        crates.insert(package["name"].as_str().ok_or("no name")?, named.collect());
    }
    let allowed = |name: &str| -> Option<Vec<&str>> {
        match name {
            "headrace-fhir" => Some(vec![]),
            "headrace-core" => Some(vec!["headrace-fhir"]),
            "headrace-aws" | "headrace-edge" | "headrace-lake" => Some(vec!["headrace-core", "headrace-fhir"]),
            "headrace-client" => Some(vec!["headrace-core", "headrace-edge", "headrace-fhir"]),
            // It runs the handler of the chunk-worker with the ports of a synchronization.
            "sync-worker" => Some(vec!["headrace-aws", "headrace-client", "headrace-core", "headrace-edge", "chunk-worker"]),
            name if FUNCTIONS.contains(&name) => Some(vec!["headrace-aws", "headrace-core", "headrace-edge", "headrace-fhir"]),
            "headrace-local" => Some(
                FUNCTIONS
                    .into_iter()
                    .chain(["headrace-aws", "headrace-client", "headrace-core", "headrace-edge", "headrace-fhir", "headrace-lake"])
                    .collect(),
            ),
            "headrace-simulator" => Some(vec!["headrace-aws", "headrace-core", "headrace-fhir"]),
            "headrace-tests" => Some(crates.keys().copied().collect()),
            _ => None,
        }
    };
    let outside = |name: &&str| crates.contains_key(name);
    for (name, dependencies) in &crates {
        let allowed = allowed(name).ok_or_else(|| format!("{name} is a new crate: write an ADR and add it here"))?;
        let wrong: Vec<_> = dependencies.iter().filter(|found| outside(found) && !allowed.contains(found)).collect();
        assert!(wrong.is_empty(), "{name} must not depend on {wrong:?}");
    }
    // The core must not depend on AWS and HTTP, and the FHIR crate not on I/O and async.
    for (name, banned) in [
        ("headrace-core", &["aws", "lambda", "http", "hyper", "reqwest", "axum"][..]),
        ("headrace-fhir", &["aws", "lambda", "http", "tokio", "futures"]),
    ] {
        let wrong: Vec<_> = crates[name].iter().filter(|found| banned.iter().any(|banned| found.starts_with(banned))).collect();
        assert!(wrong.is_empty(), "{name} must not depend on {wrong:?}");
    }
    Ok(())
}

#[test]
fn each_crate_that_logs_is_a_target_of_the_log_filter() -> Result<()> {
    for folder in ["shared", "functions"] {
        for name in folders_in(folder)? {
            let manifest = std::fs::read_to_string(workspace().join(folder).join(&name).join("Cargo.toml"))?;
            let package =
                manifest.lines().find_map(|line| line.strip_prefix("name = ")).ok_or("no name")?.trim_matches('"').replace('-', "_");
            // The simulator is a program of the developers.
            let logs = manifest.lines().any(|line| line.starts_with("tracing.")) && package != "headrace_simulator";
            assert!(!logs || OWN_TARGETS.contains(&package.as_str()), "{package} logs, and a bare log level does not apply to it");
        }
    }
    Ok(())
}

#[test]
fn each_function_has_one_name_everywhere() -> Result<()> {
    let expected: BTreeSet<String> = FUNCTIONS.into_iter().map(str::to_owned).collect();
    let template = Template::read()?;
    let deployed: BTreeSet<String> =
        template.of_type("AWS::Serverless::Function").into_iter().map(|(name, _)| function_name(name)).collect();
    assert_eq!(folders_in("functions")?, expected);
    let mut with_samples = folders_in("events")?;
    assert!(with_samples.remove("event-bus"), "events/event-bus has what the service puts on an event bus");
    assert_eq!(with_samples, expected);
    assert_eq!(deployed, expected);
    for (name, lines) in template.of_type("AWS::Serverless::Function") {
        let binary = lines.iter().find_map(|line| value(line, "Binary"));
        assert_eq!(binary, Some(function_name(name).as_str()), "{name}");
    }
    Ok(())
}

/// Records the settings that are read.
#[derive(Default)]
struct SettingRecorder(RefCell<BTreeSet<&'static str>>);

impl SettingSource for SettingRecorder {
    fn get(&self, setting: Setting) -> Option<String> {
        self.0.borrow_mut().insert(setting.as_str());
        let required = [
            Setting::AuditBucket,
            Setting::DestinationBucket,
            Setting::DeadLetterQueueUrl,
            Setting::OriginUrl,
            Setting::QueueUrl,
            Setting::SigningKey,
            Setting::SourceBucket,
            Setting::SyncQueueUrl,
            Setting::Table,
        ];
        // Exports and audit files are not in the bucket of the lake.
        let value = if setting == Setting::OriginUrl {
            "https://x"
        } else if setting == Setting::SourceBucket {
            "lake"
        } else {
            "x"
        };
        required.contains(&setting).then(|| value.to_owned())
    }
}

fn settings_of(function: &str) -> Result<BTreeSet<&'static str>> {
    let recorder = SettingRecorder::default();
    match function {
        "kickoff" => KickoffConfig::read(&recorder).map(drop)?,
        "status" => StatusConfig::read(&recorder).map(drop)?,
        "cancel" | "files" => OutputConfig::read(&recorder).map(drop)?,
        "chunk-worker" => WorkerConfig::read(&recorder).map(drop)?,
        "groups" => GroupsConfig::read(&recorder).map(drop)?,
        "metadata" => MetadataConfig::read(&recorder).map(drop)?,
        "reaper" => ReaperConfig::read(&recorder).map(drop)?,
        "sync-worker" => SyncWorkerConfig::read(&recorder).map(drop)?,
        "token" => TokenConfig::read(&recorder).map(drop)?,
        _ => return Err(format!("{function} is a new function: add it here").into()),
    }
    Ok(recorder.0.into_inner())
}

/// Returns the setting that a line of an environment sets.
fn setting_in(line: &str) -> Option<&str> {
    let (_, rest) = line.split_once("HEADRACE_")?;
    let length = rest.find(|c: char| !(c.is_ascii_uppercase() || c == '_'))?;
    line.get(line.find("HEADRACE_")?..).and_then(|line| line.get(.."HEADRACE_".len() + length))
}

/// Returns the settings of a template line and the line's YAML aliases, whose settings are merged in.
fn settings_in<'a>(line: &'a str, anchors: &BTreeMap<&'a str, BTreeSet<&'a str>>) -> BTreeSet<&'a str> {
    let aliases = line.split('*').skip(1).filter_map(|rest| rest.split([',', ']', ' ']).next());
    aliases.filter_map(|alias| anchors.get(alias)).flatten().copied().chain(setting_in(line)).collect()
}

/// Returns the settings below each anchor of an environment, such as `- &access-settings`.
fn anchored_settings(template: &Template) -> BTreeMap<&str, BTreeSet<&str>> {
    let mut anchored = BTreeMap::<&str, BTreeSet<&str>>::new();
    let mut anchor = None;
    for line in template.0.lines() {
        match (line.trim().strip_prefix("- &"), setting_in(line)) {
            (Some(name), _) => anchor = Some(name),
            (None, Some(setting)) if line.starts_with("              ") => {
                if let Some(anchor) = anchor {
                    anchored.entry(anchor).or_default().insert(setting);
                }
            }
            (None, _) => anchor = None,
        }
    }
    anchored
}

#[test]
fn the_template_sets_exactly_the_settings_that_each_function_reads() -> Result<()> {
    let template = Template::read()?;
    let anchors = anchored_settings(&template);
    let lines = template.0.lines().skip_while(|line| *line != "Globals:").take_while(|line| *line != "Resources:");
    let of_all: BTreeSet<&str> = lines.filter_map(setting_in).collect();
    for (name, lines) in template.of_type("AWS::Serverless::Function") {
        let variables = lines.iter().skip_while(|line| line.trim() != "Variables:").skip(1);
        let own = variables.take_while(|line| line.starts_with("          ")).flat_map(|line| settings_in(line, &anchors));
        let given: BTreeSet<&str> = own.chain(of_all.iter().copied()).collect();
        let mut read = settings_of(&function_name(name))?;
        // Lambda sets these variables itself.
        for name in ["AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "AWS_LAMBDA_FUNCTION_NAME"] {
            read.remove(name);
        }
        assert_eq!(given, read, "{name}");
    }
    Ok(())
}

#[test]
fn the_dashboard_and_the_alarms_use_existing_metrics() -> Result<()> {
    let template = Template::read()?;
    let mut named: BTreeSet<&str> =
        template.0.lines().filter_map(|line| line.split_once(r#"["Headrace", ""#)?.1.split('"').next()).collect();
    let written: BTreeSet<&str> = Metric::ALL.into_iter().map(Metric::as_str).collect();
    assert_eq!(named, written, "the dashboard must show every metric");
    let lines: Vec<&str> = template.0.lines().map(str::trim).collect();
    named = lines.windows(2).filter(|pair| pair[0] == "Namespace: Headrace").filter_map(|pair| value(pair[1], "MetricName")).collect();
    assert!(!named.is_empty() && named.is_subset(&written), "{named:?}");
    Ok(())
}

/// Returns true if the source of a function records the metric. The sync-worker runs the handler of the worker.
fn records_metric(function: &str, metric: &str) -> Result<bool> {
    let folders: &[&str] = if function == "sync-worker" { &["sync-worker", "chunk-worker"] } else { &[function] };
    for folder in folders {
        for file in std::fs::read_dir(workspace().join("functions").join(folder).join("src"))? {
            let text = std::fs::read_to_string(file?.path())?;
            let names = text.split("Metric::").skip(1).filter_map(|rest| rest.split(|c: char| !c.is_ascii_alphanumeric()).next());
            if names.into_iter().any(|name| name == metric) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

#[test]
fn each_function_records_the_metrics_that_the_dashboard_shows_of_it() -> Result<()> {
    let template = Template::read()?;
    let shown = template.0.lines().filter_map(|line| {
        let (metric, rest) = line.split_once(r#"["Headrace", ""#)?.1.split_once(r#"", "function", "${"#)?;
        Some((metric, rest.split('}').next()?))
    });
    let shown: Vec<(&str, &str)> = shown.collect();
    assert!(shown.len() > 20, "{shown:?}");
    let operations = std::fs::read_to_string(workspace().join("docs/operations.md"))?;
    for (metric, logical_id) in shown {
        let function = function_name(logical_id.trim_end_matches("Function"));
        assert!(records_metric(&function, metric)?, "{function} does not record {metric}");
        assert!(operations.contains(&format!("`{metric}`")), "docs/operations.md does not name {metric}");
    }
    for row in ["Schedules", "Events", "Cost of exports"] {
        assert!(template.0.contains(&format!(r#""title": "{row}"#)), "the dashboard has no row for {row}");
    }
    Ok(())
}

/// Returns the function of every route, by method and path. Checks the authorization of each route.
fn routes(template: &Template) -> Result<BTreeMap<(String, String), String>> {
    let mut routes = BTreeMap::new();
    for (name, lines) in template.of_type("AWS::ApiGatewayV2::Route") {
        let key =
            lines.iter().find_map(|line| value(line, "RouteKey")).map(|_| lines.iter().find_map(|line| line.split_once("RouteKey: ")));
        let (method, path) = key.flatten().and_then(|(_, key)| key.split_once(' ')).ok_or_else(|| format!("{name} has no route"))?;
        let target = lines.iter().find_map(|line| line.split_once("integrations/${")?.1.split_once("Integration}")).ok_or("no target")?;
        let function = function_name(target.0);
        // Only the description of the service and the token endpoint are open, even with IAM.
        let is_open = ["metadata", "token"].contains(&function.as_str());
        let authorization = lines.iter().find_map(|line| value(line, "AuthorizationType"));
        assert_eq!(authorization == Some("NONE"), is_open, "{name} has the authorization {authorization:?}");
        assert!(
            is_open || authorization.is_some_and(|text| text.contains("iam-if-enabled")),
            "{name} has the authorization {authorization:?}"
        );
        routes.insert((method.to_owned(), path.to_owned()), function);
    }
    Ok(routes)
}

#[test]
fn the_local_server_serves_exactly_the_deployed_routes() -> Result<()> {
    let template = Template::read()?;
    let routes = routes(&template)?;
    let source = std::fs::read_to_string(workspace().join("shared/local/src/server/http.rs"))?;
    let path = |line| -> Option<&str> {
        let (path, _) = str::split_once(str::split_once(line, ".route(")?.1, ',')?;
        Some(if path == "DISCOVERY_PATH" { http::DISCOVERY_PATH } else { path.trim_matches('"') })
    };
    let local: BTreeSet<&str> = source.lines().filter_map(path).collect();
    assert_eq!(local, routes.keys().map(|(_, path)| path.as_str()).collect());
    run(async || {
        let (lake, state, keys) = (tempfile::tempdir()?, tempfile::tempdir()?, tempfile::tempdir()?);
        // The only mode in which the token endpoint exists.
        let access = ServerAccess::Smart(FileSigner::open_or_create(keys.path(), Millis(0))?);
        let base = start_local_server(server_config(lake.path(), state.path(), access)).await?;
        let client = reqwest::Client::builder().build()?;
        for path in local {
            for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"] {
                let filled = path
                    .replace("{operation}", "$export")
                    .replace("{id}", "1")
                    .replace("{job}", &"f".repeat(32))
                    .replace("{name}", "Patient-1.ndjson");
                let answer = client.request(method.parse()?, format!("{base}{filled}")).send().await?;
                let status = answer.status().as_u16();
                let is_unrouted = status == 405 && answer.text().await?.contains("this path does not support this method");
                let is_deployed = routes.contains_key(&(method.to_owned(), path.to_owned()));
                // The HTTP server accepts HEAD wherever it accepts GET, except for kick-offs.
                assert!(is_unrouted != is_deployed || method == "HEAD", "{method} {path}: {status}");
            }
        }
        Ok(())
    })
}

#[test]
fn every_route_leads_to_its_function() -> Result<()> {
    for ((method, path), function) in routes(&Template::read()?)? {
        let expected = match (method.as_str(), path.as_str()) {
            ("DELETE", _) => "cancel",
            (_, path) if path.starts_with("/_operations/export") => "status",
            (_, path) if path.starts_with("/_operations/files/") => "files",
            (_, path) if path.ends_with("/{operation}") => "kickoff",
            (_, "/Group" | "/Group/{id}") => "groups",
            ("POST", "/token") => "token",
            (_, _) => "metadata",
        };
        assert_eq!(function, expected, "{method} {path}");
    }
    Ok(())
}

/// Schema of a table: property names and values.
type TableShape = BTreeMap<String, Vec<String>>;

/// Reads the schema of the job table from the template.
fn shape_in_the_template(template: &Template) -> Result<TableShape> {
    let (mut shape, mut section, mut index) = (TableShape::new(), String::new(), String::new());
    for line in template.resource("JobTable")? {
        let indent = line.len() - line.trim_start().len();
        if indent == 6 {
            section = line.trim().split(':').next().unwrap_or_default().to_owned();
            index.clear();
        }
        if let Some(name) = value(line, "IndexName") {
            index = format!("{name}.");
        }
        let mut note = |key: String, text: String| shape.entry(key).or_default().push(text);
        match (section.as_str(), value(line, "AttributeName")) {
            ("AttributeDefinitions", Some(name)) => {
                note("attributes".to_owned(), format!("{name} {}", value(line, "AttributeType").unwrap_or_default()))
            }
            ("TimeToLiveSpecification", Some(name)) => {
                note("ttl".to_owned(), format!("{name} {}", value(line, "Enabled").unwrap_or_default()))
            }
            (_, Some(name)) => note(format!("{index}keys"), format!("{name} {}", value(line, "KeyType").unwrap_or_default())),
            (_, None) => {}
        }
        if let Some(kind) = value(line, "ProjectionType") {
            note(format!("{index}projection"), kind.to_owned());
        }
        if let Some(mode) = value(line, "BillingMode") {
            note("billing".to_owned(), mode.to_owned());
        }
    }
    shape.get_mut("attributes").ok_or("no attributes")?.sort();
    Ok(shape)
}

/// Creates the job table as the local server does, and returns its schema.
async fn shape_as_created() -> Result<TableShape> {
    let dynamo = EmbeddedDynamo::in_memory()?;
    let client = dynamo.client();
    headrace_aws::TableSchema::create(&client, "jobs").await?;
    let table = client.describe_table().table_name("jobs").send().await?.table.ok_or("no table")?;
    let mut shape = TableShape::new();
    let mut attributes: Vec<_> =
        table.attribute_definitions().iter().map(|a| format!("{} {}", a.attribute_name(), a.attribute_type().as_str())).collect();
    attributes.sort();
    shape.insert("attributes".to_owned(), attributes);
    let keys = |schema: &[aws_sdk_dynamodb::types::KeySchemaElement]| {
        schema.iter().map(|k| format!("{} {}", k.attribute_name(), k.key_type().as_str())).collect()
    };
    shape.insert("keys".to_owned(), keys(table.key_schema()));
    for index in table.global_secondary_indexes() {
        let name = index.index_name().unwrap_or_default();
        shape.insert(format!("{name}.keys"), keys(index.key_schema()));
        let projection = index.projection().and_then(|projection| projection.projection_type()).map_or("", |kind| kind.as_str());
        shape.insert(format!("{name}.projection"), vec![projection.to_owned()]);
    }
    let billing = table.billing_mode_summary().and_then(|summary| summary.billing_mode()).map_or("", |mode| mode.as_str());
    shape.insert("billing".to_owned(), vec![billing.to_owned()]);
    let ttl = client.describe_time_to_live().table_name("jobs").send().await?.time_to_live_description.ok_or("no TTL")?;
    let enabled = ttl.time_to_live_status().is_some_and(|status| status.as_str() == "ENABLED");
    shape.insert("ttl".to_owned(), vec![format!("{} {enabled}", ttl.attribute_name().unwrap_or_default())]);
    Ok(shape)
}

#[test]
fn the_template_and_the_local_server_create_the_same_table() -> Result<()> {
    let deployed = shape_in_the_template(&Template::read()?)?;
    let created = run(async || shape_as_created().await)?;
    assert_eq!(deployed, created);
    assert!(deployed.len() >= 8, "{deployed:?}");
    Ok(())
}
