//! The learning rate over a run, and its jump when a resumed run gets another length.

use hrm_common::{
    checkpoint::RunState,
    config::{Config, OptimizerConfig},
};

/// Learning rates that differ by less than this share count as equal.
const SAME: f64 = 1e-6;

/// Returns the learning rate after `steps` updates, when the share `done` of the run is over. It has a linear warm-up
/// over the first updates, and a linear decay over the run.
pub(crate) fn learning_rate(config: &OptimizerConfig, steps: u64, done: f64) -> f64 {
    let warmup = match config.warmup_updates {
        0 => 1.0,
        updates => ((steps + 1) as f64 / updates as f64).min(1.0),
    };
    let left = 1.0 - done.clamp(0.0, 1.0) * (1.0 - config.final_learning_rate_fraction);
    config.learning_rate * warmup * left
}

/// Returns the learning rates before the stop and after the resume, if they differ.
pub(crate) fn jump(before: &Config, after: &Config, state: &RunState) -> Option<(f64, f64)> {
    let rate = |config: &Config| {
        let done = config.learner.share_done(state.frames, state.seconds);
        learning_rate(&config.optimizer, state.optimizer_steps, done)
    };
    let (before, after) = (rate(before), rate(after));
    ((after - before).abs() > SAME * before.max(after)).then_some((before, after))
}

/// Logs the jump of a resumed run's learning rate, if there is one.
pub(crate) fn log_jump(before: &Config, after: &Config, state: &RunState) {
    if let Some((before, after)) = jump(before, after, state) {
        tracing::warn!(
            learning_rate_before = before,
            learning_rate = after,
            "the learning rate jumps: it follows the completed share of the run, and the configuration has changed"
        );
    }
}

#[cfg(test)]
mod tests {
    use hrm_common::env::DistanceCurriculum;
    use rand::SeedableRng as _;
    use rand_xoshiro::Xoshiro256PlusPlus;

    use super::*;

    /// Returns the configuration of a run with this length.
    fn run(total_frames: u64, max_minutes: f64) -> Config {
        let mut config = Config::default();
        config.learner.total_frames = total_frames;
        config.learner.max_minutes = max_minutes;
        config.optimizer.learning_rate = 1e-3;
        config.optimizer.final_learning_rate_fraction = 0.05;
        config
    }

    fn state(frames: u64, seconds: f64) -> RunState {
        let config = Config::default();
        RunState {
            run_id: String::new(),
            restarts: 0,
            frames,
            updates_tried: 10_000,
            optimizer_steps: 10_000,
            sessions_joined: 1,
            seconds,
            curriculum: DistanceCurriculum::new(&config.curriculum, &config.env)
                .expect("valid")
                .state(),
            rng: Xoshiro256PlusPlus::seed_from_u64(1),
        }
    }

    #[test]
    fn a_longer_run_resumes_with_a_higher_rate() {
        let finished = state(50_000, 60.0);
        let close = |found: Option<(f64, f64)>, expected: (f64, f64)| {
            let found = found.expect("it jumps");
            assert!((found.0 - expected.0).abs() < 1e-9, "{found:?}");
            assert!((found.1 - expected.1).abs() < 1e-6, "{found:?}");
        };
        let found = jump(&run(50_000, 0.0), &run(150_000, 0.0), &finished);
        close(found, (5e-5, 6.8333e-4));
        let found = jump(&run(1_000_000, 1.0), &run(1_000_000, 2.0), &finished);
        close(found, (5e-5, 5.25e-4));
    }

    #[test]
    fn the_same_run_resumes_with_the_same_rate() {
        let half = state(25_000, 60.0);
        assert_eq!(jump(&run(50_000, 4.0), &run(50_000, 4.0), &half), None);
        // The frames decide the share in both.
        assert_eq!(jump(&run(50_000, 4.0), &run(50_000, 0.0), &half), None);
    }
}
