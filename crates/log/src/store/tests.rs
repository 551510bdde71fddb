//! One suite for both stores: the same operations give the same answers, also after opening again.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};
use proptest::test_runner::Config;

use crate::store::{CheckpointStore, RedbStore, SledStore};

#[derive(Clone, Debug)]
enum Step {
    Put(Vec<(u8, u8, usize)>),
    Delete(u8),
    Get(u8),
    Range(u8, u8, usize),
    Flush,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        vec((any::<u8>(), any::<u8>(), 0_usize..300), 0..5).prop_map(Step::Put),
        any::<u8>().prop_map(Step::Delete),
        any::<u8>().prop_map(Step::Get),
        (any::<u8>(), any::<u8>(), 0_usize..20)
            .prop_map(|(first, end, limit)| Step::Range(first, end, limit)),
        Just(Step::Flush),
        Just(Step::Reopen),
    ]
}

fn key(key: u8) -> Vec<u8> {
    vec![key / 16; usize::from(key % 16) + 1]
}

fn pairs(pairs: &[(u8, u8, usize)]) -> Vec<(Vec<u8>, Bytes)> {
    let pair =
        |(name, value, length): &(u8, u8, usize)| (key(*name), Bytes::from(vec![*value; *length]));
    pairs.iter().map(pair).collect()
}

/// Runs the steps against a store and against a map.
fn conforms(open: &dyn Fn() -> Box<dyn CheckpointStore>, steps: &[Step]) {
    let mut store = open();
    let mut map = BTreeMap::new();
    for step in steps {
        match step {
            Step::Put(values) => {
                store.put_batch(&pairs(values)).unwrap();
                map.extend(pairs(values));
            }
            Step::Delete(name) => {
                store.delete(&key(*name)).unwrap();
                map.remove(&key(*name));
            }
            Step::Get(name) => {
                assert_eq!(
                    store.get(&key(*name)).unwrap().as_ref(),
                    map.get(&key(*name))
                );
            }
            Step::Range(first, end, limit) => {
                let (first, end) = (key(*first), key(*end));
                let found = store.range(&first, &end, *limit).unwrap();
                let within = map.iter().filter(|(key, _)| **key >= first && **key < end);
                let expected: Vec<_> = within
                    .take(*limit)
                    .map(|(key, value)| (key.clone(), value.clone()))
                    .collect();
                assert_eq!(found, expected);
            }
            Step::Flush => store.flush_durable().unwrap(),
            Step::Reopen => {
                store.flush_durable().unwrap();
                drop(store);
                store = open();
            }
        }
    }
    let all = store.range(&[], &[255; 40], usize::MAX).unwrap();
    assert_eq!(all, map.into_iter().collect::<Vec<_>>());
}

proptest! {
    #![proptest_config(Config { cases: 16, failure_persistence: None, ..Config::default() })]

    #[test]
    fn both_stores_answer_as_a_map_does(steps in vec(step(), 1..40)) {
        let folder = tempfile::tempdir().unwrap();
        let sled = folder.path().join("sled");
        conforms(&|| Box::new(SledStore::open(&sled).unwrap()), &steps);
        let redb = folder.path().join("redb");
        conforms(&|| Box::new(RedbStore::open(&redb).unwrap()), &steps);
    }
}
