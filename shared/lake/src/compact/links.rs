//! Finds the objects of a lake that are reached through a symbolic link to a folder.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use headrace_core::job::task::Pin;

/// The folders of a lake, and whether a link leads to them.
#[derive(Debug)]
pub(super) struct FolderLinks<'a> {
    root: &'a Path,
    /// True for a folder below the root that is a link, or is reached through one.
    folders: HashMap<PathBuf, bool>,
}

impl<'a> FolderLinks<'a> {
    /// Creates an empty record of a lake's folders.
    pub(super) fn new(root: &'a Path) -> Self {
        Self { root, folders: HashMap::new() }
    }

    /// Returns true if an object is reached through a link. The root of the lake, and the object itself, may be links.
    pub(super) fn lead_to(&mut self, object: &str) -> bool {
        Path::new(object).parent().is_some_and(|folder| self.is_linked(folder))
    }

    /// Returns those of the linked objects that are other files than the lake's own objects. A link within the lake leads to one of these
    /// again, whose lines are no other versions.
    pub(super) fn without_aliases(&self, mut linked: Vec<Pin>, own: &[Pin]) -> Vec<Pin> {
        if !linked.is_empty() {
            let own: HashSet<PathBuf> = own.iter().filter_map(|pin| self.real_path(pin)).collect();
            linked.retain(|pin| self.real_path(pin).is_some_and(|path| !own.contains(&path)));
        }
        linked
    }

    /// Returns the path of an object without links. `None` if it is gone.
    fn real_path(&self, pin: &Pin) -> Option<PathBuf> {
        self.root.join(&pin.object).canonicalize().ok()
    }

    /// Returns true if a folder below the root is a link, or is reached through one.
    fn is_linked(&mut self, folder: &Path) -> bool {
        if folder.as_os_str().is_empty() {
            return false;
        }
        if let Some(is_linked) = self.folders.get(folder) {
            return *is_linked;
        }
        let is_linked = self.root.join(folder).is_symlink() || folder.parent().is_some_and(|parent| self.is_linked(parent));
        self.folders.insert(folder.to_owned(), is_linked);
        is_linked
    }
}
