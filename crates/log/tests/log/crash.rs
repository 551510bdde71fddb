//! Power cuts at any operation, several in the life of a log.

use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};
use proptest::test_runner::Config;
use quorate_log::{Finding, LogError, Opened, ShardLog};
use quorate_replication::{Claim, Entry, Index, Position, Write, WriteId};

use crate::memory_disk::{Dice, MemoryDisk};
use crate::{claim, entry, open, position, read_all};

#[derive(Clone, Debug)]
enum Step {
    Append(Vec<usize>),
    Cut(u64),
    NextEpoch,
    Bound(u64),
    Sync,
    Prepare,
}

/// What may be found after a crash.
#[derive(Clone, Debug, Default)]
struct Model {
    /// All that was written.
    written: Vec<Entry>,
    /// So many of them are durable.
    durable: usize,
    promise: Claim,
    bound: Option<Position>,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => proptest::collection::vec(prop_oneof![4 => 0_usize..700, 1 => 0_usize..9000], 1..6).prop_map(Step::Append),
        1 => any::<u64>().prop_map(Step::Cut),
        1 => Just(Step::NextEpoch),
        1 => (0_u64..100).prop_map(Step::Bound),
        4 => Just(Step::Sync),
        2 => Just(Step::Prepare),
    ]
}

/// Carries out a step; `before` and `after` say what a crash in it may leave.
fn carry_out(
    log: &mut ShardLog,
    id: &mut u64,
    step: &Step,
    before: &Model,
) -> (Model, Result<(), LogError>) {
    let mut after = before.clone();
    let end = before
        .written
        .last()
        .map(Entry::position)
        .unwrap_or_default();
    let epoch = before.promise.epoch.0;
    let write = match step {
        Step::Append(sizes) => {
            let entries: Vec<Entry> = (end.index.0 + 1..)
                .zip(sizes)
                .map(|(index, size)| entry(epoch, index, *size))
                .collect();
            after.written.extend(entries.iter().cloned());
            Write::Append(entries)
        }
        Step::Cut(random) => {
            let kept = usize::try_from(random % (before.written.len() as u64 + 1)).unwrap();
            after.written.truncate(kept);
            // A cut comes with the first append of a higher epoch.
            after.durable = if kept < before.written.len() {
                kept
            } else {
                before.durable
            };
            Write::Cut {
                after: Index(kept as u64),
            }
        }
        Step::NextEpoch => {
            after.promise = claim(epoch + 1);
            after.durable = after.written.len();
            Write::Promise(after.promise)
        }
        Step::Bound(ahead) => {
            after.bound = Some(position(epoch, end.index.0 + ahead));
            Write::Bound(after.bound.unwrap())
        }
        Step::Sync => {
            after.durable = after.written.len();
            return (after, log.sync().map(|_| ()));
        }
        Step::Prepare => return (after, log.prepare()),
    };
    *id += 1;
    (after, log.write(&[(WriteId(*id), write)]))
}

fn is_prefix(found: &[Entry], of: &[Entry]) -> bool {
    found.len() <= of.len() && found == &of[..found.len()]
}

fn check(opened: &Opened, before: &Model, after: &Model, seed: u64) -> Model {
    let found = read_all(&opened.log);
    let at_least = before.durable.min(after.durable).min(after.written.len());
    assert!(
        found.len() >= at_least,
        "seed {seed}: {} of {at_least} durable entries",
        found.len()
    );
    assert!(
        is_prefix(&found, &before.written) || is_prefix(&found, &after.written),
        "seed {seed}: found what was not written"
    );
    let recovered = &opened.recovered;
    assert_eq!(
        recovered.end,
        found.last().map(Entry::position).unwrap_or_default(),
        "seed {seed}"
    );
    assert!(!recovered.impaired, "seed {seed}: {:?}", opened.findings);
    assert!(
        !opened.findings.iter().any(Finding::is_damage),
        "seed {seed}: {:?}",
        opened.findings
    );
    let promise = recovered.promise.unwrap();
    assert!(
        promise == before.promise || promise == after.promise,
        "seed {seed}: promise {promise}"
    );
    assert!(
        recovered.bound == before.bound || recovered.bound == after.bound,
        "seed {seed}"
    );
    let mut epochs: Vec<_> = found
        .iter()
        .map(|entry| (entry.epoch, entry.index))
        .collect();
    epochs.dedup_by_key(|(epoch, _)| *epoch);
    assert_eq!(recovered.epochs, epochs, "seed {seed}");
    Model {
        durable: found.len(),
        written: found,
        promise,
        bound: recovered.bound,
    }
}

fn run(steps: &[Step], lives: u64, seed: u64) {
    let mut dice = Dice(seed);
    let disk = MemoryDisk::default();
    let mut opened = open(&disk);
    let mut model = Model {
        promise: claim(1),
        ..Model::default()
    };
    for life in 0..=lives {
        let mut id = 0;
        if life < lives {
            disk.light_fuse(1 + dice.next() % 90);
        }
        let mut ends = (model.clone(), model.clone());
        for step in steps {
            let (after, outcome) = carry_out(&mut opened.log, &mut id, step, &model);
            ends = (model, after.clone());
            model = after;
            if outcome.is_err() {
                assert!(disk.is_dead(), "seed {seed}: {outcome:?}");
                break;
            }
            ends.0.clone_from(&model);
            ends.0.durable = ends.0.durable.min(model.durable);
        }
        drop(opened);
        disk.crash(&mut dice);
        // Recovery itself may be cut short as well.
        if dice.below(3) == 0 {
            disk.light_fuse(1 + dice.next() % 30);
            let again = std::panic::catch_unwind(|| open(&disk));
            drop(again);
            disk.crash(&mut dice);
        }
        opened = open(&disk);
        model = check(&opened, &ends.0, &ends.1, seed);
    }
}

proptest! {
    #![proptest_config(Config { cases: 300, failure_persistence: None, ..Config::default() })]

    #[test]
    fn a_crash_at_any_operation_leaves_all_that_was_synced(
        steps in proptest::collection::vec(step(), 1..60),
        lives in 1_u64..5,
        seed in any::<u64>(),
    ) {
        run(&steps, lives, seed);
    }
}
