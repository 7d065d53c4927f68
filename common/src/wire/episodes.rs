//! The weights that acted, and the episodes of an unroll.

use hrm_proto::v1 as proto;

use super::expectation::Expectation;
use crate::{
    env::{EpisodeSummary, flag},
    refusal::Refusal,
};

/// Checks the versions of the weights and every episode. Returns the summaries of the ended episodes.
///
/// # Errors
///
/// The first invalid field.
pub(super) fn check(
    message: &proto::UnrollBatch,
    expected: &Expectation,
    newest_version: u64,
) -> Result<Vec<EpisodeSummary>, Refusal> {
    let shape = &expected.shape;
    check_versions(&message.policy_versions, shape.ticks, newest_version)?;
    let episodes = check_summaries(message, expected.max_steps)?;
    check_lengths(message, shape.envs)?;
    check_running(message, shape.envs)?;
    Ok(episodes)
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

fn check_summaries(
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
