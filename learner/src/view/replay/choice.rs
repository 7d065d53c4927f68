//! Chooses the episodes to show.

use std::cmp::Reverse;

use super::recording::{Outcome, RecordedEpisode, Recording, Why};

/// Most episodes that are kept for one reason.
const MOST: usize = 4;

impl Recording {
    /// Keeps the episodes that are worth a look: for each reason up to [`MOST`] of them, those for which it holds most.
    /// Each kept episode gets its reasons. The order stays.
    pub(crate) fn choose(&mut self) {
        self.choose_at_most(MOST);
    }

    fn choose_at_most(&mut self, most: usize) {
        let failed = |episode: &RecordedEpisode| {
            let mut walks = episode.walks.iter();
            walks.any(|walk| walk.outcome == Outcome::Truncated)
        };
        let rank = |why: Why, degree: &dyn Fn(&RecordedEpisode) -> usize| {
            let degrees = self.episodes.iter().map(degree).enumerate();
            let mut ranked: Vec<_> = degrees.filter(|&(_, degree)| degree > 0).collect();
            ranked.sort_by_key(|&(_, degree)| Reverse(degree));
            ranked.truncate(most);
            ranked.into_iter().map(move |(at, _)| (at, why))
        };
        let ranked: Vec<_> = rank(Why::First, &|_| 1)
            .chain(rank(Why::Failure, &|episode| failed(episode).into()))
            .chain(rank(Why::Detour, &|episode| match failed(episode) {
                true => 0,
                false => detour(episode),
            }))
            .chain(rank(Why::Doors, &door_changes))
            .collect();
        for (at, why) in ranked {
            self.episodes[at].why.push(why);
        }
        self.episodes.retain(|episode| !episode.why.is_empty());
    }

    /// Marks all episodes as asked for.
    pub(crate) fn choose_all(&mut self) {
        for episode in &mut self.episodes {
            episode.why.push(Why::Chosen);
        }
    }
}

/// The steps that the longest walk takes beyond the oracle's, or beyond the shortest path where no oracle walked.
fn detour(episode: &RecordedEpisode) -> usize {
    let least = match &episode.oracle {
        Some(oracle) => oracle.length(),
        None => episode.shortest_path as usize,
    };
    episode.length().saturating_sub(least)
}

fn door_changes(episode: &RecordedEpisode) -> usize {
    let changes = episode.walks.iter().map(|walk| walk.door_changes());
    changes.max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::{super::fixture::recording, *};

    #[test]
    fn each_reason_has_the_episodes_for_which_it_holds_most() {
        let whole = recording();
        let mut chosen = whole.clone();
        chosen.choose_at_most(2);
        let with = |why| {
            let episodes = chosen.episodes.iter();
            let indices = episodes.filter(|episode| episode.why.contains(&why));
            indices.map(|episode| episode.index).collect::<Vec<_>>()
        };
        assert_eq!(with(Why::First), [0, 1]);
        let doors = with(Why::Doors);
        assert_eq!(doors.len(), 2);
        let least = doors
            .iter()
            .map(|&at| door_changes(&whole.episodes[at]))
            .min();
        for episode in &whole.episodes {
            assert!(doors.contains(&episode.index) || Some(door_changes(episode)) <= least);
        }
        for at in with(Why::Failure) {
            let walks = &whole.episodes[at].walks;
            assert!(walks.iter().any(|walk| walk.outcome == Outcome::Truncated));
        }
        for at in with(Why::Detour) {
            assert!(detour(&whole.episodes[at]) > 0);
            assert!(!with(Why::Failure).contains(&at));
        }
        assert!(
            chosen
                .episodes
                .iter()
                .all(|episode| !episode.why.is_empty())
        );
        assert!(chosen.episodes.is_sorted_by_key(|episode| episode.index));
    }

    #[test]
    fn chosen_episodes_all_stay() {
        let mut recording = recording();
        recording.choose_all();
        assert_eq!(recording.episodes.len(), 6);
        assert!(
            recording
                .episodes
                .iter()
                .all(|episode| episode.why == [Why::Chosen])
        );
    }
}
