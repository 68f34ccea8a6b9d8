//! The job table of a single export: in memory for a lake of up to 10,000 files and folders, else in a file. Users rely on the same export on
//! both sides, and on nothing that stays behind.

use std::fs;
use std::path::{Path, PathBuf};

use headrace_local::server::service::{ServerAccess, Service};
use headrace_tests::flows::{Result, run, server_config};

use crate::entries::entry_names;
use crate::process::headrace;

/// Number of files and folders of a lake, its own folder among them, up to which the table is in memory.
const LARGEST_IN_MEMORY: usize = 10_000;

/// Creates a lake of as many files and folders, its own folder among them. Each file has a patient. Folders that are not read do not count.
fn lake_of(parent: &Path, entries: usize) -> Result<PathBuf> {
    let lake = parent.join("lake");
    fs::create_dir_all(lake.join(".git"))?;
    for n in 0..5 {
        fs::write(lake.join(format!(".git/{n}.ndjson")), "not read")?;
    }
    fs::create_dir(lake.join("folder"))?;
    for n in 2..entries {
        let folder = if n % 2 == 0 { "folder/" } else { "" };
        fs::write(lake.join(format!("{folder}{n}.ndjson")), format!("{{\"resourceType\":\"Patient\",\"id\":\"{n}\"}}\n"))?;
    }
    Ok(lake)
}

#[test]
fn the_table_is_in_memory_exactly_up_to_the_largest_number_of_files() -> Result<()> {
    for (entries, is_in_memory) in [(LARGEST_IN_MEMORY, true), (LARGEST_IN_MEMORY + 1, false)] {
        run(async || {
            let folder = tempfile::tempdir()?;
            let (lake, state) = (lake_of(folder.path(), entries)?, folder.path().join("state"));
            fs::create_dir(&state)?;
            let config = server_config(&lake, &state, ServerAccess::None);
            let service = Service::start_shown_as(config, &folder.path().join("out")).await?;
            assert_eq!(!state.join("jobs.db").exists(), is_in_memory, "{entries} files and folders");
            service.stop().await;
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn a_server_that_continues_its_exports_has_its_table_in_a_file_for_any_lake() -> Result<()> {
    run(async || {
        let folder = tempfile::tempdir()?;
        let (lake, state) = (lake_of(folder.path(), 10)?, folder.path().join("state"));
        fs::create_dir(&state)?;
        let service = Service::start(server_config(&lake, &state, ServerAccess::None)).await?;
        assert!(state.join("jobs.db").is_file());
        service.stop().await;
        Ok(())
    })
}

#[test]
fn a_single_export_is_the_same_on_both_sides_of_the_boundary_and_leaves_no_state() -> Result<()> {
    let mut left = Vec::new();
    for entries in [LARGEST_IN_MEMORY, LARGEST_IN_MEMORY + 1] {
        let folder = tempfile::tempdir()?;
        let (lake, out) = (lake_of(folder.path(), entries)?, folder.path().join("out"));
        let output = headrace(&["export"]).arg(&lake).arg(&out).output()?;
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        let text = fs::read_to_string(out.join("Patient-1.ndjson"))?;
        let mut lines: Vec<&str> = text.lines().collect();
        lines.sort_unstable();
        let mut expected: Vec<String> = (2..entries).map(|n| format!("{{\"resourceType\":\"Patient\",\"id\":\"{n}\"}}")).collect();
        expected.sort_unstable();
        assert!(lines == expected, "{} of {} lines", lines.len(), expected.len());
        left.push((entry_names(&out)?, entry_names(folder.path())?));
    }
    assert!(left.windows(2).all(|both| both[0] == both[1]), "{left:?}");
    assert!(left.iter().all(|(out, beside)| !out.iter().any(|name| name.starts_with('.')) && *beside == ["lake", "out"]), "{left:?}");
    Ok(())
}
