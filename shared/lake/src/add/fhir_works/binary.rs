//! The data of Binary resources, which FHIR Works on AWS keeps in files of a bucket.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use walkdir::WalkDir;

use super::item::TableItem;
use crate::add::AddError;
use crate::add::index::{IndexReader, Lookup, NameIndex, NamedTarget};
use crate::add::input::LargeResourcePermit;
use crate::add::names::NameHasher;
use crate::regular_file::open_regular_file;
use crate::sorting::RecordSorter;

/// The largest data of a Binary, in bytes: in base64, with the rest of the resource, it fits into a line of 64 MiB.
const MAX_DATA_BYTES: u64 = 47 << 20;

/// The data of a Binary.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BinaryData {
    /// The data as base64.
    Base64(String),
    /// There is no file with the data, or several.
    NotFound,
    /// The data does not fit into a line.
    TooLarge,
}

/// A folder with the data of Binary resources: `[<tenant>/]<id>_<version>.<extension>`.
#[derive(Debug)]
pub(super) struct BinaryFolder {
    root: PathBuf,
    names: NameHasher,
    /// The paths of files by their names without extension.
    index: NameIndex,
}

impl BinaryFolder {
    /// Lists a folder.
    pub(super) fn open(root: &Path, temp_folder: &Path, sort_bytes: usize) -> Result<Self, AddError> {
        // The names are those of the operator's own bucket.
        let names = NameHasher::new(&[0; 16]);
        let mut sorter = RecordSorter::new(temp_folder, sort_bytes);
        let temporary = |cause| AddError::Temporary { folder: temp_folder.to_owned(), cause };
        for entry in WalkDir::new(root).min_depth(1).max_depth(2) {
            let entry = entry.map_err(|error| AddError::Listing { folder: root.to_owned(), cause: error.into() })?;
            let below = entry.path().strip_prefix(root).ok().filter(|_| entry.file_type().is_file()).and_then(Path::to_str);
            if let Some(target) = below {
                let name = names.file(without_extension(target));
                sorter.push(NamedTarget { name, target: target.to_owned() }).map_err(temporary)?;
            }
        }
        let index = RecordSorter::finish(vec![sorter]).and_then(|records| NameIndex::build(records, temp_folder)).map_err(temporary)?;
        Ok(Self { root: root.to_owned(), names, index })
    }

    /// Reads the data of an item. `permit` is held as long as the data is in memory.
    pub(super) fn read(&self, item: &TableItem<'_>, permit: &mut LargeResourcePermit<'_>) -> io::Result<BinaryData> {
        let folder = if item.tenant.is_empty() { String::new() } else { format!("{}/", item.tenant) };
        let name = self.names.file(&format!("{folder}{}_{}", item.id, item.version));
        let Lookup::Found(path) = IndexReader::new(&self.index).look_up(name)? else { return Ok(BinaryData::NotFound) };
        let Ok(file) = open_regular_file(&self.root.join(path)) else { return Ok(BinaryData::NotFound) };
        permit.hold(usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX));
        let mut bytes = Vec::new();
        file.take(MAX_DATA_BYTES + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_DATA_BYTES {
            return Ok(BinaryData::TooLarge);
        }
        Ok(BinaryData::Base64(STANDARD.encode(&bytes)))
    }
}

/// Returns a path without the extension of its file.
fn without_extension(path: &str) -> &str {
    let file_start = path.rfind('/').map_or(0, |slash| slash + 1);
    match path.rfind('.').filter(|dot| *dot > file_start) {
        Some(dot) => path.get(..dot).unwrap_or(path),
        None => path,
    }
}
