//! Rules for every text that is landed: no machine's names, no dead links.

use std::{fs, path::Path, process::Command};

use super::arrows::root;

/// Files that git knows, from the root.
fn landed() -> Vec<String> {
    let output = Command::new("git")
        .args(["ls-files"])
        .current_dir(root())
        .output();
    let Ok(output) = output else {
        return Vec::new();
    };
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(str::to_owned)
        .collect()
}

/// Absolute paths of one machine. Put together here so that this file does not find itself.
pub(crate) fn machine_names() -> Vec<String> {
    let names = ["work", "root", "home", "farm"].map(|folder| format!("/{folder}/"));
    let mut findings = Vec::new();
    for file in landed().iter().filter(|file| !file.ends_with(".lock")) {
        let Ok(text) = fs::read_to_string(root().join(file)) else {
            continue;
        };
        for (number, line) in text.lines().enumerate() {
            let begins = |name: &String| {
                line.match_indices(name.as_str()).any(|(at, _)| {
                    let before = line[..at].chars().next_back();
                    !before.is_some_and(|c| c.is_alphanumeric() || "._-/}$*".contains(c))
                })
            };
            if names.iter().any(begins) {
                findings.push(format!("{file}:{}", number + 1));
            }
        }
    }
    findings
}

/// Relative targets of Markdown links in a line.
pub(crate) fn links(line: &str) -> Vec<&str> {
    line.split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
        .map(|target| target.split('#').next().unwrap_or_default())
        .filter(|target| !target.is_empty() && !target.contains("://"))
        .collect()
}

/// Links in Markdown files whose target does not exist.
pub(crate) fn dead_links() -> Vec<String> {
    let mut findings = Vec::new();
    for file in landed().iter().filter(|file| file.ends_with(".md")) {
        let text = fs::read_to_string(root().join(file)).unwrap_or_default();
        let folder = root().join(Path::new(file).parent().unwrap_or_else(|| Path::new("")));
        for target in text
            .lines()
            .flat_map(links)
            .filter(|target| !folder.join(target).exists())
        {
            findings.push(format!("{file}: {target}"));
        }
    }
    findings
}
