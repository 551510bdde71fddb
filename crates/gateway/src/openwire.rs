//! OpenWire: the unchanged ActiveMQ client 5.x talks to the gateway.

#[allow(dead_code, unused_imports, reason = "the connection calls it")]
pub(crate) mod dialogue;
#[allow(dead_code, unused_imports, reason = "the dialogue calls it")]
pub(crate) mod translate;
