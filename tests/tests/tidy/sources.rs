//! Rules for the text of source files.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use super::arrows::root;

/// A file without its tests may have this many lines: more cannot be read in a sitting.
const FILE_LINES_MAX: usize = 600;
/// `lib.rs` and `main.rs` only declare and wire.
const ROOT_LINES_MAX: usize = 100;

/// Where code is pure: whole crates, and the pure modules of the services.
const PURE: &[&str] = &[
    "crates/message/src",
    "crates/replication/src",
    "crates/broker/src",
    "crates/wire/src",
    "crates/storage-node/src/shard",
    "crates/storage-node/src/shard.rs",
    "crates/coordinator/src/controller",
    "crates/coordinator/src/controller.rs",
    "crates/gateway/src/openwire/translate",
    "crates/gateway/src/openwire/translate.rs",
    "crates/gateway/src/session",
    "crates/gateway/src/session.rs",
    "crates/gateway/src/source.rs",
    "crates/gateway/src/internal.rs",
    "crates/gateway/src/openwire/neighbours",
    "crates/gateway/src/openwire/neighbours.rs",
    "crates/gateway/src/openwire/dialogue",
    "crates/gateway/src/openwire/dialogue.rs",
];

/// What pure code may not name: the outside world, its time, its chance, and maps whose order is chance.
const IMPURE: &[&str] = &[
    "async",
    "await",
    "tokio",
    "tonic",
    "tracing",
    "std::fs",
    "std::net",
    "std::thread",
    "std::env",
    "Instant",
    "SystemTime",
    "HashMap",
    "HashSet",
    "rand",
    "getrandom",
    "println",
    "eprintln",
];

fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") && !path.ends_with("proptest-regressions") {
            walk(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// Every Rust file of the project with its path from the root and its text.
fn sources() -> Vec<(String, String)> {
    let root = root().canonicalize().unwrap();
    let mut files = Vec::new();
    walk(&root.join("crates"), &mut files);
    walk(&root.join("tests"), &mut files);
    files.sort();
    let name = |path: &Path| {
        path.strip_prefix(&root)
            .unwrap()
            .to_string_lossy()
            .into_owned()
    };
    files
        .iter()
        .map(|path| (name(path), fs::read_to_string(path).unwrap()))
        .collect()
}

fn is_test_file(name: &str) -> bool {
    name.contains("/tests/") || name.ends_with("/tests.rs") || name.contains("_tests.rs")
}

/// The text before the unit tests, which stand at the end of a file.
fn before_tests(text: &str) -> &str {
    text.find("#[cfg(test)]").map_or(text, |at| &text[..at])
}

/// Lines without unit tests.
pub(crate) fn code_lines(text: &str) -> usize {
    before_tests(text).lines().count()
}

/// Words in code (comments aside) that pure code may not name.
pub(crate) fn impurities(text: &str) -> Vec<&'static str> {
    let mut found = BTreeSet::new();
    for line in before_tests(text).lines() {
        let code = line.split("//").next().unwrap_or_default();
        let words: Vec<&str> = code
            .split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'))
            .collect();
        for word in IMPURE {
            let path = format!("{word}::");
            if words.iter().any(|w| {
                w == word
                    || w.starts_with(&path)
                    || w.ends_with(&format!("::{word}"))
                    || w.contains(&format!("::{word}::"))
            }) {
                found.insert(*word);
            }
        }
    }
    found.into_iter().collect()
}

/// Pure files that name what they may not know.
pub(crate) fn impure() -> Vec<String> {
    let is_pure = |name: &str| {
        !is_test_file(name)
            && PURE
                .iter()
                .any(|pure| name == *pure || name.starts_with(&format!("{pure}/")))
    };
    let findings = sources().into_iter().filter(|(name, _)| is_pure(name));
    findings
        .flat_map(|(name, text)| {
            impurities(&text)
                .into_iter()
                .map(move |word| format!("{name}: {word}"))
        })
        .collect()
}

/// Files over their limit.
pub(crate) fn too_long() -> Vec<String> {
    let limit = |name: &str| {
        if name.ends_with("/lib.rs") || name.ends_with("/main.rs") {
            ROOT_LINES_MAX
        } else {
            FILE_LINES_MAX
        }
    };
    sources()
        .iter()
        .filter(|(name, _)| !is_test_file(name) || name.starts_with("tests/"))
        .map(|(name, text)| (name, code_lines(text), limit(name)))
        .filter(|(_, lines, limit)| lines > limit)
        .map(|(name, lines, limit)| format!("{name}: {lines} lines, {limit} allowed"))
        .collect()
}

/// Files that do not begin with a module comment.
pub(crate) fn without_head() -> Vec<String> {
    let headless = sources()
        .into_iter()
        .filter(|(_, text)| !text.starts_with("//!"));
    headless.map(|(name, _)| name).collect()
}

/// Unfinished work and forbidden file names.
pub(crate) fn markers() -> Vec<String> {
    let marks = [
        concat!("FIX", "ME"),
        concat!("TO", "DO"),
        concat!("X", "XX"),
        concat!("#[all", "ow("),
    ];
    let mut findings = Vec::new();
    for (name, text) in sources() {
        if name.ends_with("/mod.rs") {
            findings.push(format!("{name}: name it after its noun, beside its folder"));
        }
        for (number, line) in text.lines().enumerate() {
            if let Some(mark) = marks.iter().find(|mark| line.contains(**mark)) {
                findings.push(format!("{name}:{}: {mark}", number + 1));
            }
        }
    }
    findings
}

/// Files that no `mod` declaration names.
pub(crate) fn unreachable() -> Vec<String> {
    let all = sources();
    let declared: BTreeSet<String> = all
        .iter()
        .flat_map(|(_, text)| text.lines())
        .filter_map(|line| {
            let line = line.trim().trim_end_matches(';');
            let at = line.find("mod ")?;
            (at == 0 || line.starts_with("pub"))
                .then(|| line[at + 4..].trim_end_matches(" {").to_owned())
        })
        .collect();
    let is_root = |name: &str| {
        let parent = Path::new(name)
            .parent()
            .and_then(Path::file_name)
            .unwrap_or_default();
        ["src", "tests", "bin", "examples", "benches"]
            .iter()
            .any(|folder| parent == *folder)
            && !name.contains("/src/") | name.ends_with("/lib.rs") | name.ends_with("/main.rs")
            || name.ends_with("/build.rs")
            || name.contains("/src/bin/")
            || name.ends_with("/main.rs")
    };
    all.iter()
        .map(|(name, _)| name)
        .filter(|name| !is_root(name))
        .filter(|name| {
            let stem = Path::new(name.as_str()).file_stem().unwrap_or_default();
            !declared.contains(stem.to_string_lossy().as_ref())
        })
        .cloned()
        .collect()
}
