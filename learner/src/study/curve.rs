//! Learning curves of one run: success and path ratio over frames and time.

use crate::{
    storage::records::{Evaluation, Record, WalkBy},
    training::episode_window::{FEWEST, WINDOW},
};

/// The way in which a policy is measured: greedily in evaluations, or sampled over the last uniform training episodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Acting {
    /// Actions are drawn from the policy, during training.
    Sampled,
    /// The most likely action, on held-out episodes.
    Greedy,
}

impl Acting {
    /// Both ways.
    pub(crate) const ALL: [Self; 2] = [Self::Sampled, Self::Greedy];

    /// Returns the name in files.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sampled => "sampled",
            Self::Greedy => "greedy",
        }
    }
}

/// Figures of a run at one time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct CurvePoint {
    /// Frames of training.
    pub frames: u64,
    /// Seconds of training.
    pub seconds: f64,
    /// Share of the episodes that reached the goal.
    pub success: f64,
    /// Sum of lengths over sum of shortest paths, successes only.
    pub path_ratio: Option<f64>,
    /// Episodes in these figures.
    pub episodes: usize,
}

/// Returns the curve of a log.
pub(crate) fn points(records: &[Record], acting: Acting) -> Vec<CurvePoint> {
    match acting {
        Acting::Sampled => sampled(records),
        Acting::Greedy => greedy(records),
    }
}

/// Returns the sampled curve. Older logs do not count episodes in the order of their beginning. After a restart, all
/// episodes of such a run begin together, and short ones, which succeed, end first. A success then counts only once the
/// window is full again.
fn sampled(records: &[Record]) -> Vec<CurvePoint> {
    let mut curve = Vec::new();
    let (mut fewest, mut before) = (FEWEST, 0);
    for record in records {
        let Record::Train(record) = record else {
            continue;
        };
        if record.episodes < before {
            fewest = WINDOW;
        }
        before = record.episodes;
        if let Some(success) = record.success
            && record.episodes >= fewest
        {
            curve.push(CurvePoint {
                frames: record.frames,
                seconds: record.seconds,
                success,
                path_ratio: record.path_ratio,
                episodes: record.episodes,
            });
        }
    }
    curve
}

fn greedy(records: &[Record]) -> Vec<CurvePoint> {
    let point = |record: &Record| {
        let Record::Eval(record) = record else {
            return None;
        };
        let Evaluation {
            policy,
            success,
            path_ratio,
            episodes,
            ..
        } = record.evaluation;
        (policy == WalkBy::Greedy).then_some(CurvePoint {
            frames: record.frames,
            seconds: record.seconds,
            success,
            path_ratio,
            episodes,
        })
    };
    records.iter().filter_map(point).collect()
}

/// Returns the first point with at least this success.
pub(crate) fn first_at(curve: &[CurvePoint], success: f64) -> Option<&CurvePoint> {
    curve.iter().find(|point| point.success >= success)
}

/// Returns the mean of a line over 0 to `until`, or `None` without points. The line is straight between its points, and
/// level before the first and after the last. The points are in order, and none is beyond `until`.
pub(crate) fn mean_over(points: &[(f64, f64)], until: f64) -> Option<f64> {
    let (first, last) = (points.first()?, points.last()?);
    let between: f64 = points
        .windows(2)
        .map(|pair| (pair[1].0 - pair[0].0) * (pair[0].1 + pair[1].1) / 2.0)
        .sum();
    let area = first.0 * first.1 + between + (until - last.0) * last.1;
    Some(area / until)
}

/// Returns the value at `x` of the line through the points. Returns `None` before the first point and after the last.
pub(crate) fn at(points: &[(f64, f64)], x: f64) -> Option<f64> {
    let after = points.partition_point(|point| point.0 < x);
    let (x1, y1) = *points.get(after)?;
    if x1 == x {
        return Some(y1);
    }
    let (x0, y0) = *points.get(after.checked_sub(1)?)?;
    Some(y0 + (y1 - y0) * (x - x0) / (x1 - x0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::fixture::{eval, train};

    #[test]
    fn each_policy_has_its_curve() {
        let records = [
            train(1000, 99, 0.9),
            train(2000, 100, 0.4),
            eval(2000, 0.3),
            train(3000, 500, 0.5),
            eval(4000, 0.6),
        ];
        let frames = |acting| -> Vec<_> {
            let curve = points(&records, acting);
            curve.iter().map(|p| (p.frames, p.success)).collect()
        };
        assert_eq!(frames(Acting::Sampled), [(2000, 0.4), (3000, 0.5)]);
        assert_eq!(frames(Acting::Greedy), [(2000, 0.3), (4000, 0.6)]);
        let curve = points(&records, Acting::Greedy);
        assert_eq!(first_at(&curve, 0.3).map(|p| p.frames), Some(2000));
        assert_eq!(first_at(&curve, 0.31).map(|p| p.frames), Some(4000));
        assert_eq!(first_at(&curve, 0.61), None);
    }

    #[test]
    fn after_a_restart_the_window_must_be_full_again() {
        let counts = [100, 300, 500, 120, 400, 500, 500];
        let records = (1..).zip(counts).map(|(i, n)| train(1000 * i, n, 0.9));
        let curve = points(&records.collect::<Vec<_>>(), Acting::Sampled);
        let frames: Vec<_> = curve.iter().map(|point| point.frames).collect();
        assert_eq!(frames, [1000, 2000, 3000, 6000, 7000]);
    }

    #[test]
    fn the_mean_is_the_area_below_the_line() {
        assert_eq!(mean_over(&[], 10.0), None);
        assert_eq!(mean_over(&[(4.0, 0.5)], 10.0), Some(0.5));
        // A ramp from 0 to 1 over the middle half.
        assert_eq!(mean_over(&[(2.5, 0.0), (7.5, 1.0)], 10.0), Some(0.5));
        let early = mean_over(&[(0.0, 0.0), (1.0, 1.0)], 10.0);
        assert!((early.expect("points") - 0.95).abs() < 1e-12);
    }

    #[test]
    fn a_line_is_straight_between_its_points_and_ends_with_them() {
        let line = [(1.0, 2.0), (3.0, 6.0), (4.0, 6.0)];
        let found = [0.9, 1.0, 1.5, 3.0, 3.5, 4.0, 4.1].map(|x| at(&line, x));
        let (two, three, six) = (Some(2.0), Some(3.0), Some(6.0));
        assert_eq!(found, [None, two, three, six, six, six, None]);
        assert_eq!(at(&[], 1.0), None);
    }
}
