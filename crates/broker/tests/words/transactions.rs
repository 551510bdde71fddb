//! The words of scenarios about transactions. `t.1@500` is transaction 1 of `t`, in the attempt that ends at 500 ms.
//!
//! ```text
//! prepare t.1@500 OWNER PART COMMAND..     OWNER: a shard, or `here`
//! decide t.1@500 PARTS SHARDS COMMAND..    SHARDS: `2,3`, or `-` for none
//! undo t.1@500 / finish t.1@500 commit|rollback / forget t.1@500 SHARD
//! hear SHARD ask|committed|undone|finished t.1@500
//! COMMAND: +QUEUE publishes, *TOPIC publishes and retains, -QUEUE:ENTRY.ORDINAL accepts, !QUEUE:ENTRY.ORDINAL rejects
//! ```

use quorate_broker::{Input, Resolution};
use quorate_message::{
    Attempt, BatchBuilder, Decision, ProducerId, Publication, Settlement, TransactionId,
};

use super::{Stage, identity, name, number, position};

type Names = (TransactionId, Attempt);

fn names(text: &str) -> Names {
    let (id, deadline) = text.split_once('@').expect("ORIGIN.NUMBER@DEADLINE");
    let (origin, count) = id.split_once('.').expect("ORIGIN.NUMBER");
    let id = TransactionId {
        origin: ProducerId(identity(origin)),
        number: number(count),
    };
    (id, Attempt::new(number(deadline), 0))
}

fn shown((id, attempt): Names) -> String {
    let origin = String::from_utf8_lossy(&id.origin.0).into_owned();
    let origin = origin.trim_end_matches('\0');
    format!("{origin}.{}@{}", id.number, attempt.deadline_ms())
}

fn decision(text: &str) -> Decision {
    match text {
        "commit" => Decision::Commit,
        _ => Decision::Rollback,
    }
}

fn shards(text: &str) -> Vec<u32> {
    let shards = text.split(',').filter(|shard| *shard != "-");
    shards.map(|shard| shard.parse().unwrap()).collect()
}

fn commands(builder: &mut BatchBuilder, (id, _): Names, commands: &[&str]) {
    for command in commands {
        let (settlement, rest) = match command.split_at(1) {
            (how @ ("+" | "*"), queue) => {
                let destination = super::destination(queue);
                let publication = Publication {
                    destination: &destination,
                    producer: id.origin,
                    number: id.number,
                    priority: 4,
                    expires_at_ms: 0,
                    is_retained: how == "*",
                };
                let body = format!("tx{}", builder.len());
                builder.publish(&publication, body.as_bytes()).unwrap();
                continue;
            }
            ("-", rest) => (Settlement::Accept, rest),
            ("!", rest) => (Settlement::Reject, rest),
            _ => panic!("`{command}` is none of +, *, - and !"),
        };
        let (queue, at) = rest.split_once(':').expect("QUEUE:POSITION");
        let at = position(at);
        builder.settle(&name(queue), at, settlement).unwrap();
    }
}

impl Stage {
    /// Carries out a command about transactions; false when it is none.
    pub(super) fn transaction(&mut self, words: &[&str], shown: &mut String) -> bool {
        let mut builder = BatchBuilder::persistent();
        match *words {
            ["prepare", text, owner, part, ref rest @ ..] => {
                let owner = (owner != "here").then(|| owner.parse().unwrap());
                let part = part.parse().unwrap();
                builder.prepare(names(text), owner, part).unwrap();
                commands(&mut builder, names(text), rest);
            }
            ["decide", text, parts, others, ref rest @ ..] => {
                let parts = parts.parse().unwrap();
                let others = shards(others);
                builder.commit(names(text), parts, &others).unwrap();
                commands(&mut builder, names(text), rest);
            }
            ["undo", text] => {
                let (id, attempt) = names(text);
                builder.roll_back(id, attempt).unwrap();
            }
            ["finish", text, how] => {
                let (id, attempt) = names(text);
                let how = decision(how);
                builder.finish_transaction(id, attempt, how).unwrap();
            }
            ["forget", text, shard] => {
                let (id, attempt) = names(text);
                builder.forget(id, attempt, shard.parse().unwrap()).unwrap();
            }
            ["hear", from, what, text] => {
                let (id, attempt) = names(text);
                let decided = |decision| Resolution::Decided {
                    id,
                    attempt,
                    decision,
                };
                let message = match what {
                    "ask" => Resolution::Ask { id, attempt },
                    "committed" => decided(Decision::Commit),
                    "undone" => decided(Decision::Rollback),
                    _ => Resolution::Finished { id, attempt },
                };
                let from = from.parse().unwrap();
                self.tell(Input::Resolve { from, message }, shown);
                return true;
            }
            _ => return false,
        }
        self.commit(&mut builder, shown);
        true
    }
}

/// What the leader tells another shard's.
pub(super) fn show(shard: u32, message: Resolution) -> String {
    match message {
        Resolution::Ask { id, attempt } => format!("ask {shard} about {}", shown((id, attempt))),
        Resolution::Decided {
            id,
            attempt,
            decision,
        } => format!("tell {shard}: {decision:?} {}", shown((id, attempt))),
        Resolution::Finished { id, attempt } => {
            format!("tell {shard}: finished {}", shown((id, attempt)))
        }
    }
}
