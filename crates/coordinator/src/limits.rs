//! Every bound of the coordinator, with its reason.

/// Storage nodes that a cluster can have. The topology is sent whole and must stay far below a gRPC frame.
pub const NODES_MAX: usize = 256;
