//! Converts unrolls to and from the wire, and checks everything it reads.
//!
//! ```text
//!   actor:    Unroll --encode--> proto::UnrollBatch ~~~ gRPC ~~~>
//!   learner:  proto::UnrollBatch --decode(expectation)--> Unroll | Refusal
//!
//!   decode:  model and sizes -> arrays: lengths, then values -> episodes -> checksum
//! ```
//!
//! [`decode`] checks every byte before the learner admits an unroll. Training needs no further checks.

mod arrays;
mod checksum;
mod episodes;
mod expectation;

use bytes::Bytes;
use hrm_proto::v1 as proto;

pub use self::{
    checksum::{is_whole, seal_join, seal_unroll},
    expectation::{Expectation, MAX_CARRY, MAX_LOGIT},
};
use crate::{env::EpisodeSummary, model::Dtype, refusal::Refusal, trajectory::Unroll};

/// Encodes an unroll. Byte arrays are shared, not copied.
pub fn encode(unroll: &Unroll) -> proto::UnrollBatch {
    seal_unroll(proto::UnrollBatch {
        session: unroll.session,
        thread: unroll.thread,
        model_fingerprint: unroll.model_fingerprint,
        sequence: unroll.sequence,
        ticks: unroll.shape.ticks as u32,
        envs: unroll.shape.envs as u32,
        tokens: unroll.tokens.clone(),
        segments: unroll.segments.clone(),
        halt_log_probs: unroll.halt_log_probs.clone(),
        actions: unroll.actions.clone(),
        rewards: unroll.rewards.clone(),
        flags: unroll.flags.clone(),
        behaviour_logits: unroll.behaviour_logits.clone(),
        carry_dtype: match unroll.carry_dtype {
            Dtype::F32 => proto::CarryDtype::F32,
            Dtype::Bf16 => proto::CarryDtype::Bf16,
        } as i32,
        carry: unroll.carry.clone(),
        policy_versions: unroll.policy_versions.clone(),
        final_tokens: unroll.final_tokens.clone(),
        episodes: unroll.episodes.iter().map(encode_episode).collect(),
        running_distances: unroll.running_distances.clone(),
        checksum: Bytes::new(),
    })
}

fn encode_episode(episode: &EpisodeSummary) -> proto::EpisodeSummary {
    proto::EpisodeSummary {
        episode_return: episode.episode_return,
        length: episode.length,
        shortest_path: episode.shortest_path,
        success: episode.success,
        curriculum_distance: episode.curriculum_distance,
    }
}

/// Checks a message completely and converts it to an unroll.
///
/// `newest_version` is the newest version of the weights that the learner has published. The caller checks that the
/// session is open and has this thread.
///
/// # Errors
///
/// The first invalid field.
pub fn decode(
    message: proto::UnrollBatch,
    expected: &Expectation,
    newest_version: u64,
) -> Result<Unroll, Refusal> {
    if message.model_fingerprint != expected.model_fingerprint {
        return Err(Refusal::Fingerprint {
            found: message.model_fingerprint,
            expected: expected.model_fingerprint,
        });
    }
    let shape = &expected.shape;
    check_equal("ticks", message.ticks as usize, shape.ticks)?;
    check_equal("envs", message.envs as usize, shape.envs)?;
    let carry_dtype = arrays::check(&message, expected)?;
    let episodes = episodes::check(&message, expected, newest_version)?;
    // Checked last, so that an error names the invalid field where possible.
    checksum::check(&message)?;

    Ok(Unroll {
        session: message.session,
        thread: message.thread,
        model_fingerprint: message.model_fingerprint,
        sequence: message.sequence,
        shape: shape.clone(),
        tokens: message.tokens,
        segments: message.segments,
        halt_log_probs: message.halt_log_probs,
        actions: message.actions,
        rewards: message.rewards,
        flags: message.flags,
        behaviour_logits: message.behaviour_logits,
        carry_dtype,
        carry: message.carry,
        policy_versions: message.policy_versions,
        final_tokens: message.final_tokens,
        episodes,
        running_distances: message.running_distances,
    })
}

fn check_equal(field: &'static str, found: usize, expected: usize) -> Result<(), Refusal> {
    if found == expected {
        Ok(())
    } else {
        Err(Refusal::field(
            field,
            format!("{found}, but this run uses {expected}"),
        ))
    }
}
