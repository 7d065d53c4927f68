//! Trains the unfinished runs of a study, one after another.

use std::{path::Path, time::Duration};

use anyhow::Context as _;
use hrm_common::shutdown::Shutdown;

use super::{
    evaluations,
    file::StudyFile,
    plan::PlannedRun,
    raw::{self, RawRun},
};
use crate::{
    run,
    run::{
        device,
        progress::{Progress, Screen, StudyPlace},
    },
};

/// Progress of a study.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Runs that are finished.
    pub finished: usize,
    /// Requested runs.
    pub of: usize,
}

impl Standing {
    /// Returns true when all requested runs are finished.
    pub(crate) fn is_complete(self) -> bool {
        self.finished == self.of
    }
}

/// Trains the unfinished runs of `runs`, and makes the study's further evaluations of each, until all are finished or
/// `shutdown` trips. A stopped run resumes from its checkpoint next time. Calls `after_each` after each finished run.
///
/// # Errors
///
/// Returns an error before any training when existing data was made with other settings. Also returns the error of a
/// failed run, with its name, and any error of `after_each`.
pub(crate) async fn missing(
    study: &StudyFile,
    runs: &[PlannedRun],
    results: &Path,
    screen: &Screen,
    shutdown: &Shutdown,
    mut after_each: impl FnMut() -> anyhow::Result<()>,
) -> anyhow::Result<Standing> {
    let mut times = Times::default();
    let mut left = Vec::new();
    for run in runs {
        evaluations::check(study, run)?;
        raw::refuse_another_configuration(&raw::folder(results, &run.arm, run.seed), run)?;
        match raw::read(results, &run.arm, run.seed)? {
            Some(raw) => {
                times.add(run, &raw);
                if !evaluations::missing(study, run, &raw, results)?.is_empty() {
                    left.push(run);
                }
            }
            None => {
                raw::refuse_another_configuration(&run.effective.config.run.dir, run)?;
                // Checked before any training, because a later run may be the first to need CUDA. CUDA cannot be loaded
                // after libtorch was used without it.
                device::choose(&run.effective)
                    .with_context(|| format!("{} cannot be trained", run.name()))?;
                left.push(run);
            }
        }
    }
    let standing = |left: usize| Standing {
        finished: runs.len() - left,
        of: runs.len(),
    };
    for (done, run) in left.iter().enumerate() {
        if shutdown.is_tripped() {
            return Ok(standing(left.len() - done));
        }
        let place = StudyPlace {
            number: runs.len() - left.len() + done + 1,
            of: runs.len(),
            others: times.of_all(&left[done + 1..]),
        };
        let time = times.of_all(&left[done..]);
        tracing::info!("{place}: {}, {} left", run.name(), about(time));
        let trained = match raw::read(results, &run.arm, run.seed)? {
            Some(_) => true,
            None => finish(run, place, results, screen, shutdown).await?,
        };
        let evaluated = || evaluations::make(study, run, results, screen, shutdown);
        if !(trained && tokio::task::block_in_place(evaluated)?) {
            return Ok(standing(left.len() - done));
        }
        if let Some(raw) = raw::read(results, &run.arm, run.seed)? {
            times.add(run, &raw);
        }
        after_each()?;
    }
    Ok(standing(0))
}

/// Trains one run from its newest checkpoint, exactly as `train` does. Returns false when it was stopped.
async fn finish(
    run: &PlannedRun,
    place: StudyPlace,
    results: &Path,
    screen: &Screen,
    shutdown: &Shutdown,
) -> anyhow::Result<bool> {
    let progress = Progress::new(screen, &run.effective.config).within(place);
    let trained = async {
        let summary = run::start(&run.effective, true, progress, shutdown.clone())
            .await?
            .finish()
            .await?;
        if !raw::is_finished(&summary) {
            return Ok(false);
        }
        raw::keep(run, &summary, results)?;
        anyhow::Ok(true)
    };
    trained.await.with_context(|| {
        format!(
            "{} failed; finished runs are kept, and the same command resumes the study",
            run.name()
        )
    })
}

/// Seconds per frame, by arm.
#[derive(Debug, Default)]
struct Times(Vec<(String, f64)>);

impl Times {
    fn add(&mut self, run: &PlannedRun, raw: &RawRun) {
        let summary = &raw.summary;
        let time = summary.seconds / summary.frames.max(1) as f64;
        self.0.push((run.arm.clone(), time));
    }

    /// Estimates the time of the remaining runs, from finished runs of the same arm, or otherwise of all arms. No run
    /// takes longer than `learner.max_minutes`.
    fn of_all(&self, left: &[&PlannedRun]) -> Option<Duration> {
        let mean = |arm: Option<&str>| {
            let times: Vec<f64> = self
                .0
                .iter()
                .filter(|(of, _)| arm.is_none_or(|arm| arm == of))
                .map(|(_, time)| *time)
                .collect();
            (!times.is_empty()).then(|| times.iter().sum::<f64>() / times.len() as f64)
        };
        let seconds: Option<f64> = left
            .iter()
            .map(|run| {
                let learner = &run.effective.config.learner;
                let time = mean(Some(&run.arm)).or_else(|| mean(None));
                let of_frames = time.map(|time| time * learner.total_frames as f64);
                let limit = learner.time_limit().map(|limit| limit.as_secs_f64());
                [of_frames, limit].into_iter().flatten().reduce(f64::min)
            })
            .sum();
        Duration::try_from_secs_f64(seconds?).ok()
    }
}

/// Formats a duration, for example "about 2 h 10 min".
fn about(time: Option<Duration>) -> String {
    let Some(time) = time else {
        return "an unknown time".to_owned();
    };
    let minutes = (time.as_secs_f64() / 60.0).ceil() as u64;
    match minutes {
        0..60 => format!("about {minutes} min"),
        _ => format!("about {} h {} min", minutes / 60, minutes % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::fixture;

    fn planned(arm: &str) -> PlannedRun {
        PlannedRun {
            arm: arm.to_owned(),
            seed: 1,
            effective: fixture::raw(1, 0.0, 1.0, &[]).effective,
        }
    }

    #[test]
    fn the_time_left_is_estimated_by_the_same_arm_first() {
        let mut times = Times::default();
        let [fast, slow, new] = ["fast", "slow", "new"].map(planned);
        let left = |times: &Times, runs: &[&PlannedRun]| about(times.of_all(runs));
        assert_eq!(left(&times, &[&fast]), "an unknown time");
        let mut raw = fixture::raw(1, 0.0, 1.0, &[]);
        raw.summary.seconds = 60.0;
        times.add(&fast, &raw);
        raw.summary.seconds = 180.0;
        times.add(&slow, &raw);
        assert_eq!(left(&times, &[&fast]), "about 1 min");
        assert_eq!(left(&times, &[&slow]), "about 3 min");
        assert_eq!(left(&times, &[&new, &slow]), "about 5 min");
        assert_eq!(left(&times, &[&slow; 41]), "about 2 h 3 min");
        assert_eq!(left(&times, &[]), "about 0 min");
    }

    #[test]
    fn no_run_is_estimated_longer_than_its_minutes() {
        let limited = |minutes| {
            let mut run = planned("slow");
            run.effective.config.learner.max_minutes = minutes;
            run
        };
        let mut times = Times::default();
        let left = |times: &Times, minutes| about(times.of_all(&[&limited(minutes)]));
        assert_eq!(left(&times, 7.0), "about 7 min");
        let mut raw = fixture::raw(1, 0.0, 1.0, &[]);
        raw.summary.seconds = 180.0;
        times.add(&planned("slow"), &raw);
        assert_eq!(left(&times, 7.0), "about 3 min");
        assert_eq!(left(&times, 2.0), "about 2 min");
    }
}
