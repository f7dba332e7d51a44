//! The tree of names: those that programs see, and those that a power cut leaves.

use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path};
use std::sync::Arc;

use rustix::io::Errno;

use super::inode::Inode;
use super::power_cut::PowerCut;
use crate::vfs::Entry;

/// The file or directory that a name refers to. A directory has no state of its own: programs can
/// neither rename nor remove one, and when a test moves one, everything that refers to it gets the
/// new path.
#[derive(Clone, Debug)]
pub(super) enum Node {
    Directory,
    File(Arc<Inode>),
}

impl Node {
    fn is(&self, inode: &Inode) -> bool {
        matches!(self, Self::File(file) if file.id == inode.id)
    }
}

/// By path, without a leading slash; the root itself has no entry.
type Names = BTreeMap<String, Node>;

#[derive(Clone, Debug)]
enum Change {
    Create {
        path: String,
        node: Node,
    },
    Remove {
        path: String,
        inode: Arc<Inode>,
    },
    Rename {
        from: String,
        to: String,
        inode: Arc<Inode>,
    },
}

impl Change {
    /// Apply the change. A file has one name at a time, and a change refers to the file and not to
    /// the name that it had before. So any subset of the changes, applied in order, gives a state
    /// that a disk may have after a power cut.
    fn apply(&self, names: &mut Names) {
        match self {
            Self::Create { path, node } => {
                names.insert(path.clone(), node.clone());
            }
            Self::Remove { inode, .. } => names.retain(|_, node| !node.is(inode)),
            Self::Rename { to, inode, .. } => {
                names.retain(|_, node| !node.is(inode));
                names.insert(to.clone(), Node::File(Arc::clone(inode)));
            }
        }
    }

    fn move_paths(&mut self, from: &str, to: &str) {
        match self {
            Self::Create { path, .. } | Self::Remove { path, .. } => *path = moved(path, from, to),
            Self::Rename {
                from: old, to: new, ..
            } => {
                *old = moved(old, from, to);
                *new = moved(new, from, to);
            }
        }
    }

    fn is_in(&self, dir: &str) -> bool {
        match self {
            Self::Create { path, .. } | Self::Remove { path, .. } => parent(path) == dir,
            // A rename is atomic, even between directories, on every file system that the engine
            // supports.
            Self::Rename { from, to, .. } => parent(from) == dir || parent(to) == dir,
        }
    }

    fn inode(&self) -> Option<&Arc<Inode>> {
        match self {
            Self::Create {
                node: Node::Directory,
                ..
            } => None,
            Self::Create {
                node: Node::File(inode),
                ..
            }
            | Self::Remove { inode, .. }
            | Self::Rename { inode, .. } => Some(inode),
        }
    }

    fn with_files(&self, files: &Files) -> Self {
        let mut change = self.clone();
        match &mut change {
            Self::Create { node, .. } => *node = replaced(node, files),
            Self::Remove { inode, .. } | Self::Rename { inode, .. } => {
                if let Some(file) = files.get(&inode.id) {
                    *inode = Arc::clone(file);
                }
            }
        }
        change
    }
}

/// Files by their id.
pub(super) type Files = BTreeMap<u64, Arc<Inode>>;

/// A tree of names, and which of them are durable.
#[derive(Clone, Debug, Default)]
pub(super) struct Tree {
    live: Names,
    durable: Names,
    unsynced: Vec<Change>,
    tracked: bool,
}

impl Tree {
    /// An empty tree. Only a tracked one records what a power cut would leave of it.
    pub(super) fn new(tracked: bool) -> Self {
        Self {
            tracked,
            ..Self::default()
        }
    }

    fn of_durable(names: Names) -> Self {
        Self {
            live: names.clone(),
            durable: names,
            unsynced: Vec::new(),
            tracked: true,
        }
    }

    pub(super) fn create(&mut self, path: &str, node: Node) -> io::Result<()> {
        self.require_parent(path)?;
        if self.node(path).is_some() {
            return Err(Errno::EXIST.into());
        }
        self.change(Change::Create {
            path: path.to_owned(),
            node,
        });
        Ok(())
    }

    pub(super) fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let inode = self.file(from)?;
        self.require_parent(to)?;
        if matches!(self.node(to), Some(Node::Directory)) {
            return Err(Errno::ISDIR.into());
        }
        if from != to {
            self.change(Change::Rename {
                from: from.to_owned(),
                to: to.to_owned(),
                inode,
            });
        }
        Ok(())
    }

    pub(super) fn remove(&mut self, path: &str) -> io::Result<()> {
        let inode = self.file(path)?;
        self.change(Change::Remove {
            path: path.to_owned(),
            inode,
        });
        Ok(())
    }

    /// Move a directory to another path, in memory and on the disk.
    pub(super) fn move_directory(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.require_dir(from)?;
        self.require_parent(to)?;
        if self.node(to).is_some() || from.is_empty() || is_in(to, from) {
            return Err(Errno::INVAL.into());
        }
        for names in [&mut self.live, &mut self.durable] {
            let moved_names = std::mem::take(names).into_iter();
            *names = moved_names
                .map(|(path, node)| (moved(&path, from, to), node))
                .collect();
        }
        for change in &mut self.unsynced {
            change.move_paths(from, to);
        }
        Ok(())
    }

    /// Make the names in `dir` durable.
    pub(super) fn sync(&mut self, dir: &str) {
        let (settled, mut rest) = self.split_unsynced(dir);
        for change in &settled {
            change.apply(&mut self.durable);
            // Earlier changes of the same file in other directories are superseded by this one.
            let is_superseded = |earlier: &Change| match (earlier.inode(), change.inode()) {
                (Some(earlier), Some(inode)) => earlier.id == inode.id,
                _ => false,
            };
            rest.retain(|earlier| !is_superseded(earlier));
        }
        self.unsynced = rest;
    }

    /// Lose the unsynced changes in `dir`: they never become durable.
    pub(super) fn lose_unsynced(&mut self, dir: &str) {
        self.unsynced = self.split_unsynced(dir).1;
    }

    pub(super) fn entry(&self, path: &str) -> Option<Entry> {
        self.node(path).map(|node| match node {
            Node::Directory => Entry::Directory,
            Node::File(inode) => Entry::File(inode.size()),
        })
    }

    pub(super) fn file(&self, path: &str) -> io::Result<Arc<Inode>> {
        match self.node(path) {
            Some(Node::File(inode)) => Ok(inode),
            Some(Node::Directory) => Err(Errno::ISDIR.into()),
            None => Err(Errno::NOENT.into()),
        }
    }

    pub(super) fn require_dir(&self, path: &str) -> io::Result<()> {
        match self.node(path) {
            Some(Node::Directory) => Ok(()),
            Some(Node::File(_)) => Err(Errno::NOTDIR.into()),
            None => Err(Errno::NOENT.into()),
        }
    }

    /// The names in a directory, in ascending order.
    pub(super) fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.require_dir(dir)?;
        let prefix = if dir.is_empty() {
            String::new()
        } else {
            format!("{dir}/")
        };
        let below = self
            .live
            .range(prefix.clone()..)
            .map_while(|(path, _)| path.strip_prefix(&prefix));
        Ok(below
            .filter(|name| !name.contains('/'))
            .map(str::to_owned)
            .collect())
    }

    /// The paths of all files.
    pub(super) fn files(&self) -> Vec<String> {
        let files = self
            .live
            .iter()
            .filter(|(_, node)| matches!(node, Node::File(_)));
        files.map(|(path, _)| path.clone()).collect()
    }

    /// Blocks allocated by the files that have a name.
    pub(super) fn blocks(&self) -> u64 {
        let blocks = self.live.values().map(|node| match node {
            Node::Directory => 0,
            Node::File(inode) => inode.blocks(),
        });
        blocks.sum()
    }

    pub(super) fn unsynced_units(&self) -> usize {
        let files = self.reachable();
        files
            .values()
            .map(|inode| inode.unsynced_units())
            .sum::<usize>()
            + self.unsynced.len()
    }

    pub(super) fn after_power_cut(&self, power_cut: &mut PowerCut) -> Self {
        let files = self.with_each_file(|inode| inode.after_power_cut(power_cut));
        let mut names = self.durable.clone();
        for change in &self.unsynced {
            if power_cut.keep() {
                change.apply(&mut names);
            }
        }
        // In ascending order a directory precedes the names in it.
        let mut kept = Names::new();
        for (path, node) in names {
            if matches!(kept.get(parent(&path)), Some(Node::Directory)) || parent(&path).is_empty()
            {
                kept.insert(path, replaced(&node, &files));
            }
        }
        Self::of_durable(kept)
    }

    /// The same tree over copies of its files.
    pub(super) fn copy(&self) -> Self {
        let files = self.with_each_file(Inode::copy);
        let copied = |names: &Names| -> Names {
            names
                .iter()
                .map(|(path, node)| (path.clone(), replaced(node, &files)))
                .collect()
        };
        Self {
            live: copied(&self.live),
            durable: copied(&self.durable),
            unsynced: self
                .unsynced
                .iter()
                .map(|change| change.with_files(&files))
                .collect(),
            tracked: self.tracked,
        }
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.live);
        if self.tracked {
            self.unsynced.push(change);
        }
    }

    fn node(&self, path: &str) -> Option<Node> {
        if path.is_empty() {
            return Some(Node::Directory);
        }
        self.live.get(path).cloned()
    }

    fn require_parent(&self, path: &str) -> io::Result<()> {
        self.require_dir(parent(path))
    }

    fn split_unsynced(&mut self, dir: &str) -> (Vec<Change>, Vec<Change>) {
        std::mem::take(&mut self.unsynced)
            .into_iter()
            .partition(|change| change.is_in(dir))
    }

    /// All files that have a name, or may have one after a power cut.
    fn reachable(&self) -> Files {
        let named = self
            .live
            .values()
            .chain(self.durable.values())
            .filter_map(|node| match node {
                Node::Directory => None,
                Node::File(inode) => Some(inode),
            });
        let changed = self.unsynced.iter().filter_map(Change::inode);
        named
            .chain(changed)
            .map(|inode| (inode.id, Arc::clone(inode)))
            .collect()
    }

    fn with_each_file(&self, mut make: impl FnMut(&Inode) -> Inode) -> Files {
        self.reachable()
            .into_iter()
            .map(|(id, inode)| (id, Arc::new(make(&inode))))
            .collect()
    }
}

/// A path in the form of the tree: names separated by slashes, without a leading one.
pub(super) fn normalized(path: &Path) -> io::Result<String> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => names.push(name.to_str().ok_or(Errno::ILSEQ)?),
            Component::ParentDir | Component::Prefix(_) => return Err(Errno::INVAL.into()),
        }
    }
    Ok(names.join("/"))
}

/// The part of a path below a directory; empty for the directory itself.
pub(super) fn below<'a>(path: &'a str, dir: &str) -> Option<&'a str> {
    if dir.is_empty() {
        return Some(path);
    }
    match path.strip_prefix(dir)? {
        "" => Some(""),
        rest => rest.strip_prefix('/'),
    }
}

fn is_in(path: &str, dir: &str) -> bool {
    below(path, dir).is_some()
}

/// A path in the directory `dir`.
pub(super) fn join(dir: &str, below: &str) -> String {
    match (dir, below) {
        ("", path) | (path, "") => path.to_owned(),
        _ => format!("{dir}/{below}"),
    }
}

/// The path after the directory `from` was moved to `to`.
pub(super) fn moved(path: &str, from: &str, to: &str) -> String {
    match below(path, from) {
        Some(below) => join(to, below),
        None => path.to_owned(),
    }
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

fn replaced(node: &Node, files: &Files) -> Node {
    match node {
        Node::File(inode) => Node::File(Arc::clone(files.get(&inode.id).unwrap_or(inode))),
        Node::Directory => Node::Directory,
    }
}

#[cfg(test)]
mod tests {
    use super::super::power_cut::Persist;
    use super::*;

    fn file(id: u64) -> Node {
        Node::File(Arc::new(Inode::new(id)))
    }

    fn tree(files: &[&str]) -> Tree {
        let mut tree = Tree::new(true);
        tree.create("a", Node::Directory).unwrap();
        tree.create("b", Node::Directory).unwrap();
        for (id, path) in (1..).zip(files) {
            tree.create(path, file(id)).unwrap();
        }
        for dir in ["", "a", "b"] {
            tree.sync(dir);
        }
        tree
    }

    fn left(tree: &Tree, persist: Persist) -> Vec<String> {
        tree.after_power_cut(&mut PowerCut::new(persist)).files()
    }

    /// The files that each subset of the unsynced changes leaves.
    fn subsets(tree: &Tree) -> Vec<Vec<String>> {
        let units = tree.unsynced_units();
        (0..1 << units)
            .map(|mask| left(tree, Persist::Mask(mask)))
            .collect()
    }

    #[test]
    fn a_new_name_may_vanish_until_its_directory_is_synced() {
        let mut tree = tree(&[]);
        tree.create("a/x", file(1)).unwrap();
        assert_eq!(subsets(&tree), [vec![], vec!["a/x".to_owned()]]);
        tree.sync("b");
        assert_eq!(tree.unsynced_units(), 1);
        tree.sync("a");
        assert_eq!(left(&tree, Persist::Nothing), ["a/x"]);
    }

    #[test]
    fn the_files_in_a_lost_directory_are_lost() {
        let mut tree = tree(&[]);
        tree.create("c", Node::Directory).unwrap();
        tree.create("c/x", file(1)).unwrap();
        tree.sync("c");
        assert!(left(&tree, Persist::Nothing).is_empty());
        assert_eq!(left(&tree, Persist::Everything), ["c/x"]);
    }

    #[test]
    fn a_removed_name_may_come_back() {
        let mut tree = tree(&["a/x"]);
        tree.remove("a/x").unwrap();
        assert!(tree.list("a").unwrap().is_empty());
        assert_eq!(left(&tree, Persist::Nothing), ["a/x"]);
        tree.sync("a");
        assert!(left(&tree, Persist::Nothing).is_empty());
    }

    #[test]
    fn a_rename_is_atomic() {
        let mut tree = tree(&["a/x", "b/x"]);
        tree.rename("a/x", "b/x").unwrap();
        assert_eq!(tree.files(), ["b/x"]);
        assert_eq!(
            subsets(&tree),
            [
                vec!["a/x".to_owned(), "b/x".to_owned()],
                vec!["b/x".to_owned()]
            ]
        );
    }

    #[test]
    fn no_subset_gives_a_file_two_names() {
        let mut tree = tree(&["a/x"]);
        tree.rename("a/x", "a/y").unwrap();
        tree.rename("a/y", "b/z").unwrap();
        for files in subsets(&tree) {
            assert_eq!(files.len(), 1);
        }
    }

    #[test]
    fn a_later_rename_that_is_durable_is_not_undone_by_an_earlier_one() {
        let mut tree = tree(&["a/x"]);
        tree.create("c", Node::Directory).unwrap();
        tree.sync("");
        tree.rename("a/x", "b/y").unwrap();
        tree.rename("b/y", "c/z").unwrap();
        tree.sync("c");
        assert_eq!(subsets(&tree), [["c/z"]]);
    }

    #[test]
    fn a_directory_lists_its_own_names_only() {
        let tree = tree(&["a/x", "a-b", "a/w"]);
        assert_eq!(tree.list("").unwrap(), ["a", "a-b", "b"]);
        assert_eq!(tree.list("a").unwrap(), ["w", "x"]);
        assert!(tree.list("a/x").is_err() && tree.list("c").is_err());
    }

    #[test]
    fn lost_names_are_visible_and_never_durable() {
        let mut tree = tree(&[]);
        tree.create("a/x", file(1)).unwrap();
        tree.lose_unsynced("a");
        tree.sync("a");
        assert_eq!(tree.files(), ["a/x"]);
        assert!(left(&tree, Persist::Everything).is_empty());
    }

    #[test]
    fn paths_are_normalized() {
        assert_eq!(
            normalized(Path::new("/store//log/./1.hot")).unwrap(),
            "store/log/1.hot"
        );
        assert_eq!(normalized(Path::new("/")).unwrap(), "");
        assert!(normalized(Path::new("a/../b")).is_err());
    }
}
