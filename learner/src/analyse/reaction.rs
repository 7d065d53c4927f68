//! The reaction of a walker to a door that closes on its chosen path.
//!
//! The chosen path is the walker's path while no door moves: its moves in a still copy of the maze, with its carry. A
//! step after a door change has two such copies, with the same agent, carry and time. In one the doors have not moved;
//! the other is the current maze. The difference between both paths shows the effect of the door change alone. Both are
//! walked to the end. No later change cuts an observation short, so nothing is censored.

use hrm_common::policy::RecurrentNetwork;
use serde::Serialize;

use super::{
    convergence::Kind,
    estimate::{Mean, Share},
    rollout::{Move, PathRollout, agent},
    walk::{DoorChange, WalkMoment},
};

/// Largest number of wasted moves that is reported separately.
pub const PATIENCE: u32 = 8;

/// One walker's reaction to one closed door.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reaction {
    /// Number of wasted moves. These are moves of the old path that no longer lead nearer to the goal, including runs
    /// against the closed door. The count ends with the move that leaves the old path.
    pub wasted: u32,
    /// Steps of the old path beyond the shortest one while the door was open.
    pub extra_before: u32,
    /// Steps of the new path beyond the current shortest one; `None` when it does not reach the goal.
    pub extra_after: Option<u32>,
    /// True when the next move differs because the door closed.
    pub turned: bool,
    /// True when the next move would have been on a shortest path with the door open.
    pub right_before: bool,
    /// True when the next move is on a current shortest path.
    pub right_after: bool,
}

/// The effect of a door change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Effect {
    /// The agent had not chosen a path to the goal before the change.
    NoPath,
    /// No door on the chosen path closed.
    Elsewhere,
    /// A door on the chosen path closed, and no other way exists.
    CutOff,
    /// A door on the chosen path closed, and another way exists.
    Ahead {
        model: Reaction,
        oracle: Reaction,
        hasty: Option<Reaction>,
    },
}

/// A door change and its effect.
#[derive(Debug, Clone)]
pub(super) struct ProbedChange {
    pub place: WalkMoment,
    pub effect: Effect,
}

impl ProbedChange {
    /// Returns the kind of the first step that sees the change.
    pub(super) fn kind(&self) -> Kind {
        match self.effect {
            Effect::NoPath | Effect::Elsewhere => Kind::Change,
            Effect::CutOff | Effect::Ahead { .. } => Kind::ClosedAhead,
        }
    }
}

/// Walks the paths, each for at most `steps` steps. `network` gives a network of so many environments, and `hasty` the
/// same model with the fewest segments in every decision. Returns `None` when `stop` requests it.
pub(super) fn changes<N: RecurrentNetwork>(
    network: &impl Fn(usize) -> N,
    hasty: Option<&impl Fn(usize) -> N>,
    changes: Vec<DoorChange>,
    steps: u32,
    stop: &impl Fn() -> bool,
) -> Option<Vec<ProbedChange>> {
    if changes.is_empty() {
        return Some(Vec::new());
    }
    let carries: Vec<_> = changes.iter().map(|change| change.carry.clone()).collect();
    let stayed = changes.iter().map(|change| change.stayed.clone());
    let moved = changes.iter().map(|change| change.moved.clone());
    let mazes: Vec<_> = stayed.chain(moved).collect();
    let mut network = network(mazes.len());
    network.set_carries(&[carries.clone(), carries].concat());
    let mut before = PathRollout::greedy(network, mazes, steps, stop)?;
    let after = before.split_off(changes.len());
    let paths = before.iter().zip(&after);
    let probed = changes.iter().zip(paths);
    let probed = probed.map(|(change, (before, after))| ProbedChange {
        place: change.place,
        effect: effect(change, before, after, steps),
    });
    let mut probed: Vec<ProbedChange> = probed.collect();
    if let Some(hasty) = hasty {
        let events = changes.iter().zip(&before).zip(&mut probed);
        react_hastily(hasty, events, steps, stop)?;
    }
    Some(probed)
}

/// Adds the reaction of a hasty model to each door that closed ahead. It starts where the model did, with the same
/// carry. Returns `None` when `stop` requests it.
fn react_hastily<'a, N: RecurrentNetwork>(
    hasty: &impl Fn(usize) -> N,
    changes: impl Iterator<Item = ((&'a DoorChange, &'a PathRollout), &'a mut ProbedChange)>,
    steps: u32,
    stop: &impl Fn() -> bool,
) -> Option<()> {
    let ahead =
        |(_, probed): &(_, &mut ProbedChange)| matches!(probed.effect, Effect::Ahead { .. });
    let events: Vec<_> = changes.filter(ahead).collect();
    if events.is_empty() {
        return Some(());
    }
    let carries: Vec<_> = (events.iter())
        .map(|((change, _), _)| change.carry.clone())
        .collect();
    let mazes = events.iter().map(|((change, _), _)| change.moved.clone());
    let mut network = hasty(events.len());
    network.set_carries(&carries);
    let after = PathRollout::greedy(network, mazes.collect(), steps, stop)?;
    for (((change, before), probed), after) in events.into_iter().zip(&after) {
        let nearness = [&change.stayed, &change.moved].map(|maze| maze.distances());
        if let Effect::Ahead { hasty, .. } = &mut probed.effect {
            *hasty = Some(Reaction::new([before, after], &nearness));
        }
    }
    Some(())
}

fn effect(change: &DoorChange, before: &PathRollout, after: &PathRollout, steps: u32) -> Effect {
    if !before.reached {
        return Effect::NoPath;
    }
    let ahead = |door: &usize| before.moves.iter().any(|step| step.to == *door);
    if !change.closed.iter().any(ahead) {
        return Effect::Elsewhere;
    }
    let nearness = [&change.stayed, &change.moved].map(|maze| maze.distances());
    if nearness[1][agent(&change.moved)].is_none() {
        return Effect::CutOff;
    }
    let oracle =
        [&change.stayed, &change.moved].map(|maze| PathRollout::oracle(maze.clone(), steps));
    Effect::Ahead {
        model: Reaction::new([before, after], &nearness),
        oracle: Reaction::new([&oracle[0], &oracle[1]], &nearness),
        hasty: None,
    }
}

impl Reaction {
    /// Returns true when the new path reaches the goal.
    pub fn reached(&self) -> bool {
        self.extra_after.is_some()
    }

    /// Compares the paths before and after, given the steps from each tile to the goal before and after.
    fn new([before, after]: [&PathRollout; 2], nearness: &[Vec<Option<u32>>; 2]) -> Self {
        let nearer = |which: usize, from: usize, to: usize| match nearness[which][from] {
            Some(steps) => nearness[which][to].is_some_and(|left| left < steps),
            None => false,
        };
        let right = |which: usize, path: &PathRollout| {
            path.moves
                .first()
                .is_some_and(|step| nearer(which, step.from, step.to))
        };
        let extra = |which: usize, path: &PathRollout| {
            let shortest = path
                .moves
                .first()
                .and_then(|step| nearness[which][step.from]);
            (path.moves.len() as u32).saturating_sub(shortest.unwrap_or(0))
        };
        let first = |path: &PathRollout| path.moves.first().map(|step| step.action);
        Self {
            wasted: wasted_moves(&before.moves, &after.moves, |step| {
                nearer(1, step.from, step.to)
            }),
            extra_before: extra(0, before),
            extra_after: after.reached.then(|| extra(1, after)),
            turned: first(before) != first(after),
            right_before: right(0, before),
            right_after: right(1, after),
        }
    }
}

/// Counts moves that `after` shares with `before` and that do not lead `nearer` to the goal.
fn wasted_moves(before: &[Move], after: &[Move], nearer: impl Fn(&Move) -> bool) -> u32 {
    let (mut progress, mut wasted) = (0, 0);
    for step in after {
        match before.get(progress) {
            Some(old) if old.action == step.action => {
                wasted += u32::from(!nearer(step));
                if step.to == old.to {
                    progress += 1;
                } else if step.to != step.from {
                    // The obstacle of the old path has opened.
                    break;
                }
            }
            _ => break,
        }
    }
    wasted
}

/// A door on the chosen path that closed while another way remained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DoorEvent {
    /// Index of the held-out episode.
    pub episode: usize,
    /// Steps made before the first step that sees the change.
    pub step: u32,
    /// The model's reaction.
    pub model: Reaction,
    /// The oracle's reaction at the same step.
    pub oracle: Reaction,
    /// The reaction of the same model with the fewest segments, if a rule ends its decisions.
    pub hasty: Option<Reaction>,
}

/// Reactions to doors that closed on the chosen path.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Reactions {
    /// Number of door changes.
    pub changes: usize,
    /// Door changes before which the agent had no path to the goal.
    pub without_path: usize,
    /// Door changes that closed a door on the chosen path and left no other way.
    pub cut_off: usize,
    /// Door changes that closed a door on the chosen path and left another way. The fields below cover these changes.
    pub closed_ahead: usize,
    /// The model's reactions.
    pub model: WalkerReactions,
    /// The oracle's reactions at the same steps.
    pub oracle: WalkerReactions,
    /// The reactions of the same model with the fewest segments, if a rule ends its decisions.
    pub hasty: Option<WalkerReactions>,
    /// All events, in the order of the episodes; written to `reaction.csv`.
    #[serde(skip)]
    pub events: Vec<DoorEvent>,
}

/// The share and the delay of one walker's path changes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WalkerReactions {
    /// Share of events whose new path reaches the goal with at most k wasted moves, for k = 0 to [`PATIENCE`].
    pub changed_within: Vec<Share>,
    /// Share of events whose new path reaches the goal.
    pub changed: Share,
    /// Share of events after which the next move differs.
    pub turned: Share,
    /// Share of events in which the next move would have been on a shortest path with the door open.
    pub right_before: Share,
    /// Share of events in which the next move is on a shortest path.
    pub right_after: Share,
    /// Steps of the old path beyond the shortest one; `None` without an event.
    pub extra_before: Option<Mean>,
    /// Steps of the new path beyond the shortest one, for events in which it reaches the goal.
    pub extra_after: Option<Mean>,
}

impl Reactions {
    pub(super) fn from_changes(changes: &[ProbedChange]) -> Self {
        let count = |effect: Effect| changes.iter().filter(|c| c.effect == effect).count();
        let mut events: Vec<DoorEvent> = changes
            .iter()
            .filter_map(|ProbedChange { place, effect }| match *effect {
                Effect::Ahead {
                    model,
                    oracle,
                    hasty,
                } => Some(DoorEvent {
                    episode: place.episode,
                    step: place.step,
                    model,
                    oracle,
                    hasty,
                }),
                _ => None,
            })
            .collect();
        events.sort_by_key(|event| (event.episode, event.step));
        Self {
            changes: changes.len(),
            without_path: count(Effect::NoPath),
            cut_off: count(Effect::CutOff),
            closed_ahead: events.len(),
            model: WalkerReactions::from_events(&events, |event| event.model),
            oracle: WalkerReactions::from_events(&events, |event| event.oracle),
            hasty: hasty(&events),
            events,
        }
    }
}

/// Summarises the reactions of the hasty model; `None` if there was none.
fn hasty(events: &[DoorEvent]) -> Option<WalkerReactions> {
    let events: Option<Vec<DoorEvent>> = (events.iter())
        .map(|event| {
            let model = event.hasty?;
            Some(DoorEvent { model, ..*event })
        })
        .collect();
    let events = events.filter(|events| !events.is_empty())?;
    Some(WalkerReactions::from_events(&events, |event| event.model))
}

impl WalkerReactions {
    /// Summarises events, which are in the order of their episodes.
    fn from_events(events: &[DoorEvent], walker: impl Fn(&DoorEvent) -> Reaction) -> Self {
        let share = |holds: &dyn Fn(Reaction) -> bool| {
            Share::matching(events, |event| holds(walker(event)))
        };
        let mean = |of: &dyn Fn(Reaction) -> Option<u32>| {
            let values: Vec<_> = events
                .iter()
                .filter_map(|event| Some((event.episode, of(walker(event))?.into())))
                .collect();
            Mean::clustered(&values)
        };
        Self {
            changed_within: (0..=PATIENCE)
                .map(|k| share(&|reaction| reaction.reached() && reaction.wasted <= k))
                .collect(),
            changed: share(&|reaction| reaction.reached()),
            turned: share(&|reaction| reaction.turned),
            right_before: share(&|reaction| reaction.right_before),
            right_after: share(&|reaction| reaction.right_after),
            extra_before: mean(&|reaction| Some(reaction.extra_before)),
            extra_after: mean(&|reaction| reaction.extra_after),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NORTH: u8 = 0;
    const EAST: u8 = 1;

    fn path<const N: usize>(steps: [(u8, usize, usize); N]) -> Vec<Move> {
        let step = |(action, from, to)| Move { action, from, to };
        steps.map(step).to_vec()
    }

    /// The goal was at 4, straight east; the other way leads north.
    fn old() -> Vec<Move> {
        path([(EAST, 0, 1), (EAST, 1, 2), (EAST, 2, 3), (EAST, 3, 4)])
    }

    fn northward(step: &Move) -> bool {
        step.action == NORTH && step.from != step.to
    }

    #[test]
    fn wasted_moves_end_where_the_old_path_is_left() {
        let at_once = path([(NORTH, 0, 10), (EAST, 10, 11)]);
        assert_eq!(wasted_moves(&old(), &at_once, northward), 0);
        let later = path([(EAST, 0, 1), (EAST, 1, 2), (NORTH, 2, 12), (EAST, 12, 13)]);
        assert_eq!(wasted_moves(&old(), &later, northward), 2);
        let never = path([
            (EAST, 0, 1),
            (EAST, 1, 2),
            (EAST, 2, 2),
            (EAST, 2, 2),
            (EAST, 2, 2),
        ]);
        assert_eq!(wasted_moves(&old(), &never, northward), 5);
        let at_the_door = path([(EAST, 0, 1), (EAST, 1, 2), (EAST, 2, 2), (NORTH, 2, 12)]);
        assert_eq!(wasted_moves(&old(), &at_the_door, northward), 3);
    }

    #[test]
    fn moves_common_to_both_paths_are_not_wasted() {
        let eastward_once = |step: &Move| step.from == 0 || northward(step);
        let new = path([(EAST, 0, 1), (NORTH, 1, 11)]);
        assert_eq!(wasted_moves(&old(), &new, eastward_once), 0);
        let late = path([(EAST, 0, 1), (EAST, 1, 2), (NORTH, 2, 12)]);
        assert_eq!(wasted_moves(&old(), &late, eastward_once), 1);
    }

    #[test]
    fn a_run_against_a_wall_common_to_both_paths_is_followed() {
        let clumsy = path([(NORTH, 0, 0), (EAST, 0, 1), (EAST, 1, 2)]);
        let new = path([(NORTH, 0, 0), (EAST, 0, 1), (NORTH, 1, 11)]);
        assert_eq!(wasted_moves(&clumsy, &new, northward), 2);
        // The paths part at the wall that has opened.
        let through = path([(NORTH, 0, 10), (EAST, 10, 11)]);
        assert_eq!(wasted_moves(&clumsy, &through, northward), 0);
    }
}
