use headrace_core::job::Quotas;
use headrace_core::vocab::lake_settings::LakeWatermark;

use super::*;

/// Parses the arguments of `headrace export`.
fn export_options(arguments: &[&str]) -> Result<ExportOptions, clap::Error> {
    let line = ["headrace", "export", "lake", "out"].iter().chain(arguments);
    let Command::Export(args) = Cli::try_parse_from(line)?.command else { panic!("another command: {arguments:?}") };
    Ok(args.options)
}

#[test]
fn a_missing_argument_is_named_with_its_alternative() {
    for (arguments, alternative) in [(["audit", "verify"], "--state"), (["events", "replay"], "--all")] {
        let error = Cli::try_parse_from(["headrace"].iter().chain(&arguments)).unwrap_err().to_string();
        assert!(error.contains(alternative), "{error}");
    }
    assert_eq!(export_options(&["--organize-by=Patient"]).unwrap().parameters(), [("organizeOutputBy", "Patient".to_owned())]);
}

#[test]
fn the_number_of_workers_has_bounds() {
    for (count, is_valid) in [("1", true), ("1000", true), ("0", false), ("1001", false), ("99999999999", false), ("x", false)] {
        let arguments = ["headrace", "export", "lake", "out", "--workers", count];
        assert_eq!(Cli::try_parse_from(arguments).is_ok(), is_valid, "{count}");
    }
}

#[test]
fn a_number_outside_its_bounds_is_rejected_with_the_bounds() {
    for (arguments, bounds) in [
        (&["export", "lake", "out", "--file-size-mb=0"][..], "write a whole number from 1 to 1000"),
        (&["serve", "lake", "--port=99999"], "write a whole number from 0 to 65535"),
        (&["sync", "https://h/fhir", "lake", "--lag-seconds=-1"], "write a whole number from 0 to 86400"),
        (&["jobs", "list", "--limit=many"], "write a whole number from 1 to 100000"),
    ] {
        let error = Cli::try_parse_from(["headrace"].iter().chain(arguments)).unwrap_err().to_string();
        assert!(error.contains(bounds), "{error}");
    }
}

#[test]
fn options_that_would_have_no_effect_are_refused_by_name() {
    for (arguments, name) in [
        (&["https://h/fhir", "out", "--file-size-mb", "1"][..], "--file-size-mb"),
        (&["https://h/fhir", "out", "--workers=1", "--trust-object-names"], "--trust-object-names, --workers"),
        (&["lake", "out", "--token=x"], "--token"),
        (&["lake", "out", "--client-id=x", "--client-key=y"], "--client-id, --client-key"),
        (&["lake", "out", "--max-wait-hours=3"], "--max-wait-hours"),
        (&["--resume", "out", "--type=Patient"], "--type"),
        (&["--resume", "out", "--level=patient"], "--level"),
        (&["--resume", "out", "--workers=1"], "--workers"),
        (&["lake", "out", "--deid-keys=night.keys"], "--deid-keys"),
        (&["lake", "out", "--accept-remarks=no-effect:1"], "--accept-remarks"),
        (&["https://h/fhir", "out", "--by-sync", "--deid-keys=night.keys"], "--deid-keys"),
        (&["lake", "out", "--retention-hours=3", "--max-exports-per-client=1"], "--retention-hours, --max-exports-per-client"),
        (&["lake", "out", "--queue-when-full", "--max-concurrent-exports=1"], "--max-concurrent-exports, --queue-when-full"),
        (&["lake", "out", "--base-url=https://h/r4", "--containers=a"], "--containers, --base-url"),
        (&["lake", "out", "--folder-layouts=a=b"], "--folder-layouts"),
        (&["lake", "out", "--container=a"], "--container"),
        (&["https://h/fhir", "out", "--by-sync", "--container=a"], "--container"),
        (&["https://h/fhir", "out", "--by-sync", "--retention-hours=3"], "--retention-hours"),
        (&["https://h/fhir", "out", "--by-sync", "--max-wait-hours=3"], "--max-wait-hours"),
        (&["https://h/fhir", "out", "--by-sync", "--reconcile"], "--reconcile"),
        (&["https://h/fhir", "out", "--reconcile"], "--reconcile"),
    ] {
        let error = Cli::try_parse_arguments([&["headrace", "export"], arguments].concat()).unwrap_err().to_string();
        assert!(error.contains(&format!("{name} would have no effect")), "{error}");
        assert!(error.contains("Usage: headrace export"), "the usage is that of the command: {error}");
    }
    for arguments in [
        &["https://h/fhir", "out", "--token=x", "--type=Patient"][..],
        &["lake", "out", "--workers=1", "--type=Patient"],
        &["--resume", "out", "--token=x", "--max-wait-hours=3"],
        &["lake", "out", "--deid-keys=night.keys", "--accept-remarks=no-effect:1", "--anonymization-config=night.json"],
        &["https://h/fhir", "out", "--by-sync", "--deid-keys=night.keys", "--anonymization-config=night.json", "--file-size-mb=1"],
        &["https://h/fhir", "out", "--container=a", "--anonymization-config=night.json"],
    ] {
        assert!(Cli::try_parse_arguments([&["headrace", "export"], arguments].concat()).is_ok(), "{arguments:?}");
    }
    for arguments in [
        &["--resume", "out", "lake", "other"][..],
        &["lake"],
        &["--resume", "out", "--overwrite"],
        &["lake", "out", "--since-file=last", "--since=2026-01-01"],
        &["lake", "out", "--since-file=last", "--until=2026-01-01"],
        &[],
    ] {
        assert!(Cli::try_parse_arguments([&["headrace", "export"], arguments].concat()).is_err(), "{arguments:?}");
    }
}

#[test]
fn the_help_of_export_groups_its_options() {
    let mut command = Cli::command();
    let help = command.find_subcommand_mut("export").unwrap().render_long_help().to_string();
    let position = |text: &str| help.find(text).unwrap_or_else(|| panic!("{text} is not in the help"));
    let headings = ["What is exported:", "Access to a FHIR server (SOURCE is a URL):", "Export of a directory (SOURCE is a directory):"];
    let [what, access, directory] = headings.map(position);
    assert!(what < position("--type <") && position("--type <") < access);
    assert!(access < position("--client-id") && position("--client-id") < directory);
    assert!(directory < position("--file-size-mb"));
    assert!(position("--resume <OUT>") < what);
    for option in ["--retention-hours", "--containers", "--base-url", "--folder-layouts", "--max-exports-per-client", "--queue-when-full"] {
        assert!(!help.contains(option), "no export accepts {option}");
    }
    assert!(!help.contains("--deid-keys-json"), "keys are not given on the command line");
}

#[test]
fn the_help_of_each_command_has_examples_and_the_exit_statuses() {
    let mut problems = Vec::new();
    let mut commands = vec![("headrace".to_owned(), Cli::command())];
    while let Some((name, mut command)) = commands.pop() {
        commands.extend(command.get_subcommands().map(|sub| (format!("{name} {}", sub.get_name()), sub.clone())));
        // `headrace clients` and the like do nothing themselves.
        if command.has_subcommands() {
            continue;
        }
        let help = command.render_long_help().to_string();
        if !help.contains("Examples:\n") || !help.contains("Exit status:") {
            problems.push(format!("{name} has no examples or exit statuses"));
        }
    }
    assert!(problems.is_empty(), "{problems:#?}");
}

#[test]
fn each_level_has_its_operation_path() {
    for (level, path) in [
        ("system", "$export"),
        ("patient", "Patient/$export"),
        ("patient:p-1", "Patient/p%2D1/$export"),
        ("group:a/../b", "Group/a%2F%2E%2E%2Fb/$export"),
    ] {
        assert_eq!(export_options(&["--level", level]).unwrap().path(), path);
    }
    for level in ["patients", "group", "group:", "patient:", "Group:1", ""] {
        assert!(export_options(&["--level", level]).is_err(), "{level}");
    }
}

#[test]
fn options_become_bulk_data_parameters() {
    let options = export_options(&[
        "--type=Patient,Observation",
        "--type-filter=Observation?category=laboratory",
        "--type-filter=Observation?category=vital-signs",
        "--elements=id",
        "--since=2026-01-01",
        "--until=2026-02-01",
        "--include-associated-data=_deleted",
        "--organize-by=patient",
    ]);
    let parameters: Vec<String> = options.unwrap().parameters().into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(
        parameters,
        [
            "_type=Patient,Observation",
            "_elements=id",
            "_since=2026-01-01",
            "_until=2026-02-01",
            "includeAssociatedData=_deleted",
            "organizeOutputBy=Patient",
            "_typeFilter=Observation?category=laboratory",
            "_typeFilter=Observation?category=vital-signs",
        ]
    );
}

#[test]
fn an_invalid_value_is_reported_by_the_option_that_was_typed() {
    let service_options = |arguments: &[&str]| {
        let cli = Cli::try_parse_from(["headrace", "serve", "lake"].iter().chain(arguments)).unwrap();
        let Command::Serve(args) = cli.command else { panic!("another command: {arguments:?}") };
        args.service
    };
    for (argument, option) in [
        ("--fhir-version=6", "--fhir-version is `6`: "),
        ("--folder-layouts=x", "--folder-layouts "),
        ("--accept-remarks=everything", "--accept-remarks "),
        ("--source-base-urls=here", "--source-base-urls is `here`: "),
        ("--base-url=here", "--base-url is `here`: "),
        ("--containers=UP", "--containers names `UP`: "),
    ] {
        let error = service_options(&[argument]).settings().unwrap_err().to_string();
        assert!(error.starts_with(option), "{argument}: {error}");
    }
    for rule in ["later", "15", "P1M", "pt15m", "P367D", "PT99999999H", "P999999999W", "PT9999999999H"] {
        let options = service_options(&[&format!("--lake-watermark={rule}")]);
        let expected = format!("--lake-watermark is `{rule}`: ");
        assert!(options.settings().unwrap_err().to_string().starts_with(&expected), "{rule}");
        assert!(options.lake_settings().unwrap_err().to_string().starts_with(&expected), "{rule}");
    }
    let options = service_options(&["--lake-watermark=PT15M"]);
    let watermark = LakeWatermark::Lag(std::time::Duration::from_secs(900));
    assert_eq!((options.settings().unwrap().watermark, options.lake_settings().unwrap().watermark), (watermark, watermark));
    let error = service_options(&["--lake-versions=two"]).lake_settings().unwrap_err().to_string();
    assert!(error.starts_with("--lake-versions is `two`: "), "{error}");
    let quotas = service_options(&["--max-exports-per-client=2", "--queue-when-full"]).settings().unwrap().quotas;
    assert_eq!(quotas, Quotas { per_caller: Some(2), global: None, queue_when_full: true });
}
