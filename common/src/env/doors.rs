//! The moving doors of an episode.

use super::config::DoorProcess;
use super::grid::Tile;
use super::rng::{Chance, Rng};
use super::rules::Rules;
use super::token;

/// Doorways that can close: those that are neither a fixed wall nor the goal's.
#[derive(Clone, Debug, Default)]
pub(super) struct Doors {
    /// In no particular order, but that a joint draw leaves the closed ones first.
    pub moving: Vec<Tile>,
    jointly_closed: usize,
}

impl Doors {
    /// The doors at reset, all of them open until then.
    pub(super) fn draw(&mut self, rules: &Rules, rng: &mut Rng, tokens: &mut [u8], agent: Tile) {
        self.jointly_closed = 0;
        match rules.config.door_process {
            DoorProcess::Joint => self.redraw_all(rules, rng, tokens, agent),
            DoorProcess::Independent => {
                self.redraw_each(rules, rng, tokens, agent, Chance::new(1.0));
            }
        }
    }

    /// The door change that may follow a step.
    #[inline]
    pub(super) fn tick(&mut self, rules: &Rules, rng: &mut Rng, tokens: &mut [u8], agent: Tile) {
        match rules.config.door_process {
            DoorProcess::Joint => {
                if rng.holds(rules.change) {
                    self.redraw_all(rules, rng, tokens, agent);
                }
            }
            DoorProcess::Independent => self.redraw_each(rules, rng, tokens, agent, rules.change),
        }
    }

    /// Exactly `doors` closed, every set that leaves the agent's doorway open equally likely.
    fn redraw_all(&mut self, rules: &Rules, rng: &mut Rng, tokens: &mut [u8], agent: Tile) {
        for &door in &self.moving[..self.jointly_closed] {
            tokens[usize::from(door)] = token::FLOOR;
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

    /// Each door, with probability `redraw`, closed with the probability that closes `doors` of them
    /// on average.
    fn redraw_each(
        &self,
        rules: &Rules,
        rng: &mut Rng,
        tokens: &mut [u8],
        agent: Tile,
        redraw: Chance,
    ) {
        let closed = Chance::new(rules.config.doors as f64 / self.moving.len() as f64);
        for &door in &self.moving {
            // The door that the agent stands in draws too but stays open, so that the number of
            // draws does not depend on where the agent is.
            if rng.holds(redraw) {
                let closes = rng.holds(closed);
                if door != agent {
                    tokens[usize::from(door)] = if closes {
                        rules.map.closed_door
                    } else {
                        token::FLOOR
                    };
                }
            }
        }
    }
}
