//! Commands about a connection as a whole.

use bytes::Bytes;

use super::Header;
use crate::openwire::ids::{BrokerId, ConnectionId};
use crate::openwire::structure::structure;
use crate::openwire::throwable::Throwable;

structure! {
    /// Who the broker is. Clients wait for it in some calls, so one must come.
    #[derive(Clone, Debug, Default, Eq, PartialEq)]
    pub struct BrokerInfo = 2 {
        /// Number and response.
        pub header: Header,
        /// The broker.
        pub broker_id: Option<BrokerId>,
        /// Where it is reached.
        pub broker_url: Option<String>,
        /// Brokers that it knows.
        pub peers: Option<Vec<BrokerInfo>>,
        /// Its name.
        pub broker_name: Option<String>,
        /// Whether it is a slave of another broker.
        pub slave_broker: bool,
        /// Whether it has a slave.
        pub master_broker: bool,
        /// Whether clients should count on failover: switches off their optimised acknowledgements.
        pub fault_tolerant_configuration: bool,
        /// Whether a bridge of brokers goes both ways.
        pub duplex_connection: bool [since 2],
        /// Whether the connection is one of a bridge of brokers.
        pub network_connection: bool [since 2],
        /// The connection's number at the broker.
        pub connection_id: i64 [since 2],
        /// Where blobs are put.
        pub broker_upload_url: Option<String> [since 3],
        /// How a bridge of brokers is set up.
        pub network_properties: Option<String> [since 3],
    }
}

structure! {
    /// A client logs in.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct ConnectionInfo = 3 {
        /// Number and response.
        pub header: Header,
        /// The same again when a client reconnects.
        pub connection_id: ConnectionId,
        /// The client's name, unique among all that are connected.
        pub client_id: Option<String>,
        /// Secret.
        pub password: Option<String>,
        /// Who it is.
        pub user_name: Option<String>,
        /// Brokers that it came by.
        pub broker_path: Option<Vec<BrokerId>>,
        /// Whether it is a slave broker.
        pub broker_master_connector: bool,
        /// Whether it wants to be seen in management.
        pub manageable: bool,
        /// Whether it is a client of a master broker.
        pub client_master: bool [since 2],
        /// Whether it uses failover.
        pub fault_tolerant: bool [since 6],
        /// Whether it was connected before and repeats what was not answered.
        pub failover_reconnect: bool [since 6],
        /// Its address as it believes it to be.
        pub client_ip: Option<String> [since 8],
    }
}

structure! {
    /// Nothing to say, but alive.
    #[derive(Clone, Debug, Default, Eq, PartialEq)]
    pub struct KeepAliveInfo = 10 {
        /// Number and response.
        pub header: Header,
    }
}

structure! {
    /// Nothing more will be said.
    #[derive(Clone, Debug, Default, Eq, PartialEq)]
    pub struct ShutdownInfo = 11 {
        /// Number and response.
        pub header: Header,
    }
}

structure! {
    /// A command as text, of tools.
    #[derive(Clone, Debug, Default, Eq, PartialEq)]
    pub struct ControlCommand = 14 {
        /// Number and response.
        pub header: Header,
        /// The text.
        pub command: Option<String>,
    }
}

structure! {
    /// An answer tells that all before has been done.
    #[derive(Clone, Debug, Default, Eq, PartialEq)]
    pub struct FlushCommand = 15 {
        /// Number and response.
        pub header: Header,
    }
}

structure! {
    /// What failed without anybody waiting for it.
    #[derive(Clone, Debug, Default, Eq, PartialEq)]
    pub struct ConnectionError = 16 {
        /// Number and response.
        pub header: Header,
        /// What failed.
        pub exception: Option<Throwable>,
        /// The connection.
        pub connection_id: Option<ConnectionId>,
    }
}

structure! {
    /// Where else to connect, and how to go on.
    #[derive(Clone, Debug, Default, Eq, PartialEq)]
    pub struct ConnectionControl = 18 {
        /// Number and response.
        pub header: Header,
        /// Close the connection.
        pub close: bool,
        /// End the process.
        pub exit: bool,
        /// Whether the sender uses failover.
        pub fault_tolerant: bool,
        /// Go on sending.
        pub resume: bool,
        /// Stop sending.
        pub suspend: bool,
        /// Addresses that a client tries before its own, separated by commas.
        pub connected_brokers: Option<String> [since 6],
        /// Where the client shall go at once.
        pub reconnect_to: Option<String> [since 6],
        /// Whether the client shall choose anew among the addresses.
        pub rebalance_connection: bool [since 6],
        /// Between brokers.
        pub token: Option<Bytes> [since 8],
    }
}
