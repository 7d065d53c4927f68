//! `episodes.csv`: one line per held-out episode, with the result of each walker.
//!
//! ```text
//!   episode,shortest_path,greedy_success,greedy_length,oracle_success,oracle_length
//!   0,8,1,10,1,8
//! ```
//!
//! A success is 1 or 0. The file does not hold the seeds of the episodes. A seed is a function of `eval.seed` and the
//! episode's number, and `hrm-learner eval --dump` writes it.

use std::fmt::Write as _;

use hrm_common::env::EpisodeSummary;

use crate::storage::records::WalkBy;

/// Returns the file's content, with the walkers' columns in the given order. All walks have the same episodes.
pub(crate) fn csv(walks: &[(WalkBy, &[EpisodeSummary])]) -> String {
    let mut text = "episode,shortest_path".to_owned();
    for (by, _) in walks {
        // Writing to a String cannot fail.
        let _ = write!(text, ",{by}_success,{by}_length");
    }
    text.push('\n');
    let episodes = walks.first().map_or(0, |(_, walk)| walk.len());
    for episode in 0..episodes {
        let _ = write!(text, "{episode},{}", walks[0].1[episode].shortest_path);
        for (_, walk) in walks {
            let EpisodeSummary {
                success, length, ..
            } = walk[episode];
            let _ = write!(text, ",{},{length}", u8::from(success));
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_episode_has_a_line_with_all_walkers() {
        let episode = |length, success| EpisodeSummary {
            episode_return: 0.0,
            length,
            shortest_path: 7,
            success,
            curriculum_distance: 0,
        };
        let greedy = [episode(9, true), episode(80, false)];
        let oracle = [episode(7, true), episode(12, true)];
        let walks: [(WalkBy, &[EpisodeSummary]); 2] =
            [(WalkBy::Greedy, &greedy), (WalkBy::Oracle, &oracle)];
        assert_eq!(
            csv(&walks),
            "episode,shortest_path,greedy_success,greedy_length,oracle_success,oracle_length\n\
             0,7,1,9,1,7\n\
             1,7,0,80,1,12\n"
        );
        assert_eq!(csv(&[]), "episode,shortest_path\n");
    }
}
