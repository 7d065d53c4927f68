//! The moving doors of an episode.

use super::{
    config::DoorProcess,
    grid::Cell,
    rng::{Chance, Rng},
    rules::Rules,
    tile,
};

/// The doorways that can close: all but the fixed walls and the doorway of the goal.
#[derive(Debug, Clone, Default)]
pub(super) struct Doors {
    /// The doorways, unordered; after a joint draw the closed ones are first.
    pub moving: Vec<Cell>,
    jointly_closed: usize,
}

impl Doors {
    /// Draws the doors at reset. All of them must be open.
    pub(super) fn draw(&mut self, rules: &Rules, rng: &mut Rng, tokens: &mut [u8], agent: Cell) {
        self.jointly_closed = 0;
        match rules.config.door_process {
            DoorProcess::Joint => self.redraw_all(rules, rng, tokens, agent),
            DoorProcess::Independent => {
                self.redraw_each(rules, rng, tokens, agent, Chance::new(1.0));
            }
        }
    }

    /// Draws the door change that may follow a step.
    #[inline]
    pub(super) fn tick(&mut self, rules: &Rules, rng: &mut Rng, tokens: &mut [u8], agent: Cell) {
        match rules.config.door_process {
            DoorProcess::Joint => {
                if rng.holds(rules.change) {
                    self.redraw_all(rules, rng, tokens, agent);
                }
            }
            DoorProcess::Independent => self.redraw_each(rules, rng, tokens, agent, rules.change),
        }
    }

    /// Closes exactly `doors` doors. All sets without the agent's doorway are equally likely.
    fn redraw_all(&mut self, rules: &Rules, rng: &mut Rng, tokens: &mut [u8], agent: Cell) {
        for &door in &self.moving[..self.jointly_closed] {
            tokens[usize::from(door)] = tile::FLOOR;
        }
        let mut end = self.moving.len();
        let mut closed = 0;
        while closed < rules.config.doors {
            let drawn = closed + rng.below(end - closed);
            if self.moving[drawn] == agent {
                end -= 1;
                self.moving.swap(drawn, end);
                continue;
            }
            self.moving.swap(closed, drawn);
            tokens[usize::from(self.moving[closed])] = rules.map.closed_door;
            closed += 1;
        }
        self.jointly_closed = closed;
    }

    /// Draws each door again with probability `redraw`. It is closed with the probability that closes `doors` of them
    /// on average.
    fn redraw_each(
        &self,
        rules: &Rules,
        rng: &mut Rng,
        tokens: &mut [u8],
        agent: Cell,
        redraw: Chance,
    ) {
        let closed = Chance::new(rules.config.doors as f64 / self.moving.len() as f64);
        for &door in &self.moving {
            // The door at the agent's tile draws too but stays open, so that the number of draws does not
            // depend on the agent's position.
            if rng.holds(redraw) {
                let closes = rng.holds(closed);
                if door != agent {
                    tokens[usize::from(door)] = if closes {
                        rules.map.closed_door
                    } else {
                        tile::FLOOR
                    };
                }
            }
        }
    }
}
