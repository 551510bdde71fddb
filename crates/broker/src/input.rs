//! What a broker is told. Inputs are facts.

use bytes::Bytes;
use quorate_message::{
    Batch, ConsumerId, Destination, DestinationName, GatewayId, MessagePosition, Outcome,
};

use crate::{Outcomes, Resolution, Terms};

/// A gateway's connection to this node, by the number that it chose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// How much may be sent: a message is sent while both are above zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Credit {
    /// Messages.
    pub messages: u32,
    /// Bytes.
    pub bytes: u64,
}

/// Messages that a gateway settles for a consumer that does not claim them any longer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Leaving {
    /// Who had them.
    pub consumer: ConsumerId,
    /// Their queue, or the subscription.
    pub queue: Destination,
    /// The gateway's number in the batch that settles them; 0: none.
    pub number: u64,
    /// The messages.
    pub positions: Vec<MessagePosition>,
}

/// An input of [`crate::Broker::step`]. Only `Committed` changes the replicated state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// An entry with commands is committed. Entries come in the order of their index, each once.
    Committed {
        /// Its index.
        entry: u64,
        /// Its stamp, in milliseconds since 1970.
        stamp_ms: u64,
        /// Its commands.
        batch: Batch,
    },
    /// This replica serves as leader: its first entry of the epoch, and all before, are applied.
    Serving {
        /// The epoch.
        epoch: u64,
        /// Index of its first entry. What was stored before may have been sent by an earlier leader.
        at: u64,
    },
    /// Right behind `Serving`: what the leader before knew beyond the log, which ends where it ended for that one. Then
    /// nobody is waited for. What cannot be read is ignored.
    HandedOver {
        /// What `Broker::hand_over` gave.
        image: Bytes,
    },
    /// Nothing is delivered, proposed or given up until `Thaw`: what the leader knows is about to be handed over. Only
    /// entries and messages that were read come meanwhile.
    Freeze,
    /// It goes on as leader.
    Thaw,
    /// This replica leads no longer.
    Deposed,
    /// It is known whether another leader took over what this replica knew when it was deposed while frozen.
    TakenOver {
        /// Whether it did.
        is_taken: bool,
    },
    /// Whether a commit quorum has answered lately. Without, nothing is delivered. Held from `Serving` on.
    Lease {
        /// Whether it has.
        held: bool,
    },
    /// A session is one of this gateway. Without it a session's consumers are served at once, and no later leader
    /// waits for them.
    Joined {
        /// The session.
        session: SessionId,
        /// Whose it is.
        gateway: GatewayId,
    },
    /// A gateway tells what it settles and does not claim: until those settlements are applied, nobody gets these
    /// messages. Comes before the attachments of its consumers.
    Reporting {
        /// Its session.
        session: SessionId,
        /// It starts over: what it does not name again is settled.
        is_first: bool,
        /// The messages.
        leaving: Vec<Leaving>,
    },
    /// A gateway has attached all its consumers and told what it settles: it holds nothing else.
    Reported {
        /// Its session.
        session: SessionId,
    },
    /// A gateway ends, with everything settled; it does not come back.
    Left {
        /// Its session.
        session: SessionId,
    },
    /// A consumer wants messages of a queue. Replaces its attachment of a lower generation.
    Attach {
        /// The session through which it is reached.
        session: SessionId,
        /// The consumer.
        consumer: ConsumerId,
        /// Rises with each attachment; a lower one is ignored.
        generation: u64,
        /// The queue or subscription.
        queue: Destination,
        /// What may be sent to it.
        credit: Credit,
        /// What it holds: those that it got and that have no answered settlement. They stay in its hands and are
        /// not sent again; whatever else it had goes back to the queue.
        held: Vec<MessagePosition>,
        /// On what terms it takes messages.
        terms: Terms,
        /// Its credit is one of several shards' share: it is told when a message waits for more, and may take credit
        /// back.
        shares_credit: bool,
    },
    /// What is left of a consumer's credit is wanted back. Answered by `Effect::Recalled`.
    Recall {
        /// Its session; another one is ignored.
        session: SessionId,
        /// The consumer.
        consumer: ConsumerId,
        /// Its attachment; another one is ignored.
        generation: u64,
    },
    /// A consumer leaves of its own will. What its client had in hand was settled before; the rest goes back as if it
    /// had never been sent.
    Detach {
        /// Its session.
        session: SessionId,
        /// The consumer.
        consumer: ConsumerId,
        /// The attachment that ends; a lower one than the present is ignored.
        generation: u64,
    },
    /// A session is gone. Its consumers may come back through another for a while; then what they had is returned.
    SessionLost {
        /// The session.
        session: SessionId,
    },
    /// More may be sent to a consumer.
    Credited {
        /// Its session; credit that comes through another is ignored.
        session: SessionId,
        /// The consumer.
        consumer: ConsumerId,
        /// How much more.
        credit: Credit,
    },
    /// A transient batch: non-persistent messages and settlements of such.
    Transient {
        /// Who gets the answer.
        session: SessionId,
        /// Names the batch in the answer.
        number: u64,
        /// The commands; `batch.is_transient()`.
        batch: Batch,
    },
    /// Answer to `Effect::Fetch`, in one or several parts, until each position was answered.
    Fetched {
        /// What was found.
        messages: Vec<(MessagePosition, Bytes)>,
        /// What could not be read. It is asked for again after a pause if it is still wanted.
        missing: Vec<MessagePosition>,
    },
    /// Answer to `Effect::Forward`: what became of its messages.
    Forwarded {
        /// The target.
        target: Destination,
        /// By number, ascending.
        outcomes: Vec<(u64, Outcome)>,
    },
    /// Answer to `Effect::Forward`: nothing was done, since the target cannot be reached or takes nothing now.
    ForwardRefused {
        /// The target.
        target: Destination,
    },
    /// Answer to `Effect::Ask`.
    Asked {
        /// The name that moves.
        name: DestinationName,
        /// What became of the commands; none: nothing was done, since the other shard cannot be reached or takes nothing
        /// now.
        outcomes: Option<Outcomes>,
    },
    /// The leader of another shard asks or tells about a transaction. May be lost, late and repeated.
    Resolve {
        /// The other shard.
        from: u32,
        /// What it says.
        message: Resolution,
    },
    /// The deadline has passed. Every other input looks at the time as well.
    Elapsed,
}
