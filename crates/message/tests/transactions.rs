//! The commands of transactions: they come back as they were written, and stand only where they may.

#![expect(clippy::unwrap_used, reason = "a test may fail by it")]

use quorate_message::{
    Attempt, Batch, BatchBuilder, BatchError, BatchFull, Command, Decision, Destination,
    MessagePosition, ProducerId, Publication, Settlement, TransactionId,
};

const ID: TransactionId = TransactionId {
    origin: ProducerId([7; 16]),
    number: 3,
};

fn attempt() -> Attempt {
    Attempt::new(1_000, 5)
}

fn orders() -> Destination {
    "orders".parse().unwrap()
}

fn publish(builder: &mut BatchBuilder, body: &[u8]) -> Result<u16, BatchFull> {
    let destination = orders();
    let publication = Publication {
        destination: &destination,
        producer: ID.origin,
        number: ID.number,
        priority: 4,
        expires_at_ms: 0,
        is_retained: false,
    };
    builder.publish(&publication, body)
}

fn accept(builder: &mut BatchBuilder) {
    let position = MessagePosition::new(9, 1);
    let settlement = Settlement::Accept;
    builder
        .settle(&orders().name, position, settlement)
        .unwrap();
}

#[test]
fn commands_come_back() {
    let mut builder = BatchBuilder::persistent();
    builder.prepare((ID, attempt()), Some(8), 2).unwrap();
    publish(&mut builder, b"body").unwrap();
    accept(&mut builder);
    let batch = Batch::parse(builder.finish()).unwrap();
    assert!(batch.is_transaction());
    assert_eq!(
        batch.command(0),
        Some(Command::Prepare {
            transaction: ID,
            attempt: attempt(),
            owner: Some(8),
            part: 2
        })
    );
    assert_eq!(batch.message(1).as_deref(), Some(&b"body"[..]));

    builder.commit((ID, attempt()), 1, &[2, 9]).unwrap();
    accept(&mut builder);
    let batch = Batch::parse(builder.finish()).unwrap();
    assert!(batch.is_transaction());
    assert_eq!(batch.participants(0), [2, 9]);
    assert!(batch.participants(1).is_empty());

    builder.prepare((ID, attempt()), None, 0).unwrap();
    let batch = Batch::parse(builder.finish()).unwrap();
    let command = batch.command(0).unwrap();
    assert!(matches!(command, Command::Prepare { owner: None, .. }));

    builder.forget(ID, attempt(), 2).unwrap();
    let finish = Decision::Rollback;
    builder.finish_transaction(ID, attempt(), finish).unwrap();
    builder.roll_back(ID, attempt()).unwrap();
    publish(&mut builder, b"other").unwrap();
    let batch = Batch::parse(builder.finish()).unwrap();
    assert!(!batch.is_transaction());
    let commands: Vec<Command> = batch.commands().map(|(_, command)| command).collect();
    let (transaction, attempt) = (ID, attempt());
    assert_eq!(
        commands[..3],
        [
            Command::Forget {
                transaction,
                attempt,
                participant: 2
            },
            Command::Finish {
                transaction,
                attempt,
                decision: Decision::Rollback
            },
            Command::Decide {
                transaction,
                attempt,
                decision: Decision::Rollback,
                parts: 0
            },
        ]
    );
    assert_eq!(batch.message(3).as_deref(), Some(&b"other"[..]));
}

#[test]
fn what_heads_a_transaction_stands_first_and_alone() {
    let mut builder = BatchBuilder::persistent();
    publish(&mut builder, b"body").unwrap();
    let late = builder.prepare((ID, attempt()), None, 0);
    assert_eq!(late, Err(BatchFull::Full));
    builder.finish();

    let position = MessagePosition::new(9, 1);
    for spoil in [
        |builder: &mut BatchBuilder| builder.purge(&orders().name),
        |builder: &mut BatchBuilder| builder.forget(ID, attempt(), 2),
        |builder: &mut BatchBuilder| builder.roll_back(ID, attempt()),
        |builder: &mut BatchBuilder| builder.checkpoint(None),
    ] {
        builder.commit((ID, attempt()), 0, &[]).unwrap();
        spoil(&mut builder).unwrap();
        let error = Batch::parse(builder.finish()).unwrap_err();
        let field = "place in the transaction";
        assert_eq!(error, BatchError::Command { ordinal: 1, field });
    }
    builder.commit((ID, attempt()), 0, &[]).unwrap();
    let settlement = Settlement::Return;
    builder
        .settle(&orders().name, position, settlement)
        .unwrap();
    assert!(Batch::parse(builder.finish()).is_err());
    assert!(
        BatchBuilder::transient()
            .commit((ID, attempt()), 0, &[])
            .is_err()
    );
}

#[test]
fn the_largest_message_fits_behind_a_head() {
    let mut builder = BatchBuilder::persistent();
    builder.commit((ID, attempt()), 0, &[1, 2, 3]).unwrap();
    publish(&mut builder, &vec![1; 1536 * 1024]).unwrap();
    assert_eq!(publish(&mut builder, b"more"), Err(BatchFull::Full));
    assert!(Batch::parse(builder.finish()).is_ok());
}

#[test]
fn every_changed_byte_is_refused_or_read_without_trouble() {
    let mut builder = BatchBuilder::persistent();
    builder.commit((ID, attempt()), 1, &[2, 9]).unwrap();
    accept(&mut builder);
    publish(&mut builder, b"body").unwrap();
    let bytes = builder.finish();
    for at in 0..bytes.len() {
        for flip in [1, 2, 16, 128, 255] {
            let mut changed = bytes.to_vec();
            changed[at] ^= flip;
            if let Ok(batch) = Batch::parse(changed.into()) {
                for (ordinal, _) in batch.commands() {
                    let _participants = batch.participants(ordinal);
                    let _body = batch.body(ordinal);
                }
            }
        }
    }
}
