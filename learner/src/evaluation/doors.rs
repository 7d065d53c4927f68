//! Finds the doors that moved between two observations of one episode.

use hrm_common::env::tile;

/// The doors that moved; tiles are indices into the observation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Moved {
    /// Doors that were open and are closed now.
    pub(crate) closed: Vec<usize>,
    /// Doors that were closed and are open now.
    pub(crate) opened: Vec<usize>,
}

impl Moved {
    /// Compares two observations `[S]`. Only doors become or stop being walls. A doorway that closed behind the agent
    /// counts; the agent's own moves do not.
    pub(crate) fn between(before: &[u8], now: &[u8]) -> Self {
        let mut moved = Self::default();
        for (tile, (&was, &is)) in before.iter().zip(now).enumerate() {
            match (blocked(was), blocked(is)) {
                (false, true) => moved.closed.push(tile),
                (true, false) => moved.opened.push(tile),
                _ => {}
            }
        }
        moved
    }

    /// Returns true when no door moved.
    pub(crate) fn is_empty(&self) -> bool {
        self.closed.is_empty() && self.opened.is_empty()
    }
}

fn blocked(tile: u8) -> bool {
    matches!(tile, tile::WALL | tile::CLOSED_DOOR)
}

#[cfg(test)]
mod tests {
    use hrm_common::env::tile::{AGENT, CLOSED_DOOR, FLOOR, GOAL, WALL};

    use super::*;

    fn moved(before: &[u8], now: &[u8]) -> ([Vec<usize>; 2], bool) {
        let moved = Moved::between(before, now);
        let none = moved.is_empty();
        ([moved.closed, moved.opened], none)
    }

    #[test]
    fn a_step_of_the_agent_moves_no_door() {
        let before = [WALL, AGENT, FLOOR, GOAL, CLOSED_DOOR];
        let now = [WALL, FLOOR, AGENT, GOAL, CLOSED_DOOR];
        assert_eq!(moved(&before, &now), ([vec![], vec![]], true));
        let arrived = [WALL, FLOOR, FLOOR, AGENT, CLOSED_DOOR];
        assert_eq!(moved(&now, &arrived), ([vec![], vec![]], true));
    }

    #[test]
    fn doors_that_open_and_close_are_told_apart() {
        // The four-rooms maze shows a closed door as a wall; the random maze shows it as a door.
        for closed in [WALL, CLOSED_DOOR] {
            let before = [WALL, FLOOR, AGENT, FLOOR, closed, FLOOR];
            let now = [WALL, FLOOR, FLOOR, AGENT, FLOOR, closed];
            assert_eq!(moved(&before, &now), ([vec![5], vec![4]], false));
        }
    }

    #[test]
    fn a_door_that_closes_behind_the_agent_has_closed() {
        let before = [FLOOR, AGENT, FLOOR];
        let now = [FLOOR, CLOSED_DOOR, AGENT];
        assert_eq!(moved(&before, &now), ([vec![1], vec![]], false));
        // A door cannot open for the agent in the same step, because the agent moves first.
        let into = [CLOSED_DOOR, AGENT, FLOOR];
        let opened = [FLOOR, FLOOR, AGENT];
        assert_eq!(moved(&into, &opened), ([vec![], vec![0]], false));
    }
}
