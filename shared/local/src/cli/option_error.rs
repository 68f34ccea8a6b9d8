//! Errors about values of options, in the words of the command line.

use clap::{Command, CommandFactory as _};
use headrace_core::vocab::setting::Setting;
use headrace_edge::config::{ConfigError, Environment, SettingSource};

use super::{Cli, non_empty};

/// The error for an invalid value of an option. A deployment has the same values as settings, whose names no user of a terminal has typed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name} {problem}")]
pub struct OptionError {
    /// The option, and its variable if that is set.
    name: String,
    /// The problem, and what a valid value looks like.
    problem: String,
}

impl OptionError {
    /// Creates the error for a value, with these variables.
    fn new(error: ConfigError, variables: &impl SettingSource) -> Self {
        let ConfigError { setting, problem } = error;
        let name = option_of(&Cli::command(), setting).map_or_else(|| setting.to_string(), |option| name(&option, setting, variables));
        Self { name, problem }
    }
}

impl From<ConfigError> for OptionError {
    fn from(error: ConfigError) -> Self {
        Self::new(error, &Environment)
    }
}

/// Returns an option with its variable, if that is set: then the value may come from there.
fn name(option: &str, setting: Setting, variables: &impl SettingSource) -> String {
    if variables.get(setting).is_some() { format!("{option} ({setting})") } else { option.to_owned() }
}

/// Returns the option that the variable of a setting sets, too.
fn option_of(command: &Command, setting: Setting) -> Option<String> {
    let sets = |option: &&clap::Arg| option.get_env().is_some_and(|variable| variable == setting.as_str());
    let own = command.get_arguments().find(sets).and_then(|option| Some(format!("--{}", option.get_long()?)));
    own.or_else(|| command.get_subcommands().find_map(|subcommand| option_of(subcommand, setting)))
}

/// Parses the value of an option. Returns `None` if it is not given or empty: an empty environment variable counts as unset.
pub(crate) fn parse_option<T>(
    value: &Option<String>,
    parse: impl FnOnce(&str) -> Result<T, ConfigError>,
) -> Result<Option<T>, OptionError> {
    Ok(non_empty(value).map(parse).transpose()?)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Variables of a test.
    struct Variables(BTreeMap<Setting, &'static str>);

    impl SettingSource for Variables {
        fn get(&self, setting: Setting) -> Option<String> {
            self.0.get(&setting).map(|value| (*value).to_owned())
        }
    }

    #[test]
    fn an_error_names_the_option_and_its_variable_only_if_that_is_set() {
        let error = |setting, variables: &[(Setting, &'static str)]| {
            let variables = Variables(variables.iter().copied().collect());
            OptionError::new(ConfigError { setting, problem: "is `x`".to_owned() }, &variables).to_string()
        };
        for (setting, option) in [
            (Setting::AcceptRemarks, "--accept-remarks"),
            (Setting::BaseUrl, "--base-url"),
            (Setting::Containers, "--containers"),
            (Setting::FhirVersion, "--fhir-version"),
            (Setting::FolderLayouts, "--folder-layouts"),
            (Setting::JwksUrl, "--jwks-url"),
            (Setting::LakeVersions, "--lake-versions"),
            (Setting::LakeWatermark, "--lake-watermark"),
            (Setting::SourceBaseUrls, "--source-base-urls"),
            (Setting::TokenUrl, "--token-url"),
        ] {
            assert_eq!(error(setting, &[]), format!("{option} is `x`"));
        }
        let set = [(Setting::LakeWatermark, "x")];
        assert_eq!(error(Setting::LakeWatermark, &set), "--lake-watermark (HEADRACE_LAKE_WATERMARK) is `x`");
        assert_eq!(error(Setting::Table, &[]), "HEADRACE_TABLE is `x`", "the program has no such option");
    }
}
