//! Transactions of a client: what it sends and acknowledges in one is gathered by a call of the session machine, and
//! happens with the commit. A rollback drops that call: the client keeps the messages and delivers them again itself.
//!
//! A transaction's name is the connection's and the client's number, so that a commit that was carried out is known as
//! such at every gateway. Distributed transactions are refused: nothing of them is built.

use quorate_message::{Settlement, TransactionId as StoredId};
use quorate_wire::openwire::{
    LocalTransactionId, TransactionId, TransactionInfo, TransactionOperation,
};

use super::{
    Dialogue, Effect, Now, answering::Asked, calls::Role, consumer::Serial, exception::Exception,
};
use crate::{
    limits::TRANSACTIONS_MAX,
    openwire::translate,
    session::{self, CallId, Failure, Publication, TransactedSettlement},
};

/// A transaction.
#[derive(Debug, Default)]
pub(super) struct Transaction {
    /// None until something is done in it.
    call: Option<CallId>,
    /// What it acknowledged.
    claims: Vec<(Serial, u64)>,
    /// It cannot be committed any more.
    failed: Option<Exception>,
    /// Whoever waits for the commit.
    committing: Option<Asked>,
}

impl Transaction {
    /// Nobody waits for its commit any more.
    pub(super) fn forget_asked(&mut self) {
        self.committing = None;
    }
}

/// Why a distributed transaction cannot be.
pub(super) fn no_distributed() -> Exception {
    Exception::distributed(
        "distributed transactions are not supported; use local transactions, or a transaction manager's last resource",
    )
}

impl Dialogue {
    /// A transaction begins or ends.
    pub(super) fn transact(
        &mut self,
        now: Now,
        info: &TransactionInfo,
        asked: Asked,
        effects: &mut Vec<Effect>,
    ) {
        let id = match &info.transaction_id {
            Some(TransactionId::Local(id)) => id,
            // There is none that was prepared.
            Some(TransactionId::Xa(_)) | None
                if info.operation == TransactionOperation::Recover =>
            {
                return Self::done_with_none(asked, effects);
            }
            Some(TransactionId::Xa(_)) => return self.refuse(asked, no_distributed(), effects),
            None => {
                let exception = Exception::jms("no transaction is named");
                return self.refuse(asked, exception, effects);
            }
        };
        if let Err(exception) = self.own(&id.connection_id.value) {
            return self.refuse(asked, exception, effects);
        }
        match info.operation {
            TransactionOperation::Begin => {
                let begun = self.begin_transaction(id);
                self.answer(asked, begun, effects);
            }
            TransactionOperation::CommitOnePhase => self.commit(now, id, asked, effects),
            TransactionOperation::Rollback => {
                self.roll_back(id.value, effects);
                Self::done(asked, effects);
            }
            // Of a local one it says that its work is done.
            TransactionOperation::End => Self::done(asked, effects),
            TransactionOperation::Recover => Self::done_with_none(asked, effects),
            TransactionOperation::Prepare
            | TransactionOperation::CommitTwoPhase
            | TransactionOperation::Forget => {
                let exception = Exception::jms("a local transaction is committed in one phase");
                self.refuse(asked, exception, effects);
            }
        }
    }

    fn begin_transaction(&mut self, id: &LocalTransactionId) -> Result<(), Exception> {
        if u64::try_from(id.value).unwrap_or(0) == 0 {
            return Err(Exception::jms("transactions are numbered from 1"));
        }
        let is_known = self.transactions.contains_key(&id.value);
        if !is_known && self.transactions.len() >= TRANSACTIONS_MAX {
            return Err(Exception::shortage(format!(
                "connection has its {TRANSACTIONS_MAX} transactions; commit some, or open another connection"
            )));
        }
        self.transactions.entry(id.value).or_default();
        Ok(())
    }

    /// A message is sent in a transaction. One that cannot be sent is not left out: the transaction fails.
    pub(super) fn send_in_transaction(
        &mut self,
        id: &LocalTransactionId,
        sent: Result<Publication, Exception>,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Exception> {
        self.begun(id)?;
        let sent = sent.and_then(|publication| match publication.schedule {
            None => Ok(copies(publication)),
            Some(_) => Err(Exception::jms(format!(
                "message for {} has a schedule, which a transaction cannot have; send it by itself",
                publication.destination
            ))),
        });
        match sent {
            Ok(sends) => {
                self.add(id, sends, Vec::new(), effects);
                Ok(())
            }
            Err(exception) => {
                if let Some(transaction) = self.transactions.get_mut(&id.value) {
                    let first = || exception.clone();
                    transaction.failed.get_or_insert_with(first);
                }
                Err(exception)
            }
        }
    }

    /// Messages are acknowledged in a transaction: they are the client's until it ends.
    pub(super) fn settle_in_transaction(
        &mut self,
        id: &LocalTransactionId,
        (serial, sequences): (Serial, &[u64]),
        effects: &mut Vec<Effect>,
    ) -> Result<(), Exception> {
        self.begun(id)?;
        let Some(consumer) = self.consumers.get_mut(&serial) else {
            return Ok(());
        };
        let claimed = sequences.iter();
        let claimed = claimed.filter_map(|s| Some((*s, consumer.window.get(*s)?.position)));
        let (sequences, positions): (Vec<u64>, Vec<_>) = claimed.unzip();
        if positions.is_empty() {
            return Ok(());
        }
        let settlement = TransactedSettlement {
            consumer: Some(consumer.stored_id),
            destination: consumer.source.clone(),
            settlement: Settlement::Accept,
            positions,
        };
        for sequence in &sequences {
            consumer.window.claim(*sequence, Some(id.value));
        }
        if let Some(transaction) = self.transactions.get_mut(&id.value) {
            let claims = sequences.into_iter().map(|sequence| (serial, sequence));
            transaction.claims.extend(claims);
        }
        self.add(id, Vec::new(), vec![settlement], effects);
        Ok(())
    }

    fn begun(&self, id: &LocalTransactionId) -> Result<(), Exception> {
        self.own(&id.connection_id.value)?;
        match self.transactions.get(&id.value) {
            Some(transaction) if transaction.committing.is_none() => Ok(()),
            Some(_) => Err(Exception::jms("the transaction is being committed")),
            None => Err(Exception::jms(format!(
                "transaction {} has not been started",
                id.value
            ))),
        }
    }

    fn add(
        &mut self,
        id: &LocalTransactionId,
        sends: Vec<Publication>,
        settlements: Vec<TransactedSettlement>,
        effects: &mut Vec<Effect>,
    ) {
        let known = self.transactions.get(&id.value);
        // What has failed is not added to.
        let Some(known) = known.filter(|known| known.failed.is_none()) else {
            return;
        };
        let call = known.call;
        let call = call.unwrap_or_else(|| self.begin(Role::Transacting(id.value), effects));
        if let Some(transaction) = self.transactions.get_mut(&id.value) {
            transaction.call = Some(call);
        }
        effects.push(Effect::Tell(session::Input::Transact {
            call,
            transaction: StoredId {
                origin: translate::origin_id(&id.connection_id),
                number: u64::try_from(id.value).unwrap_or(0),
            },
            sends,
            settlements,
        }));
    }

    fn commit(
        &mut self,
        now: Now,
        id: &LocalTransactionId,
        asked: Asked,
        effects: &mut Vec<Effect>,
    ) {
        if let Err(exception) = self.begun(id) {
            let exception = Exception::rolled_back(exception.text());
            return self.refuse(asked, exception, effects);
        }
        let attempt = self.serial();
        let Some(transaction) = self.transactions.get_mut(&id.value) else {
            return;
        };
        if let Some(failed) = transaction.failed.take() {
            self.roll_back(id.value, effects);
            let text = format!("nothing of the transaction was done: {}", failed.text());
            return self.refuse(asked, Exception::rolled_back(text), effects);
        }
        let Some(call) = transaction.call else {
            self.transactions.remove(&id.value);
            return Self::done(asked, effects);
        };
        transaction.committing = Some(asked);
        effects.push(Effect::Tell(session::Input::Commit {
            call,
            wall_ms: now.wall_ms,
            nonce: mixed(self.config.seed, attempt),
        }));
    }

    /// A transaction is committed.
    pub(super) fn committed(&mut self, number: i64, effects: &mut Vec<Effect>) {
        let Some(transaction) = self.transactions.remove(&number) else {
            return;
        };
        for (serial, sequence) in &transaction.claims {
            if let Some(consumer) = self.consumers.get_mut(serial) {
                consumer.window.remove(*sequence);
            }
        }
        self.claims_ended(&transaction.claims, effects);
        if let Some(asked) = transaction.committing {
            Self::done(asked, effects);
        }
    }

    /// The call of a transaction failed, before its commit or by it.
    pub(super) fn transaction_failed(
        &mut self,
        number: i64,
        failure: &Failure,
        effects: &mut Vec<Effect>,
    ) {
        let Some(transaction) = self.transactions.get_mut(&number) else {
            return;
        };
        transaction.call = None;
        match transaction.committing.take() {
            Some(asked) => {
                self.roll_back(number, effects);
                self.refuse(asked, Exception::of_commit(failure), effects);
            }
            // The client is told when it commits.
            None => transaction.failed = Some(Exception::of_failure(failure)),
        }
    }

    /// Nothing of a transaction is done. What it acknowledged stays with the client.
    pub(super) fn roll_back(&mut self, number: i64, effects: &mut Vec<Effect>) {
        let Some(transaction) = self.transactions.remove(&number) else {
            return;
        };
        if let Some(call) = transaction.call {
            self.end(call, effects);
        }
        for (serial, sequence) in &transaction.claims {
            if let Some(consumer) = self.consumers.get_mut(serial) {
                consumer.window.claim(*sequence, None);
            }
        }
        self.claims_ended(&transaction.claims, effects);
        if let Some(asked) = transaction.committing {
            let exception = Exception::rolled_back("the transaction is rolled back");
            self.refuse(asked, exception, effects);
        }
    }

    /// Consumers go on without what a transaction had.
    fn claims_ended(&mut self, claims: &[(Serial, u64)], effects: &mut Vec<Effect>) {
        let serials: std::collections::BTreeSet<Serial> =
            claims.iter().map(|(serial, _)| *serial).collect();
        for serial in serials {
            self.give_back(serial, effects);
            self.finish_if_empty(serial, effects);
            self.lend(serial, effects);
        }
    }
}

/// One message for each of its destinations.
fn copies(mut publication: Publication) -> Vec<Publication> {
    let also = std::mem::take(&mut publication.also);
    let mut destinations = also;
    destinations.push(publication.destination.clone());
    destinations.sort_unstable();
    destinations.dedup();
    let copies = destinations.into_iter().map(|destination| Publication {
        destination,
        ..publication.clone()
    });
    copies.collect()
}

/// A number that no other attempt has (Steele, Lea, Flood: SplitMix).
fn mixed(seed: u64, attempt: u64) -> u64 {
    let mut mixed = seed.wrapping_add(attempt.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}
