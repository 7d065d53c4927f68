//! The arrays of an unroll: every length, then every value.

use half::bf16;
use hrm_proto::v1 as proto;

use super::expectation::{Expectation, MAX_CARRY, MAX_LOGIT};
use crate::{
    env::{ACTIONS, VOCABULARY, flag, tile},
    model::{Dtype, Segments},
    refusal::Refusal,
    trajectory::floats,
};

/// Checks all arrays of bytes. Returns the dtype of the carry.
///
/// # Errors
///
/// The first invalid field: lengths come before values.
pub(super) fn check(
    message: &proto::UnrollBatch,
    expected: &Expectation,
) -> Result<Dtype, Refusal> {
    let carry_dtype = check_lengths(message, expected)?;
    let size = expected.shape.tokens;
    check_observations("tokens", &message.tokens, size)?;
    check_observations("final_tokens", &message.final_tokens, size)?;
    let range = expected.segments;
    if let Some(number) = message.segments.iter().find(|&&n| !range.contains(n)) {
        let Segments { least, most, .. } = range;
        let detail = format!("a decision has {number} segments, expected {least} to {most}");
        return Err(Refusal::field("segments", detail));
    }
    if let Some(found) = floats(&message.halt_log_probs).find(|x| !(x.is_finite() && *x <= 0.0)) {
        let detail = format!("{found} is not the logarithm of a probability");
        return Err(Refusal::field("halt_log_probs", detail));
    }
    if let Some(action) = message.actions.iter().find(|&&a| usize::from(a) >= ACTIONS) {
        let detail = format!("{action} is not one of the {ACTIONS} moves");
        return Err(Refusal::field("actions", detail));
    }
    let single = f32::from_le_bytes;
    let half = |bytes| bf16::from_le_bytes(bytes).to_f32();
    let logits = &message.behaviour_logits;
    let too_large = |bound| format!("is not a finite number of magnitude at most {bound}");
    check_bound(
        "rewards",
        &message.rewards,
        single,
        1.0,
        "is outside [-1, 1]",
    )?;
    check_bound(
        "behaviour_logits",
        logits,
        single,
        MAX_LOGIT,
        &too_large(MAX_LOGIT),
    )?;
    let too_large = too_large(MAX_CARRY);
    match carry_dtype {
        Dtype::F32 => check_bound("carry", &message.carry, single, MAX_CARRY, &too_large)?,
        Dtype::Bf16 => check_bound("carry", &message.carry, half, MAX_CARRY, &too_large)?,
    }
    Ok(carry_dtype)
}

/// Checks the length of each array, and the flags, which the length of `final_tokens` depends on. Returns the dtype of
/// the carry.
fn check_lengths(message: &proto::UnrollBatch, expected: &Expectation) -> Result<Dtype, Refusal> {
    let shape = &expected.shape;
    let frames = shape.frames();
    let observations = (frames + shape.envs) * shape.tokens;
    check_length("tokens", &message.tokens, observations)?;
    check_length("segments", &message.segments, frames)?;
    let chances = match expected.segments.halts_by_chance() {
        true => frames * 4,
        false => 0,
    };
    check_length("halt_log_probs", &message.halt_log_probs, chances)?;
    check_length("actions", &message.actions, frames)?;
    check_length("rewards", &message.rewards, frames * 4)?;
    let logits = frames * ACTIONS * 4;
    check_length("behaviour_logits", &message.behaviour_logits, logits)?;
    check_length("flags", &message.flags, frames)?;
    if let Some(flags) = message.flags.iter().find(|&&f| f > flag::TRUNCATED) {
        let detail = format!("{flags:#04x} is not one of 0, 1 and 2");
        return Err(Refusal::field("flags", detail));
    }
    let is_truncated = |flags: &&u8| **flags == flag::TRUNCATED;
    let truncated = message.flags.iter().filter(is_truncated).count();
    check_length(
        "final_tokens",
        &message.final_tokens,
        truncated * shape.tokens,
    )?;

    let dtype = match proto::CarryDtype::try_from(message.carry_dtype) {
        Ok(proto::CarryDtype::F32) => Dtype::F32,
        Ok(proto::CarryDtype::Bf16) => Dtype::Bf16,
        Ok(proto::CarryDtype::Unspecified) | Err(_) => {
            let detail = format!("{} is unknown", message.carry_dtype);
            return Err(Refusal::field("carry_dtype", detail));
        }
    };
    if dtype != expected.carry_dtype {
        let detail = format!("{dtype:?}, but this run uses {:?}", expected.carry_dtype);
        return Err(Refusal::field("carry_dtype", detail));
    }
    let carry = shape.envs * shape.carry * dtype.size();
    check_length("carry", &message.carry, carry)?;
    Ok(dtype)
}

/// Checks that each number, read by `number`, is finite and of magnitude `bound` at most. `fault` says what else it is.
///
/// The numbers are most of an unroll's bytes. So each piece is checked without a branch, which the compiler turns into
/// vector instructions, and only then is the invalid number looked for.
fn check_bound<const SIZE: usize>(
    field: &'static str,
    bytes: &[u8],
    number: impl Fn([u8; SIZE]) -> f32,
    bound: f32,
    fault: &str,
) -> Result<(), Refusal> {
    const PIECE: usize = 4096;
    // The bits of a magnitude rise with it, and those of infinity and NaN are above all others.
    let is_within = |number: f32| number.abs().to_bits() <= bound.to_bits();
    let (numbers, _) = bytes.as_chunks();
    for piece in numbers.chunks(PIECE) {
        let within = piece
            .iter()
            .fold(true, |all, &bytes| all & is_within(number(bytes)));
        if !within && let Some(fault_at) = piece.iter().find(|&&bytes| !is_within(number(bytes))) {
            let found = number(*fault_at);
            return Err(Refusal::field(field, format!("{found} {fault}")));
        }
    }
    Ok(())
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
            agents += u32::from(t == tile::AGENT);
            goals += u32::from(t == tile::GOAL);
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
