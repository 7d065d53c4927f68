//! Makes the runs of a study that have not been finished, one after another.

use std::path::Path;

use anyhow::Context as _;
use hrm_common::shutdown::Shutdown;

use super::{
    plan::PlannedRun,
    raw::{self, RawRun},
};
use crate::{
    run,
    run::{
        device,
        progress::{Progress, Screen},
    },
};

/// How far a study came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Runs that are finished.
    pub finished: usize,
    /// Runs that were asked for.
    pub of: usize,
}

impl Standing {
    /// Whether all of them are.
    pub(crate) fn is_complete(self) -> bool {
        self.finished == self.of
    }
}

/// Makes what is missing of `runs` until all are finished or `shutdown` is tripped; a run that is stopped
/// goes on from its checkpoint the next time. `after_each` is called when one has been finished.
///
/// # Errors
///
/// When what is there was made with other settings, before anything is trained; when a run fails, naming
/// it; and whatever `after_each` says.
pub async fn missing(
    runs: &[PlannedRun],
    results: &Path,
    screen: &Screen,
    shutdown: &Shutdown,
    mut after_each: impl FnMut() -> anyhow::Result<()>,
) -> anyhow::Result<Standing> {
    let mut times = Times::default();
    let mut left = Vec::new();
    for run in runs {
        raw::refuse_another_configuration(&raw::folder(results, &run.arm, run.seed), run)?;
        match raw::read(results, &run.arm, run.seed)? {
            Some(raw) => times.add(run, &raw),
            None => {
                raw::refuse_another_configuration(&run.effective.config.run.dir, run)?;
                // Before anything is trained: a later run may be the first to need CUDA, which cannot be loaded any more
                // once libtorch has been used without it.
                device::choose(&run.effective)
                    .with_context(|| format!("{} cannot be made", run.name()))?;
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
        let number = runs.len() - left.len() + done + 1;
        tracing::info!(
            "run {number} of {}: {}, {} left",
            runs.len(),
            run.name(),
            times.of_all(&left[done..])
        );
        if !finish(run, results, screen, shutdown).await? {
            return Ok(standing(left.len() - done));
        }
        if let Some(raw) = raw::read(results, &run.arm, run.seed)? {
            times.add(run, &raw);
        }
        after_each()?;
    }
    Ok(standing(0))
}

/// Trains one run, from where it was, exactly as `train` does. False when it was stopped.
async fn finish(
    run: &PlannedRun,
    results: &Path,
    screen: &Screen,
    shutdown: &Shutdown,
) -> anyhow::Result<bool> {
    let config = &run.effective.config;
    let progress = Progress::new(screen, &config.telemetry, config.learner.total_frames);
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
            "{} failed; what is finished stays, and the same command goes on",
            run.name()
        )
    })
}

/// Seconds a frame, by arm.
#[derive(Debug, Default)]
struct Times(Vec<(String, f64)>);

impl Times {
    fn add(&mut self, run: &PlannedRun, raw: &RawRun) {
        let summary = &raw.summary;
        let time = summary.seconds / summary.frames.max(1) as f64;
        self.0.push((run.arm.clone(), time));
    }

    /// What the runs will take, judged by finished ones of the same arm, or of all where there is none.
    fn of_all(&self, left: &[&PlannedRun]) -> String {
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
                let time = mean(Some(&run.arm)).or_else(|| mean(None))?;
                Some(time * run.effective.config.learner.total_frames as f64)
            })
            .sum();
        seconds.map_or_else(|| "an unknown time".to_owned(), about)
    }
}

/// About 2 h 10 min.
fn about(seconds: f64) -> String {
    let minutes = (seconds / 60.0).ceil() as u64;
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
    fn the_time_left_is_judged_by_the_same_arm_first() {
        let mut times = Times::default();
        let [fast, slow, new] = ["fast", "slow", "new"].map(planned);
        assert_eq!(times.of_all(&[&fast]), "an unknown time");
        let mut raw = fixture::raw(1, 0.0, 1.0, &[]);
        raw.summary.seconds = 60.0;
        times.add(&fast, &raw);
        raw.summary.seconds = 180.0;
        times.add(&slow, &raw);
        assert_eq!(times.of_all(&[&fast]), "about 1 min");
        assert_eq!(times.of_all(&[&slow]), "about 3 min");
        assert_eq!(times.of_all(&[&new, &slow]), "about 5 min");
        assert_eq!(times.of_all(&[&slow; 41]), "about 2 h 3 min");
    }
}
