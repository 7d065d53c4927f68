//! The wire contract between actors and the learner: `hrm/v1/learner.proto` and the code generated from it.
//!
//! `hrm_common::wire` checks messages and converts them to domain types.

/// Version 1 of the contract.
pub mod v1 {
    #![allow(missing_docs, clippy::all, clippy::pedantic, reason = "generated")]
    tonic::include_proto!("hrm.v1");

    /// The encoded file descriptor set, for gRPC reflection.
    pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/hrm.v1.bin"));
}

/// Major wire version. Peers must have the same one.
pub const WIRE_MAJOR: u32 = 1;
/// Minor wire version. Every added field raises it. Until the first release, fields may also change without a new
/// version, so actors and learner must come from the same commit.
pub const WIRE_MINOR: u32 = 0;
