//! Invented runs for tests of reports and pictures.

use hrm_common::config::{Config, Layers, Override};

use super::{
    measures::Run,
    raw::{Machine, RawRun},
};
use crate::storage::{
    fixture::train_record,
    records::{EvalRecord, Evaluation, LengthRatio, Record, TrainRecord, VersusOracle, WalkBy},
    summary::Summary,
};

/// Number of frames of [`run`].
pub(crate) const FRAMES: u64 = 100_000;

/// Returns a training record.
pub(crate) fn train(frames: u64, episodes: usize, success: f64) -> Record {
    Record::Train(TrainRecord {
        episodes,
        success: Some(success),
        episode_return: Some(0.0),
        length: Some(20.0),
        path_ratio: Some(1.5),
        policy_lag_mean: Some(0.0),
        segments: Some(1.0),
        ..train_record(frames)
    })
}

/// Returns the result of an evaluation.
pub(crate) fn evaluation(policy: WalkBy, success: f64, path_ratio: f64) -> Evaluation {
    Evaluation {
        policy,
        seed: Some(1),
        episodes: 200,
        success,
        success_ci95: [success - 0.01, success],
        path_ratio: Some(path_ratio),
        mean_length: 15.0,
        mean_return: success,
        versus_oracle: (policy != WalkBy::Oracle).then(|| versus_oracle(path_ratio)),
        segments: None,
    }
}

/// Returns lengths compared with an oracle whose path ratio is 1.3; failures add a tenth.
pub(crate) fn versus_oracle(path_ratio: f64) -> VersusOracle {
    let ratio = |ratio: f64| LengthRatio {
        ratio,
        ci95: [ratio - 0.01, ratio + 0.01],
    };
    VersusOracle {
        both_solve: 190,
        on_both: Some(ratio(path_ratio / 1.3)),
        on_all: ratio(path_ratio / 1.3 + 0.1),
    }
}

/// Returns a record of a greedy evaluation.
pub(crate) fn eval(frames: u64, success: f64) -> Record {
    Record::Eval(EvalRecord {
        frames,
        seconds: frames as f64 / 1000.0,
        updates_tried: frames / 32,
        evaluation: evaluation(WalkBy::Greedy, success, 1.56),
    })
}

/// Returns the raw data of a run whose success rises from 0 to `best`. The rise begins after the share `late` of the
/// run, and takes a quarter of the run.
pub(crate) fn raw(seed: u64, late: f64, best: f64, settings: &[(&str, &str)]) -> RawRun {
    let success =
        |frames: u64| best * ((frames as f64 / FRAMES as f64 - late) * 4.0).clamp(0.0, 1.0);
    let records = (1..=50).map(|i| i * FRAMES / 50).flat_map(|frames| {
        let evaluated = (frames % (FRAMES / 5) == 0).then(|| eval(frames, success(frames)));
        std::iter::once(train(frames, 500, success(frames))).chain(evaluated)
    });
    let seed_text = seed.to_string();
    let total = FRAMES.to_string();
    let command_line = [
        ("run.seed", seed_text.as_str()),
        ("learner.total_frames", &total),
    ]
    .iter()
    .chain(settings)
    .map(|(key, value)| Override::new("test", *key, value))
    .collect();
    RawRun {
        records: records.collect(),
        effective: Config::load(&Layers {
            command_line,
            ..Layers::default()
        })
        .expect("a configuration"),
        summary: Summary {
            complete: true,
            frames: FRAMES,
            seconds: FRAMES as f64 / 1000.0,
            updates_tried: FRAMES / 32,
            seed,
            evaluations: vec![
                evaluation(WalkBy::Greedy, best, 1.56),
                evaluation(WalkBy::Sampled, best, 1.6),
                evaluation(WalkBy::Oracle, 1.0, 1.3),
            ],
        },
        machine: Machine {
            cpu: "A processor".to_owned(),
            cores: 2,
            threads: 2,
            device: "cpu".to_owned(),
            version: "0.1.0".to_owned(),
            restarts: 0,
        },
        evaluations: Vec::new(),
    }
}

/// Returns the run of [`raw`].
pub(crate) fn run(seed: u64, late: f64, best: f64) -> Run {
    Run::new(seed, raw(seed, late, best, &[]))
}
