//! The checksums of messages, by which the receiver rejects data that was damaged in transit.

use hrm_proto::v1 as proto;

use crate::{
    checksum::{MessageChecksum, MessageHasher},
    refusal::Refusal,
};

/// Sets the checksum of the answer to a handshake.
pub fn seal_join(mut joined: proto::JoinResponse) -> proto::JoinResponse {
    joined.checksum = join_checksum(&joined).to_vec().into();
    joined
}

/// Sets the checksum of an unroll.
pub fn seal_unroll(mut message: proto::UnrollBatch) -> proto::UnrollBatch {
    message.checksum = unroll_checksum(&message).to_vec().into();
    message
}

/// Checks that an unroll arrived as it was sent.
///
/// # Errors
///
/// When its checksum is missing or of other content.
pub(super) fn check(message: &proto::UnrollBatch) -> Result<(), Refusal> {
    if message.checksum[..] == unroll_checksum(message) {
        return Ok(());
    }
    let detail = match message.checksum.is_empty() {
        true => "missing",
        false => "does not match: the message was damaged in transit",
    };
    Err(Refusal::field("checksum", detail))
}

/// True when the checksum of the answer to a handshake matches.
pub fn is_whole(joined: &proto::JoinResponse) -> bool {
    joined.checksum[..] == join_checksum(joined)
}

/// Returns the checksum of the answer to a handshake, in the form of [`unroll_checksum`].
fn join_checksum(joined: &proto::JoinResponse) -> MessageChecksum {
    MessageHasher::new()
        .fixed(joined.session.to_le_bytes())
        .bytes(joined.run_id.as_bytes())
        .bytes(joined.spec.as_bytes())
        .fixed(joined.model_fingerprint.to_le_bytes())
        .fixed(joined.seed.to_le_bytes())
        .fixed(joined.wire_major.to_le_bytes())
        .fixed(joined.wire_minor.to_le_bytes())
        .finish()
}

/// Returns the checksum of an unroll without its checksum, in the order of the fields. Numbers are little-endian. Byte
/// arrays and the list of versions follow their length (u64).
fn unroll_checksum(message: &proto::UnrollBatch) -> MessageChecksum {
    let mut hasher = MessageHasher::new()
        .fixed(message.session.to_le_bytes())
        .fixed(message.thread.to_le_bytes())
        .fixed(message.model_fingerprint.to_le_bytes())
        .fixed(message.sequence.to_le_bytes())
        .fixed(message.ticks.to_le_bytes())
        .fixed(message.envs.to_le_bytes())
        .fixed(message.carry_dtype.to_le_bytes());
    for array in [
        &message.tokens,
        &message.segments,
        &message.halt_log_probs,
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
