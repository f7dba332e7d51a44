//! The order of the engine's modules, read from their `use` declarations.
//!
//! A module may use what is below it and nothing else, so that each of them can be read, tested
//! and replaced without regard to the modules above it. No two files use each other, directly or
//! in a longer cycle. An item that both need is in a third file.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The modules from the lowest to the highest. Those in one row don't use each other.
const LAYERS: [&[&str]; 13] = [
    &[
        "bytes",
        "mutex",
        "format_version",
        "options",
        "append",
        "uuid7",
        "stats",
    ],
    &["error"],
    &["names"],
    &["vfs", "filter"],
    &["frame"],
    &["index", "log", "chunk"],
    &["recovery", "coord", "watch"],
    &["live"],
    &["commit", "read", "verify", "heartbeat"],
    &["open"],
    &["store"],
    // The list of modules and public names, and the entries for fuzzing.
    &["fuzzing"],
    &["lib"],
];

/// One file of the engine: where its module is in the tree, and the paths in it.
struct File {
    module: Vec<String>,
    uses: Vec<Use>,
}

/// A path that is declared with `use`, or that begins with `crate::` or `super::`.
#[derive(Clone, Debug)]
struct Use {
    path: Vec<String>,
    /// The name that it has in the file, and in other files that import it from there.
    name: String,
}

#[test]
fn modules_use_only_what_is_below_them() {
    let files = engine();
    let rank: BTreeMap<&str, usize> = (0..)
        .zip(LAYERS)
        .flat_map(|(rank, names)| names.iter().map(move |name| (*name, rank)))
        .collect();
    let modules: BTreeSet<&str> = files.values().map(|file| top(&file.module)).collect();
    let listed: BTreeSet<&str> = rank.keys().copied().collect();
    assert_eq!(modules, listed, "a module is missing in the list of layers");
    let mut wrong = Vec::new();
    for (path, target) in edges(&files) {
        let (from, to) = (top(&files[&path].module), top(&files[&target].module));
        if from != to && rank[from] <= rank[to] {
            wrong.push(format!("{path} uses {target}: {from} is not above {to}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_files_use_each_other() {
    let files = engine();
    let mut uses: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (from, to) in edges(&files) {
        uses.entry(from).or_default().insert(to);
    }
    let cycles = cycles(&uses);
    assert!(cycles.is_empty(), "{}", cycles.join("\n"));
}

#[test]
fn the_parser_returns_every_path_of_a_file() {
    let text = "
        use std::io;
        use crate::a::{self, B as C, d::{E, F}};
        pub(crate) use super::g::*;
        mod tests { use crate::hidden::X; }
        // use crate::comment::X;
        fn f() { crate::h::i(); let text = \"use crate::text::X;\"; }
    ";
    let found: Vec<String> = uses(text)
        .iter()
        .map(|u| format!("{}={}", u.name, u.path.join("::")))
        .collect();
    let expected = [
        "io=std::io",
        "a=crate::a",
        "C=crate::a::B",
        "E=crate::a::d::E",
        "F=crate::a::d::F",
        "*=super::g::*",
        "i=crate::h::i",
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_cycle_of_any_length_is_detected() {
    let uses = |pairs: &[(&str, &str)]| {
        let mut uses: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (from, to) in pairs {
            let targets = uses.entry((*from).to_owned()).or_default();
            targets.insert((*to).to_owned());
        }
        uses
    };
    let straight = uses(&[("a", "b"), ("b", "c"), ("a", "c")]);
    assert!(cycles(&straight).is_empty());
    let cyclic = uses(&[("a", "b"), ("b", "c"), ("c", "a"), ("d", "a")]);
    assert_eq!(cycles(&cyclic), ["a, b, c"]);
}

/// The files of the engine by their path, without those that are only compiled for tests.
fn engine() -> BTreeMap<String, File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = BTreeMap::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(&root).unwrap().to_str().unwrap();
            if name.ends_with("tests.rs") {
                continue;
            }
            let inner = name.strip_suffix(".rs").unwrap();
            let inner = inner.strip_suffix("/mod").unwrap_or(inner);
            let module: Vec<String> = inner.split('/').map(str::to_owned).collect();
            let uses = uses(&std::fs::read_to_string(&path).unwrap());
            files.insert(name.to_owned(), File { module, uses });
        }
    }
    assert!(files.len() > 60, "the engine is not where it was");
    files
}

fn top(module: &[String]) -> &str {
    &module[0]
}

/// Return which file uses an item that another file defines.
fn edges(files: &BTreeMap<String, File>) -> BTreeSet<(String, String)> {
    let by_module: BTreeMap<Vec<String>, &str> = files
        .iter()
        .map(|(path, file)| match file.module.as_slice() {
            [lib] if lib == "lib" => (Vec::new(), path.as_str()),
            module => (module.to_vec(), path.as_str()),
        })
        .collect();
    let mut edges = BTreeSet::new();
    for (path, file) in files {
        let is_root = path == "lib.rs";
        for used in &file.uses {
            let module = if is_root { &[][..] } else { &file.module };
            if let Some(target) = definition(module, &used.path, &by_module, files, 0)
                && target != *path
            {
                edges.insert((path.clone(), target));
            }
        }
    }
    edges
}

/// Return the file that defines the item of a path, if it is a file of the engine. A name that is
/// re-exported with `pub use` is resolved to its definition.
fn definition(
    module: &[String],
    path: &[String],
    by_module: &BTreeMap<Vec<String>, &str>,
    files: &BTreeMap<String, File>,
    depth: usize,
) -> Option<String> {
    assert!(depth < 20, "a name that is passed on for ever: {path:?}");
    let mut at = module.to_vec();
    let mut rest = path;
    match path.first()?.as_str() {
        "crate" => {
            at.clear();
            rest = &path[1..];
        }
        "self" => rest = &path[1..],
        "super" => {
            while rest.first().is_some_and(|name| name == "super") {
                at.pop();
                rest = &rest[1..];
            }
        }
        name => {
            // A child module, or another crate.
            let mut child = at.clone();
            child.push(name.to_owned());
            by_module.get(&child)?;
        }
    }
    while let Some(name) = rest.first() {
        at.push(name.clone());
        if !by_module.contains_key(&at) {
            at.pop();
            break;
        }
        rest = &rest[1..];
    }
    let file = *by_module.get(&at)?;
    let Some(name) = rest.first() else {
        return Some(file.to_owned());
    };
    let passed_on = files[file].uses.iter().find(|used| used.name == *name);
    let origin =
        passed_on.and_then(|used| definition(&at, &used.path, by_module, files, depth + 1));
    Some(origin.unwrap_or_else(|| file.to_owned()))
}

/// The groups of files that use each other, each as its files in order.
fn cycles(uses: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let reached = |from: &String| {
        let mut reached: BTreeSet<String> = BTreeSet::new();
        let mut next = vec![from.clone()];
        while let Some(file) = next.pop() {
            for target in uses.get(&file).into_iter().flatten() {
                if reached.insert(target.clone()) {
                    next.push(target.clone());
                }
            }
        }
        reached
    };
    let all: BTreeMap<&String, BTreeSet<String>> =
        uses.keys().map(|file| (file, reached(file))).collect();
    let mut groups = BTreeSet::new();
    for (file, reached) in &all {
        let back = |other: &&String| all.get(*other).is_some_and(|back| back.contains(*file));
        let group: Vec<&str> = reached.iter().filter(back).map(String::as_str).collect();
        if !group.is_empty() {
            groups.insert(group.join(", "));
        }
    }
    groups.into_iter().collect()
}

/// The paths in a file, without those in its tests, comments and texts.
fn uses(text: &str) -> Vec<Use> {
    let tokens = tokens(text);
    let mut uses = Vec::new();
    let mut i = 0;
    while i < tokens.len() {
        match tokens[i].as_str() {
            "mod" if tokens.get(i + 1).is_some_and(|name| name == "tests") => {
                i = after_block(&tokens, i);
            }
            "use" => i = tree(&tokens, i + 1, &[], &mut uses),
            "crate" | "super" if tokens.get(i + 1).is_some_and(|next| next == "::") => {
                i = inline(&tokens, i, &mut uses);
            }
            _ => i += 1,
        }
    }
    uses
}

/// Read a use tree that begins at a token. Return the index after it.
fn tree(tokens: &[String], mut i: usize, prefix: &[String], uses: &mut Vec<Use>) -> usize {
    let mut path = prefix.to_vec();
    loop {
        match tokens[i].as_str() {
            "{" => {
                i += 1;
                while tokens[i] != "}" {
                    i = tree(tokens, i, &path, uses);
                    if tokens[i] == "," {
                        i += 1;
                    }
                }
                return i + 1;
            }
            "::" => i += 1,
            "as" => {
                let name = tokens[i + 1].clone();
                uses.push(Use { path, name });
                return i + 2;
            }
            "self" if !prefix.is_empty() => i += 1,
            "," | ";" | "}" => {
                let name = path.last().cloned().unwrap_or_default();
                uses.push(Use { path, name });
                return i;
            }
            name => {
                path.push(name.to_owned());
                i += 1;
            }
        }
    }
}

/// Read a path in an expression or a type. Return the index after it.
fn inline(tokens: &[String], mut i: usize, uses: &mut Vec<Use>) -> usize {
    let mut path = vec![tokens[i].clone()];
    while tokens.get(i + 1).is_some_and(|next| next == "::") && is_name(&tokens[i + 2]) {
        path.push(tokens[i + 2].clone());
        i += 2;
    }
    let name = path.last().cloned().unwrap_or_default();
    // A path in an expression is not re-exported, so it hides no name of the file.
    uses.push(Use { path, name });
    i + 1
}

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

fn after_block(tokens: &[String], mut i: usize) -> usize {
    let mut depth = 0;
    loop {
        match tokens[i].as_str() {
            ";" if depth == 0 => return i + 1,
            "{" => depth += 1,
            "}" if depth == 1 => return i + 1,
            "}" => depth -= 1,
            _ => {}
        }
        i += 1;
    }
}

/// Names, `::` and single characters; comments, texts and characters in quotes are left out.
fn tokens(text: &str) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    let mut tokens = Vec::new();
    let mut i = 0;
    while i < chars.len() {
        let c = chars[i];
        let next = chars.get(i + 1).copied();
        if c == '/' && next == Some('/') {
            while i < chars.len() && chars[i] != '\n' {
                i += 1;
            }
        } else if c == '"' {
            i += 1;
            while chars[i] != '"' {
                i += if chars[i] == '\\' { 2 } else { 1 };
            }
            i += 1;
        } else if c == '\'' && (next == Some('\\') || chars.get(i + 2) == Some(&'\'')) {
            i += 2;
            while chars[i] != '\'' {
                i += 1;
            }
            i += 1;
        } else if c.is_alphanumeric() || c == '_' {
            let begin = i;
            while i < chars.len() && (chars[i].is_alphanumeric() || chars[i] == '_') {
                i += 1;
            }
            tokens.push(chars[begin..i].iter().collect());
        } else if c == ':' && next == Some(':') {
            tokens.push("::".to_owned());
            i += 2;
        } else {
            if !c.is_whitespace() {
                tokens.push(c.to_string());
            }
            i += 1;
        }
    }
    tokens
}
