//! Client of a Quorate cluster, with `failover:` addresses as ActiveMQ's clients write them.
//!
//! ```no_run
//! # async fn example() -> Result<(), quorate_client::Error> {
//! use quorate_client::{Client, OutboundMessage};
//!
//! let client = Client::connect("failover:(tcp://gw1:60001,tcp://gw2:60001)".parse()?).await?;
//! let producer = client.producer(&Default::default())?;
//! let confirm = producer.send(OutboundMessage::text("orders", "one apple")).await?;
//! confirm.await?; // committed by a durable quorum
//!
//! let mut consumer = client.consumer("orders", &Default::default())?;
//! let delivery = consumer.receive().await?;
//! consumer.accept(&delivery);
//! consumer.flush().await?; // the acceptance is committed
//! # Ok(()) }
//! ```
//!
//! A lost gateway or leader is a pause, not an error: producers send what is unconfirmed again, in order, under the
//! same numbers, so that it is stored once; consumers come back with what they hold. Methods need a tokio runtime.
//! This crate knows the public API only, neither shards nor storage nodes.

mod address;
mod client;
mod consumer;
mod error;
mod gateways;
mod limits;
mod message;
mod producer;
mod transaction;

pub use address::{Address, AddressError, FailoverOptions};
pub use client::{Browse, Client};
pub use consumer::{Consumer, ConsumerOptions, Delivery, Subscription};
pub use error::Error;
pub use message::{OutboundMessage, Schedule};
pub use producer::{Confirm, Producer, ProducerOptions};
pub use quorate_proto::v1::{
    DeadLetter, ListScheduledResponse, Message, MessageSelection, MoveDestinationResponse,
    OutboxTarget, PlacedDestination, Position, RefusedMove, Scheduled, Settlement,
    ShowPlacementResponse, TransferCursor, TransferResponse, Value, value,
};
pub use transaction::{Transaction, Transactions};
