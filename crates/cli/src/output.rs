//! Printing results: tables for people, one JSON value for programs.

use std::io::{self, Write};

use serde::Serialize;

/// Prints one value as JSON, indented.
pub(crate) fn json(value: &impl Serialize) -> anyhow::Result<()> {
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    write(&text)
}

/// Prints one line.
pub(crate) fn line(text: &str) -> anyhow::Result<()> {
    write(&format!("{text}\n"))
}

/// Prints rows under a head, in columns as wide as they need to be; numbers to the right.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> anyhow::Result<()> {
    write(&columns(head, rows))
}

fn write(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()?;
    Ok(())
}

fn columns(head: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells
            .map(|cell| cell.chars().count())
            .chain(head.get(column).map(|title| title.chars().count()))
            .max()
            .unwrap_or(0)
    };
    let is_number = |column: usize| {
        !rows.is_empty()
            && rows
                .iter()
                .filter_map(|row| row.get(column))
                .all(|cell| cell.parse::<u64>().is_ok() || cell == "-")
    };
    let mut text = String::new();
    let titles: Vec<String> = head.iter().map(ToString::to_string).collect();
    for row in std::iter::once(&titles).chain(rows) {
        let cells: Vec<String> = row
            .iter()
            .enumerate()
            .map(|(column, cell)| {
                let width = width(column);
                if is_number(column) {
                    format!("{cell:>width$}")
                } else {
                    format!("{cell:<width$}")
                }
            })
            .collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_numbers_to_the_right() {
        let rows = [
            vec!["orders".to_owned(), "5".to_owned(), "x".to_owned()],
            vec!["a".to_owned(), "12345".to_owned(), String::new()],
        ];
        assert_eq!(
            columns(&["QUEUE", "COUNT", "NOTE"], &rows),
            "QUEUE   COUNT  NOTE\norders      5  x\na       12345\n"
        );
        assert_eq!(columns(&["QUEUE"], &[]), "QUEUE\n");
    }
}
