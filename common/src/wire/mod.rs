//! Converts unrolls to and from the wire, and checks everything it reads.
//!
//! ```text
//!   actor:    Unroll --encode--> proto::UnrollBatch ~~~ gRPC ~~~>
//!   learner:  proto::UnrollBatch --decode(expectation)--> Unroll | Refusal
//! ```
//!
//! [`decode`] checks every byte before the learner admits an unroll. Training needs no further checks.

mod checksum;

use bytes::Bytes;
use hrm_proto::v1 as proto;

use self::checksum::unroll_checksum;
pub use self::checksum::{is_whole, seal_join, seal_unroll};
use crate::{
    config::Config,
    env::{ACTIONS, EpisodeSummary, VOCABULARY, flag, token},
    model::Dtype,
    refusal::Refusal,
    trajectory::{Unroll, UnrollShape, floats},
};

/// Largest valid magnitude of a behaviour logit. A policy with such logits no longer explores, and only a faulty or
/// hostile peer sends larger ones.
pub const MAX_LOGIT: f32 = 1.0e4;

/// Largest valid magnitude of an element of the carry. Every block ends in RMSNorm, so a model's own elements stay
/// below the square root of its width. Larger elements overflow in the model, and one such row makes a whole batch
/// useless.
pub const MAX_CARRY: f32 = 1.0e4;

/// The properties that a valid unroll of this run must have.
#[derive(Debug, Clone)]
pub struct Expectation {
    /// The sizes from the run's configuration.
    pub shape: UnrollShape,
    /// The dtype of the carry from the run's configuration.
    pub carry_dtype: Dtype,
    /// The fingerprint of the run's model.
    pub model_fingerprint: u64,
    /// The longest episode of the run's mazes, in steps.
    pub max_steps: u32,
}

impl Expectation {
    /// Returns the expectation of a run with this configuration and model fingerprint.
    pub fn new(config: &Config, model_fingerprint: u64) -> Self {
        Self {
            shape: config.spec().unroll_shape(),
            carry_dtype: config.rollout.carry_dtype,
            model_fingerprint,
            max_steps: config.env.max_steps,
        }
    }

    /// Returns the size of the largest valid message, in bytes. The gRPC layer rejects larger ones.
    pub fn max_message_size(&self) -> usize {
        let UnrollShape {
            ticks,
            envs,
            tokens,
            carry,
        } = self.shape;
        let frames = ticks * envs;
        let arrays = (frames + envs) * tokens // tokens
            + frames * (1 + 4 + 1 + 4 * ACTIONS) // actions, rewards, flags, behaviour logits
            + envs * carry * self.carry_dtype.size()
            + frames * tokens // final tokens
            + ticks * 10 // versions as varints
            + frames * 32 // episode summaries
            + envs * 5; // running distances as varints
        arrays + 4096
    }
}

/// Encodes an unroll. Byte arrays are shared, not copied.
pub fn encode(unroll: &Unroll) -> proto::UnrollBatch {
    seal_unroll(proto::UnrollBatch {
        session: unroll.session,
        model_fingerprint: unroll.model_fingerprint,
        sequence: unroll.sequence,
        ticks: unroll.shape.ticks as u32,
        envs: unroll.shape.envs as u32,
        tokens: unroll.tokens.clone(),
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
/// session is open.
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
    let frames = shape.frames();

    check_length(
        "tokens",
        &message.tokens,
        (frames + shape.envs) * shape.tokens,
    )?;
    check_observations("tokens", &message.tokens, shape.tokens)?;

    check_length("actions", &message.actions, frames)?;
    if let Some(action) = message.actions.iter().find(|&&a| usize::from(a) >= ACTIONS) {
        return Err(Refusal::field(
            "actions",
            format!("{action} is not one of the {ACTIONS} moves"),
        ));
    }

    check_length("rewards", &message.rewards, frames * 4)?;
    if let Some(reward) = floats(&message.rewards).find(|r| !(-1.0..=1.0).contains(r)) {
        return Err(Refusal::field(
            "rewards",
            format!("{reward} is outside [-1, 1]"),
        ));
    }

    check_length(
        "behaviour_logits",
        &message.behaviour_logits,
        frames * ACTIONS * 4,
    )?;
    let logit = floats(&message.behaviour_logits).find(|l| !(-MAX_LOGIT..=MAX_LOGIT).contains(l));
    if let Some(logit) = logit {
        return Err(Refusal::field(
            "behaviour_logits",
            format!("{logit} is not a finite number of magnitude at most {MAX_LOGIT}"),
        ));
    }

    check_length("flags", &message.flags, frames)?;
    if let Some(flags) = message.flags.iter().find(|&&f| f > flag::TRUNCATED) {
        return Err(Refusal::field(
            "flags",
            format!("{flags:#04x} is not one of 0, 1 and 2"),
        ));
    }
    let truncated = message
        .flags
        .iter()
        .filter(|&&f| f == flag::TRUNCATED)
        .count();
    check_length(
        "final_tokens",
        &message.final_tokens,
        truncated * shape.tokens,
    )?;
    check_observations("final_tokens", &message.final_tokens, shape.tokens)?;

    let carry_dtype = check_carry(&message, expected)?;
    check_versions(&message.policy_versions, shape.ticks, newest_version)?;
    let episodes = check_episodes(&message, expected.max_steps)?;
    check_lengths(&message, shape.envs)?;
    check_running(&message, shape.envs)?;
    // Checked last, so that an error names the invalid field where possible.
    if message.checksum[..] != unroll_checksum(&message) {
        let detail = match message.checksum.is_empty() {
            true => "missing",
            false => "does not match: the message was damaged in transit",
        };
        return Err(Refusal::field("checksum", detail));
    }

    Ok(Unroll {
        session: message.session,
        model_fingerprint: message.model_fingerprint,
        sequence: message.sequence,
        shape: shape.clone(),
        tokens: message.tokens,
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

fn check_length(field: &'static str, bytes: &[u8], expected: usize) -> Result<(), Refusal> {
    if bytes.len() == expected {
        Ok(())
    } else {
        Err(Refusal::field(
            field,
            format!("{} bytes, expected {expected}", bytes.len()),
        ))
    }
}

/// Checks that every observation has known tokens only, exactly one agent, and at most one goal.
fn check_observations(field: &'static str, tokens: &[u8], size: usize) -> Result<(), Refusal> {
    for (index, observation) in tokens.chunks_exact(size).enumerate() {
        let (mut agents, mut goals, mut unknown) = (0_u32, 0_u32, 0_u32);
        for &t in observation {
            agents += u32::from(t == token::AGENT);
            goals += u32::from(t == token::GOAL);
            unknown += u32::from(usize::from(t) >= VOCABULARY);
        }
        if unknown > 0 {
            return Err(Refusal::field(
                field,
                format!(
                    "observation {index} holds {unknown} codes outside the vocabulary of {VOCABULARY}"
                ),
            ));
        }
        if agents != 1 || goals > 1 {
            return Err(Refusal::field(
                field,
                format!("observation {index} holds {agents} agents and {goals} goals"),
            ));
        }
    }
    Ok(())
}

fn check_carry(message: &proto::UnrollBatch, expected: &Expectation) -> Result<Dtype, Refusal> {
    let dtype = match proto::CarryDtype::try_from(message.carry_dtype) {
        Ok(proto::CarryDtype::F32) => Dtype::F32,
        Ok(proto::CarryDtype::Bf16) => Dtype::Bf16,
        Ok(proto::CarryDtype::Unspecified) | Err(_) => {
            return Err(Refusal::field(
                "carry_dtype",
                format!("{} is unknown", message.carry_dtype),
            ));
        }
    };
    if dtype != expected.carry_dtype {
        return Err(Refusal::field(
            "carry_dtype",
            format!("{dtype:?}, but this run uses {:?}", expected.carry_dtype),
        ));
    }
    let elements = expected.shape.envs * expected.shape.carry;
    check_length("carry", &message.carry, elements * dtype.size())?;
    let unsound = |z: &f32| !(-MAX_CARRY..=MAX_CARRY).contains(z);
    let found = match dtype {
        Dtype::F32 => floats(&message.carry).find(unsound),
        Dtype::Bf16 => message
            .carry
            .chunks_exact(2)
            .map(|b| half::bf16::from_le_bytes([b[0], b[1]]).to_f32())
            .find(unsound),
    };
    match found {
        Some(z) => Err(Refusal::field(
            "carry",
            format!("{z} is not a finite number of magnitude at most {MAX_CARRY}"),
        )),
        None => Ok(dtype),
    }
}

fn check_versions(versions: &[u64], ticks: usize, newest: u64) -> Result<(), Refusal> {
    let field = "policy_versions";
    if versions.len() != ticks {
        return Err(Refusal::field(
            field,
            format!("{} versions for {ticks} ticks", versions.len()),
        ));
    }
    if !versions.is_sorted() {
        return Err(Refusal::field(field, "go backwards"));
    }
    match versions.last() {
        Some(&last) if last > newest => Err(Refusal::field(
            field,
            format!("{last} is newer than the newest published, {newest}"),
        )),
        _ => Ok(()),
    }
}

/// Checks the length of each ended episode against the ticks. An episode that began in the unroll has exactly their
/// number. Any other episode has at least as many steps.
fn check_lengths(message: &proto::UnrollBatch, envs: usize) -> Result<(), Refusal> {
    let mut last_end = vec![None; envs];
    let ends = message.flags.iter().enumerate().filter(|(_, f)| **f != 0);
    for (index, ((frame, _), episode)) in ends.zip(&message.episodes).enumerate() {
        let tick = (frame / envs) as u32;
        let fits = match last_end[frame % envs].replace(tick) {
            Some(before) => episode.length == tick - before,
            None => episode.length > tick,
        };
        if !fits {
            let length = episode.length;
            let detail =
                format!("episode {index}: length {length} does not fit its end at tick {tick}");
            return Err(Refusal::field("episodes", detail));
        }
    }
    Ok(())
}

/// Checks that each environment has a distance limit for its running episode.
fn check_running(message: &proto::UnrollBatch, envs: usize) -> Result<(), Refusal> {
    let running = message.running_distances.len();
    if running == envs {
        return Ok(());
    }
    let detail = format!("{running} distances for {envs} environments");
    Err(Refusal::field("running_distances", detail))
}

fn check_episodes(
    message: &proto::UnrollBatch,
    max_steps: u32,
) -> Result<Vec<EpisodeSummary>, Refusal> {
    let field = "episodes";
    let ended: Vec<u8> = message.flags.iter().copied().filter(|&f| f != 0).collect();
    if message.episodes.len() != ended.len() {
        return Err(Refusal::field(
            field,
            format!(
                "{} summaries for {} ended episodes",
                message.episodes.len(),
                ended.len()
            ),
        ));
    }
    message
        .episodes
        .iter()
        .zip(ended)
        .enumerate()
        .map(|(index, (episode, flags))| {
            let wrong =
                |detail: String| Err(Refusal::field(field, format!("episode {index}: {detail}")));
            if episode.success != (flags == flag::TERMINATED) {
                return wrong(format!(
                    "success is {}, but its flags are {flags}",
                    episode.success
                ));
            }
            if episode.length == 0 || episode.length > max_steps {
                return wrong(format!(
                    "length {} is not in 1..={max_steps}",
                    episode.length
                ));
            }
            if !episode.success && episode.length != max_steps {
                return wrong(format!(
                    "truncated after {} of {max_steps} steps",
                    episode.length
                ));
            }
            if episode.shortest_path == 0
                || (episode.success && episode.shortest_path > episode.length)
            {
                return wrong(format!(
                    "shortest path {} with length {}",
                    episode.shortest_path, episode.length
                ));
            }
            let bound = episode.length as f32;
            if !(-bound..=1.0).contains(&episode.episode_return) {
                return wrong(format!("return {} is out of range", episode.episode_return));
            }
            Ok(EpisodeSummary {
                episode_return: episode.episode_return,
                length: episode.length,
                shortest_path: episode.shortest_path,
                success: episode.success,
                curriculum_distance: episode.curriculum_distance,
            })
        })
        .collect()
}
