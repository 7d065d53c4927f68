//! Chooses the episodes to show.

use std::collections::BTreeMap;

use super::recording::{Outcome, RecordedEpisode, Why};

/// The reasons for which episodes are chosen.
pub(super) const REASONS: [Why; 4] = [Why::First, Why::Failure, Why::Detour, Why::Doors];

/// Most episodes that are kept for one reason.
pub(super) const MOST: usize = 4;

/// The episodes worth a look among those offered so far: for each reason up to `most` of them, those for which it holds
/// most. The others are not kept, so that any number can be offered.
#[derive(Debug)]
pub(super) struct Selection<T> {
    most: usize,
    offered: usize,
    /// For each reason the degrees and places of its episodes, the highest degree first.
    ranked: [Vec<(usize, usize)>; REASONS.len()],
    /// The episodes by their place among those offered.
    kept: BTreeMap<usize, RecordedEpisode<T>>,
}

impl<T> Selection<T> {
    /// Creates a selection of up to `most` episodes for each reason.
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            offered: 0,
            ranked: Default::default(),
            kept: BTreeMap::new(),
        }
    }

    /// Keeps an episode if it is worth more than those kept before it.
    pub(super) fn offer(&mut self, episode: RecordedEpisode<T>) {
        let place = self.offered;
        self.offered += 1;
        for (ranked, degree) in self.ranked.iter_mut().zip(degrees(&episode)) {
            if degree > 0 {
                // After those of the same degree.
                let at = ranked.partition_point(|(other, _)| *other >= degree);
                ranked.insert(at, (degree, place));
                ranked.truncate(self.most);
            }
        }
        self.kept.insert(place, episode);
        let ranked = &self.ranked;
        self.kept
            .retain(|&place, _| ranked.iter().any(|ranked| holds(ranked, place)));
    }

    /// Returns the kept episodes with their reasons, in the order in which they were offered.
    pub(super) fn finish(self) -> Vec<RecordedEpisode<T>> {
        let Self { ranked, kept, .. } = self;
        let chosen = |(place, episode)| {
            let reasons = REASONS.into_iter().zip(&ranked);
            let why = reasons.filter(|(_, ranked)| holds(ranked, place));
            RecordedEpisode {
                why: why.map(|(why, _)| why).collect(),
                ..episode
            }
        };
        kept.into_iter().map(chosen).collect()
    }
}

fn holds(ranked: &[(usize, usize)], place: usize) -> bool {
    ranked.iter().any(|&(_, ranked)| ranked == place)
}

/// Returns the degree to which each of the [`REASONS`] holds; 0 if it does not.
fn degrees<T>(episode: &RecordedEpisode<T>) -> [usize; REASONS.len()] {
    let mut walks = episode.walks.iter();
    let failed = walks.any(|walk| walk.outcome == Outcome::Truncated);
    let detour = match failed {
        true => 0,
        false => detour(episode),
    };
    let changes = episode.walks.iter().map(|walk| walk.door_changes());
    [1, failed.into(), detour, changes.max().unwrap_or(0)]
}

/// Returns the steps that the longest walk takes beyond the oracle's, or beyond the shortest path where no oracle
/// walked.
fn detour<T>(episode: &RecordedEpisode<T>) -> usize {
    let least = match &episode.oracle {
        Some(oracle) => oracle.length(),
        None => episode.shortest_path as usize,
    };
    episode.length().saturating_sub(least)
}

#[cfg(test)]
mod tests {
    use super::{
        super::recording::{Cells, RecordedStep, RecordedWalk, Thought},
        *,
    };

    /// A corridor of two cells and a door. The door moves after each of the first `changes` steps.
    fn episode(
        index: usize,
        outcome: Outcome,
        length: usize,
        changes: usize,
    ) -> RecordedEpisode<Thought> {
        let cells = |step: usize| {
            let door = [".", "D"][step.min(changes) % 2];
            Cells(format!("A.{door}"))
        };
        let steps = (0..length).map(|step| RecordedStep {
            cells: cells(step),
            action: 0,
            reward: 0.0,
            segments: None,
            thought: None,
        });
        RecordedEpisode {
            index,
            seed: "1".to_owned(),
            shortest_path: 5,
            why: Vec::new(),
            walks: vec![RecordedWalk::new(
                outcome,
                0.0,
                steps.collect(),
                cells(length),
            )],
            oracle: None,
        }
    }

    #[test]
    fn each_reason_keeps_the_episodes_for_which_it_holds_most() {
        let mut selection = Selection::new(2);
        for (index, (outcome, length, changes)) in [
            (Outcome::Goal, 5, 0),
            (Outcome::Goal, 7, 1),
            (Outcome::Truncated, 80, 2),
            (Outcome::Goal, 6, 0),
            (Outcome::Goal, 30, 0),
            (Outcome::Truncated, 80, 0),
            (Outcome::Goal, 9, 8),
            (Outcome::Truncated, 80, 0),
            (Outcome::Goal, 8, 4),
            (Outcome::Goal, 5, 4),
        ]
        .into_iter()
        .enumerate()
        {
            selection.offer(episode(index, outcome, length, changes));
            assert!(selection.kept.len() <= 8, "it forgets the others");
        }
        let chosen = selection.finish();
        let chosen: Vec<_> = chosen.into_iter().map(|e| (e.index, e.why)).collect();
        let expected = [
            (0, vec![Why::First]),
            (1, vec![Why::First]),
            (2, vec![Why::Failure]),
            (4, vec![Why::Detour]),
            (5, vec![Why::Failure]),
            (6, vec![Why::Detour, Why::Doors]),
            // Of the same degree as the next one, which came later.
            (8, vec![Why::Doors]),
        ];
        assert_eq!(chosen, expected);
    }
}
