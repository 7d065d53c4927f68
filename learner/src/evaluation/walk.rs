//! Walks several episodes side by side: one batched decision per tick, until each episode has ended.

/// Chooses the actions of episodes that walk side by side.
pub(crate) trait Walker<E> {
    /// Returns an action for each of the episodes, in their order.
    fn actions(&mut self, episodes: &mut [E]) -> Vec<u8>;

    /// Keeps the state of these rows only, in that order: the other episodes have ended.
    fn retain(&mut self, rows: &[usize]);
}

/// Walks the episodes to their ends. Returns false when `stop` requests an earlier one. `step` makes the move of one
/// episode, from the walker, its row and its action, and returns the episode while it walks on.
pub(crate) fn side_by_side<E, W: Walker<E>>(
    walker: &mut W,
    mut episodes: Vec<E>,
    stop: impl Fn() -> bool,
    mut step: impl FnMut(&W, usize, E, u8) -> Option<E>,
) -> bool {
    while !episodes.is_empty() {
        if stop() {
            return false;
        }
        let actions = walker.actions(&mut episodes);
        let (mut walking, mut rows) = (Vec::new(), Vec::new());
        for (row, (episode, action)) in (0..).zip(episodes.into_iter().zip(actions)) {
            if let Some(episode) = step(walker, row, episode, action) {
                walking.push(episode);
                rows.push(row);
            }
        }
        if !rows.is_empty() {
            walker.retain(&rows);
        }
        episodes = walking;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Remembers the rows that are left, and acts by them.
    struct Rows(Vec<u8>);

    impl Walker<u8> for Rows {
        fn actions(&mut self, episodes: &mut [u8]) -> Vec<u8> {
            assert_eq!(episodes.len(), self.0.len());
            self.0.clone()
        }

        fn retain(&mut self, rows: &[usize]) {
            self.0 = rows.iter().map(|row| self.0[*row]).collect();
        }
    }

    #[test]
    fn each_episode_keeps_its_row_to_its_end() {
        let mut walker = Rows(vec![10, 11, 12, 13]);
        let mut made = Vec::new();
        // Episode n makes n moves and one more.
        let whole = side_by_side(
            &mut walker,
            vec![2, 0, 1, 0],
            || false,
            |_, _, left: u8, action| {
                made.push(action);
                left.checked_sub(1)
            },
        );
        assert!(whole);
        assert_eq!(made, [10, 11, 12, 13, 10, 12, 10]);
    }

    #[test]
    fn a_walk_stops_between_two_ticks() {
        let mut walker = Rows(vec![0, 0]);
        let ticks = std::cell::Cell::new(0);
        let whole = side_by_side(
            &mut walker,
            vec![9, 9],
            || ticks.get() == 4,
            |_, _, left, _| {
                ticks.set(ticks.get() + 1);
                Some(left)
            },
        );
        assert!(!whole);
        assert_eq!(ticks.get(), 4);
    }
}
