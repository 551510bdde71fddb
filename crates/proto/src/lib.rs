//! The gRPC types of all services, generated from `proto/` at build time.
//!
//! `v1` is the public API and is kept compatible; `internal` is spoken between the services of one cluster and
//! may change with each version. Every `bytes` field is a [`bytes::Bytes`] that shares the frame it came in:
//! copy a small one that outlives its request. This crate knows nothing of what the types mean; each service
//! translates them in its `convert` module.

/// The public API, package `quorate.v1`.
#[expect(
    missing_docs,
    unused_qualifications,
    clippy::allow_attributes_without_reason,
    clippy::too_many_lines,
    reason = "generated; documented in proto/"
)]
pub mod v1 {
    tonic::include_proto!("quorate.v1");
}

/// What the services of one cluster say to each other.
pub mod internal {
    /// Package `quorate.internal.v1`.
    #[expect(
        missing_docs,
        unused_qualifications,
        clippy::allow_attributes_without_reason,
        clippy::too_many_lines,
        reason = "generated; documented in proto/"
    )]
    pub mod v1 {
        tonic::include_proto!("quorate.internal.v1");
    }
}

/// The encoded `FileDescriptorSet` of all packages, for the reflection service.
pub const DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/quorate.bin"));
