//! The episodes of the newest evaluation, recorded for the player.

use bytes::Bytes;
use hrm_common::{config::Config, env::EnvConfig, model::Parameters, policy::Choice};
use serde::Serialize;

use crate::view::replay::{
    recorder::{RecordSettings, RecordedModel},
    recording::{Recording, Why},
};

/// Number of recorded episodes, the first of the evaluation.
const EPISODES: usize = 12;

/// Largest recording, in bytes of JSON; it has fewer episodes if necessary. A step of four rooms takes about 750 bytes,
/// so twelve episodes that all fail take less than 1 MB.
const MOST_BYTES: usize = 8 << 20;

/// Most bytes of memory while the episodes walk. Fewer episodes walk if they could take more.
const MOST_MEMORY: usize = 64 << 20;

/// The mazes to record.
#[derive(Debug)]
pub(super) struct RecordedEpisodes {
    name: String,
    env: EnvConfig,
    seed: u64,
    episodes: usize,
}

/// The identity of a recording. A restarted run can record other weights at the same frames.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct RecordingId {
    /// A random number of this start of the run.
    pub(super) start: u32,
    /// The run's frames when the weights were published.
    pub(super) frames: u64,
}

/// A recording as the page serves it.
#[derive(Debug, Serialize)]
struct IdentifiedRecording {
    #[serde(flatten)]
    id: RecordingId,
    #[serde(flatten)]
    recording: Recording,
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

    /// Records the episodes with the weights of a run. Returns the recording with its `id` as JSON; `None` when `stop`
    /// requests an earlier end or the episodes cannot be recorded.
    pub(super) fn record(
        &self,
        id: RecordingId,
        parameters: &Parameters,
        stop: impl Fn() -> bool,
    ) -> Option<Bytes> {
        let settings = RecordSettings {
            env: &self.env,
            seed: self.seed,
            choice: Choice::Greedy,
        };
        let model = RecordedModel::new(&self.name, id.frames, parameters.clone());
        let episodes = self.episodes.min(settings.fitting(1, MOST_MEMORY));
        let indices: Vec<usize> = (0..episodes).collect();
        let recording = match settings.record(&[model], &indices, Why::First, stop, || {}) {
            Ok(recording) => recording?,
            Err(error) => {
                tracing::warn!(%error, "the episodes of the live page cannot be recorded");
                return None;
            }
        };
        bounded(IdentifiedRecording { id, recording }, MOST_BYTES)
    }
}

/// Returns a recording as JSON of at most `most` bytes, with fewer episodes if necessary. Returns `None` without any.
fn bounded(mut served: IdentifiedRecording, most: usize) -> Option<Bytes> {
    while !served.recording.episodes.is_empty() {
        match serde_json::to_vec(&served) {
            Ok(json) if json.len() <= most => return Some(json.into()),
            Ok(_) => {
                let fewer = served.recording.episodes.len() / 2;
                served.recording.episodes.truncate(fewer);
            }
            Err(error) => {
                tracing::warn!(%error, "the episodes of the live page cannot be encoded");
                return None;
            }
        }
    }
    None
}
