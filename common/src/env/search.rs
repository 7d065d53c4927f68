//! Breadth-first search over the cells. It reuses its memory and allocates only at first.

use super::{grid::Cell, map::Map, tile};

const UNSEEN: u16 = u16::MAX;

/// A search and its last result. One search can serve many environments in turn.
#[derive(Debug, Clone, Default)]
pub(super) struct Search {
    /// `[S]`: steps from the origin; `UNSEEN` where the search did not arrive.
    distances: Vec<u16>,
    /// The cells found, by distance; the origin is the first.
    queue: Vec<Cell>,
    /// A shortest path, from the target back to the origin and without it. A failed search keeps it.
    path: Vec<Cell>,
}

/// True for a cell on which the agent can stand.
#[inline]
pub(super) fn passable(tile: u8) -> bool {
    tile != tile::WALL && tile != tile::CLOSED_DOOR
}

impl Search {
    /// Finds every cell within `limit` steps of `origin`, and stops once it has found `target`.
    pub(super) fn flood(
        &mut self,
        map: &Map,
        tokens: &[u8],
        origin: Cell,
        limit: u16,
        target: Option<Cell>,
    ) {
        self.distances.clear();
        self.distances.resize(tokens.len(), UNSEEN);
        self.queue.clear();
        self.queue.push(origin);
        self.distances[usize::from(origin)] = 0;
        let mut head = 0;
        while let Some(&cell) = self.queue.get(head) {
            head += 1;
            let distance = self.distances[usize::from(cell)];
            if distance == limit {
                return;
            }
            for next in map.neighbours(cell) {
                let index = usize::from(next);
                if self.distances[index] == UNSEEN && passable(tokens[index]) {
                    self.distances[index] = distance + 1;
                    self.queue.push(next);
                    if Some(next) == target {
                        return;
                    }
                }
            }
        }
    }

    /// Returns the cells that the last flood found at `min` steps or more, nearest first. The origin is at 0 steps.
    pub(crate) fn reached_from(&self, min: u16) -> &[Cell] {
        let first = self
            .queue
            .partition_point(|&cell| self.distances[usize::from(cell)] < min);
        &self.queue[first..]
    }

    /// Returns the steps from the last flood's origin to a cell; `None` if the flood did not reach it.
    pub(super) fn distance(&self, cell: Cell) -> Option<u16> {
        Some(self.distances[usize::from(cell)]).filter(|&distance| distance != UNSEEN)
    }

    /// Stores a shortest path from the last flood's origin to `target`. Returns false and keeps the former path if the
    /// flood did not reach `target`.
    pub(super) fn trace(&mut self, map: &Map, target: Cell) -> bool {
        let Some(mut distance) = self.distance(target) else {
            return false;
        };
        self.path.clear();
        let mut cell = target;
        while distance > 0 {
            self.path.push(cell);
            distance -= 1;
            for next in map.neighbours(cell) {
                if self.distances[usize::from(next)] == distance {
                    cell = next;
                    break;
                }
            }
        }
        true
    }

    /// The stored path without its origin; its length is its number of steps.
    pub(super) fn path(&self) -> &[Cell] {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::EnvConfig;

    fn map() -> Map {
        Map::new(&EnvConfig::four_rooms())
    }

    #[test]
    fn distances_in_four_rooms() {
        let map = map();
        let mut search = Search::default();
        search.flood(&map, &map.tiles, 0, u16::MAX, None);
        assert_eq!(search.reached_from(0).len(), 104);
        assert_eq!(search.distance(0), Some(0));
        // Through the northern doorway at (2, 5) into the next room.
        assert_eq!(search.distance(2 * 11 + 5), Some(7));
        assert_eq!(search.distance(6), Some(10));
        assert_eq!(search.distance(5), None);
    }

    #[test]
    fn a_flood_stops_at_its_limit_and_at_its_target() {
        let map = map();
        let mut search = Search::default();
        search.flood(&map, &map.tiles, 0, 2, None);
        assert_eq!(search.reached_from(0), [0, 1, 11, 2, 12, 22]);
        assert_eq!(search.reached_from(2), [2, 12, 22]);
        assert!(search.reached_from(3).is_empty());
        search.flood(&map, &map.tiles, 0, u16::MAX, Some(11));
        assert_eq!(search.reached_from(0), [0, 1, 11]);
    }

    #[test]
    fn a_path_is_traced_back_and_outlives_a_failed_search() {
        let map = map();
        let mut search = Search::default();
        search.flood(&map, &map.tiles, 0, u16::MAX, Some(3));
        assert!(search.trace(&map, 3));
        assert_eq!(search.path(), [3, 2, 1]);
        search.flood(&map, &map.tiles, 0, 2, Some(3));
        assert!(!search.trace(&map, 3));
        assert_eq!(search.path(), [3, 2, 1]);
    }
}
