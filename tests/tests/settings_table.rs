//! The tables of settings in `docs/operations.md`, generated from the template, the functions' settings and the command line.

#![allow(clippy::indexing_slicing, reason = "an absent member of a JSON value is Null, which a test then rejects")]

#[path = "policies/yaml.rs"]
mod yaml;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error as _;
use std::fmt::Write as _;
use std::fs;

use clap::{Arg, ArgAction, Command, CommandFactory as _, Parser as _};
use headrace_core::vocab::setting::Setting;
use headrace_edge::config::{
    ConfigError, GroupsConfig, KickoffConfig, MetadataConfig, OutputConfig, ReaperConfig, SettingSource, StatusConfig, SyncWorkerConfig,
    TokenConfig, WorkerConfig,
};
use headrace_local::cli::Cli;
use headrace_tests::flows::Result;
use headrace_tests::workspace::root;
use serde_json::{Map, Value};

/// The functions in the order of an export, as in the template.
const FUNCTIONS: [&str; 10] =
    ["kickoff", "chunk-worker", "status", "files", "cancel", "reaper", "groups", "metadata", "token", "sync-worker"];

const PAGE: &str = "docs/operations.md";
const BEGIN: &str = "<!-- settings: begin -->\n";
const END: &str = "<!-- settings: end -->";

/// A value that no setting with bounds accepts.
const INVALID_VALUE: &str = "?";

/// Values that only flags with any text accept: the first is not a number, the second is beyond all bounds.
const INVALID_FLAG_VALUES: [&str; 2] = [INVALID_VALUE, "9999999999999"];

/// Variables of Lambda, which the template does not set.
const SET_BY_LAMBDA: [&str; 2] = ["AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "AWS_LAMBDA_FUNCTION_NAME"];

/// Settings by their variables. Records the settings that are read.
struct RecordingSettings {
    values: BTreeMap<String, String>,
    read: RefCell<BTreeSet<Setting>>,
}

impl RecordingSettings {
    fn new(values: BTreeMap<String, String>) -> Self {
        Self { values, read: RefCell::default() }
    }

    /// Creates settings with a value for each setting that some function requires, also with an identity provider.
    fn complete() -> Self {
        let values = [
            (Setting::Access, "external"),
            (Setting::AuditBucket, "audit-bucket"),
            (Setting::Audience, "headrace"),
            (Setting::DeadLetterQueueUrl, "https://sqs.example/dead"),
            (Setting::DestinationBucket, "export-bucket"),
            (Setting::Issuer, "https://login.example"),
            (Setting::JwksUrl, "https://login.example/jwks"),
            (Setting::OriginUrl, "https://fhir.example/r4"),
            (Setting::QueueUrl, "https://sqs.example/tasks"),
            (Setting::SigningKey, "key"),
            (Setting::SourceBucket, "lake-bucket"),
            (Setting::SyncQueueUrl, "https://sqs.example/syncs"),
            (Setting::Table, "jobs"),
        ];
        Self::new(values.map(|(setting, value)| (setting.as_str().to_owned(), value.to_owned())).into())
    }

    fn with(mut self, setting: Setting, value: &str) -> Self {
        self.values.insert(setting.as_str().to_owned(), value.to_owned());
        self
    }
}

impl SettingSource for RecordingSettings {
    fn get(&self, setting: Setting) -> Option<String> {
        self.read.borrow_mut().insert(setting);
        self.values.get(setting.as_str()).filter(|value| !value.is_empty()).cloned()
    }
}

/// Reads the settings of a function, as its `main` does. Returns them in their debug format.
fn read_config(function: &str, settings: &RecordingSettings) -> Result<std::result::Result<String, ConfigError>> {
    fn format(config: impl std::fmt::Debug) -> String {
        format!("{config:?}")
    }
    Ok(match function {
        "kickoff" => KickoffConfig::read(settings).map(format),
        "chunk-worker" => WorkerConfig::read(settings).map(format),
        "status" => StatusConfig::read(settings).map(format),
        "files" | "cancel" => OutputConfig::read(settings).map(format),
        "reaper" => ReaperConfig::read(settings).map(format),
        "groups" => GroupsConfig::read(settings).map(format),
        "metadata" => MetadataConfig::read(settings).map(format),
        "sync-worker" => SyncWorkerConfig::read(settings).map(format),
        "token" => TokenConfig::read(settings).map(format),
        _ => return Err(format!("{function} is new: its settings are not read here").into()),
    })
}

/// Returns the functions that read each setting, in the order of [`FUNCTIONS`].
fn readers() -> Result<BTreeMap<Setting, Vec<&'static str>>> {
    let mut readers = BTreeMap::<Setting, Vec<&str>>::new();
    for function in FUNCTIONS {
        let settings = RecordingSettings::complete();
        read_config(function, &settings)??;
        for setting in settings.read.into_inner() {
            readers.entry(setting).or_default().push(function);
        }
    }
    Ok(readers)
}

/// Formats the functions that read a setting. Names those that do not if they are fewer.
fn format_readers(functions: &[&str]) -> String {
    let others: Vec<&str> = FUNCTIONS.into_iter().filter(|function| !functions.contains(function)).collect();
    match others.len() {
        0 => "all".to_owned(),
        1 | 2 => format!("all except {}", others.join(", ")),
        _ => functions.join(", "),
    }
}

/// Returns the values that a setting accepts, from the error for an invalid one. `None` if every text is accepted.
fn accepted_values(setting: Setting, functions: &[&str]) -> Result<Option<String>> {
    for function in functions {
        let settings = RecordingSettings::complete().with(setting, INVALID_VALUE);
        let Err(error) = read_config(function, &settings)? else { continue };
        assert_eq!(error.setting, setting, "{error}");
        let (_, remedy) = error.problem.split_once(": ").ok_or_else(|| format!("`{error}` does not show valid values"))?;
        return Ok(Some(remedy.trim_start_matches("set ").to_owned()));
    }
    Ok(None)
}

/// Returns the condition under which a setting is required. `None` if it is optional.
fn requirement(setting: Setting, functions: &[&str]) -> Result<Option<&'static str>> {
    for (access, text) in [("smart", "required"), ("external", "required by `external`")] {
        for function in functions {
            let settings = RecordingSettings::complete().with(Setting::Access, access).with(setting, "");
            if read_config(function, &settings)?.is_err() {
                return Ok(Some(text));
            }
        }
    }
    Ok(None)
}

/// Returns the doc comment of each setting by its variable.
fn setting_docs() -> Result<BTreeMap<String, String>> {
    let source = fs::read_to_string(root().join("shared/core/src/vocab/setting.rs"))?;
    let (_, declarations) = source.split_once("\nsettings! {\n").ok_or("no declarations of settings")?;
    let mut docs = BTreeMap::new();
    let mut doc: Vec<&str> = Vec::new();
    for line in declarations.lines().map(str::trim).take_while(|line| *line != "}") {
        if let Some(text) = line.strip_prefix("/// ") {
            doc.push(text);
        } else if let Some(name) = line.split('"').nth(1) {
            docs.insert(name.to_owned(), std::mem::take(&mut doc).join(" "));
        }
    }
    Ok(docs)
}

/// The parameters of `template.yaml` and the environments of its functions.
struct Template {
    document: Value,
}

impl Template {
    fn read() -> Result<Self> {
        Ok(Self { document: yaml::read(&fs::read_to_string(root().join("template.yaml"))?)? })
    }

    fn section(&self, name: &str) -> Result<&Map<String, Value>> {
        self.document.get(name).and_then(Value::as_object).ok_or_else(|| format!("the template has no {name}").into())
    }

    /// Returns the labels of the parameter groups and their parameters, in the template's order.
    fn groups(&self) -> Result<Vec<(&str, Vec<&str>)>> {
        fn read(group: &Value) -> Option<(&str, Vec<&str>)> {
            let names = group.get("Parameters")?.as_array()?.iter().filter_map(Value::as_str).collect();
            Some((group.get("Label")?.get("default")?.as_str()?, names))
        }
        let groups = self.document["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"].as_array().ok_or("no groups")?;
        groups.iter().map(|group| read(group).ok_or_else(|| format!("an incomplete group: {group}").into())).collect()
    }

    /// Returns the environment of each function by the function's name.
    fn environments(&self) -> Result<BTreeMap<&str, BTreeMap<&str, &Value>>> {
        let global = &self.document["Globals"]["Function"]["Environment"]["Variables"];
        let mut environments = BTreeMap::new();
        for resource in self.section("Resources")?.values().filter(|resource| resource["Type"] == "AWS::Serverless::Function") {
            let name = resource["Metadata"]["BuildProperties"]["Binary"].as_str().ok_or("a function without a binary")?;
            let mut variables = BTreeMap::new();
            add_variables(global, &mut variables);
            add_variables(&resource["Properties"]["Environment"]["Variables"], &mut variables);
            environments.insert(name, variables);
        }
        Ok(environments)
    }

    /// Returns the value of each variable: the same in all functions.
    fn variables(&self) -> Result<BTreeMap<&str, &Value>> {
        let mut variables = BTreeMap::new();
        for (name, value) in self.environments()?.into_values().flatten() {
            let value = value_if_created(value);
            let earlier = variables.insert(name, value);
            assert!(earlier.is_none_or(|earlier| earlier == value), "{name} differs between functions");
        }
        Ok(variables)
    }

    /// Returns the default of a parameter. `None` if it has none.
    fn default(&self, parameter: &str) -> Option<&str> {
        self.document["Parameters"][parameter]["Default"].as_str()
    }

    /// Returns the value of a variable if all parameters have their defaults. `None` if it depends on a resource or on a
    /// parameter without a default.
    fn default_value(&self, value: &Value) -> Option<&str> {
        let (function, argument) = value.as_object()?.iter().next()?;
        match function.as_str() {
            "Ref" => self.default(argument.as_str()?),
            "Fn::FindInMap" => {
                let (map, row) = (argument[0].as_str()?, self.default_value(&argument[1])?);
                self.document["Mappings"][map][row][argument[2].as_str()?].as_str()
            }
            // The default of a list is one text.
            "Fn::Join" => self.default_value(&argument[1]),
            _ => None,
        }
    }

    /// Returns the values that a parameter accepts, as the template restricts them. `None` if it does not restrict them.
    fn accepted_values(&self, parameter: &Value) -> Option<String> {
        let text = |name: &str| parameter[name].as_str();
        if let Some(values) = parameter["AllowedValues"].as_array() {
            return Some(values.iter().filter_map(Value::as_str).map(code).collect::<Vec<_>>().join(", "));
        }
        match (text("MinValue"), text("MaxValue"), text("MinLength")) {
            (Some(min), Some(max), _) => Some(format!("{min} to {max}")),
            (None, None, Some(length)) => Some(format!("at least {length} characters")),
            _ => text("ConstraintDescription").map(plain),
        }
    }
}

/// Returns the value that a variable has if the resource that it names is created: without the condition of that resource and the empty
/// text that functions get otherwise. A function with the same condition names the resource itself.
fn value_if_created(value: &Value) -> &Value {
    match value["Fn::If"].as_array().map(Vec::as_slice) {
        Some([_, created, otherwise]) if otherwise == "" => created,
        _ => value,
    }
}

/// Adds the variables of an environment, and those of the maps that its merge key (`<<`) names.
fn add_variables<'a>(environment: &'a Value, variables: &mut BTreeMap<&'a str, &'a Value>) {
    for (name, value) in environment.as_object().into_iter().flatten() {
        match (name.as_str(), value) {
            ("<<", Value::Array(merged)) => merged.iter().for_each(|merged| add_variables(merged, variables)),
            ("<<", merged) => add_variables(merged, variables),
            (name, value) => {
                variables.insert(name, value);
            }
        }
    }
}

/// Returns the names that an expression refers to, by `Ref` or `Fn::GetAtt`.
fn references(expression: &Value) -> BTreeSet<&str> {
    match expression {
        Value::Array(items) => items.iter().flat_map(references).collect(),
        Value::Object(members) => members
            .iter()
            .flat_map(|(function, argument)| match function.as_str() {
                "Ref" => argument.as_str().into_iter().collect(),
                "Fn::GetAtt" => argument[0].as_str().into_iter().collect(),
                _ => references(argument),
            })
            .collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => BTreeSet::new(),
    }
}

/// A flag of `headrace`. Commands with the same flag and the same help share one.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Flag {
    name: String,
    /// The name with the name of its value, as `--help` shows it.
    usage: String,
    variable: Option<String>,
    default: String,
    accepted: Option<String>,
    help: String,
}

/// Returns the flags that are settings, with the commands that have them: each flag of `serve`, and each flag of another command
/// that can be set by a variable.
fn flags() -> Vec<(Flag, Vec<String>)> {
    let command = Cli::command();
    let mut flags = Vec::new();
    add_flags(&command, None, &mut flags);
    flags
}

fn add_flags(command: &Command, name: Option<&str>, flags: &mut Vec<(Flag, Vec<String>)>) {
    for arg in command.get_arguments().filter(|arg| name == Some("serve") || arg.get_env().is_some()) {
        let Some(flag) = read_flag(arg, name) else { continue };
        let command = name.unwrap_or("all").to_owned();
        match flags.iter_mut().find(|(known, _)| (&known.name, &known.help) == (&flag.name, &flag.help)) {
            Some((_, commands)) if commands.contains(&command) => {}
            Some((_, commands)) => commands.push(command),
            None => flags.push((flag, vec![command])),
        }
    }
    // `headrace clients add` and its siblings count as `clients`.
    command.get_subcommands().for_each(|subcommand| add_flags(subcommand, name.or(Some(subcommand.get_name())), flags));
}

/// Reads an argument with a long name. Returns `None` for other arguments.
fn read_flag(arg: &Arg, command: Option<&str>) -> Option<Flag> {
    let name = format!("--{}", arg.get_long()?);
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let is_switch = matches!(arg.get_action(), ArgAction::SetTrue);
    let defaults: Vec<String> = arg.get_default_values().iter().map(|value| code(&value.to_string_lossy())).collect();
    let (help, default) = match help.strip_suffix(']').and_then(|help| help.split_once(" [default: ")) {
        Some((help, default)) => (help.to_owned(), plain(default)),
        None if is_switch => (help, "off".to_owned()),
        None if defaults.is_empty() => (help, "none".to_owned()),
        None => (help, defaults.join(", ")),
    };
    let possible: Vec<String> = arg.get_possible_values().iter().map(|value| code(value.get_name())).collect();
    let accepted = match (is_switch, possible.is_empty()) {
        (true, _) if arg.get_env().is_some() => Some("on or off; in the variable `true` or `false`".to_owned()),
        (true, _) => Some("on or off".to_owned()),
        (false, false) => Some(possible.join(", ")),
        (false, true) => accepted_by_flag(&name, command),
    };
    let value_name = arg.get_value_names().into_iter().flatten().next().filter(|_| !is_switch);
    let usage = value_name.map_or_else(|| name.clone(), |value| format!("{name} {value}"));
    Some(Flag { name, usage, variable: arg.get_env().map(|name| name.to_string_lossy().into_owned()), default, accepted, help })
}

/// Returns the values that a flag accepts, from the errors for invalid ones. `None` if every text is accepted.
fn accepted_by_flag(flag: &str, command: Option<&str>) -> Option<String> {
    let arguments: &[&str] = if command == Some("export") { &["lake", "out"] } else { &["lake"] };
    let mut accepted = None;
    for value in INVALID_FLAG_VALUES {
        let value = format!("{flag}={value}");
        let line = ["headrace", command?].into_iter().chain(arguments.iter().copied()).chain([value.as_str()]);
        let Some(text) = Cli::try_parse_from(line).err().and_then(|error| Some(error.source()?.to_string())) else { continue };
        if let Some(bounds) = text.strip_prefix("write a whole number from ") {
            accepted = Some(bounds.to_owned());
        } else if text == "invalid IP address syntax" {
            accepted = Some("an IP address".to_owned());
        }
    }
    accepted
}

/// Formats a value as code. Nothing is "empty".
fn code(text: &str) -> String {
    if text.is_empty() { "empty".to_owned() } else { format!("`{text}`") }
}

/// Escapes a text for Markdown, except within backticks.
fn plain(text: &str) -> String {
    let pieces = text.split('`').enumerate().map(|(index, piece)| match index % 2 {
        0 => piece.replace('<', "\\<").replace('*', "\\*"),
        _ => piece.to_owned(),
    });
    pieces.collect::<Vec<_>>().join("`")
}

/// Formats a row of a table.
fn row(cells: &[&str]) -> String {
    format!("| {} |\n", cells.join(" | ").replace('\n', " "))
}

fn heading(cells: &[&str]) -> String {
    format!("{}|{}\n", row(cells), "---|".repeat(cells.len()))
}

/// Joins names as code. Without a name: a dash.
fn names<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<String> = names.into_iter().map(code).collect();
    if names.is_empty() { "–".to_owned() } else { names.join(", ") }
}

/// Returns the section between the markers: the template's parameters, the flags of `headrace`, the variables.
fn section() -> Result<String> {
    let (template, readers, flags) = (Template::read()?, readers()?, flags());
    let variables = template.variables()?;
    let parameters = template.section("Parameters")?;
    let mut accepted = BTreeMap::new();
    for (setting, functions) in &readers {
        accepted.insert(setting.as_str(), accepted_values(*setting, functions)?.map(|text| plain(&text)));
    }
    let accepted_by = |variable: &str| accepted.get(variable).cloned().flatten();

    let mut text = String::from("\n### Template parameters\n\n`sam deploy --guided` asks for all of them.\n");
    for (label, members) in template.groups()? {
        write!(text, "\n**{label}**\n\n{}", heading(&["parameter", "default", "accepted values", "meaning", "variable"]))?;
        for name in members {
            let parameter = &parameters[name];
            let set = variables.iter().filter(|(_, value)| references(value).contains(name)).map(|(variable, _)| *variable);
            let set: Vec<&str> = set.collect();
            let accepted = template.accepted_values(parameter).or_else(|| set.iter().find_map(|variable| accepted_by(variable)));
            let default = template.default(name).map_or_else(|| "required".to_owned(), code);
            let description = plain(parameter["Description"].as_str().ok_or_else(|| format!("{name} has no description"))?);
            let accepted = accepted.unwrap_or_else(|| "any text".to_owned());
            text += &row(&[&code(name), &default, &accepted, &description, &names(set)]);
        }
    }

    text += "\n### Flags of `headrace`\n\nAll flags of `headrace serve`, and those of other commands that have a variable. `headrace COMMAND --help` lists all \
             flags of a command.\n\n";
    text += &heading(&["flag", "commands", "default", "accepted values", "meaning", "variable"]);
    for (flag, commands) in &flags {
        let accepted = flag.accepted.clone().or_else(|| accepted_by(flag.variable.as_deref()?));
        let accepted = accepted.unwrap_or_else(|| "any text".to_owned());
        let commands = if commands == &["all"] { "all".to_owned() } else { names(commands.iter().map(String::as_str)) };
        text += &row(&[&code(&flag.usage), &commands, &flag.default, &accepted, &plain(&flag.help), &names(flag.variable.as_deref())]);
    }

    text += "\n### Variables of the functions\n\nThe template sets them from its parameters or its resources.\n\n";
    text += &heading(&["variable", "meaning", "read by", "accepted values", "set from", "`headrace` flag"]);
    let docs = setting_docs()?;
    for (setting, functions) in &readers {
        let variable = setting.as_str();
        let source = match variables.get(variable).map(|value| references(value)) {
            Some(used) if used.iter().any(|name| parameters.contains_key(*name)) => {
                names(used.into_iter().filter(|name| parameters.contains_key(*name)))
            }
            Some(used) => format!("the stack's {}", names(used)),
            None if SET_BY_LAMBDA.contains(&variable) => "Lambda".to_owned(),
            None => return Err(format!("the template does not set {variable}").into()),
        };
        let values = [requirement(*setting, functions)?.map(str::to_owned), accepted_by(variable)];
        let values = values.into_iter().flatten().collect::<Vec<_>>().join("; ");
        let values = if values.is_empty() { "any text".to_owned() } else { values };
        let flag = flags.iter().find(|(flag, _)| flag.variable.as_deref() == Some(variable)).map(|(flag, _)| flag.name.as_str());
        let doc = plain(docs.get(variable).ok_or_else(|| format!("{variable} has no doc comment"))?);
        text += &row(&[&code(variable), &doc, &format_readers(functions), &values, &source, &names(flag)]);
    }
    Ok(text + "\n")
}

/// Returns the page before, between and after the markers.
fn split_page(page: &str) -> Result<(&str, &str, &str)> {
    let (before, rest) = page.split_once(BEGIN).ok_or_else(|| format!("{PAGE} has no {BEGIN}"))?;
    let (between, after) = rest.split_once(END).ok_or_else(|| format!("{PAGE} has no {END}"))?;
    Ok((before, between, after))
}

#[test]
fn the_settings_in_the_operations_page_are_those_of_the_code() -> Result<()> {
    let page = fs::read_to_string(root().join(PAGE))?;
    let (_, written, _) = split_page(&page)?;
    assert_eq!(written, section()?, "run `cargo test -p headrace-tests --test settings_table -- --ignored`");
    Ok(())
}

#[test]
fn each_parameter_of_the_template_belongs_to_one_group() -> Result<()> {
    let template = Template::read()?;
    let mut grouped: Vec<&str> = template.groups()?.into_iter().flat_map(|(_, members)| members).collect();
    grouped.sort_unstable();
    assert_eq!(
        grouped,
        template.section("Parameters")?.keys().map(String::as_str).collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>()
    );
    Ok(())
}

#[test]
fn each_declared_setting_is_read_by_a_function() -> Result<()> {
    let declared: BTreeSet<String> = setting_docs()?.into_keys().collect();
    assert_eq!(declared, readers()?.into_keys().map(|setting| setting.as_str().to_owned()).collect());
    Ok(())
}

#[test]
fn the_defaults_of_the_template_are_those_of_the_functions() -> Result<()> {
    let template = Template::read()?;
    let environments = template.environments()?;
    assert!(environments.keys().copied().eq(FUNCTIONS.into_iter().collect::<BTreeSet<_>>()));
    for (function, variables) in environments {
        let without_optional = RecordingSettings::complete().with(Setting::Access, "smart");
        let mut values = without_optional.values.clone();
        let defaults = variables.iter().filter_map(|(name, value)| Some(((*name).to_owned(), template.default_value(value)?.to_owned())));
        values.extend(defaults.filter(|(_, default)| !default.is_empty()));
        let by_template = read_config(function, &RecordingSettings::new(values))??;
        assert_eq!(by_template, read_config(function, &without_optional)??, "{function}");
    }
    Ok(())
}

#[test]
#[ignore = "writes docs/operations.md"]
fn regenerate_the_settings_table() -> Result<()> {
    let path = root().join(PAGE);
    let page = fs::read_to_string(&path)?;
    let (before, _, after) = split_page(&page)?;
    Ok(fs::write(path, format!("{before}{BEGIN}{}{END}{after}", section()?))?)
}
