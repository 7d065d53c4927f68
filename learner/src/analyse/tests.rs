//! Tests with walkers whose reaction to doors is known.

use hrm_common::{
    env::{ACTIONS, EnvConfig, tile},
    model::{CarryMode, Depth, ModelConfig, Parameters, Segments, native::Lanes},
    policy::RecurrentNetwork,
    weights::WeightsError,
};

use super::*;
use crate::{evaluation::evaluate::HeldOut, storage::records::WalkBy};

/// A walker that searches breadth-first around the doors that it knows. Its carry is its knowledge.
struct Planner {
    env: EnvConfig,
    knows: Knows,
    /// The last observations of each environment, the oldest first, or the first observation.
    seen: Vec<Vec<Vec<u8>>>,
}

#[derive(Clone, Copy)]
enum Knows {
    /// The doors as they were this many steps ago.
    Late(usize),
    /// The doors as they were at the start of the episode.
    First,
}

/// Stands for an observation that does not exist yet.
const NOTHING: u8 = 255;

impl Planner {
    /// Returns the first move that leads nearer to the goal around the doors of `known`.
    fn plan(&self, known: &[u8], now: &[u8]) -> usize {
        let width = self.env.grid().width;
        let at = |tokens: &[u8], wanted| tokens.iter().position(|t| *t == wanted);
        let agent = at(now, tile::AGENT).expect("an agent");
        let mut steps = vec![u32::MAX; known.len()];
        steps[at(known, tile::GOAL).expect("a goal")] = 0;
        let beside = |tile: usize| {
            let (row, col) = (tile / width, tile % width);
            [
                (row > 0).then(|| tile - width),
                (col + 1 < width).then(|| tile + 1),
                (tile + width < known.len()).then(|| tile + width),
                (col > 0).then(|| tile - 1),
            ]
        };
        for round in 0..known.len() as u32 {
            for tile in (0..known.len())
                .filter(|&tile| steps[tile] == round)
                .collect::<Vec<_>>()
            {
                for next in beside(tile).into_iter().flatten() {
                    let free = !matches!(known[next], tile::WALL | tile::CLOSED_DOOR);
                    if free && steps[next] == u32::MAX {
                        steps[next] = round + 1;
                    }
                }
            }
        }
        let nearer = |next: &Option<usize>| next.is_some_and(|next| steps[next] < steps[agent]);
        beside(agent).iter().position(nearer).unwrap_or(0)
    }
}

impl RecurrentNetwork for Planner {
    fn envs(&self) -> usize {
        self.seen.len()
    }

    fn segments(&self) -> Segments {
        Segments::new(1)
    }

    fn decide(&mut self, tokens: &[u8], _: &mut [Depth], logits: &mut [f32]) {
        let size = self.env.grid().len();
        for (env, now) in tokens.chunks_exact(size).enumerate() {
            let mut seen = self.seen[env].clone();
            seen.push(now.to_vec());
            // The first observation also stands for all earlier ones.
            let known = seen.iter().find(|tokens| tokens[0] != NOTHING);
            let known = known.expect("the present one").clone();
            let action = self.plan(&known, now);
            for (a, logit) in logits[env * ACTIONS..][..ACTIONS].iter_mut().enumerate() {
                *logit = if a == action { 1.0 } else { 0.0 };
            }
            self.seen[env] = match self.knows {
                Knows::Late(_) => seen.split_off(1),
                Knows::First => vec![known],
            };
        }
    }

    fn reset(&mut self, _: usize) {
        unreachable!("episodes of an analysis are not followed by others")
    }

    fn carry(&self, env: usize) -> Vec<f32> {
        let seen = self.seen[env].iter().flatten();
        seen.map(|&token| f32::from(token)).collect()
    }

    fn set_carries(&mut self, carries: &[Vec<f32>]) {
        let size = self.env.grid().len();
        let observation = |tokens: &[f32]| tokens.iter().map(|&token| token as u8).collect();
        let seen = |carry: &Vec<f32>| carry.chunks_exact(size).map(observation).collect();
        self.seen = carries.iter().map(seen).collect();
    }

    fn load(&mut self, _: &[u8]) -> Result<(), WeightsError> {
        unreachable!("an analysis loads nothing")
    }
}

fn never_stop() -> bool {
    false
}

fn four_rooms() -> Settings {
    Settings {
        env: EnvConfig {
            p_change: 0.3,
            ..EnvConfig::four_rooms()
        },
        episodes: 150,
        seed: 5,
    }
}

/// More episodes than one group holds, all of them short, because an untrained model walks each to its limit.
fn briefly() -> Settings {
    Settings {
        env: EnvConfig {
            max_steps: 12,
            ..EnvConfig::four_rooms()
        },
        episodes: LANES + 10,
        seed: 5,
    }
}

fn planner(settings: &Settings, knows: Knows) -> impl Fn(usize) -> Planner {
    let memory = match knows {
        Knows::Late(steps) => steps,
        Knows::First => 1,
    };
    move |envs| Planner {
        env: settings.env.clone(),
        knows,
        seen: vec![vec![vec![NOTHING; settings.env.grid().len()]; memory]; envs],
    }
}

fn walk(settings: &Settings, knows: Knows, probe: Option<&mut Probe>) -> Group {
    let walkers = Walkers {
        network: planner(settings, knows),
        hasty: None::<fn(usize) -> Planner>,
    };
    let group = Group::walk(settings, 0..settings.episodes, &walkers, probe, &never_stop);
    group.expect("possible mazes").expect("nobody stops it")
}

fn reactions(knows: Knows) -> Reactions {
    let found = Reactions::from_changes(&walk(&four_rooms(), knows, None).changes);
    assert!(
        found.events.len() > 50,
        "too few to tell: {}",
        found.events.len()
    );
    assert_eq!(
        found.cut_off, 0,
        "one closed door leaves a way in four rooms"
    );
    found
}

fn model(carry: CarryMode) -> Parameters {
    let config = ModelConfig {
        hidden: 8,
        inter_multiple: 8,
        carry,
        ..ModelConfig::small()
    };
    let grid = EnvConfig::four_rooms().grid();
    Parameters::new(&config, grid, 3).expect("a model")
}

#[test]
fn a_walker_that_replans_at_once_reacts_like_the_oracle() {
    let found = reactions(Knows::Late(0));
    for event in &found.events {
        assert_eq!(event.model, event.oracle);
        assert_eq!((event.model.wasted, event.model.extra_after), (0, Some(0)));
        assert!(event.model.right_before && event.model.right_after);
    }
    assert_eq!(found.without_path, 0);
    assert_eq!(found.model.changed_within[0].share, Some(1.0));
    // The other way may begin like the old path.
    assert!(found.oracle.turned.share < Some(1.0) && found.oracle.turned.count > 0);
}

#[test]
fn a_walker_two_steps_late_in_seeing_doors_wastes_up_to_two_moves() {
    let found = reactions(Knows::Late(2));
    for DoorEvent { model, oracle, .. } in &found.events {
        assert!(!model.turned, "it does not know yet");
        assert!(model.wasted <= 2, "{model:?}");
        // A move in the wrong direction also costs the way back; a run against the door costs only itself.
        let extra = model.extra_after.expect("it gets there");
        assert!(
            (model.wasted..=2 * model.wasted).contains(&extra),
            "{model:?}"
        );
        assert_eq!((oracle.wasted, oracle.extra_after), (0, Some(0)));
    }
    let counts = [0, 1, 2].map(|k| found.model.changed_within[k].count);
    assert!(counts[0] < counts[1] && counts[1] < counts[2], "{counts:?}");
    assert_eq!(counts[2], found.events.len());
    assert!(found.model.right_after.share < found.model.right_before.share);
    assert_eq!(found.oracle.right_after.share, Some(1.0));
}

#[test]
fn a_walker_that_never_sees_doors_close_runs_against_them_for_ever() {
    let found = reactions(Knows::First);
    for DoorEvent { model, .. } in &found.events {
        assert!(!model.reached() && !model.turned);
        assert!(model.wasted > PATIENCE, "{model:?}");
    }
    assert_eq!(found.model.changed.count, 0);
    assert!(
        found.without_path > 0,
        "it may stand before a door that was closed at another time"
    );
    assert_eq!(found.model.extra_after, None);
    assert_eq!(found.oracle.changed.share, Some(1.0));
}

/// The hasty walker continues where the model stood when the door closed, and takes no notice of it.
#[test]
fn a_hasty_walker_meets_the_same_doors() {
    let settings = four_rooms();
    let walkers = Walkers {
        network: planner(&settings, Knows::Late(1)),
        hasty: Some(planner(&settings, Knows::First)),
    };
    let mut probe = Probe::new(&model(CarryMode::Reset), 1).expect("a probe");
    let probe = Some(&mut probe);
    let group = Group::walk(
        &settings,
        0..settings.episodes,
        &walkers,
        probe,
        &never_stop,
    );
    let group = group.expect("possible mazes").expect("nobody stops it");
    let found = Reactions::from_changes(&group.changes);
    let alone = reactions(Knows::Late(1));
    assert_eq!((found.model, found.oracle), (alone.model, alone.oracle));
    let hasty = found.hasty.expect("it walked");
    assert_eq!(hasty.changed.of, found.closed_ahead);
    assert_eq!((hasty.changed.count, hasty.turned.count), (0, 0));
    assert_eq!(group.thoughts.len(), group.steps);
    let kinds = |kind| group.thoughts.iter().filter(|t| t.kind == kind).count();
    assert_eq!(kinds(Kind::First), settings.episodes);
    assert_eq!(kinds(Kind::ClosedAhead), found.closed_ahead + found.cut_off);
    let disturbed = group.thoughts.iter().filter(|t| t.disturbed.is_some());
    assert!(disturbed.count() > 100);
}

/// Returns the steps from one tile to all others.
fn steps_from(tokens: &[u8], width: usize, origin: usize) -> Vec<Option<u32>> {
    let mut steps = vec![None; tokens.len()];
    steps[origin] = Some(0);
    let mut queue = std::collections::VecDeque::from([origin]);
    while let Some(tile) = queue.pop_front() {
        let (row, col) = (tile / width, tile % width);
        let beside = [
            (row > 0).then(|| tile - width),
            (col + 1 < width).then(|| tile + 1),
            (tile + width < tokens.len()).then(|| tile + width),
            (col > 0).then(|| tile - 1),
        ];
        for next in beside.into_iter().flatten() {
            let free = !matches!(tokens[next], tile::WALL | tile::CLOSED_DOOR);
            if free && steps[next].is_none() {
                steps[next] = steps[tile].map(|steps| steps + 1);
                queue.push_back(next);
            }
        }
    }
    steps
}

#[test]
fn a_drawn_wall_makes_no_way_longer() {
    for env in [EnvConfig::four_rooms(), EnvConfig::random_maze()] {
        let grid = env.grid();
        let mut drawn = 0;
        for seed in 0..20 {
            let maze = Maze::new(&env, seed).expect("a maze");
            // With open doors too, because they may open.
            let mut before = maze.observation().to_vec();
            let mut tokens = before.clone();
            if !draw_wall(&mut tokens, grid) {
                assert_eq!(tokens, before);
                continue;
            }
            drawn += 1;
            let changed: Vec<_> = (0..grid.len())
                .filter(|&i| tokens[i] != before[i])
                .collect();
            let [wall] = changed[..] else {
                panic!("{changed:?}");
            };
            assert_eq!((before[wall], tokens[wall]), (tile::FLOOR, tile::WALL));
            for tokens in [&mut before, &mut tokens] {
                for tile in tokens.iter_mut().filter(|t| **t == tile::CLOSED_DOOR) {
                    *tile = tile::FLOOR;
                }
            }
            for origin in (0..grid.len()).filter(|&i| tokens[i] != tile::WALL) {
                let mut ways = [&before, &tokens].map(|t| steps_from(t, grid.width, origin));
                ways[0][wall] = None;
                assert_eq!(ways[0], ways[1], "from {origin} without {wall}");
            }
        }
        assert!(drawn > 10, "{drawn}");
    }
    let narrow = Grid {
        height: 1,
        width: 3,
    };
    let mut way = [tile::AGENT, tile::FLOOR, tile::GOAL];
    assert!(!draw_wall(&mut way, narrow));
}

#[test]
fn doors_of_the_random_maze_can_cut_the_goal_off() {
    let settings = Settings {
        env: EnvConfig {
            doors: 15,
            ..EnvConfig::random_maze()
        },
        ..four_rooms()
    };
    let changes = walk(&settings, Knows::Late(0), None).changes;
    let found = Reactions::from_changes(&changes);
    assert!(found.cut_off > 0 && !found.events.is_empty());
    assert!(
        found.without_path > 0,
        "it was cut off before the change too"
    );
    assert_eq!(found.changes, changes.len());
    for event in &found.events {
        assert_eq!(event.model, event.oracle);
    }
}

#[test]
fn every_step_is_of_one_kind_and_closed_doors_ahead_are_changes() {
    let mut probe = Probe::new(&model(CarryMode::Reset), 2).expect("a probe");
    let group = walk(&four_rooms(), Knows::Late(0), Some(&mut probe));
    let found = Reactions::from_changes(&group.changes);
    let count = |kind| {
        group
            .probed
            .iter()
            .filter(|(step, _)| step.kind == kind)
            .count()
    };
    assert_eq!(count(Kind::First), four_rooms().episodes);
    assert_eq!(count(Kind::ClosedAhead), found.events.len());
    assert_eq!(count(Kind::Change), found.changes - found.events.len());

    let points = convergence::points(&group.probed);
    assert!(points.iter().all(|point| point.start == ProbeStart::Reset));
    assert_eq!(points.len(), Kind::ALL.len() * 2 * 3);
    let steps = |kind| {
        let point = points.iter().find(|point| point.steps == kind);
        point.map(|point| point.distance.count)
    };
    assert_eq!(steps(Kind::Change), Some(found.changes));
    assert_eq!(steps(Kind::ClosedAhead), Some(found.events.len()));
    // Of the steps without a door change, one in EVERY.
    let nothing = group.steps - four_rooms().episodes - found.changes;
    let probed = count(Kind::NoChange);
    assert!(
        (nothing / (EVERY + 1)..nothing / (EVERY - 1)).contains(&probed),
        "{probed} of {nothing}"
    );
}

fn analysed(settings: &Settings, carry: CarryMode) -> Analysis {
    let model = model(carry);
    let probe = Probe::new(&model, 3).expect("a probe");
    let found = analyse(settings, &model, &probe, &never_stop, &|_| {});
    found.expect("possible mazes").expect("nobody stops it")
}

#[test]
fn the_analysed_walk_is_the_evaluated_walk() {
    let settings = briefly();
    let found = analysed(&settings, CarryMode::Full);
    let held_out = HeldOut {
        env: &settings.env,
        episodes: settings.episodes,
        seed: settings.seed,
    };
    let network = |envs| Some(Lanes::new(model(CarryMode::Full), envs));
    let stop = std::sync::atomic::AtomicBool::new(false);
    let walked = held_out.walk(WalkBy::Greedy, network, &stop, None);
    let walked = walked.expect("possible mazes").expect("nobody stops it");
    let walked = walked.episodes;
    let solved = walked.iter().filter(|episode| episode.success).count();
    let success = solved as f64 / walked.len() as f64;
    assert_eq!(found.success.share, Some(success));
    let steps: u32 = walked.iter().map(|episode| episode.length).sum();
    assert_eq!(found.steps, steps as usize);
}

#[test]
fn the_same_seed_gives_the_same_numbers_and_another_others() {
    let settings = briefly();
    let once = analysed(&settings, CarryMode::Last);
    assert_eq!(once, analysed(&settings, CarryMode::Last));
    let other = Settings {
        seed: 6,
        ..settings
    };
    assert_ne!(once, analysed(&other, CarryMode::Last));
}

#[test]
fn an_analysis_reports_every_episode_and_stops_on_request() {
    let settings = briefly();
    let model = model(CarryMode::Full);
    let probe = Probe::new(&model, 1).expect("a probe");
    let told = std::sync::atomic::AtomicUsize::new(0);
    let tell = |episodes| {
        told.fetch_add(episodes, std::sync::atomic::Ordering::Relaxed);
    };
    let found = analyse(&settings, &model, &probe, &never_stop, &tell);
    assert!(found.expect("possible mazes").is_some());
    assert_eq!(told.into_inner(), settings.episodes);
    let stopped = analyse(&settings, &model, &probe, &|| true, &|_| {});
    assert!(stopped.expect("possible mazes").is_none());
}

#[test]
fn mazes_without_moving_doors_cause_no_reactions() {
    let settings = Settings {
        env: EnvConfig {
            p_change: 0.0,
            ..briefly().env
        },
        ..briefly()
    };
    let found = analysed(&settings, CarryMode::Full);
    assert_eq!(found.reactions.changes, 0);
    assert_eq!(found.reactions.model.changed.share, None);
    let kinds = [Kind::First, Kind::NoChange];
    assert!(
        found
            .convergence
            .iter()
            .all(|point| kinds.contains(&point.steps))
    );
    assert!(found.to_string().contains("Of 0 door changes"));
}
