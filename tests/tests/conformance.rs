//! Checks `docs/conformance.md`, the table of requirements and their tests, and the tests named in the threat model.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use headrace_tests::workspace::{self, root};

type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// Line of `tests/conformance/rows.txt`.
enum ConformanceRow {
    Section(String),
    Requirement { id: String, text: String, reason: Option<String> },
}

/// Test and its file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Test {
    name: String,
    path: String,
}

/// Reads `tests/conformance/rows.txt`.
fn rows() -> Result<Vec<ConformanceRow>> {
    let text = fs::read_to_string(root().join("tests/conformance/rows.txt"))?;
    let rows = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(|line| {
        if let Some(title) = line.strip_prefix("== ") {
            return Ok(ConformanceRow::Section(title.to_owned()));
        }
        let mut pieces = line.split(" | ").map(str::to_owned);
        let (Some(id), Some(text), reason) = (pieces.next(), pieces.next(), pieces.next()) else {
            return Err(format!("a row has no text: {line}").into());
        };
        Ok(ConformanceRow::Requirement { id, text, reason })
    });
    rows.collect()
}

/// Collects the tests of each requirement from the comments `// Holds: …` in the sources and CI scripts. The comment belongs to the next
/// function or, without one, to the script.
fn held_requirements() -> Result<BTreeMap<String, Vec<Test>>> {
    let mut found = BTreeMap::<String, Vec<Test>>::new();
    for path in workspace::files(&["functions", "shared", "tests", ".ci"], &["rs", "py", "sh", "mjs"])? {
        read_held_requirements(&path, &mut found)?;
    }
    found.values_mut().for_each(|tests| tests.sort());
    Ok(found)
}

fn read_held_requirements(path: &Path, found: &mut BTreeMap<String, Vec<Test>>) -> Result<()> {
    let text = fs::read_to_string(path)?;
    let below = path.strip_prefix(root())?.to_str().ok_or("a path is not UTF-8")?.replace('\\', "/");
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    for (number, line) in lines.iter().enumerate() {
        let Some(ids) = line.strip_prefix("// Holds: ").or_else(|| line.strip_prefix("# Holds: ")) else { continue };
        let after = lines.iter().skip(number + 1);
        let named = after.take(6).find_map(|line| {
            let rest =
                ["fn ", "async fn ", "pub async fn ", "pub fn ", "def ", "async def "].iter().find_map(|word| line.strip_prefix(word))?;
            rest.split(['(', '<']).next()
        });
        let name = named.map_or_else(|| below.rsplit('/').next().unwrap_or_default().to_owned(), str::to_owned);
        for id in ids.split(", ") {
            found.entry(id.to_owned()).or_default().push(Test { name: name.clone(), path: below.clone() });
        }
    }
    Ok(())
}

/// Generates `docs/conformance.md`.
fn page() -> Result<String> {
    let held_requirements = held_requirements()?;
    let mut page = String::from(
        "# Conformance\n\nThis page lists what HL7 Bulk Data Access, Azure's `$export` and the clients in the field require of a server, and the test that\n\
         verifies each requirement. It is generated from the tests, which name the rows that they verify, and from\n\
         [`tests/conformance/rows.txt`](../tests/conformance/rows.txt).\n",
    );
    for row in rows()? {
        match row {
            ConformanceRow::Section(title) => write!(page, "\n## {title}\n\n| | requirement | verified by |\n|---|---|---|\n")?,
            ConformanceRow::Requirement { id, text, reason } => {
                let tests: Vec<String> =
                    held_requirements.get(&id).into_iter().flatten().map(|test| format!("[`{}`](../{})", test.name, test.path)).collect();
                let held = match (tests.is_empty(), reason) {
                    (false, None) => tests.join("<br>"),
                    (true, Some(reason)) => format!("not verified: {reason}."),
                    (true, None) => return Err(format!("no test verifies {id} ({text}), and no reason is given").into()),
                    (false, Some(_)) => return Err(format!("{id} has a reason why no test verifies it, and a test does").into()),
                };
                writeln!(page, "| {id} | {text} | {held} |")?;
            }
        }
    }
    Ok(page)
}

#[test]
fn every_requirement_has_a_test_or_a_reason() -> Result<()> {
    let known: Vec<String> =
        rows()?.into_iter().filter_map(|row| if let ConformanceRow::Requirement { id, .. } = row { Some(id) } else { None }).collect();
    let unknown: Vec<_> = held_requirements()?.into_keys().filter(|id| !known.contains(id)).collect();
    assert!(unknown.is_empty(), "tests verify requirements that rows.txt does not list: {unknown:?}");
    let committed = fs::read_to_string(root().join("docs/conformance.md"))?;
    assert_eq!(committed, page()?, "run `cargo test -p headrace-tests --test conformance -- --ignored`");
    Ok(())
}

/// Returns the links of a page whose text is the name of a test or program: name and file.
fn tests_named_in(page: &str) -> Vec<(&str, &str)> {
    let links = page.split("[`").skip(1).filter_map(|link| link.split_once("`](../"));
    links.filter_map(|(name, rest)| Some((name, rest.split_once(')')?.0))).collect()
}

#[test]
fn every_test_named_in_the_threat_model_exists() -> Result<()> {
    let page = fs::read_to_string(root().join("docs/security.md"))?;
    let named = tests_named_in(&page);
    assert!(named.len() > 50, "{} tests are named", named.len());
    let mut missing = Vec::new();
    for (name, path) in named {
        let text = fs::read_to_string(root().join(path)).unwrap_or_default();
        let exists = path.ends_with(name) || [format!("fn {name}("), format!("def {name}(")].iter().any(|head| text.contains(head));
        if text.is_empty() || !exists {
            missing.push(format!("{path} has no {name}"));
        }
    }
    assert!(missing.is_empty(), "docs/security.md names tests that do not exist:\n{}", missing.join("\n"));
    Ok(())
}

#[test]
#[ignore = "writes docs/conformance.md"]
fn regenerate_the_table() -> Result<()> {
    Ok(fs::write(root().join("docs/conformance.md"), page()?)?)
}
