//! The segments of decisions, by what happened before them: do they follow the doors?
//!
//! The area under the receiver operating characteristic (AUROC) of a number of segments is the probability that a decision
//! of the first kind has more segments than one of the second, where equal numbers count half (Hanley and McNeil 1982).
//! It is 0.5 if the numbers say nothing. Its interval comes from a bootstrap over episodes, because decisions of one episode
//! are similar.

use std::{collections::BTreeMap, fmt};

use rand::{Rng as _, SeedableRng as _};
use rand_xoshiro::Xoshiro256PlusPlus;
use serde::Serialize;

use super::{convergence::Kind, estimate::Mean};

/// Resamples of the bootstrap.
const RESAMPLES: usize = 1000;

/// Seed of the resampling, fixed so that the same episodes give the same interval.
const SEED: u64 = 0x0054_4849_4e4b;

/// One decision of the walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Thought {
    /// Index of the held-out episode.
    pub episode: usize,
    /// The step at which it was made.
    pub kind: Kind,
    /// Its segments.
    pub segments: u8,
    /// The segments that it would have had with one wall more, of no account; `None` where that was not tried.
    pub(crate) disturbed: Option<u8>,
}

/// Decisions of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ThinkingPoint {
    /// The kind.
    pub steps: Kind,
    /// The segments.
    pub segments: Mean,
}

/// Two kinds of decisions that are told apart by their segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Contrast {
    /// A door closed ahead, against every other step after the first.
    ClosedAhead,
    /// A door closed ahead, against a change of other doors.
    ClosedAheadOfChanges,
    /// A change of other doors, against no change.
    OtherChanges,
    /// A wall drawn on a tile that no shortest path needs, against the same observations without it.
    WallDrawn,
}

/// The area of one contrast.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Area {
    /// The contrast.
    pub contrast: Contrast,
    /// The area under the receiver operating characteristic.
    pub auroc: f64,
    /// The 95% interval, from a bootstrap over episodes.
    pub ci95: [f64; 2],
    /// Decisions of the first and of the second kind.
    pub decisions: [usize; 2],
}

/// The segments of a walk's decisions.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Thinking {
    /// The mean over all decisions.
    pub mean: Option<Mean>,
    /// The means by kind.
    pub points: Vec<ThinkingPoint>,
    /// The areas of the contrasts with decisions of both kinds.
    pub areas: Vec<Area>,
}

impl Thinking {
    /// Summarises decisions, which are in the order of their episodes.
    pub(super) fn new(thoughts: &[Thought]) -> Self {
        let mean = |of: &dyn Fn(&Thought) -> bool| {
            let values: Vec<_> = thoughts
                .iter()
                .filter(|thought| of(thought))
                .map(|thought| (thought.episode, f64::from(thought.segments)))
                .collect();
            Mean::clustered(&values)
        };
        let point = |steps| {
            let segments = mean(&|thought| thought.kind.is_among(steps))?;
            Some(ThinkingPoint { steps, segments })
        };
        Self {
            mean: mean(&|_| true),
            points: Kind::ALL.into_iter().filter_map(point).collect(),
            areas: (Contrast::ALL.into_iter())
                .filter_map(|contrast| area(contrast, thoughts))
                .collect(),
        }
    }
}

impl Contrast {
    /// All of them.
    const ALL: [Self; 4] = [
        Self::ClosedAhead,
        Self::ClosedAheadOfChanges,
        Self::OtherChanges,
        Self::WallDrawn,
    ];

    /// Returns the segments of a decision's place in the first and in the second kind.
    fn sides(self, thought: &Thought) -> [Option<u8>; 2] {
        let ahead = thought.kind == Kind::ClosedAhead;
        let change = thought.kind == Kind::Change;
        let still = thought.kind == Kind::NoChange;
        let (first, second) = match self {
            Self::ClosedAhead => (ahead, change || still),
            Self::ClosedAheadOfChanges => (ahead, change),
            Self::OtherChanges => (change, still),
            Self::WallDrawn => {
                let tried = thought.disturbed.map(|_| thought.segments);
                return [thought.disturbed, tried];
            }
        };
        [first, second].map(|is| is.then_some(thought.segments))
    }
}

impl fmt::Display for Contrast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::ClosedAhead => "a door closed ahead, or not",
            Self::ClosedAheadOfChanges => "a door closed ahead, or another changed",
            Self::OtherChanges => "another door changed, or none",
            Self::WallDrawn => "a needless tile drawn as wall, or not",
        })
    }
}

/// Decisions of both kinds, counted by their segments.
type Counts = [[u64; 256]; 2];

/// Returns the area of a contrast; `None` without decisions of both kinds.
fn area(contrast: Contrast, thoughts: &[Thought]) -> Option<Area> {
    // Sparse, because an episode has few numbers.
    let mut episodes: Vec<BTreeMap<(usize, u8), u64>> = Vec::new();
    for episode in thoughts.chunk_by(|a, b| a.episode == b.episode) {
        let mut counts = BTreeMap::new();
        for thought in episode {
            for (side, segments) in contrast.sides(thought).into_iter().enumerate() {
                if let Some(segments) = segments {
                    *counts.entry((side, segments)).or_default() += 1;
                }
            }
        }
        episodes.push(counts);
    }
    let total = |chosen: &mut dyn Iterator<Item = usize>| {
        let mut counts: Counts = [[0; 256]; 2];
        for episode in chosen {
            for (&(side, segments), &count) in &episodes[episode] {
                counts[side][usize::from(segments)] += count;
            }
        }
        counts
    };
    let whole = total(&mut (0..episodes.len()));
    let auroc = auroc(&whole)?;
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(SEED);
    let mut resampled: Vec<f64> = (0..RESAMPLES)
        .filter_map(|_| {
            let chosen = episodes.iter().map(|_| rng.random_range(0..episodes.len()));
            self::auroc(&total(&mut chosen.collect::<Vec<_>>().into_iter()))
        })
        .collect();
    resampled.sort_by(f64::total_cmp);
    let quantile = |q: f64| {
        let last = resampled.len().saturating_sub(1) as f64;
        let at = (q * last).round() as usize;
        resampled.get(at).copied().unwrap_or(auroc)
    };
    Some(Area {
        contrast,
        auroc,
        ci95: [quantile(0.025), quantile(0.975)],
        decisions: whole.map(|side| side.iter().sum::<u64>() as usize),
    })
}

/// Returns the probability that a decision of the first kind has more segments than one of the second.
fn auroc([first, second]: &Counts) -> Option<f64> {
    let pairs = first.iter().sum::<u64>() as f64 * second.iter().sum::<u64>() as f64;
    if pairs == 0.0 {
        return None;
    }
    let mut below = 0;
    let mut won = 0.0;
    for (&first, &second) in first.iter().zip(second) {
        won += first as f64 * (below as f64 + second as f64 / 2.0);
        below += second;
    }
    Some(won / pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thought(episode: usize, kind: Kind, segments: u8) -> Thought {
        Thought {
            episode,
            kind,
            segments,
            disturbed: None,
        }
    }

    fn found(thoughts: &[Thought], contrast: Contrast) -> Option<Area> {
        let areas = Thinking::new(thoughts).areas;
        areas.into_iter().find(|area| area.contrast == contrast)
    }

    /// Of six pairs, the closed door has more segments in three, and as many in two.
    #[test]
    fn the_area_is_counted_by_hand() {
        let thoughts = [
            thought(0, Kind::First, 4),
            thought(0, Kind::NoChange, 1),
            thought(0, Kind::ClosedAhead, 3),
            thought(1, Kind::First, 4),
            thought(1, Kind::Change, 2),
            thought(1, Kind::ClosedAhead, 2),
            thought(1, Kind::NoChange, 3),
        ];
        let area = found(&thoughts, Contrast::ClosedAhead).expect("both kinds");
        assert_eq!(area.decisions, [2, 3]);
        // 3 beats 1 and 2 and ties 3; 2 beats 1, ties 2 and loses to 3.
        assert!(
            (area.auroc - (2.0 + 0.5 + 1.0 + 0.5) / 6.0).abs() < 1e-12,
            "{area:?}"
        );
        let area = found(&thoughts, Contrast::ClosedAheadOfChanges).expect("both kinds");
        assert_eq!((area.auroc, area.decisions), (0.75, [2, 1]));
        let area = found(&thoughts, Contrast::OtherChanges).expect("both kinds");
        assert_eq!((area.auroc, area.decisions), (0.5, [1, 2]));
        assert_eq!(found(&thoughts, Contrast::WallDrawn), None);
        let thinking = Thinking::new(&thoughts);
        assert_eq!(thinking.points.len(), Kind::ALL.len());
        let changes = thinking.points.iter().find(|p| p.steps == Kind::Change);
        let changes = changes.map(|point| (point.segments.mean, point.segments.count));
        assert_eq!(
            changes,
            Some((7.0 / 3.0, 3)),
            "closed doors are changes too"
        );
        assert_eq!(thinking.mean.map(|mean| mean.count), Some(7));
    }

    #[test]
    fn numbers_that_tell_the_kinds_apart_have_an_area_of_one_and_equal_numbers_a_half() {
        let apart = |ahead: u8| -> Vec<Thought> {
            (0..40)
                .flat_map(|episode| {
                    [
                        thought(episode, Kind::NoChange, 1),
                        thought(episode, Kind::ClosedAhead, ahead),
                    ]
                })
                .collect()
        };
        for (ahead, auroc) in [(4, 1.0), (1, 0.5)] {
            let area = found(&apart(ahead), Contrast::ClosedAhead).expect("both kinds");
            assert_eq!((area.auroc, area.ci95), (auroc, [auroc; 2]));
        }
    }

    /// Hanley and McNeil's standard error for independent decisions (1982, equation 2).
    #[test]
    fn the_interval_is_that_of_the_literature_where_decisions_are_independent() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(3);
        let thoughts: Vec<Thought> = (0..2000)
            .map(|episode| match episode % 2 {
                0 => thought(episode, Kind::NoChange, rng.random_range(0..200)),
                _ => thought(episode, Kind::ClosedAhead, rng.random_range(50..250)),
            })
            .collect();
        let area = found(&thoughts, Contrast::ClosedAhead).expect("both kinds");
        let (a, n) = (area.auroc, 1000.0);
        let (q1, q2) = (a / (2.0 - a), 2.0 * a * a / (1.0 + a));
        let variance = (a * (1.0 - a) + (n - 1.0) * (q1 + q2 - 2.0 * a * a)) / (n * n);
        let half = (area.ci95[1] - area.ci95[0]) / 2.0;
        assert!(
            (half / (1.96 * variance.sqrt()) - 1.0).abs() < 0.15,
            "{area:?}"
        );
        assert!(area.ci95[0] < a && a < area.ci95[1]);
    }

    #[test]
    fn a_disturbed_observation_is_compared_with_the_same_one_undisturbed() {
        let thoughts: Vec<Thought> = (0..10)
            .map(|episode| Thought {
                disturbed: (episode % 2 == 0).then_some(2),
                ..thought(episode, Kind::NoChange, 1 + (episode % 2) as u8)
            })
            .collect();
        let area = found(&thoughts, Contrast::WallDrawn).expect("some were tried");
        assert_eq!((area.auroc, area.decisions), (1.0, [5, 5]));
    }
}
