//! What comes while a leadership is moved: kept in order, and taken up later by this leader, or refused when another one
//! leads. What finds no room is refused at once: whoever asks tries again.

use quorate_broker::SessionId;
use quorate_message::GatewayId;
use quorate_replication::ShardId;

use super::{
    Shard,
    between::ShardMessage,
    effect::{Act, BrowsePage, Effect, Note, SessionEvent},
    input::{BrowseQuery, Clock, Input, SessionRequest, Submission},
    moving::{self, MovePage, MoveQuery},
    note_all,
    submit::to_session,
};
use crate::limits::{HANDOVER_HELD_BYTES, HANDOVER_HELD_MAX};

/// What was kept.
#[derive(Debug, Default)]
pub(super) struct Holding {
    inputs: Vec<Held>,
    size_bytes: usize,
}

/// What sessions, operators and other shards ask: all that can be kept.
#[derive(Debug)]
enum Held {
    Submitted(Vec<Submission>),
    Session {
        session: SessionId,
        gateway: GatewayId,
        request: SessionRequest,
    },
    SessionLost(SessionId),
    Browse(BrowseQuery),
    Move(Box<MoveQuery>),
    FromShard {
        from: ShardId,
        message: ShardMessage,
    },
}

impl Held {
    /// Gives back what is not to be kept.
    #[expect(
        clippy::result_large_err,
        reason = "an input that comes back is used at once; boxing it would cost every input"
    )]
    fn of(input: Input) -> Result<Self, Input> {
        Ok(match input {
            Input::Submitted(submissions) => Self::Submitted(submissions),
            Input::Session {
                session,
                gateway,
                request,
            } => Self::Session {
                session,
                gateway,
                request,
            },
            Input::SessionLost { session } => Self::SessionLost(session),
            Input::Browse(query) => Self::Browse(query),
            Input::Move(query) => Self::Move(query),
            Input::FromShard { from, message } => Self::FromShard { from, message },
            Input::Peer { .. }
            | Input::Order(_)
            | Input::Persisted(_)
            | Input::Loaded { .. }
            | Input::CheckpointLoaded { .. }
            | Input::CheckpointSaved { .. }
            | Input::SegmentsDropped { .. }
            | Input::InstallWritten { .. }
            | Input::InstallFailed { .. }
            | Input::InstallCommitted { .. }
            | Input::Placed(_)
            | Input::Governed(_)
            | Input::Damaged
            | Input::Space { .. }
            | Input::ClockJudged(_)
            | Input::Elapsed { .. } => return Err(input),
        })
    }

    fn size_bytes(&self) -> usize {
        match self {
            Self::Submitted(submissions) => submissions.iter().map(|one| one.batch.len()).sum(),
            Self::FromShard {
                message: ShardMessage::Submit { batch, .. },
                ..
            } => batch.len(),
            Self::FromShard { .. }
            | Self::Session { .. }
            | Self::SessionLost(_)
            | Self::Browse(_)
            | Self::Move(_) => 0,
        }
    }
}

impl From<Held> for Input {
    fn from(held: Held) -> Self {
        match held {
            Held::Submitted(submissions) => Self::Submitted(submissions),
            Held::Session {
                session,
                gateway,
                request,
            } => Self::Session {
                session,
                gateway,
                request,
            },
            Held::SessionLost(session) => Self::SessionLost { session },
            Held::Browse(query) => Self::Browse(query),
            Held::Move(query) => Self::Move(query),
            Held::FromShard { from, message } => Self::FromShard { from, message },
        }
    }
}

impl Shard {
    /// Keeps what is not to be taken now. Gives back what is.
    pub(super) fn hold(&mut self, input: Input, out: &mut Vec<Effect>) -> Option<Input> {
        if !self.handover.is_frozen() {
            return Some(input);
        }
        let held = match Held::of(input) {
            Ok(held) => held,
            Err(input) => return Some(input),
        };
        let holding = &mut self.holding;
        let bytes = held.size_bytes();
        let is_full = holding.inputs.len() >= HANDOVER_HELD_MAX
            || holding.size_bytes + bytes > HANDOVER_HELD_BYTES;
        // The end of a session takes no room that its beginning did not have.
        if is_full && !matches!(held, Held::SessionLost(_)) {
            self.refuse(held, out);
        } else {
            holding.size_bytes += bytes;
            holding.inputs.push(held);
        }
        None
    }

    /// Takes up what was kept, once this leader goes on or is none any longer.
    pub(super) fn take_up_held(&mut self, now: Clock, out: &mut Vec<Effect>) {
        if self.holding.inputs.is_empty() || self.handover.is_frozen() {
            return;
        }
        self.holding.size_bytes = 0;
        for held in std::mem::take(&mut self.holding.inputs) {
            self.take(now, held.into(), out);
        }
    }

    fn refuse(&mut self, held: Held, out: &mut Vec<Effect>) {
        let epoch = self.replica.epoch();
        match held {
            Held::Submitted(submissions) => {
                let reason = "shard: its leadership is being moved";
                out.extend(submissions.into_iter().map(|one| {
                    let number = one.number;
                    to_session(one.session, SessionEvent::Overloaded { number, reason })
                }));
            }
            Held::Session { session, .. } => {
                // What it reports is not whole then: it starts over.
                self.deliveries.torn.insert(session);
                let event = SessionEvent::NotLeading { number: 0, epoch };
                out.push(to_session(session, event));
            }
            Held::SessionLost(_) => {}
            Held::Browse(query) => out.push(Effect {
                after: None,
                act: Act::BrowsePage {
                    query: query.query,
                    page: BrowsePage::Overloaded,
                },
            }),
            Held::Move(query) => out.push(moving::page(query.query, MovePage::Overloaded)),
            // Told again by whoever says it.
            Held::FromShard { .. } => {
                note_all(
                    Some(Note::Dropped("message of a shard: too many wait")),
                    out,
                );
            }
        }
    }
}
