//! The words of names that move from shard to shard.

use quorate_broker::{Input, Outcomes};
use quorate_message::{
    Batch, BatchBuilder, Command, Destination, DestinationName, Outcome, ProducerId, Publication,
    Relocating, Relocation, Step,
};

use super::{Stage, identity, name, number};

impl Stage {
    /// `step STEP NAME NUMBER FROM TO`, `came NAME FROM NUMBER COUNT DUE`, `asked NAME applied|refused|lost`.
    pub(super) fn relocation(&mut self, words: &[&str], shown: &mut String) -> bool {
        match words {
            ["step", step, at, count, from, to] => {
                let relocating = Relocating {
                    number: number(count),
                    from: u32::try_from(number(from)).unwrap(),
                    to: u32::try_from(number(to)).unwrap(),
                };
                let (step, body): (Step, &[u8]) = match *step {
                    "leave" => (Step::Leave, &[]),
                    "expect" => (Step::Expect, &[0]),
                    "cut" => (Step::Cut, &[]),
                    // Not paused, without groups; of the producer `p` the numbers up to 7.
                    "adopt" => (Step::Adopt, &ADOPTED),
                    "open" => (Step::Open, &[]),
                    _ => (Step::Depart, &[]),
                };
                let mut builder = BatchBuilder::persistent();
                let at = Destination::queue(name(at));
                builder.relocate(&at, step, relocating, body).unwrap();
                self.commit(&mut builder, shown);
            }
            ["came", at, from, count, returned, due] => {
                let publication = Publication {
                    destination: &Destination::queue(name(at)),
                    producer: ProducerId::of_shard(u32::try_from(number(from)).unwrap()),
                    number: number(count),
                    priority: 4,
                    expires_at_ms: 0,
                    is_retained: false,
                };
                let relocation = Relocation {
                    count: u32::try_from(number(returned)).unwrap(),
                    was_sent: true,
                    due_ms: number(due),
                    ..Relocation::default()
                };
                let text = format!("came-{count}");
                let mut builder = BatchBuilder::persistent();
                builder
                    .publish_relocated(&publication, &relocation, text.as_bytes())
                    .unwrap();
                self.commit(&mut builder, shown);
            }
            ["asked", at, how] => {
                let all = |outcome| Some(Outcomes::All { outcome, count: 1 });
                let outcomes = match *how {
                    "applied" => all(Outcome::Applied),
                    "refused" => all(Outcome::LimitReached),
                    _ => None,
                };
                let name = name(at);
                self.tell(Input::Asked { name, outcomes }, shown);
            }
            _ => return false,
        }
        true
    }
}

/// See above.
const ADOPTED: [u8; 21] = {
    let mut body = [0; 21];
    body[2] = 1;
    body[3] = b'p';
    body[19] = 7;
    body
};

/// What another shard is asked.
pub(super) fn show_ask(shard: u32, about: &DestinationName, batch: &Batch) -> String {
    let steps = batch.commands().filter_map(|(ordinal, command)| {
        let bytes = batch.body(ordinal).map_or(0, |body| body.len());
        match command {
            Command::Relocate { step, .. } => Some(format!(" {step:?} with {bytes} bytes")),
            _ => None,
        }
    });
    let steps: String = steps.collect();
    format!("ask shard {shard} about {about}:{steps}")
}

#[test]
fn the_numbers_of_an_adopted_producer_are_those_of_p() {
    assert_eq!(ADOPTED[3..19], identity("p"));
}
