//! The spans of batches that belong to a trace, each until the outcome of its batch is told.
//!
//! One span stands for a batch, not for a message, and batches without a trace leave nothing here.

use std::collections::BTreeMap;

use quorate_broker::SessionId;
use tracing::Span;

use crate::{limits::TRACED_BATCHES_MAX, shard::effect::SessionEvent};

/// Batches by session and number.
#[derive(Debug, Default)]
pub(super) struct TracedBatches {
    spans: BTreeMap<(SessionId, u64), Span>,
}

impl TracedBatches {
    /// A batch arrived. Above the bound the span of the oldest session is cut short.
    pub(super) fn begin(&mut self, batch: (SessionId, u64), span: Span) {
        if span.is_disabled() {
            return;
        }
        self.spans.insert(batch, span);
        if self.spans.len() > TRACED_BATCHES_MAX {
            self.spans.pop_first();
        }
    }

    /// A session is told something: the span of the batch that it is about ends.
    pub(super) fn end(&mut self, session: SessionId, event: &SessionEvent) {
        if self.spans.is_empty() {
            return;
        }
        match event {
            SessionEvent::Outcomes { number, .. }
            | SessionEvent::NotLeading { number, .. }
            | SessionEvent::Overloaded { number, .. }
            | SessionEvent::Malformed { number, .. } => {
                self.spans.remove(&(session, *number));
            }
            SessionEvent::Attached { .. }
            | SessionEvent::AttachRefused { .. }
            | SessionEvent::Moved(..)
            | SessionEvent::Waiting { .. }
            | SessionEvent::Recalled { .. }
            | SessionEvent::Deliver { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span() -> Span {
        tracing::info_span!("store")
    }

    #[test]
    fn a_span_is_kept_until_its_batch_is_answered() {
        tracing::subscriber::with_default(tracing_subscriber::registry(), || {
            let mut traced = TracedBatches::default();
            traced.begin((SessionId(1), 1), Span::none());
            assert!(traced.spans.is_empty(), "no trace");
            traced.begin((SessionId(1), 2), span());
            traced.begin((SessionId(2), 2), span());
            let overloaded = |number| SessionEvent::Overloaded {
                number,
                reason: "full",
            };
            traced.end(SessionId(1), &overloaded(1));
            assert_eq!(traced.spans.len(), 2);
            traced.end(SessionId(1), &overloaded(2));
            assert!(traced.spans.keys().eq(&[(SessionId(2), 2)]));
        });
    }

    #[test]
    fn batches_without_an_answer_do_not_pile_up() {
        tracing::subscriber::with_default(tracing_subscriber::registry(), || {
            let mut traced = TracedBatches::default();
            for number in 0..=TRACED_BATCHES_MAX as u64 {
                traced.begin((SessionId(1), number), span());
            }
            assert_eq!(traced.spans.len(), TRACED_BATCHES_MAX);
        });
    }
}
