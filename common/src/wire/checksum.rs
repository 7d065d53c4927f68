//! The checksums of messages: data that a faulty network changed is refused.

use hrm_proto::v1 as proto;

use crate::checksum::{Checksum, FieldHasher};

/// Puts the checksum over the answer to a handshake.
pub fn seal_join(mut joined: proto::JoinResponse) -> proto::JoinResponse {
    joined.checksum = join_checksum(&joined).to_vec().into();
    joined
}

/// Puts the checksum over an unroll.
pub fn seal_unroll(mut message: proto::UnrollBatch) -> proto::UnrollBatch {
    message.checksum = unroll_checksum(&message).to_vec().into();
    message
}

/// True when the answer to a handshake arrived as it was sent.
pub fn is_whole(joined: &proto::JoinResponse) -> bool {
    joined.checksum[..] == join_checksum(joined)
}

/// As [`unroll_checksum`], over the answer to a handshake.
fn join_checksum(joined: &proto::JoinResponse) -> Checksum {
    FieldHasher::new()
        .fixed(joined.session.to_le_bytes())
        .bytes(joined.run_id.as_bytes())
        .bytes(joined.spec.as_bytes())
        .fixed(joined.model_fingerprint.to_le_bytes())
        .fixed(joined.seed.to_le_bytes())
        .fixed(joined.wire_major.to_le_bytes())
        .fixed(joined.wire_minor.to_le_bytes())
        .finish()
}

/// SHA-256 over everything but the checksum itself, in the order of the fields: numbers little-endian, arrays of bytes
/// and the list of versions with their length before them.
pub(super) fn unroll_checksum(message: &proto::UnrollBatch) -> Checksum {
    let mut hasher = FieldHasher::new()
        .fixed(message.session.to_le_bytes())
        .fixed(message.model_fingerprint.to_le_bytes())
        .fixed(message.sequence.to_le_bytes())
        .fixed(message.ticks.to_le_bytes())
        .fixed(message.envs.to_le_bytes())
        .fixed(message.carry_dtype.to_le_bytes());
    for array in [
        &message.tokens,
        &message.actions,
        &message.rewards,
        &message.flags,
        &message.behaviour_logits,
        &message.carry,
        &message.final_tokens,
    ] {
        hasher = hasher.bytes(array);
    }
    hasher = hasher.fixed((message.policy_versions.len() as u64).to_le_bytes());
    for version in &message.policy_versions {
        hasher = hasher.fixed(version.to_le_bytes());
    }
    for episode in &message.episodes {
        hasher = hasher
            .fixed(episode.episode_return.to_bits().to_le_bytes())
            .fixed(episode.length.to_le_bytes())
            .fixed(episode.shortest_path.to_le_bytes())
            .fixed([u8::from(episode.success)])
            .fixed(episode.curriculum_distance.to_le_bytes());
    }
    for distance in &message.running_distances {
        hasher = hasher.fixed(distance.to_le_bytes());
    }
    hasher.finish()
}
