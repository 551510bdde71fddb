//! The outcomes of a batch's commands. Mostly all are equal, and then they take no memory each.

use quorate_message::Outcome;

/// One outcome per command, in their order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcomes {
    /// All the same.
    All {
        /// The outcome of each.
        outcome: Outcome,
        /// How many.
        count: usize,
    },
    /// One by one.
    Each(Vec<Outcome>),
}

impl Outcomes {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::Each(Vec::new())
    }

    /// Adds the outcome of the next command.
    pub fn push(&mut self, next: Outcome) {
        match self {
            Self::Each(each) if each.is_empty() => {
                *self = Self::All {
                    outcome: next,
                    count: 1,
                };
            }
            Self::Each(each) => each.push(next),
            Self::All { outcome, count } if *outcome == next => *count += 1,
            Self::All { outcome, count } => {
                let mut each = vec![*outcome; *count];
                each.push(next);
                *self = Self::Each(each);
            }
        }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::All { count, .. } => *count,
            Self::Each(each) => each.len(),
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The outcome of the command with this ordinal.
    #[must_use]
    pub fn get(&self, ordinal: usize) -> Option<Outcome> {
        match self {
            Self::All { outcome, count } => (ordinal < *count).then_some(*outcome),
            Self::Each(each) => each.get(ordinal).copied(),
        }
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = Outcome> + '_ {
        (0..self.len()).filter_map(|ordinal| self.get(ordinal))
    }
}

impl Default for Outcomes {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_come_back_in_order() {
        let pushed = [
            Outcome::Stored,
            Outcome::Stored,
            Outcome::Duplicate,
            Outcome::Stored,
        ];
        for upto in 0..=pushed.len() {
            let mut outcomes = Outcomes::new();
            pushed[..upto].iter().for_each(|next| outcomes.push(*next));
            assert_eq!(outcomes.iter().collect::<Vec<_>>(), &pushed[..upto]);
        }
    }
}
