//! The queue of what will happen, in virtual time. Two things due at one moment happen in the order in which they were
//! scheduled, so that a run depends on the seed alone.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// A moment of the simulation in microseconds; every node's clock is derived from it.
pub type Moment = u64;

/// Things that will happen, the earliest first.
#[derive(Debug)]
pub struct Schedule<T> {
    heap: BinaryHeap<Due<T>>,
    now: Moment,
    scheduled: u64,
}

impl<T> Default for Schedule<T> {
    fn default() -> Self {
        Self {
            heap: BinaryHeap::new(),
            now: 0,
            scheduled: 0,
        }
    }
}

impl<T> Schedule<T> {
    /// The moment of what was taken last.
    #[must_use]
    pub fn now(&self) -> Moment {
        self.now
    }

    /// Lets something happen `delay` microseconds after now.
    pub fn after(&mut self, delay: u64, what: T) {
        self.at(self.now.saturating_add(delay), what);
    }

    /// Lets something happen at this moment, or now if it has passed.
    pub fn at(&mut self, moment: Moment, what: T) {
        self.scheduled += 1;
        self.heap.push(Due {
            moment: moment.max(self.now),
            order: self.scheduled,
            what,
        });
    }

    /// Takes what happens next and moves the time there.
    pub fn take(&mut self) -> Option<T> {
        let due = self.heap.pop()?;
        self.now = due.moment;
        Some(due.what)
    }

    /// When the next thing happens.
    #[must_use]
    pub fn next_moment(&self) -> Option<Moment> {
        self.heap.peek().map(|due| due.moment)
    }

    /// How many things are waiting.
    #[must_use]
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether nothing is waiting.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }
}

#[derive(Debug)]
struct Due<T> {
    moment: Moment,
    order: u64,
    what: T,
}

impl<T> PartialEq for Due<T> {
    fn eq(&self, other: &Self) -> bool {
        (self.moment, self.order) == (other.moment, other.order)
    }
}

impl<T> Eq for Due<T> {}

impl<T> PartialOrd for Due<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Due<T> {
    /// Reversed, since the heap gives its greatest first.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.moment, other.order).cmp(&(self.moment, self.order))
    }
}

#[cfg(test)]
mod tests {
    use super::Schedule;

    #[test]
    fn things_happen_in_time_order_and_then_in_the_order_of_scheduling() {
        let mut schedule = Schedule::default();
        schedule.after(5, "c");
        schedule.after(1, "a");
        schedule.after(5, "d");
        schedule.after(2, "b");
        let mut happened = Vec::new();
        while let Some(what) = schedule.take() {
            happened.push((schedule.now(), what));
        }
        assert_eq!(happened, [(1, "a"), (2, "b"), (5, "c"), (5, "d")]);
    }

    #[test]
    fn time_does_not_go_back() {
        let mut schedule = Schedule::default();
        schedule.at(10, "first");
        assert_eq!(schedule.take(), Some("first"));
        schedule.at(3, "late");
        assert_eq!(schedule.take(), Some("late"));
        assert_eq!(schedule.now(), 10);
    }
}
