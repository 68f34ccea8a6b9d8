mod bundles;
mod export_files;
mod hostile;
mod interrupted;
mod late;
mod later;
mod tables;
mod watermark;

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;
use walkdir::WalkDir;

use super::*;

/// An input and a lake in a temporary folder.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        fs::create_dir(folder.input()).unwrap();
        folder
    }

    fn input(&self) -> PathBuf {
        self.0.path().join("input")
    }

    fn lake(&self) -> PathBuf {
        self.0.path().join("lake")
    }

    /// Writes a file of the input, compressed if its name says so.
    fn write(&self, name: &str, content: &[u8]) {
        let path = self.input().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let bytes = if name.ends_with(".gz") {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(content).unwrap();
            encoder.finish().unwrap()
        } else if name.ends_with(".zst") {
            zstd::bulk::compress(content, 1).unwrap()
        } else {
            content.to_vec()
        };
        fs::write(path, bytes).unwrap();
    }

    fn settings(&self) -> AddSettings {
        AddSettings {
            format: None,
            complete_up_to: None,
            versions: TableVersions::Newest,
            binaries: None,
            tenant: None,
            rewrite: RewriteSettings {
                temp_folder: self.0.path().to_owned(),
                workers: 2,
                sort_bytes: 4_000,
                line_bytes: 10_000,
                now: Millis(1_795_948_200_000), // 2026-11-29T10:30:00Z
                seed: [7; 16],
            },
        }
    }

    /// Returns the settings of an addition 100 seconds later.
    fn later_settings(&self) -> AddSettings {
        let settings = self.settings();
        AddSettings { rewrite: RewriteSettings { now: Millis(1_795_948_300_000), ..settings.rewrite }, ..settings }
    }

    fn add(&self) -> Result<AddReport, AddError> {
        self.add_with(&self.settings())
    }

    fn add_with(&self, settings: &AddSettings) -> Result<AddReport, AddError> {
        add(&self.input(), &self.lake(), settings, &Arc::new(Progress::default()))
    }

    /// Adds a part of the input at a time.
    fn add_part(&self, part: &str, now: u64) -> AddReport {
        let settings = self.settings();
        let settings = AddSettings { rewrite: RewriteSettings { now: Millis(now), ..settings.rewrite.clone() }, ..settings };
        add(&self.input().join(part), &self.lake(), &settings, &Arc::new(Progress::default())).unwrap()
    }

    /// Returns the newest version of each resource, by the rule of exports: the latest `meta.lastUpdated`, and of equal ones the last in
    /// the order of names and lines.
    fn newest(&self) -> BTreeMap<String, Value> {
        let mut newest = BTreeMap::<String, Value>::new();
        for name in self.objects() {
            for line in self.lines_of(&name) {
                let resource: Value = serde_json::from_str(&line).unwrap();
                let time = |resource: &Value| resource["meta"]["lastUpdated"].as_str().unwrap_or_default().to_owned();
                // A Bundle of deletions has no id.
                let Some(id) = resource["id"].as_str() else { continue };
                let key = format!("{}/{id}", resource["resourceType"].as_str().unwrap());
                if newest.get(&key).is_none_or(|before| time(&resource) >= time(before)) {
                    newest.insert(key, resource);
                }
            }
        }
        newest
    }

    /// Returns the lines of an object.
    fn lines_of(&self, name: &str) -> Vec<String> {
        let mut text = String::new();
        let file = fs::File::open(self.lake().join(name)).unwrap();
        zstd::stream::read::Decoder::new(file).unwrap().read_to_string(&mut text).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    /// Returns the names of the objects that exports read.
    fn objects(&self) -> Vec<String> {
        let files = WalkDir::new(self.lake()).into_iter().filter_map(Result::ok).filter(|entry| entry.file_type().is_file());
        let names = files.map(|entry| entry.path().strip_prefix(self.lake()).unwrap().to_str().unwrap().to_owned());
        let mut names: Vec<String> = names.filter(|name| headrace_core::lake::slices::encoding_from_name(name).is_some()).collect();
        names.sort();
        names
    }

    /// Returns the lines that exports read, each with the folder of its object, sorted.
    fn lines(&self) -> Vec<(String, String)> {
        let mut lines = Vec::new();
        for name in self.objects() {
            let folder = Path::new(&name).parent().unwrap().to_str().unwrap();
            lines.extend(self.lines_of(&name).into_iter().map(|line| (folder.to_owned(), line)));
        }
        lines.sort();
        lines
    }

    /// Returns the resources that exports read, sorted. Checks that each is in the folder of its type.
    fn resources(&self) -> Vec<String> {
        let mut resources: Vec<String> = self
            .lines()
            .into_iter()
            .map(|(folder, line)| {
                let resource: Value = serde_json::from_str(&line).unwrap();
                assert_eq!(folder.rsplit('/').next(), resource["resourceType"].as_str(), "{line}");
                resource.to_string()
            })
            .collect();
        resources.sort();
        resources
    }

    /// Returns the watermark object.
    fn watermark(&self) -> Option<Value> {
        fs::read(self.lake().join("_headrace/watermark.json")).ok().map(|bytes| serde_json::from_slice(&bytes).unwrap())
    }
}
