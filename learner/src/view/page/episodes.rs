//! The episodes of the newest evaluation, recorded for the player.

use std::path::Path;

use bytes::Bytes;
use hrm_common::{config::Config, env::EnvConfig, model::Parameters, policy::Choice};

use crate::view::replay::{
    recorder::{RecordSettings, RecordedModel},
    recording::{Recording, Why},
};

/// Number of recorded episodes, the first of the evaluation.
const EPISODES: usize = 12;

/// Largest recording, in bytes of JSON; it has fewer episodes if necessary. A step of four rooms takes about 750 bytes,
/// so twelve episodes that all fail take less than 1 MB.
const MOST_BYTES: usize = 8 << 20;

/// The mazes to record.
#[derive(Debug)]
pub(super) struct RecordedEpisodes {
    name: String,
    env: EnvConfig,
    seed: u64,
    episodes: usize,
}

impl RecordedEpisodes {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            name: config.run.name.clone(),
            env: config.env.clone(),
            seed: config.eval.seed,
            episodes: EPISODES.min(config.eval.episodes),
        }
    }

    /// Records the episodes with the weights of a run at `frames`. Returns the recording as JSON; `None` when `stop`
    /// requests an earlier end or the episodes cannot be recorded.
    pub(super) fn record(
        &self,
        frames: u64,
        parameters: &Parameters,
        stop: impl Fn() -> bool,
    ) -> Option<Bytes> {
        let settings = RecordSettings {
            env: &self.env,
            seed: self.seed,
            choice: Choice::Greedy,
        };
        let model = RecordedModel::new(Path::new(&self.name), frames, parameters.clone());
        let indices: Vec<usize> = (0..self.episodes).collect();
        match settings.record(&[model], &indices, stop, |_| {}) {
            Ok(recording) => {
                let mut recording = recording?;
                for episode in &mut recording.episodes {
                    episode.why.push(Why::First);
                }
                bounded(recording, MOST_BYTES)
            }
            Err(error) => {
                tracing::warn!(%error, "the episodes of the live page cannot be recorded");
                None
            }
        }
    }
}

/// Returns a recording as JSON of at most `most` bytes, with fewer episodes if necessary.
fn bounded(mut recording: Recording, most: usize) -> Option<Bytes> {
    while !recording.episodes.is_empty() {
        match serde_json::to_vec(&recording) {
            Ok(json) if json.len() <= most => return Some(json.into()),
            Ok(_) => {
                let fewer = recording.episodes.len() / 2;
                recording.episodes.truncate(fewer);
            }
            Err(error) => {
                tracing::warn!(%error, "the episodes of the live page cannot be encoded");
                return None;
            }
        }
    }
    None
}
