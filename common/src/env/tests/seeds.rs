//! Tests of seeds: the same seed gives the same episodes.

use super::*;

/// A seed must always give the same episodes, because evaluation results are compared across releases. The tests of the
/// Python package read the same pictures.
#[test]
fn known_seeds_give_known_mazes() {
    let four = maze(&EnvConfig::four_rooms(), 7);
    assert_eq!(
        four.to_string(),
        include_str!("known/four-rooms-7.txt").trim_ascii()
    );
    let mut random = maze(&EnvConfig::random_maze(), 7);
    assert_eq!(
        random.to_string(),
        include_str!("known/random-maze-7.txt").trim_ascii()
    );
    for action in [2, 2, 3, 0, 1].repeat(16) {
        random.step(action);
    }
    let end = include_str!("known/random-maze-7-end.txt");
    assert_eq!(random.to_string(), end.trim_ascii());
}

#[test]
fn different_seeds_give_different_mazes() {
    for config in [EnvConfig::four_rooms(), EnvConfig::random_maze()] {
        let texts: BTreeSet<String> = (0..50)
            .map(|seed| maze(&config, seed).to_string())
            .collect();
        assert!(texts.len() > 45, "{} of 50", texts.len());
    }
}
