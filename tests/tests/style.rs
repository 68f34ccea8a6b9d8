//! What a machine can hold of the project's style: the first words of doc comments, names of types and modules, and the order in
//! which the folders of a crate may import each other.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::{fs, io};

use headrace_tests::workspace;

/// Words that begin a doc comment neither of a function nor of anything else: a reader must read on to learn what they refer to.
const UNCLEAR_FIRST_WORDS: &[&str] = &[
    "What",
    "Whether",
    "How",
    "Whose",
    "Where",
    "When",
    "Why",
    "Which",
    "Who",
    "Whom",
    "Its",
    "Their",
    "His",
    "Those",
    "These",
    "This",
    "That",
    "They",
    "It",
    "He",
    "She",
    "So",
    "As",
    "Such",
    "Somebody",
    "Something",
    "Nobody",
    "Nothing",
    "Everything",
    "Whoever",
];

/// Plurals that are often taken for the verb that a function's doc comment begins with.
const PLURAL_NOUNS: &[&str] = &[
    "Answers",
    "Bytes",
    "Clients",
    "Dates",
    "Days",
    "Elements",
    "Errors",
    "Events",
    "Files",
    "Groups",
    "Headers",
    "Ids",
    "Items",
    "Jobs",
    "Keys",
    "Levels",
    "Lines",
    "Members",
    "Messages",
    "Parameters",
    "Parts",
    "Patients",
    "References",
    "Resources",
    "Rules",
    "Seconds",
    "Settings",
    "Slices",
    "Tasks",
    "Tests",
    "Tokens",
    "Types",
    "Units",
    "Urls",
    "Values",
    "Versions",
    "Words",
];

/// Verbs that are not plurals of nouns. The doc comment of a function may begin with them, that of a type may not.
const VERBS: &[&str] = &[
    "Accepts",
    "Assigns",
    "Authenticates",
    "Collects",
    "Computes",
    "Decodes",
    "Deserializes",
    "Encrypts",
    "Fetches",
    "Finds",
    "Gives",
    "Holds",
    "Iterates",
    "Keeps",
    "Parses",
    "Receives",
    "Resolves",
    "Returns",
    "Runs",
    "Serves",
    "Signs",
    "Splits",
    "Starts",
    "Verifies",
];

/// Names that say nothing of a type or a module, whatever it is.
const VAGUE_NAMES: &[&str] = &[
    "Bench", "Book", "Deed", "Fate", "Given", "Kind", "Link", "Met", "Place", "Roster", "Shelf", "Standing", "Taken", "Told", "Visitor",
    "Ways", "Who", "Why", "Works", "bench", "book", "fate", "given", "glance", "met", "misc", "peek", "roster", "shelf", "skim", "taken",
    "told", "util", "utils",
];

/// Folders of a crate in the order of imports: each imports only from folders before it.
const FOLDER_ORDER: &[(&str, &[&str])] = &[
    (
        "shared/core",
        &[
            "vocab", "access", "schedule", "request", "job", "output", "audit", "events", "ports", "lake", "versions", "cohort",
            "patients", "lines", "flow",
        ],
    ),
    ("shared/fhir", &["instant", "json", "bundle", "definitions", "head", "semantics", "search", "deid"]),
    ("shared/lake", &["pool", "progress", "sorting", "reading", "writing", "check", "compact", "add"]),
    ("shared/local", &["terminal", "stores", "cli", "server", "client", "commands", "program"]),
];

/// Returns the Rust files below these folders of the repository, and their contents.
fn rust_files(folders: &[&str]) -> io::Result<Vec<(PathBuf, String)>> {
    workspace::files(folders, &["rs"])?.into_iter().map(|path| Ok((path.clone(), fs::read_to_string(path)?))).collect()
}

/// Returns the Rust files of all crates.
fn all_files() -> io::Result<Vec<(PathBuf, String)>> {
    let files = rust_files(&["shared", "functions", "tests/src", "tests/tests", "tests/benches"])?;
    assert!(files.len() > 300, "only {} files found", files.len());
    Ok(files)
}

/// The first line of a doc comment and the item that it documents.
struct Documented<'a> {
    line: usize,
    first_word: &'a str,
    item: &'a str,
}

impl Documented<'_> {
    fn is_function(&self) -> bool {
        without_visibility(self.item).trim_start_matches("const ").trim_start_matches("async ").starts_with("fn ")
    }

    fn is_type(&self) -> bool {
        ["struct ", "enum ", "trait ", "type "].iter().any(|keyword| without_visibility(self.item).starts_with(keyword))
    }
}

/// Returns the declaration of an item without its visibility.
fn without_visibility(item: &str) -> &str {
    item.trim_start_matches("pub ").trim_start_matches("pub(crate) ").trim_start_matches("pub(super) ")
}

/// Finds the doc comments (`///`) of a file.
fn documented(text: &str) -> Vec<Documented<'_>> {
    let lines: Vec<&str> = text.lines().map(str::trim_start).collect();
    let is_doc = |line: &&str| line.starts_with("///");
    let mut found = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let continues = index.checked_sub(1).and_then(|before| lines.get(before)).is_some_and(is_doc);
        let Some(first) = line.strip_prefix("///").filter(|_| !continues) else { continue };
        let after = lines.iter().skip(index).find(|line| !line.starts_with("//") && !line.starts_with("#["));
        let first_word = first.trim_start().split(|letter: char| !letter.is_ascii_alphabetic()).next().unwrap_or_default();
        found.push(Documented { line: index + 1, first_word, item: after.copied().unwrap_or_default() });
    }
    found
}

/// Returns true if a word looks like a verb in the third person: "Returns", "Parses".
fn is_third_person(word: &str) -> bool {
    let mut letters = word.chars();
    letters.next().is_some_and(|first| first.is_ascii_uppercase())
        && letters.all(|letter| letter.is_ascii_lowercase())
        && word.ends_with('s')
        && !PLURAL_NOUNS.contains(&word)
}

#[test]
fn doc_comments_begin_with_a_verb_or_a_noun() -> io::Result<()> {
    let mut wrong = Vec::new();
    let mut functions = 0;
    for (path, text) in all_files()? {
        for doc in documented(&text) {
            functions += usize::from(doc.is_function());
            let unclear = UNCLEAR_FIRST_WORDS.contains(&doc.first_word) || doc.is_type() && VERBS.contains(&doc.first_word);
            if unclear || doc.is_function() && !is_third_person(doc.first_word) {
                wrong.push(format!("{}:{}: `{}` before `{}`", path.display(), doc.line, doc.first_word, doc.item));
            }
        }
    }
    assert!(functions > 1500, "only {functions} documented functions found");
    assert!(
        wrong.is_empty(),
        "a function's doc comment begins with a verb (Returns, Parses), that of a type with a noun:\n{}",
        wrong.join("\n")
    );
    Ok(())
}

#[test]
fn types_and_modules_have_names_that_say_what_they_are() -> io::Result<()> {
    let mut wrong = Vec::new();
    for (path, text) in all_files()? {
        for line in text.lines().map(str::trim_start) {
            let Some((keyword, rest)) = without_visibility(line).split_once(' ') else { continue };
            let name = rest.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_').next().unwrap_or_default();
            if ["struct", "enum", "trait", "type", "mod"].contains(&keyword) && VAGUE_NAMES.contains(&name) {
                wrong.push(format!("{}: {keyword} {name}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "names that say nothing:\n{}", wrong.join("\n"));
    Ok(())
}

/// Returns the names that follow `crate::` in a line of code, also within braces: `use crate::{access::Key, job::Job}`.
fn imported_folders(line: &str) -> Vec<&str> {
    let mut names = Vec::new();
    for after in line.split("crate::").skip(1) {
        let inner = after.strip_prefix('{').map_or(vec![after], |inner| inner.split(',').collect());
        names.extend(
            inner
                .into_iter()
                .filter_map(|path| path.trim_start().split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_').next()),
        );
    }
    names
}

#[test]
fn folders_of_a_crate_import_one_way() -> io::Result<()> {
    let mut wrong = BTreeSet::new();
    for (name, order) in FOLDER_ORDER {
        let source = workspace::root().join(name).join("src");
        let mut seen = BTreeSet::new();
        for (path, text) in rust_files(&[&format!("{name}/src")])? {
            let inside = path.strip_prefix(&source).map_err(io::Error::other)?;
            let is_test = inside.components().any(|part| part.as_os_str() == "tests" || part.as_os_str() == "tests.rs");
            let first = inside.iter().next().unwrap_or_default().to_string_lossy();
            let folder = first.trim_end_matches(".rs");
            let Some(rank) = order.iter().position(|known| *known == folder).filter(|_| !is_test) else { continue };
            seen.insert(folder.to_owned());
            let code = text.split("#[cfg(test)]\nmod").next().unwrap_or_default();
            for line in code.lines().filter(|line| !line.trim_start().starts_with("//")) {
                for imported in imported_folders(line) {
                    if order.iter().position(|known| *known == imported).is_some_and(|other| other > rank) {
                        wrong.insert(format!("{name}: {} imports {imported}", inside.display()));
                    }
                }
            }
        }
        assert_eq!(seen.len(), order.len(), "{name} has the folders {seen:?}, not {order:?}");
    }
    assert!(wrong.is_empty(), "imports against the order of folders:\n{}", wrong.into_iter().collect::<Vec<_>>().join("\n"));
    Ok(())
}
