//! Holds the tree to its own rules: which crate may import which, what pure code may not touch, how long a file
//! may be, that every file says what it is. Reads sources only; needs nothing running.

#![expect(
    clippy::unwrap_used,
    reason = "a file that cannot be read fails the test, which is all there is to say"
)]

mod tidy {
    pub(crate) mod arrows;
    pub(crate) mod sources;
    pub(crate) mod text;
}

use tidy::{arrows, sources, text};

/// Fails with every finding at once, so that one run shows all there is to mend.
fn demand_none(rule: &str, findings: &[String]) {
    assert!(findings.is_empty(), "{rule}:\n  {}", findings.join("\n  "));
}

#[test]
fn crates_import_only_what_the_table_allows() {
    demand_none(
        "an arrow that ARCHITECTURE.md does not draw",
        &arrows::forbidden(),
    );
}

#[test]
fn every_crate_takes_the_lints_of_the_workspace() {
    demand_none("add `[lints] workspace = true`", &arrows::without_lints());
}

#[test]
fn the_table_of_the_architecture_names_every_crate() {
    demand_none("ARCHITECTURE.md does not name it", &arrows::undocumented());
}

#[test]
fn pure_code_touches_nothing_outside() {
    demand_none("pure code may not know it", &sources::impure());
}

#[test]
fn files_can_be_read_in_a_sitting() {
    demand_none("too long; look for the second idea", &sources::too_long());
}

#[test]
fn every_file_says_what_it_is() {
    demand_none("begin with `//!`", &sources::without_head());
}

#[test]
fn no_marker_and_no_mod_rs_is_left_behind() {
    demand_none("finish it, or say it in an issue", &sources::markers());
}

#[test]
fn every_source_file_is_reachable() {
    demand_none("no `mod` declares it", &sources::unreachable());
}

#[test]
fn nothing_names_a_machine() {
    demand_none("a path or host of one machine", &text::machine_names());
}

#[test]
fn every_document_that_is_linked_exists() {
    demand_none("a link that leads nowhere", &text::dead_links());
}

#[test]
fn the_rules_find_what_they_are_for() {
    assert_eq!(
        sources::impurities("fn f() { std::time::Instant::now(); }\n"),
        ["Instant"]
    );
    assert_eq!(
        sources::impurities("// an Instant in a comment\n"),
        Vec::<&str>::new()
    );
    assert_eq!(
        sources::impurities("#[cfg(test)]\nmod tests { use std::fs; }\n"),
        Vec::<&str>::new()
    );
    assert_eq!(
        sources::code_lines("//! a\nfn f() {}\n#[cfg(test)]\nmod tests {\n}\n"),
        2
    );
    assert_eq!(
        text::links("see [a](docs/a.md) and [b](https://x)"),
        ["docs/a.md"]
    );
}
