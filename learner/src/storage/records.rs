//! Records of a run: the lines of `metrics.jsonl`, and the evaluations in `summary.json`.

use std::{
    collections::BTreeMap,
    fmt,
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Deserializer, Serialize};

/// One line of `metrics.jsonl`: a record, and the time at which it was made.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Stamped<R> {
    /// The record.
    #[serde(flatten)]
    pub(crate) record: R,
    /// Seconds since 1970; absent in logs of older releases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) time: Option<f64>,
}

impl<R> Stamped<R> {
    /// Dates a record that is made now.
    pub(crate) fn new(record: R) -> Self {
        Self {
            record,
            time: Some(unix_seconds()),
        }
    }

    /// Borrows the record.
    pub(crate) fn as_ref(&self) -> Stamped<&R> {
        Stamped {
            record: &self.record,
            time: self.time,
        }
    }
}

/// Returns the seconds since 1970, in milliseconds; 0 if the clock is not set. More digits would not survive JSON.
pub(crate) fn unix_seconds() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0.0, |since| since.as_millis() as f64 / 1000.0)
}

/// The content of a line of `metrics.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Record {
    /// Training since the previous training record.
    Train(TrainRecord),
    /// An evaluation on held-out seeds.
    Eval(EvalRecord),
}

impl Record {
    /// Returns the run's frames at the time of the record.
    pub fn frames(&self) -> u64 {
        match self {
            Self::Train(record) => record.frames,
            Self::Eval(record) => record.frames,
        }
    }

    /// Returns the seconds of training at the time of the record.
    pub(crate) fn seconds(&self) -> f64 {
        match self {
            Self::Train(record) => record.seconds,
            Self::Eval(record) => record.seconds,
        }
    }

    /// Returns the kind of the record, as the file names it.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Train(_) => "train",
            Self::Eval(_) => "eval",
        }
    }
}

/// The progress of training. Episode figures cover the last settled uniform episodes
/// (`training::episode_window`), and are `None` until there are enough. A number that is not finite is `null`
/// in the file, and NaN when read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainRecord {
    /// Frames of the run so far.
    pub frames: u64,
    /// Seconds of training so far, as `TrainingClock` counts them.
    pub seconds: f64,
    /// Updates tried so far, skipped ones included.
    #[serde(rename = "updates")]
    pub updates_tried: u64,
    /// Version of the weights.
    pub version: u64,
    /// Number of uniform episodes in the next four figures: 500 once so many have settled since the start. It is 0 in
    /// logs that lack this field.
    #[serde(default)]
    pub episodes: usize,
    /// Share of the episodes that reached the goal.
    pub success: Option<f64>,
    /// Mean undiscounted return.
    pub episode_return: Option<f64>,
    /// Mean length in steps.
    pub length: Option<f64>,
    /// Sum of lengths over sum of shortest paths, successes only.
    pub path_ratio: Option<f64>,
    /// Mean policy lag of the trained frames, in versions.
    pub policy_lag_mean: Option<f64>,
    /// Mean segments per decision of the trained frames; absent in logs that lack this field.
    #[serde(default)]
    pub segments: Option<f64>,
    /// Training speed, in frames per second.
    pub frames_per_second: f64,
    /// Updates per second.
    pub updates_per_second: f64,
    /// Policy-gradient loss.
    #[serde(deserialize_with = "null_as_nan")]
    pub loss_policy: f64,
    /// Value loss, before its cost.
    #[serde(deserialize_with = "null_as_nan")]
    pub loss_value: f64,
    /// Entropy of the policy in nats.
    #[serde(deserialize_with = "null_as_nan")]
    pub entropy: f64,
    /// Loss of the halt head, with its cost; absent unless it is trained, and in logs that lack this field.
    #[serde(default)]
    pub loss_halt: Option<f64>,
    /// Gradient norm before clipping.
    #[serde(deserialize_with = "null_as_nan")]
    pub grad_norm: f64,
    /// Gradient noise scale in frames; absent while there is no estimate, and in logs that lack this field.
    #[serde(default)]
    pub noise_scale: Option<f64>,
    /// Share of the importance weights clipped at rho-bar.
    #[serde(deserialize_with = "null_as_nan")]
    pub rho_clip: f64,
    /// Share of the importance weights clipped at c-bar.
    #[serde(deserialize_with = "null_as_nan")]
    pub c_clip: f64,
    /// Learning rate of the last update.
    pub learning_rate: f64,
    /// The curriculum's largest start-goal distance; 0 when every episode is uniform.
    pub curriculum_distance: u32,
    /// The trainer's time since the previous training record, as the share of each stage. It is empty in logs that lack
    /// this field.
    #[serde(default)]
    pub stages: BTreeMap<String, f64>,
}

/// An evaluation, with the run's progress when its weights were published.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvalRecord {
    /// Frames of the run at that time.
    pub frames: u64,
    /// Seconds of training at that time.
    pub seconds: f64,
    /// Optimiser updates tried until then, also those that were skipped.
    #[serde(rename = "updates")]
    pub updates_tried: u64,
    /// The evaluation's result.
    #[serde(flatten)]
    pub evaluation: Evaluation,
}

fn null_as_nan<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

/// The policy that chooses the actions of a walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum WalkBy {
    /// The model's most probable action.
    Greedy,
    /// An action drawn from the model's policy.
    Sampled,
    /// Searches breadth-first again at every step; if no path is open, walks as if all doors were open.
    Oracle,
    /// Any of the four moves with equal probability.
    Random,
}

impl fmt::Display for WalkBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Greedy => "greedy",
            Self::Sampled => "sampled",
            Self::Oracle => "oracle",
            Self::Random => "random",
        })
    }
}

/// The result of an evaluation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// The policy that walked.
    pub policy: WalkBy,
    /// Seed of the held-out episodes; `None` in files that lack this field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Episodes walked.
    pub episodes: usize,
    /// Share of the episodes that reached the goal.
    pub success: f64,
    /// 95% Wilson score interval of the success.
    pub success_ci95: [f64; 2],
    /// Sum of lengths over sum of shortest paths, successes only; `None` without a success.
    pub path_ratio: Option<f64>,
    /// Mean length over all episodes, in moves.
    pub mean_length: f64,
    /// Mean undiscounted return.
    pub mean_return: f64,
    /// The lengths divided by the oracle's on the same episodes. `None` for the oracle itself, and in files that lack
    /// this field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub versus_oracle: Option<VersusOracle>,
    /// Mean segments per decision. `None` without a model, and in files that lack this field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segments: Option<f64>,
}

impl fmt::Display for Evaluation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [low, high] = self.success_ci95;
        write!(
            f,
            "{:?} on {} held-out episodes: {:.1}% reach the goal (95% interval {:.1} to {:.1}%), ",
            self.policy,
            self.episodes,
            100.0 * self.success,
            100.0 * low,
            100.0 * high
        )?;
        match self.path_ratio {
            Some(ratio) => write!(f, "path ratio {ratio:.3}, ")?,
            None => write!(f, "no path ratio, ")?,
        }
        write!(f, "mean length {:.1}", self.mean_length)?;
        if let Some(segments) = self.segments {
            write!(f, ", {segments:.2} segments per decision")?;
        }
        let Some(versus) = &self.versus_oracle else {
            return Ok(());
        };
        write!(f, "\n  length over the oracle's: ")?;
        let shown = |ratio: LengthRatio| {
            let LengthRatio {
                ratio,
                ci95: [low, high],
            } = ratio;
            format!("{ratio:.3} (95% interval {low:.3} to {high:.3})")
        };
        match versus.on_both {
            Some(ratio) => write!(
                f,
                "{} on the {} episodes that both solve, ",
                shown(ratio),
                versus.both_solve
            )?,
            None => write!(f, "no episode that both solve, ")?,
        }
        write!(
            f,
            "{} on all with failures counted at env.max_steps",
            shown(versus.on_all)
        )
    }
}

/// Sum of the policy's lengths divided by the sum of the oracle's on the same episodes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LengthRatio {
    /// The ratio; 1 means paths as long as the oracle's.
    pub ratio: f64,
    /// The 95% bootstrap interval of the ratio, over episodes.
    pub ci95: [f64; 2],
}

/// A policy's lengths compared with the oracle's, episode by episode.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct VersusOracle {
    /// Episodes that the policy and the oracle both solve.
    pub both_solve: usize,
    /// The ratio on those episodes; `None` without any.
    pub on_both: Option<LengthRatio>,
    /// The ratio on all episodes; each failure counts as `env.max_steps` moves.
    pub on_all: LengthRatio,
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn figures_of_an_older_file_are_read_without_those_it_lacks() {
        let old = r#"{"policy":"greedy","episodes":2,"success":1.0,"success_ci95":[0.3,1.0],
            "path_ratio":1.5,"mean_length":9.0,"mean_return":1.0}"#;
        let read: Evaluation = serde_json::from_str(old).expect("an evaluation");
        assert_eq!(
            (read.seed, read.versus_oracle, read.segments),
            (None, None, None)
        );
        let again = serde_json::to_value(&read).expect("JSON");
        let old: Value = serde_json::from_str(old).expect("JSON");
        assert_eq!(again, old, "it does not claim what was not recorded");
    }
}
