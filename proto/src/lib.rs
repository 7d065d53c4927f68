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
/// Minor wire version: rises with every field that is added. Until the first release, fields may also change without a
/// rise, so actors and learner must be of the same commit.
pub const WIRE_MINOR: u32 = 0;
