//! Which crate may import which. The table is that of ARCHITECTURE.md.

use std::{collections::BTreeMap, fs, path::PathBuf};

/// Crate, whether it is pure, and what it may import of the workspace.
const TABLE: &[(&str, bool, &[&str])] = &[
    ("message", true, &[]),
    ("replication", true, &[]),
    ("broker", true, &["message"]),
    ("wire", true, &[]),
    ("proto", false, &[]),
    ("log", false, &["replication"]),
    ("service", false, &[]),
    ("client", false, &["proto"]),
    (
        "storage-node",
        false,
        &[
            "replication",
            "broker",
            "message",
            "log",
            "proto",
            "service",
        ],
    ),
    (
        "coordinator",
        false,
        &["message", "replication", "proto", "service"],
    ),
    ("gateway", false, &["wire", "message", "proto", "service"]),
    ("cli", false, &["client", "proto"]),
    (
        "sim",
        false,
        &[
            "message",
            "replication",
            "broker",
            "log",
            "storage-node",
            "coordinator",
            "gateway",
        ],
    ),
];

/// External crates that pure code may use: they hold data and derive errors, and do nothing else.
const PURE_DEPENDENCIES: &[&str] = &["bytes", "thiserror", "roaring"];

/// The root of the checkout.
pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn manifests() -> BTreeMap<String, toml::Table> {
    let mut manifests = BTreeMap::new();
    for entry in fs::read_dir(root().join("crates")).unwrap() {
        let folder = entry.unwrap();
        let text = fs::read_to_string(folder.path().join("Cargo.toml")).unwrap();
        manifests.insert(
            folder.file_name().into_string().unwrap(),
            text.parse().unwrap(),
        );
    }
    manifests
}

fn dependencies<'a>(manifest: &'a toml::Table, kind: &str) -> Vec<&'a str> {
    let table = manifest.get(kind).and_then(toml::Value::as_table);
    table
        .map(|names| names.keys().map(String::as_str).collect())
        .unwrap_or_default()
}

/// Imports that the table does not allow, crates that it does not know, and crates that are gone.
pub(crate) fn forbidden() -> Vec<String> {
    let mut findings = Vec::new();
    let manifests = manifests();
    for name in TABLE
        .iter()
        .map(|row| row.0)
        .filter(|name| !manifests.contains_key(*name))
    {
        findings.push(format!("{name}: in the table, but not in crates/"));
    }
    for (name, manifest) in &manifests {
        let Some((_, pure, allowed)) = TABLE.iter().find(|row| row.0 == name) else {
            findings.push(format!("{name}: not in the table"));
            continue;
        };
        for dependency in dependencies(manifest, "dependencies") {
            match dependency.strip_prefix("quorate-") {
                Some(inner) if !allowed.contains(&inner) => {
                    findings.push(format!("{name} -> {inner}"));
                }
                None if *pure && !PURE_DEPENDENCIES.contains(&dependency) => {
                    findings.push(format!("{name} (pure) -> {dependency}"));
                }
                Some(_) | None => {}
            }
        }
    }
    findings
}

/// Crates whose manifest does not take the workspace's lints.
pub(crate) fn without_lints() -> Vec<String> {
    let has = |manifest: &toml::Table| {
        let lints = manifest.get("lints").and_then(toml::Value::as_table);
        lints
            .and_then(|lints| lints.get("workspace"))
            .and_then(toml::Value::as_bool)
            == Some(true)
    };
    manifests()
        .into_iter()
        .filter(|(_, manifest)| !has(manifest))
        .map(|(name, _)| name)
        .collect()
}

/// Crates that ARCHITECTURE.md does not name in its code map.
pub(crate) fn undocumented() -> Vec<String> {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    manifests()
        .into_keys()
        .filter(|name| !text.contains(&format!("| `{name}` |")))
        .collect()
}
