//! Applies the options of `headrace schedules change` to the definition of a schedule.

use clap::ValueEnum as _;
use headrace_core::schedule::{InvalidTiming, ScheduleDefinition, Timing};
use headrace_core::vocab::clock::Millis;

use crate::cli::{ChangeScheduleArgs, ScheduleOption};

use super::SchedulesCommandError;

/// Fails if no option changes anything, or if one is given and unset.
pub(super) fn check_options(change: &ChangeScheduleArgs) -> Result<(), SchedulesCommandError> {
    if let Some(option) = change.unset.iter().find(|option| is_given(change, **option)) {
        let name = option.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        return Err(SchedulesCommandError::GivenAndUnset(name));
    }
    let is_any_given = change.every.is_some() || ScheduleOption::value_variants().iter().any(|option| is_given(change, *option));
    if is_any_given || !change.unset.is_empty() { Ok(()) } else { Err(SchedulesCommandError::NoChange) }
}

/// Returns the definition after a change. What is not named stays as it is.
pub(super) fn changed_definition(
    change: &ChangeScheduleArgs,
    old: &ScheduleDefinition,
    now: Millis,
) -> Result<ScheduleDefinition, InvalidTiming> {
    let is_unset = |option| change.unset.contains(&option);
    let given = change.settings.options.parameters();
    let is_replaced =
        |name: &str| given.iter().any(|(given, _)| *given == name) || change.unset.iter().any(|one| parameter(*one) == Some(name));
    let kept = old.parameters.iter().filter(|(name, _)| !is_replaced(name.as_str())).cloned();
    let parameters = kept.chain(given.iter().map(|(name, value)| ((*name).to_owned(), value.clone()))).collect();
    let level = match &change.settings.options.level {
        Some(level) => level.into(),
        None if is_unset(ScheduleOption::Level) => (&change.settings.options.level()).into(),
        None => old.level.clone(),
    };
    Ok(ScheduleDefinition {
        client: change.settings.client.clone().or_else(|| old.client.clone().filter(|_| !is_unset(ScheduleOption::Client))),
        timing: changed_timing(change, &old.timing, now)?,
        level,
        parameters,
        is_lenient: change.settings.options.lenient || (old.is_lenient && !is_unset(ScheduleOption::Lenient)),
        is_incremental: change.settings.incremental || (old.is_incremental && !is_unset(ScheduleOption::Incremental)),
        keep: change.settings.keep.or(old.keep.filter(|_| !is_unset(ScheduleOption::Keep))),
        created_at: old.created_at,
    })
}

/// Returns the times after a change. The time zone of the old ones stays, unless the new ones are an interval, which has none.
fn changed_timing(change: &ChangeScheduleArgs, old: &Timing, now: Millis) -> Result<Timing, InvalidTiming> {
    let unsets_zone = change.unset.contains(&ScheduleOption::Zone);
    if change.every.is_none() && change.settings.zone.is_none() && !unsets_zone {
        return Ok(old.clone());
    }
    let every = change.every.clone().unwrap_or_else(|| old.every());
    let kept = old.zone().filter(|_| every.trim_start().starts_with("cron(") && !unsets_zone);
    Timing::parse(&every, change.settings.zone.as_deref().or(kept), now)
}

/// Returns true if an option is given.
fn is_given(change: &ChangeScheduleArgs, option: ScheduleOption) -> bool {
    match option {
        ScheduleOption::Zone => change.settings.zone.is_some(),
        ScheduleOption::Client => change.settings.client.is_some(),
        ScheduleOption::Incremental => change.settings.incremental,
        ScheduleOption::Keep => change.settings.keep.is_some(),
        ScheduleOption::Level => change.settings.options.level.is_some(),
        ScheduleOption::Lenient => change.settings.options.lenient,
        ScheduleOption::Type
        | ScheduleOption::TypeFilter
        | ScheduleOption::Elements
        | ScheduleOption::Since
        | ScheduleOption::Until
        | ScheduleOption::IncludeAssociatedData
        | ScheduleOption::OrganizeBy
        | ScheduleOption::OutputFormat
        | ScheduleOption::Container
        | ScheduleOption::AnonymizationConfig => {
            change.settings.options.parameters().iter().any(|(name, _)| parameter(option) == Some(*name))
        }
    }
}

/// Returns the parameter of the kick-off that an option sets. `None` if it is not a parameter.
fn parameter(option: ScheduleOption) -> Option<&'static str> {
    match option {
        ScheduleOption::Type => Some("_type"),
        ScheduleOption::TypeFilter => Some("_typeFilter"),
        ScheduleOption::Elements => Some("_elements"),
        ScheduleOption::Since => Some("_since"),
        ScheduleOption::Until => Some("_until"),
        ScheduleOption::IncludeAssociatedData => Some("includeAssociatedData"),
        ScheduleOption::OrganizeBy => Some("organizeOutputBy"),
        ScheduleOption::OutputFormat => Some("_outputFormat"),
        ScheduleOption::Container => Some("_container"),
        ScheduleOption::AnonymizationConfig => Some("_anonymizationConfig"),
        ScheduleOption::Zone
        | ScheduleOption::Client
        | ScheduleOption::Incremental
        | ScheduleOption::Keep
        | ScheduleOption::Level
        | ScheduleOption::Lenient => None,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use headrace_core::vocab::ids::Caller;
    use headrace_core::vocab::level::Level;

    use super::*;
    use crate::cli::{Cli, Command, SchedulesCommand};

    const NOW: Millis = Millis(1_769_846_400_000);

    /// Parses the arguments of `headrace schedules change nightly`.
    fn parse(arguments: &[&str]) -> Box<ChangeScheduleArgs> {
        let line = ["headrace", "schedules", "change", "nightly"].iter().chain(arguments);
        let Command::Schedules(args) = Cli::try_parse_from(line).unwrap().command else { panic!("another command") };
        let SchedulesCommand::Change(change) = args.command else { panic!("another subcommand") };
        change
    }

    /// Returns a schedule that sets every option.
    fn nightly() -> ScheduleDefinition {
        let parameters = [("_type", "Patient"), ("_typeFilter", "Patient?a=1"), ("_typeFilter", "Patient?b=2"), ("_container", "c")];
        ScheduleDefinition {
            client: Some(Caller("lab".to_owned())),
            timing: Timing::parse("cron(0 2 * * *)", Some("Europe/Berlin"), NOW).unwrap(),
            level: Level::AllPatients,
            parameters: parameters.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
            is_lenient: true,
            is_incremental: true,
            keep: Some(7),
            created_at: Millis(1),
        }
    }

    /// Returns the schedule after a change.
    fn changed(arguments: &[&str]) -> ScheduleDefinition {
        changed_definition(&parse(arguments), &nightly(), NOW).unwrap()
    }

    #[test]
    fn what_a_change_does_not_name_stays() {
        assert_eq!(changed(&[]), nightly());
        assert_eq!(changed(&["--keep", "3"]), ScheduleDefinition { keep: Some(3), ..nightly() });
        assert_eq!(changed(&["--level", "group:7"]), ScheduleDefinition { level: Level::Group("7".to_owned()), ..nightly() });
        let filtered = changed(&["--type-filter", "Patient?c=3"]).parameters;
        let shown: Vec<String> = filtered.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(shown, ["_type=Patient", "_container=c", "_typeFilter=Patient?c=3"]);
    }

    #[test]
    fn the_time_zone_stays_with_another_cron_expression_and_not_with_an_interval() {
        for (arguments, every, zone) in [
            (&["--every", "cron(0 3 * * *)"][..], "cron(0 3 * * *)", Some("Europe/Berlin")),
            (&["--zone", "Asia/Tokyo"], "cron(0 2 * * *)", Some("Asia/Tokyo")),
            (&["--unset", "zone"], "cron(0 2 * * *)", Some("UTC")),
            (&["--every", "PT6H"], "PT6H", None),
        ] {
            let timing = changed(arguments).timing;
            assert_eq!((timing.every().as_str(), timing.zone()), (every, zone), "{arguments:?}");
        }
        let error = changed_definition(&parse(&["--every", "PT6H", "--zone", "UTC"]), &nightly(), NOW).unwrap_err();
        assert_eq!(error, InvalidTiming::IntervalWithZone);
    }

    #[test]
    fn every_option_can_be_unset() {
        let names: Vec<_> = ScheduleOption::value_variants().iter().filter_map(|option| option.to_possible_value()).collect();
        let arguments: Vec<&str> = names.iter().flat_map(|name| ["--unset", name.get_name()]).collect();
        let expected = ScheduleDefinition {
            client: None,
            timing: Timing::parse("cron(0 2 * * *)", None, NOW).unwrap(),
            level: Level::System,
            parameters: Vec::new(),
            is_lenient: false,
            is_incremental: false,
            keep: None,
            created_at: Millis(1),
        };
        assert_eq!(changed(&arguments), expected);
    }

    #[test]
    fn a_change_of_nothing_or_of_an_option_that_is_given_and_unset_is_refused() {
        assert!(matches!(check_options(&parse(&[])), Err(SchedulesCommandError::NoChange)));
        for (arguments, name) in [
            (&["--type", "Patient", "--unset", "type"][..], "type"),
            (&["--keep", "3", "--unset", "keep"], "keep"),
            (&["--level", "patient", "--unset", "container", "--unset", "level"], "level"),
        ] {
            let error = check_options(&parse(arguments)).unwrap_err().to_string();
            assert!(error.starts_with(&format!("--{name} and --unset {name} exclude each other")), "{error}");
        }
        for arguments in [&["--every", "P1D"][..], &["--unset", "keep"], &["--lenient"], &["--elements", "id"]] {
            assert!(check_options(&parse(arguments)).is_ok(), "{arguments:?}");
        }
    }
}
