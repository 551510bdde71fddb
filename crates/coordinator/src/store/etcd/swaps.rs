//! Many changes in one transaction, each judged for itself: the outer one compares the fence, and holds one inner
//! transaction for each change, which compares the version.

use std::collections::BTreeSet;

use etcd_client::{Compare, CompareOp, GetOptions, Txn, TxnOp, TxnOpResponse, TxnResponse};

use crate::{
    limits::STORE_TXN_SWAPS,
    store::{
        StoreError, Swap, Swapped,
        etcd::{place::Place, revision, version},
    },
};

/// How many of the next changes go into one transaction: at least one, and no key twice.
pub(super) fn in_one(swaps: &[Swap]) -> usize {
    let mut keys = BTreeSet::new();
    swaps
        .iter()
        .take(STORE_TXN_SWAPS)
        .take_while(|swap| keys.insert(&swap.key))
        .count()
}

pub(super) fn txn(place: &Place, fence: Compare, swaps: &[Swap]) -> Result<Txn, StoreError> {
    let mut each = Vec::with_capacity(swaps.len());
    for swap in swaps {
        let key = place.key(&swap.key);
        let expected = i64::try_from(swap.expected).map_err(|_| {
            StoreError::Broken(format!(
                "version {} of {key} is none of etcd's",
                swap.expected
            ))
        })?;
        let found = GetOptions::new().with_keys_only();
        each.push(TxnOp::txn(
            Txn::new()
                // A key that is not there has revision 0.
                .when([Compare::mod_revision(
                    key.clone(),
                    CompareOp::Equal,
                    expected,
                )])
                .and_then([TxnOp::put(key.clone(), swap.value.to_vec(), None)])
                .or_else([TxnOp::get(key, Some(found))]),
        ));
    }
    Ok(Txn::new().when([fence]).and_then(each))
}

/// Reads the outcomes out of the answer to a transaction whose fence held.
pub(super) fn outcomes(
    answer: &TxnResponse,
    count: usize,
    outcomes: &mut Vec<Swapped>,
) -> Result<(), StoreError> {
    let strange = || StoreError::Away("an answer that does not fit its question".to_owned());
    let stored = version(revision(answer.header())?);
    let each = answer.op_responses();
    if each.len() != count {
        return Err(strange());
    }
    for one in each {
        let TxnOpResponse::Txn(one) = one else {
            return Err(strange());
        };
        if one.succeeded() {
            outcomes.push(Swapped::Stored(stored));
            continue;
        }
        let responses = one.op_responses();
        let Some(TxnOpResponse::Get(found)) = responses.first() else {
            return Err(strange());
        };
        let found = found
            .kvs()
            .first()
            .map_or(0, |kv| version(kv.mod_revision()));
        outcomes.push(Swapped::Conflict(found));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_holds_so_many_and_no_key_twice() {
        let swap = |key: &str| Swap {
            key: key.to_owned(),
            expected: 0,
            value: bytes::Bytes::new(),
        };
        assert_eq!(in_one(&[swap("a"), swap("b"), swap("a"), swap("c")]), 2);
        let many: Vec<Swap> = (0..300).map(|count| swap(&count.to_string())).collect();
        assert_eq!(in_one(&many), STORE_TXN_SWAPS);
        assert_eq!(in_one(&many[..7]), 7);
    }
}
