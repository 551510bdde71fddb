//! Messages from input, one for each line, read on a thread of its own so that a slow input never holds up the
//! connection.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::Path,
};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::limits::{LINE_BYTES, PART_LINES, PARTS_AHEAD};

/// Lines that were there at once, without their ends.
pub(crate) type Part = Vec<Bytes>;

/// Opens a file and returns its lines and its size.
pub(crate) fn of_file(path: &Path) -> Result<(Receiver<Result<Part>>, Option<u64>)> {
    let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    let size = file
        .metadata()
        .ok()
        .filter(|metadata| metadata.is_file())
        .map(|metadata| metadata.len());
    Ok((start(file)?, size))
}

/// Returns the lines of standard input.
pub(crate) fn of_stdin() -> Result<Receiver<Result<Part>>> {
    start(io::stdin())
}

fn start(input: impl Read + Send + 'static) -> Result<Receiver<Result<Part>>> {
    let (sender, receiver) = channel(PARTS_AHEAD);
    std::thread::Builder::new()
        .name("input".to_owned())
        .spawn(move || {
            if let Err(error) = read(BufReader::with_capacity(256 * 1024, input), &sender) {
                // Nobody listens any longer if this fails.
                let _unheard = sender.blocking_send(Err(error));
            }
        })
        .context("start reading")?;
    Ok(receiver)
}

fn read(mut input: impl BufRead, sender: &Sender<Result<Part>>) -> Result<()> {
    let mut number = 0_u64;
    let mut unfinished = Vec::new();
    loop {
        let available = match input.fill_buf() {
            Ok(available) => available,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error).context("read input"),
        };
        if available.is_empty() {
            break;
        }
        let taken = available.len();
        let mut part = Part::new();
        for piece in available.split_inclusive(|byte| *byte == b'\n') {
            unfinished.extend_from_slice(piece);
            if unfinished.len() > LINE_BYTES {
                bail!("line {} is longer than {LINE_BYTES} bytes", number + 1);
            }
            if unfinished.last() == Some(&b'\n') {
                unfinished.pop();
                number += 1;
                part.push(Bytes::copy_from_slice(&unfinished));
                unfinished.clear();
            }
            if part.len() == PART_LINES
                && sender.blocking_send(Ok(std::mem::take(&mut part))).is_err()
            {
                return Ok(());
            }
        }
        input.consume(taken);
        if !part.is_empty() && sender.blocking_send(Ok(part)).is_err() {
            return Ok(());
        }
    }
    if !unfinished.is_empty() {
        // If nobody listens any longer, there is nothing left to do either.
        let _unheard = sender.blocking_send(Ok(vec![Bytes::from(unfinished)]));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines_of(input: &'static [u8]) -> Result<Vec<String>> {
        let mut receiver = start(input)?;
        let mut lines = Vec::new();
        while let Some(part) = receiver.blocking_recv() {
            lines.extend(
                part?
                    .iter()
                    .map(|line| String::from_utf8_lossy(line).into_owned()),
            );
        }
        Ok(lines)
    }

    #[test]
    fn lines_come_without_their_ends_and_empty_ones_count() {
        assert_eq!(
            lines_of(b"a\n\nb\r\nc").expect("text"),
            ["a", "", "b\r", "c"]
        );
        assert_eq!(lines_of(b"a\n").expect("text"), ["a"]);
        assert!(lines_of(b"").expect("text").is_empty());
        let many: &'static [u8] = Box::leak(vec![b'\n'; 1_000_000].into_boxed_slice());
        assert_eq!(lines_of(many).expect("text").len(), 1_000_000);
    }

    #[test]
    fn an_endless_line_is_an_error_that_names_it() {
        let endless: &'static [u8] = Box::leak(vec![b'x'; LINE_BYTES + 1].into_boxed_slice());
        let error = lines_of(endless).expect_err("too long");
        assert!(error.to_string().contains("line 1 is longer"), "{error}");
    }
}
