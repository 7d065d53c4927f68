//! The wire contract between actors and the learner: `hrm/v1/learner.proto` and the code generated
//! from it. Checked conversion to domain types is `hrm_common::wire`.

/// Version 1 of the contract.
pub mod v1 {
    #![allow(missing_docs, clippy::all, clippy::pedantic, reason = "generated")]
    tonic::include_proto!("hrm.v1");

    /// The encoded file descriptor set, for gRPC reflection.
    pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/hrm.v1.bin"));
}

/// Major wire version: peers that differ in it do not understand each other.
pub const WIRE_MAJOR: u32 = 1;
/// Minor wire version: fields were added since the one before. 1.1: the checksum of an unroll. 1.2: those of the
/// handshake's answer and of the header of the weights. 1.3: the curriculum distances of running episodes, without which
/// an unroll is refused.
pub const WIRE_MINOR: u32 = 3;
