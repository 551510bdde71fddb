//! Which OpenWire clients are connected here: whoever comes back takes over its own connection, and a client id is had
//! by one.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Notify, watch};

use super::{dialogue::Refusal, neighbours::SeatId};
use crate::limits::TAKEOVER_TIMEOUT;

/// Clones share the table.
#[derive(Clone, Debug, Default)]
pub(crate) struct Clients(Arc<Mutex<Table>>);

#[derive(Debug, Default)]
struct Table {
    seats: BTreeMap<String, Entry>,
    /// Connection of each client id.
    by_client: BTreeMap<String, String>,
    next: u64,
}

#[derive(Debug)]
struct Entry {
    number: u64,
    client_id: Option<String>,
    peer: SocketAddr,
    leave: Arc<Notify>,
    gone: watch::Receiver<()>,
}

/// A connection's place in the table, for as long as it lives.
#[derive(Debug)]
pub(crate) struct Seat {
    clients: Clients,
    connection_id: String,
    number: u64,
    peer: SocketAddr,
    leave: Arc<Notify>,
    /// Its end tells whoever waits for the place.
    _gone: watch::Sender<()>,
}

impl Clients {
    /// Takes a place. A connection of the same id is asked to leave first, and gets some time for it.
    pub(crate) async fn take(
        &self,
        connection_id: &str,
        client_id: Option<&str>,
        peer: SocketAddr,
    ) -> Result<Seat, Refusal> {
        let deadline = tokio::time::Instant::now() + TAKEOVER_TIMEOUT;
        loop {
            let mut gone = match self.try_take(connection_id, client_id, peer) {
                Ok(seat) => return Ok(seat),
                Err(Taken::BySameClient { leave, gone }) => {
                    leave.notify_one();
                    gone
                }
                Err(Taken::ClientId(refusal)) => return Err(refusal),
            };
            // It is never changed, so that this ends with the other connection.
            let left = tokio::time::timeout_at(deadline, gone.changed()).await;
            if left.is_err() {
                self.lock().remove(connection_id, None);
            }
        }
    }

    /// Asks a connection to leave: its client has come back at another gateway.
    pub(crate) fn ask_to_leave(&self, seat: SeatId) {
        let table = self.lock();
        let mut seats = table.seats.values();
        if let Some(entry) = seats.find(|entry| SeatId(entry.number) == seat) {
            entry.leave.notify_one();
        }
    }

    fn try_take(
        &self,
        connection_id: &str,
        client_id: Option<&str>,
        peer: SocketAddr,
    ) -> Result<Seat, Taken> {
        let mut table = self.lock();
        if let Some(other) = table.seats.get(connection_id) {
            return Err(Taken::BySameClient {
                leave: Arc::clone(&other.leave),
                gone: other.gone.clone(),
            });
        }
        let holder = client_id.and_then(|id| table.by_client.get(id));
        if let Some(holder) = holder.and_then(|connection| table.seats.get(connection)) {
            return Err(Taken::ClientId(Refusal::ClientIdInUse {
                holder: holder.peer.to_string(),
            }));
        }
        let number = table.next;
        table.next += 1;
        let leave = Arc::<Notify>::default();
        let (sender, gone) = watch::channel(());
        if let Some(id) = client_id {
            let connection = connection_id.to_owned();
            table.by_client.insert(id.to_owned(), connection);
        }
        table.seats.insert(
            connection_id.to_owned(),
            Entry {
                number,
                client_id: client_id.map(str::to_owned),
                peer,
                leave: Arc::clone(&leave),
                gone,
            },
        );
        Ok(Seat {
            clients: self.clone(),
            connection_id: connection_id.to_owned(),
            number,
            peer,
            leave,
            _gone: sender,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // The table is whole before and after every call.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a place cannot be had at once.
enum Taken {
    BySameClient {
        leave: Arc<Notify>,
        gone: watch::Receiver<()>,
    },
    ClientId(Refusal),
}

impl Table {
    /// Removes a connection, if it is the one of this number.
    fn remove(&mut self, connection_id: &str, number: Option<u64>) {
        let Some(entry) = self.seats.get(connection_id) else {
            return;
        };
        if number.is_some_and(|number| number != entry.number) {
            return;
        }
        if let Some(id) = &entry.client_id
            && self.by_client.get(id).map(String::as_str) == Some(connection_id)
        {
            self.by_client.remove(id);
        }
        self.seats.remove(connection_id);
    }
}

impl Seat {
    pub(crate) fn id(&self) -> SeatId {
        SeatId(self.number)
    }

    /// Where its client is.
    pub(crate) fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Ends when another connection wants the place.
    pub(crate) async fn is_wanted(&self) {
        self.leave.notified().await;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let number = Some(self.number);
        self.clients.lock().remove(&self.connection_id, number);
    }
}

/// What a connection waits for while it has no place yet.
pub(crate) async fn is_wanted(seat: Option<&Seat>) {
    match seat {
        Some(seat) => seat.is_wanted().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    #[tokio::test]
    async fn a_client_that_comes_back_gets_its_place_when_the_earlier_connection_has_left() {
        let clients = Clients::default();
        let first = clients.take("ID:a", Some("orders"), peer(1)).await.unwrap();
        let again = {
            let clients = clients.clone();
            tokio::spawn(async move { clients.take("ID:a", Some("orders"), peer(2)).await })
        };
        first.is_wanted().await;
        assert!(!again.is_finished());
        drop(first);
        let second = again.await.unwrap().unwrap();
        assert_eq!(clients.lock().seats["ID:a"].peer, peer(2));
        drop(second);
        let table = clients.lock();
        assert!(table.seats.is_empty() && table.by_client.is_empty());
    }

    #[tokio::test]
    async fn a_connection_that_does_not_leave_is_not_waited_for_without_end() {
        let clients = Clients::default();
        let first = clients.take("ID:a", Some("orders"), peer(1)).await.unwrap();
        let second = clients.take("ID:a", Some("orders"), peer(2)).await.unwrap();
        // The late end of the first takes nothing from the second.
        drop(first);
        assert_eq!(clients.lock().seats["ID:a"].peer, peer(2));
        assert_eq!(clients.lock().by_client["orders"], "ID:a");
        drop(second);
    }

    #[tokio::test]
    async fn a_client_id_is_had_by_one_connection() {
        let clients = Clients::default();
        let first = clients.take("ID:a", Some("orders"), peer(1)).await.unwrap();
        let refused = clients.take("ID:b", Some("orders"), peer(2)).await;
        assert_eq!(
            refused.unwrap_err(),
            Refusal::ClientIdInUse {
                holder: "127.0.0.1:1".to_owned()
            }
        );
        clients.take("ID:c", Some("other"), peer(3)).await.unwrap();
        clients.take("ID:d", None, peer(4)).await.unwrap();
        drop(first);
        clients.take("ID:b", Some("orders"), peer(2)).await.unwrap();
    }
}
