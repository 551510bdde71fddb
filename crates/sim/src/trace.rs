//! What happened, as a running hash and, if wanted, as lines. Two runs of one seed must have the same hash.

use std::fmt;

use crate::rng::finish;
use crate::schedule::Moment;

/// Lines kept of a run that was not asked for a trace: what a failure prints.
const TAIL_LINES: usize = 400;

/// The trace of one run.
#[derive(Debug)]
pub struct Trace {
    hash: u64,
    events: u64,
    mode: Mode,
    tail: std::collections::VecDeque<String>,
}

/// What is done with the lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Only the hash is kept; the cheapest.
    Hash,
    /// The last lines are kept for a failure.
    Tail,
    /// Every line is printed as it comes.
    Print,
    /// The same, with every operation of the disks.
    PrintAll,
}

impl Trace {
    /// An empty trace.
    #[must_use]
    pub fn new(mode: Mode) -> Self {
        Self {
            hash: 0,
            events: 0,
            mode,
            tail: std::collections::VecDeque::new(),
        }
    }

    /// Adds what a step did, as numbers; cheap enough for every step.
    pub fn mix(&mut self, words: &[u64]) {
        self.events += 1;
        for word in words {
            self.hash = finish(self.hash.rotate_left(5) ^ *word);
        }
    }

    /// Adds a line; the text is made only if somebody reads it.
    pub fn line(&mut self, now: Moment, text: &dyn fmt::Display) {
        match self.mode {
            Mode::Hash => {}
            Mode::Tail => {
                if self.tail.len() == TAIL_LINES {
                    self.tail.pop_front();
                }
                self.tail.push_back(format!("{:>10.3} {text}", millis(now)));
            }
            Mode::Print | Mode::PrintAll => print_line(&format!("{:>10.3} {text}", millis(now))),
        }
    }

    /// What is done with the lines.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Whether lines are read by anybody.
    #[must_use]
    pub fn is_read(&self) -> bool {
        self.mode != Mode::Hash
    }

    /// The hash of everything so far.
    #[must_use]
    pub fn hash(&self) -> u64 {
        finish(self.hash ^ self.events)
    }

    /// How many steps were added.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.events
    }

    /// The last lines.
    pub fn tail(&self) -> impl Iterator<Item = &str> {
        self.tail.iter().map(String::as_str)
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a time for the eye, in milliseconds"
)]
fn millis(now: Moment) -> f64 {
    now as f64 / 1_000.0
}

#[expect(clippy::print_stdout, reason = "the trace that was asked for")]
pub(crate) fn print_line(line: &str) {
    println!("{line}");
}
