//! Commands about a transaction as a whole; messages and acknowledgements name theirs.

use super::Header;
use crate::openwire::ids::{ConnectionId, TransactionId};
use crate::openwire::structure::{codes, structure};

codes! {
    /// What happens to a transaction.
    pub enum TransactionOperation {
        /// It begins; nobody waits for an answer.
        Begin = 0,
        /// It is to be ready for either end; the answer is an integer, 3 where nothing was done in it.
        Prepare = 1,
        /// It is done, without having been prepared.
        CommitOnePhase = 2,
        /// It is done, as prepared.
        CommitTwoPhase = 3,
        /// It is undone.
        Rollback = 4,
        /// Which ones are prepared? The answer is an array of their ids.
        Recover = 5,
        /// An end that was decided without asking may be forgotten.
        Forget = 6,
        /// The client's work in it is over.
        End = 7,
    }
}

structure! {
    /// A transaction begins, is prepared, ends.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct TransactionInfo = 7 {
        /// Number and response.
        pub header: Header,
        /// The connection.
        pub connection_id: Option<ConnectionId>,
        /// The transaction; none where all are meant.
        pub transaction_id: Option<TransactionId>,
        /// What happens to it.
        pub operation: TransactionOperation,
    }
}
