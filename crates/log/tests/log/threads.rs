//! Writers and readers on a real disk, and the checkpoints there.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use bytes::Bytes;
use quorate_log::{CheckpointMark, Checkpoints, NodeDisk, Readers, RealDisk, SledStore, Writers};
use quorate_replication::{DiskId, Index, ShardId, Write, WriteId};

use crate::{SMALL, claim, entry, mark, read_all};

const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn writers_report_every_shard_in_order_and_readers_read_beside_them() {
    let folder = tempfile::tempdir().unwrap();
    let disk = RealDisk::open(folder.path()).unwrap();
    assert!(
        RealDisk::open(folder.path()).is_err(),
        "one process at a time"
    );
    let node = NodeDisk::open_sized(disk, "test", DiskId(1), SMALL).unwrap();
    let (tx, reports) = mpsc::channel();
    let report = move |shard, outcome: Result<WriteId, quorate_log::LogError>| {
        tx.send((shard, outcome.unwrap()))
            .expect("the test listens");
    };
    let writers = Writers::start(2, Box::new(report));
    let readers = Readers::start(2);
    let mut handles = Vec::new();
    for shard in 1..=4 {
        let shard = ShardId(shard);
        node.create_shard(shard, claim(1)).unwrap();
        let opened = node.open_shard(shard, CheckpointMark::default()).unwrap();
        handles.push(opened.log.reader());
        writers.adopt(opened.log);
    }
    for number in 1..=200 {
        for shard in 1..=4 {
            let write = Write::Append(vec![entry(1, number, 100 + number as usize)]);
            writers.submit(ShardId(shard), vec![(WriteId(number), write)]);
        }
    }
    let mut durable = [WriteId(0); 4];
    while durable.iter().any(|id| *id < WriteId(200)) {
        let (shard, id) = reports.recv_timeout(PATIENCE).unwrap();
        let at = shard.0 as usize - 1;
        assert!(id > durable[at], "reports of a shard ascend");
        durable[at] = id;
        let (reader, (tx, rx)) = (handles[at].clone(), mpsc::channel());
        readers
            .run(Box::new(move || {
                drop(tx.send(reader.read_entries(&[Index(id.0)]).unwrap()));
            }))
            .unwrap();
        assert_eq!(
            rx.recv_timeout(PATIENCE).unwrap(),
            [entry(1, id.0, 100 + id.0 as usize)]
        );
    }
    let (tx, rx) = mpsc::channel();
    writers.run(
        ShardId(2),
        Box::new(move |log| tx.send(log.end().index).unwrap()),
    );
    assert_eq!(rx.recv_timeout(PATIENCE).unwrap(), Index(200));
    let log = writers.release(ShardId(3)).unwrap();
    assert_eq!(read_all(&log).len(), 200);
    assert!(writers.release(ShardId(3)).is_none());
}

#[test]
fn checkpoints_are_found_after_opening_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let shard = ShardId(3);
    let state = |seed: u8| {
        Bytes::from(
            (0..700_000_u32)
                .map(|at| seed ^ at as u8)
                .collect::<Vec<u8>>(),
        )
    };
    {
        let checkpoints = Checkpoints::new(Arc::new(SledStore::open(&path).unwrap()));
        assert_eq!(checkpoints.load(shard).unwrap(), None);
        checkpoints.save(shard, mark(1, 10), &state(1)).unwrap();
        checkpoints
            .save(ShardId(4), mark(1, 11), &Bytes::new())
            .unwrap();
        checkpoints.save(shard, mark(2, 20), &state(2)).unwrap();
    }
    let store = Arc::new(SledStore::open(&path).unwrap());
    let checkpoints = Checkpoints::new(Arc::clone(&store) as _);
    let found = checkpoints.load(shard).unwrap().unwrap();
    assert_eq!((found.mark, found.state), (mark(2, 20), state(2)));
    assert_eq!(
        checkpoints.load(ShardId(4)).unwrap().unwrap().mark,
        mark(1, 11)
    );
    // Heads of two, and the three pieces of the newest.
    let all = quorate_log::CheckpointStore::range(store.as_ref(), &[], &[255], 100).unwrap();
    assert_eq!(all.len(), 5);
    checkpoints.remove(shard).unwrap();
    assert_eq!(checkpoints.load(shard).unwrap(), None);
}
