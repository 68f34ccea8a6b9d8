//! A lake in a directory for tests of this crate.

use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use bytes::Bytes;
use futures_util::stream;
use headrace_core::job::task::Pin;
use headrace_core::lake::near_misses::NearMisses;
use headrace_core::lake::slices::encoding_from_name;
use headrace_core::ports::{ArchivedObject, ByteStream, ListedObject, MetadataObject, ObjectPage, ResourceSource};
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::error::SourceError;
use walkdir::WalkDir;

/// A lake in a directory. Objects below `archived` are in an archive.
#[derive(Clone, Debug)]
pub(crate) struct TestLake(pub(crate) PathBuf);

impl TestLake {
    /// Returns the names of all files, sorted. Follows links, as exports do.
    pub(crate) fn files(&self) -> Vec<String> {
        let files = WalkDir::new(&self.0).follow_links(true).into_iter().filter_map(Result::ok).filter(|entry| entry.file_type().is_file());
        let mut names: Vec<String> = files.map(|entry| entry.path().strip_prefix(&self.0).unwrap().to_str().unwrap().to_owned()).collect();
        names.sort();
        names
    }

    /// Returns the lines that exports read, sorted.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for name in self.files().into_iter().filter(|name| encoding_from_name(name).is_some()) {
            let bytes = fs::read(self.0.join(&name)).unwrap();
            let bytes = if name.ends_with(".zst") { zstd::stream::decode_all(bytes.as_slice()).unwrap() } else { bytes };
            lines.extend(String::from_utf8(bytes).unwrap().lines().map(str::to_owned));
        }
        lines.sort();
        lines
    }

    /// Writes a file.
    pub(crate) fn write(&self, name: &str, content: &[u8]) {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Makes a named pipe.
    #[cfg(unix)]
    pub(crate) fn make_pipe(&self, name: &str) {
        make_pipe(&self.0.join(name));
    }
}

/// Makes a named pipe, and the folder that it is in.
#[cfg(unix)]
pub(crate) fn make_pipe(path: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
}

fn pin(root: &Path, object: String) -> Pin {
    let metadata = fs::metadata(root.join(&object)).unwrap();
    let modified = metadata.modified().unwrap().duration_since(UNIX_EPOCH).unwrap().as_nanos();
    Pin { object, etag: format!("{}-{modified}", metadata.len()), size: metadata.len() }
}

impl ResourceSource for TestLake {
    async fn check(&self) -> Result<(), SourceError> {
        Ok(())
    }

    async fn list(&self, _: Option<&str>) -> Result<ObjectPage, SourceError> {
        let is_listed = |name: &String| encoding_from_name(name).is_some() || NearMisses::is_near_miss(name);
        let (archived, objects): (Vec<Pin>, Vec<Pin>) =
            self.files().into_iter().filter(is_listed).map(|name| pin(&self.0, name)).partition(|pin| pin.object.starts_with("archived/"));
        Ok(ObjectPage {
            objects: objects.into_iter().map(|pin| ListedObject { pin, arrived: Millis(0) }).collect(),
            archived: archived.into_iter().map(|pin| ArchivedObject { pin, storage_class: "GLACIER".to_owned() }).collect(),
            ..ObjectPage::default()
        })
    }

    fn read(&self, pin: &Pin, range: Range<u64>) -> ByteStream {
        let mut file = fs::File::open(self.0.join(&pin.object)).unwrap();
        file.seek(SeekFrom::Start(range.start)).unwrap();
        let mut bytes = Vec::new();
        file.take(range.end - range.start).read_to_end(&mut bytes).unwrap();
        Box::pin(stream::iter([Ok(Bytes::from(bytes))]))
    }

    async fn read_metadata(&self, object: &str) -> Result<Option<MetadataObject>, SourceError> {
        let bytes = fs::read(self.0.join(object)).ok();
        Ok(bytes.map(|bytes| MetadataObject { size: bytes.len() as u64, bytes: bytes.into() }))
    }
}
