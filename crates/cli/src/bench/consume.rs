//! One consumer of a bench: reads when each message was due, and accepts it.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use quorate_client::{Consumer, Error};
use tokio::sync::Notify;

use super::produce::micros;

/// Bytes at the beginning of a body that hold the time: nanoseconds since the begin of the bench.
pub(super) const STAMP_BYTES: usize = 8;

/// Writes the time into the beginning of a body.
pub(super) fn stamp(body: &mut [u8], begin: Instant, at: Instant) {
    let nanos = u64::try_from(at.saturating_duration_since(begin).as_nanos()).unwrap_or(u64::MAX);
    if let Some(place) = body.first_chunk_mut::<STAMP_BYTES>() {
        *place = nanos.to_le_bytes();
    }
}

fn read_stamp(body: &[u8]) -> Option<Duration> {
    let nanos = u64::from_le_bytes(*body.first_chunk::<STAMP_BYTES>()?);
    Some(Duration::from_nanos(nanos))
}

/// What all consumers together have received.
#[derive(Debug)]
pub(super) struct Consumed {
    begin: Instant,
    /// Messages that were due from this moment on have their latency taken; none, if their bodies carry no time.
    counted_from: Option<Instant>,
    count: AtomicU64,
    changed: Notify,
    /// Microseconds of each message that counts.
    latencies: Mutex<Vec<u64>>,
}

impl Consumed {
    /// Of messages whose bodies say when they were due.
    pub(super) fn stamped(begin: Instant, counted_from: Instant) -> Self {
        Self::new(begin, Some(counted_from))
    }

    /// Of messages that are only counted.
    pub(super) fn counted() -> Self {
        Self::new(Instant::now(), None)
    }

    fn new(begin: Instant, counted_from: Option<Instant>) -> Self {
        Self {
            begin,
            counted_from,
            count: AtomicU64::new(0),
            changed: Notify::new(),
            latencies: Mutex::default(),
        }
    }

    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Waits until so many are received.
    pub(super) async fn reach(&self, count: u64) {
        while self.count() < count {
            self.changed.notified().await;
        }
    }

    /// Adds the latencies to a histogram, and returns how many there were.
    pub(super) fn add_to(&self, histogram: &mut Histogram<u64>) -> anyhow::Result<u64> {
        let latencies = self
            .latencies
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for latency in latencies.iter() {
            histogram.record(*latency)?;
        }
        Ok(latencies.len() as u64)
    }
}

/// Receives until it is stopped.
pub(super) async fn run(mut consumer: Consumer, consumed: Arc<Consumed>) -> Result<(), Error> {
    let mut latencies = Vec::new();
    loop {
        let mut next = Some(consumer.receive().await?);
        let now = Instant::now();
        let mut count = 0;
        while let Some(delivery) = next {
            consumer.accept(&delivery);
            count += 1;
            if let Some(counted_from) = consumed.counted_from
                && let Some(due) = read_stamp(&delivery.message.body)
                && consumed.begin + due >= counted_from
            {
                latencies.push(micros(now.saturating_duration_since(consumed.begin + due)));
            }
            next = consumer.try_receive();
        }
        consumed
            .latencies
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .append(&mut latencies);
        consumed.count.fetch_add(count, Ordering::Relaxed);
        consumed.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_read_back() {
        let begin = Instant::now();
        let mut body = [7; 20];
        stamp(&mut body, begin, begin + Duration::from_micros(1500));
        assert_eq!(read_stamp(&body), Some(Duration::from_micros(1500)));
        assert_eq!(body[STAMP_BYTES..], [7; 12]);
        assert_eq!(read_stamp(&body[..7]), None);
    }
}
