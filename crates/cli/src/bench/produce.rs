//! One producer of a bench: a window of futures, each with the moment that its latency counts from.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use bytes::{Bytes, BytesMut};
use hdrhistogram::Histogram;
use indicatif::ProgressBar;
use quorate_client::{Confirm, Error, OutboundMessage, Producer};
use tokio::sync::watch;

use super::{consume::stamp, mix::Mix};
use crate::limits::PACE;

/// When a producer ends.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stop {
    At(Instant),
    After(u64),
}

/// What one producer does.
#[derive(Debug)]
pub(super) struct Workload {
    pub(super) producer: Producer,
    pub(super) queue: String,
    pub(super) window: usize,
    pub(super) size: usize,
    /// Begin of the bench, if bodies are to carry the time.
    pub(super) stamped_from: Option<Instant>,
    pub(super) non_persistent: bool,
    /// What sets the messages apart from each other.
    pub(super) mix: Option<Mix>,
    /// Messages from this moment on are counted.
    pub(super) counted_from: Instant,
    pub(super) stop: Stop,
    pub(super) bar: ProgressBar,
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Produced {
    /// Microseconds.
    pub(super) latency: Histogram<u64>,
    pub(super) confirmed: u64,
    /// Confirmed, those of the warm-up included.
    pub(super) stored: u64,
    pub(super) errors: u64,
    pub(super) first_error: Option<Error>,
    pub(super) last_confirm: Instant,
}

struct Running {
    workload: Workload,
    body: Bytes,
    sent: u64,
    unconfirmed: VecDeque<(Confirm, Instant)>,
    produced: Produced,
}

impl Workload {
    /// Sends until the end and returns when everything is confirmed or failed.
    pub(super) async fn run(self, pace: Option<Schedule>) -> Result<Produced> {
        let mut running = Running {
            body: Bytes::from(filler(self.size)),
            sent: 0,
            unconfirmed: VecDeque::with_capacity(self.window),
            produced: Produced {
                latency: Histogram::new(3).context("make a histogram")?,
                confirmed: 0,
                stored: 0,
                errors: 0,
                first_error: None,
                last_confirm: self.counted_from,
            },
            workload: self,
        };
        match pace {
            None => running.closed_loop().await?,
            Some(schedule) => running.open_loop(schedule).await?,
        }
        while !running.unconfirmed.is_empty() {
            running.oldest().await?;
        }
        Ok(running.produced)
    }
}

impl Running {
    async fn closed_loop(&mut self) -> Result<()> {
        loop {
            let now = Instant::now();
            let over = match self.workload.stop {
                Stop::At(end) => now >= end,
                Stop::After(messages) => self.sent >= messages,
            };
            if over {
                return Ok(());
            }
            if self.unconfirmed.len() < self.workload.window {
                self.send(now).await?;
            } else {
                self.oldest().await?;
            }
        }
    }

    async fn open_loop(&mut self, mut schedule: Schedule) -> Result<()> {
        let Stop::At(end) = self.workload.stop else {
            return Ok(());
        };
        loop {
            let due = schedule.due(self.sent);
            if due >= end {
                return Ok(());
            }
            if due <= Instant::now() {
                if self.unconfirmed.len() < self.workload.window {
                    self.send(due).await?;
                } else {
                    self.oldest().await?;
                }
                continue;
            }
            let Some((confirm, _)) = self.unconfirmed.front_mut() else {
                schedule.tick().await?;
                continue;
            };
            tokio::select! {
                biased;
                outcome = confirm => self.settled(outcome)?,
                ticked = schedule.tick() => ticked?,
            }
        }
    }

    async fn send(&mut self, counts_from: Instant) -> Result<()> {
        let body = match self.workload.stamped_from {
            None => self.body.clone(),
            Some(begin) => {
                let mut body = BytesMut::from(&self.body[..]);
                stamp(&mut body, begin, counts_from);
                body.freeze()
            }
        };
        let mut message = OutboundMessage::bytes(self.workload.queue.clone(), body);
        message.non_persistent = self.workload.non_persistent;
        if let Some(mix) = &self.workload.mix {
            mix.apply(&mut message, self.sent);
        }
        let confirm = self.workload.producer.send(message).await?;
        self.sent += 1;
        self.unconfirmed.push_back((confirm, counts_from));
        Ok(())
    }

    async fn oldest(&mut self) -> Result<()> {
        if let Some((confirm, _)) = self.unconfirmed.front_mut() {
            let outcome = confirm.await;
            self.settled(outcome)?;
        }
        Ok(())
    }

    fn settled(&mut self, outcome: Result<(), Error>) -> Result<()> {
        let Some((_, counts_from)) = self.unconfirmed.pop_front() else {
            return Ok(());
        };
        let now = Instant::now();
        match outcome {
            Ok(()) => {
                self.produced.stored += 1;
                if self.produced.stored.is_multiple_of(1024) {
                    self.workload.bar.inc(1024);
                }
                if counts_from >= self.workload.counted_from {
                    let micros = micros(now.saturating_duration_since(counts_from));
                    self.produced.latency.record(micros)?;
                    self.produced.confirmed += 1;
                    self.produced.last_confirm = now;
                }
            }
            Err(error) => {
                self.produced.errors += 1;
                self.produced.first_error.get_or_insert(error);
            }
        }
        Ok(())
    }
}

/// Returns whole microseconds.
pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Bytes that look like nothing in particular, the same in every run.
fn filler(size: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    (0..size)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[0]
        })
        .collect()
}

/// The moments of an open loop, and a thread that says when some have passed: the runtime's own timer counts in
/// milliseconds, which would be seen in the latencies.
#[derive(Debug)]
pub(super) struct Pace {
    started: Instant,
    /// Between two messages of all producers.
    interval: Duration,
    producers: usize,
    ticks: watch::Receiver<()>,
}

impl Pace {
    pub(super) fn start(started: Instant, rate: f64, producers: usize) -> Self {
        let (sender, ticks) = watch::channel(());
        std::thread::spawn(move || {
            while !sender.is_closed() {
                std::thread::park_timeout(PACE);
                sender.send_replace(());
            }
        });
        Self {
            started,
            interval: Duration::from_secs_f64(1.0 / rate),
            producers,
            ticks,
        }
    }

    /// Returns the schedule of one producer: the producers take turns.
    pub(super) fn of(&self, number: usize) -> Result<Schedule> {
        let producers = u32::try_from(self.producers)?;
        Ok(Schedule {
            first: self.started + self.interval * u32::try_from(number)?,
            interval: self.interval * producers,
            ticks: self.ticks.clone(),
        })
    }
}

/// When each message of one producer is due.
#[derive(Debug)]
pub(super) struct Schedule {
    first: Instant,
    interval: Duration,
    ticks: watch::Receiver<()>,
}

impl Schedule {
    fn due(&self, message: u64) -> Instant {
        let nanos = self.interval.as_nanos().saturating_mul(u128::from(message));
        self.first + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    async fn tick(&mut self) -> Result<()> {
        self.ticks.changed().await.context("the pace thread ended")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_schedule_is_fixed_whatever_happens_and_shared_in_turns() {
        let started = Instant::now();
        let pace = Pace::start(started, 1000.0, 4);
        let due = |producer, message| pace.of(producer).expect("a schedule").due(message) - started;
        assert_eq!(due(0, 0), Duration::ZERO);
        assert_eq!(due(3, 0), Duration::from_millis(3));
        assert_eq!(due(0, 1), Duration::from_millis(4));
        assert_eq!(due(2, 250), Duration::from_millis(1002));
        let mut schedule = pace.of(0).expect("a schedule");
        schedule.tick().await.expect("it ticks");
    }

    #[test]
    fn filler_does_not_compress_to_nothing() {
        let bytes = filler(1024);
        let distinct: std::collections::BTreeSet<&u8> = bytes.iter().collect();
        assert!(distinct.len() > 200);
    }
}
