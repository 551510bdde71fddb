//! The words of names that move from shard to shard.

use std::fmt::Write as _;

use quorate_broker::{Input, Outcomes};
use quorate_message::{
    Batch, BatchBuilder, Command, Destination, DestinationName, Outcome, ProducerId, Publication,
    Relocating, Relocation, Step,
};

use super::{Stage, identity, name, number};

impl Stage {
    /// `step STEP NAME NUMBER FROM TO`, `expect NAME NUMBER FROM TO ENTRY [paused]`, `came NAME FROM NUMBER COUNT DUE`,
    /// `asked NAME applied|refused|lost`, `route NAME`, `standing NAME`.
    pub(super) fn relocation(&mut self, words: &[&str], shown: &mut String) -> bool {
        match words {
            ["step", step, at, count, from, to] => {
                let (step, body): (Step, &[u8]) = match *step {
                    "leave" => (Step::Leave, &[]),
                    "expect" => (Step::Expect, &[0, 0]),
                    "ship" => (Step::Ship, &[0x7f]),
                    "stay" => (Step::Stay, &[7]),
                    "cut" => (Step::Cut, &[]),
                    // Without groups; of the producer `p` the numbers up to 7.
                    "adopt" => (Step::Adopt, &ADOPTED),
                    "open" => (Step::Open, &[]),
                    "depart" => (Step::Depart, &[]),
                    other => panic!("`{other}` is no step"),
                };
                self.log_step(at, (step, body), &[count, from, to], shown);
            }
            ["expect", at, count, from, to, as_of, rest @ ..] => {
                let mut body = vec![u8::try_from(number(as_of)).unwrap(), 1, 1];
                body.push(u8::try_from(at.len()).unwrap());
                body.extend_from_slice(at.as_bytes());
                // Nothing of the source's outbox.
                body.extend([u8::from(rest == ["paused"]), 0, 0]);
                self.log_step(at, (Step::Expect, &body), &[count, from, to], shown);
            }
            ["route", at] => {
                let to = Destination::queue(name(at));
                writeln!(shown, "{:?}", self.broker.route(&to)).unwrap();
            }
            ["standing", at] => {
                let status = self.broker.relocation(&name(at));
                let standing = status.map(|status| status.standing);
                writeln!(shown, "{standing:?}").unwrap();
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

    fn log_step(
        &mut self,
        at: &str,
        (step, body): (Step, &[u8]),
        numbers: &[&str; 3],
        shown: &mut String,
    ) {
        let [count, from, to] = numbers.map(number);
        let relocating = Relocating {
            number: count,
            from: u32::try_from(from).unwrap(),
            to: u32::try_from(to).unwrap(),
        };
        let mut builder = BatchBuilder::persistent();
        let at = Destination::queue(name(at));
        builder.relocate(&at, step, relocating, body).unwrap();
        self.commit(&mut builder, shown);
    }
}

/// See above.
const ADOPTED: [u8; 20] = {
    let mut body = [0; 20];
    body[1] = 1;
    body[2] = b'p';
    body[18] = 7;
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
    assert_eq!(ADOPTED[2..18], identity("p"));
}
