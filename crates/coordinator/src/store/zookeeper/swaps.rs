//! Many changes in one transaction behind a check of the candidate. One that cannot be made undoes them all: then each
//! is asked for by itself, all at once.

use std::collections::BTreeSet;

use zookeeper_client::{Client, CreateMode, Error, MultiWriter};

use crate::{
    limits::{STORE_TXN_BYTES, STORE_TXN_SWAPS},
    store::{
        StoreError, Swap, Swapped,
        zookeeper::{
            failure::{bounded, is_session_over, parts},
            place::{Place, version},
            session::Session,
        },
    },
};

/// How many of the next changes go into one transaction: at least one, and no key twice.
pub(super) fn in_one(swaps: &[Swap]) -> usize {
    let mut keys = BTreeSet::new();
    let mut bytes = 0;
    let fit = swaps.iter().take(STORE_TXN_SWAPS).take_while(|swap| {
        bytes += swap.value.len();
        keys.insert(&swap.key) && (keys.len() == 1 || bytes <= STORE_TXN_BYTES)
    });
    fit.count()
}

/// Makes the changes of one transaction, and adds an outcome for each.
pub(super) async fn swap(
    place: &Place,
    session: &Session,
    swaps: &[Swap],
    outcomes: &mut Vec<Swapped>,
) -> Result<(), StoreError> {
    let client = session.client().ok_or(StoreError::NotActive)?;
    let all = transaction(place, &client, session, swaps)?.commit();
    match bounded(all).await.map_err(parts) {
        Ok(_) => {
            outcomes.extend(swaps.iter().map(made));
            Ok(())
        }
        Err((Some(at @ 1..), error)) if is_conflict(swaps.get(at - 1), &error) => {
            each(place, &client, session, swaps, outcomes).await
        }
        Err(failed) => Err(refused(place, session, swaps, failed)),
    }
}

/// Asks for each change by itself. All are sent before the first answer is waited for.
async fn each(
    place: &Place,
    client: &Client,
    session: &Session,
    swaps: &[Swap],
    outcomes: &mut Vec<Swapped>,
) -> Result<(), StoreError> {
    let mut sent = Vec::with_capacity(swaps.len());
    for swap in swaps {
        let one = std::slice::from_ref(swap);
        sent.push(transaction(place, client, session, one)?.commit());
    }
    for (swap, answer) in swaps.iter().zip(sent) {
        let outcome = match bounded(answer).await.map_err(parts) {
            Ok(_) => made(swap),
            Err((Some(1), error)) if is_conflict(Some(swap), &error) => {
                let path = place.row(&swap.key)?;
                let found = bounded(client.check_stat(&path)).await;
                let found = found.map_err(|error| place.error(&path, &error))?;
                Swapped::Conflict(found.as_ref().map_or(0, version))
            }
            Err(failed) => {
                let one = std::slice::from_ref(swap);
                return Err(refused(place, session, one, failed));
            }
        };
        outcomes.push(outcome);
    }
    Ok(())
}

fn made(swap: &Swap) -> Swapped {
    // A data version goes up by one with each change.
    Swapped::Stored(swap.expected + 1)
}

/// Whether that is how ZooKeeper says that a row has another version.
fn is_conflict(swap: Option<&Swap>, error: &Error) -> bool {
    match error {
        Error::NodeExists | Error::BadVersion => true,
        // A row that is to be made anew has no folder; one that is to be changed is not there.
        Error::NoNode => swap.is_some_and(|swap| swap.expected > 0),
        _ => false,
    }
}

/// Why a transaction was not made, for the caller. Ends the session if that is why.
fn refused(
    place: &Place,
    session: &Session,
    swaps: &[Swap],
    (at, error): (Option<usize>, Error),
) -> StoreError {
    if is_session_over(&error) || (at == Some(0) && matches!(error, Error::NoNode)) {
        session.tenure.end();
        return StoreError::NotActive;
    }
    let row = at.and_then(|at| swaps.get(at.checked_sub(1)?));
    let path = row.and_then(|swap| place.row(&swap.key).ok());
    place.error(path.as_ref().unwrap_or(&session.candidate), &error)
}

fn transaction<'a>(
    place: &Place,
    client: &'a Client,
    session: &Session,
    swaps: &[Swap],
) -> Result<MultiWriter<'a>, StoreError> {
    let mut writer = client.new_multi_writer();
    let options = CreateMode::Persistent.with_acls(place.rights(false));
    let mut add = |path: &str, swap: Option<&Swap>| match swap {
        None => writer.add_check_version(path, -1),
        Some(swap) if swap.expected == 0 => writer.add_create(path, &swap.value, &options),
        Some(swap) => {
            // One that is out of range is none of ZooKeeper's, and no row has it.
            let expected = i32::try_from(swap.expected - 1).unwrap_or(i32::MAX);
            writer.add_set_data(path, &swap.value, Some(expected))
        }
    };
    add(&session.candidate, None).map_err(|error| place.error(&session.candidate, &error))?;
    for swap in swaps {
        let path = place.row(&swap.key)?;
        add(&path, Some(swap)).map_err(|error| place.error(&path, &error))?;
    }
    Ok(writer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_holds_so_much_and_no_key_twice() {
        let swap = |key: &str, bytes: usize| Swap {
            key: key.to_owned(),
            expected: 0,
            value: vec![0; bytes].into(),
        };
        assert_eq!(
            in_one(&[swap("a", 0), swap("b", 0), swap("a", 0), swap("c", 0)]),
            2
        );
        let many: Vec<Swap> = (0..300).map(|count| swap(&count.to_string(), 9)).collect();
        assert_eq!(in_one(&many), STORE_TXN_SWAPS);
        let large = [swap("a", STORE_TXN_BYTES), swap("b", 1)];
        assert_eq!(in_one(&large), 1);
        assert_eq!(in_one(&[swap("a", STORE_TXN_BYTES + 1)]), 1);
    }
}
