//! Queues and delivery over a committed log, as a pure machine.
