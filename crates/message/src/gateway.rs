//! The commands about gateways: which may have been sent messages, how far a queue was sent, and whose a batch of
//! settlements is.

use crate::layout::{DISPATCHED, GATEWAY_ATTACHED, GATEWAY_LOST, ORIGIN, Record};
use crate::{Batch, BatchBuilder, BatchFull, Command, Destination, GatewayId, ProducerId};

impl BatchBuilder {
    /// Adds that a gateway may be sent messages and returns the command's ordinal.
    ///
    /// # Errors
    /// When the batch is full or transient.
    pub fn gateway_attached(&mut self, gateway: GatewayId) -> Result<u16, BatchFull> {
        self.of_gateway(gateway, GATEWAY_ATTACHED, 0, 0)
    }

    /// Adds that a gateway is gone and returns the command's ordinal.
    ///
    /// # Errors
    /// When the batch is full or transient.
    pub fn gateway_lost(&mut self, gateway: GatewayId, is_known: bool) -> Result<u16, BatchFull> {
        self.of_gateway(gateway, GATEWAY_LOST, u8::from(is_known), 0)
    }

    /// Adds whose batch this is and returns the command's ordinal. The first command of its batch.
    ///
    /// # Errors
    /// When the batch is full or transient, or the number zero.
    pub fn origin(&mut self, gateway: GatewayId, number: u64) -> Result<u16, BatchFull> {
        if number == 0 {
            return Err(BatchFull::Command { field: "number" });
        }
        self.of_gateway(gateway, ORIGIN, 0, number)
    }

    fn of_gateway(
        &mut self,
        gateway: GatewayId,
        kind: u8,
        detail: u8,
        first: u64,
    ) -> Result<u16, BatchFull> {
        self.check_persistent()?;
        let name = ProducerId(gateway.0);
        self.check_room(None, Some(name), 0)?;
        let producer = self.producer(name);
        Ok(self.push(Record {
            kind,
            detail,
            producer,
            first,
            ..Record::default()
        }))
    }

    /// Adds how far a queue may have been sent and returns the command's ordinal.
    ///
    /// # Errors
    /// When the batch is full or transient.
    pub fn dispatched(&mut self, queue: &Destination, upto: u64) -> Result<u16, BatchFull> {
        self.check_persistent()?;
        self.check_room(Some(&queue.name), None, 0)?;
        let destination = self.destination(queue.kind, &queue.name);
        Ok(self.push(Record {
            kind: DISPATCHED,
            destination,
            first: upto,
            ..Record::default()
        }))
    }
}

impl Batch {
    /// A command about gateways.
    pub(crate) fn gateway_command(&self, record: &Record) -> Command {
        let gateway = || GatewayId(self.producer(record.producer).0);
        match record.kind {
            GATEWAY_ATTACHED => Command::GatewayAttached { gateway: gateway() },
            GATEWAY_LOST => Command::GatewayLost {
                gateway: gateway(),
                is_known: record.detail == 1,
            },
            ORIGIN => Command::Origin {
                gateway: gateway(),
                number: record.first,
            },
            _ => Command::Dispatched {
                destination: record.destination,
                upto: record.first,
            },
        }
    }
}

/// Whether commands of this kind are about gateways.
pub(crate) fn is_about(kind: u8) -> bool {
    matches!(kind, GATEWAY_ATTACHED | GATEWAY_LOST | DISPATCHED | ORIGIN)
}

/// Checks a command about gateways, and clears what it uses.
pub(crate) fn check(record: &mut Record, is_transient: bool) -> Result<(), &'static str> {
    match (record.kind, record.detail, record.first) {
        _ if is_transient => return Err("kind"),
        (GATEWAY_LOST, 2.., _) => return Err("detail"),
        (ORIGIN, _, 0) => return Err("number"),
        (GATEWAY_LOST, ..) => record.detail = 0,
        (DISPATCHED, ..) => (record.destination, record.first) = (0, 0),
        (ORIGIN, ..) => record.first = 0,
        _ => {}
    }
    if record.kind != DISPATCHED {
        record.producer = 0;
    }
    Ok(())
}

/// Whether commands of this kind name a gateway.
pub(crate) fn names(kind: u8) -> bool {
    matches!(kind, GATEWAY_ATTACHED | GATEWAY_LOST | ORIGIN)
}
