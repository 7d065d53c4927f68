//! Trains in virtual time: the code of a run, with an event queue in place of processes, sockets and clocks.
//!
//! ```text
//!   actor     permitted ──▶ plays on the weights it holds for a sampled time ──link──▶ queue
//!   trainer   batch complete ──▶ trains for a sampled time ──▶ permissions, weights ──link──▶ actors
//! ```
//!
//! Window, batcher, updates, curriculum and evaluations are those of a real run, and so are the actors' rollouts. The
//! times are drawn from log-normal distributions with the means and the spread of `[virtual_time]`. An unroll is
//! therefore played on the version that the actor would hold at that time, and the policy lag is the one that so many
//! actors would have. Not simulated are lost connections, and evaluations that compete with training for the cores.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use hrm_actor::rollout::Rollout;
use hrm_common::{
    config::{Config, VirtualTimeConfig},
    env::{Curriculum, VecEnv},
    model::{Parameters, native::Lanes},
    policy::{Policy, RecurrentNetwork as _, action_rng},
    stage::{ActorStage, LearnerStage, StageClock},
    telemetry::names,
    trajectory::{RolloutId, Unroll},
    weights::Weights,
};
use rand_distr::{Distribution as _, LogNormal};
use rand_xoshiro::Xoshiro256PlusPlus;

use crate::{
    admission::{
        queue::QueueSender,
        sessions::{Peer, Session, Sessions},
    },
    run::trainer::{End, PATIENCE, TrainError, Trainer},
    training::batcher::Next,
};

/// An occurrence at a virtual time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum FleetEvent {
    /// An actor may begin an unroll: a permission has reached it.
    Begin(usize),
    /// An actor's unroll has reached the learner.
    Arrive(usize),
    /// The trainer has finished its batch.
    Trained,
    /// The trainer has waited for long since that event.
    Stalled(u64),
}

/// A simulated actor with one rollout thread.
#[derive(Debug)]
struct VirtualActor {
    session: Arc<Session>,
    /// `None` while another thread plays it.
    rollout: Option<Rollout<VecEnv, Lanes>>,
    /// The result of that thread.
    playing: Option<mpsc::Receiver<Box<PlayedUnroll>>>,
    begun: u64,
    /// True from the permission that is on its way to the arrival of its unroll.
    busy: bool,
    version: Option<u64>,
}

/// A rollout, and the unroll that it has played.
#[derive(Debug)]
struct PlayedUnroll {
    rollout: Rollout<VecEnv, Lanes>,
    unroll: Unroll,
}

/// The simulated processes of a run.
pub(crate) struct VirtualFleet {
    config: Config,
    sessions: Arc<Sessions>,
    queue: QueueSender,
    actors: Vec<VirtualActor>,
    /// Published weights with the time at which actors have them, oldest first.
    published: VecDeque<(Duration, Weights)>,
    events: BinaryHeap<Reverse<(Duration, u64, FleetEvent)>>,
    /// Events so far, which orders those of the same time.
    scheduled: u64,
    now: Duration,
    rng: Xoshiro256PlusPlus,
}

impl VirtualFleet {
    /// Joins `virtual_time.actors` simulated actors. Their first weights are `newest`.
    ///
    /// # Errors
    ///
    /// Returns an error when the mazes or the model are invalid, or the sessions are too few.
    pub(crate) fn new(
        config: &Config,
        sessions: Arc<Sessions>,
        queue: QueueSender,
        newest: Weights,
    ) -> anyhow::Result<Self> {
        let parameters = Parameters::new(&config.model, config.env.grid(), 0)?;
        let fingerprint = parameters.fingerprint();
        let envs = config.rollout.envs;
        let model = Lanes::new(parameters, envs);
        let actor = |index: u32| {
            let peer = Peer {
                name: format!("virtual-{index}"),
                ..Peer::default()
            };
            let (session, seed) = sessions.join(rand::random(), peer)?;
            sessions.open_upload(&session)?;
            let rollout = Rollout::new(
                VecEnv::new(&config.env, envs, seed)?,
                Policy::for_rollouts(model.clone()),
                action_rng(seed),
                config.spec().unroll_shape(),
                config.rollout.carry_dtype,
                RolloutId {
                    session: session.id,
                    thread: 0,
                },
                fingerprint,
            );
            anyhow::Ok(VirtualActor {
                session,
                rollout: Some(rollout),
                playing: None,
                begun: 0,
                busy: false,
                version: None,
            })
        };
        let actors = (0..config.virtual_time.actors).map(actor);
        Ok(Self {
            actors: actors
                .collect::<Result<_, _>>()
                .context("joining the actors of virtual_time.actors")?,
            config: config.clone(),
            sessions,
            queue,
            published: VecDeque::from([(Duration::ZERO, newest)]),
            events: BinaryHeap::new(),
            scheduled: 0,
            now: Duration::ZERO,
            rng: action_rng(config.run.seed),
        })
    }

    /// Trains until the run is complete or must stop. Then the actors leave.
    ///
    /// # Errors
    ///
    /// As [`Trainer::run`].
    pub(crate) fn run(&mut self, trainer: &mut Trainer) -> Result<End, TrainError> {
        let end = self.train(trainer);
        for VirtualActor { session, .. } in &self.actors {
            session.end_upload();
            session.dismiss();
            self.sessions.close(session.id);
        }
        end
    }

    fn train(&mut self, trainer: &mut Trainer) -> Result<End, TrainError> {
        // Any instant will do, because only differences are used.
        let began = Instant::now();
        let mut clock = StageClock::new(names::LEARNER_STAGE_SECONDS, LearnerStage::Wait);
        trainer.observe(began);
        // The weights that the trainer publishes at the end of its batch; `None` while it waits.
        let mut training: Option<Weights> = None;
        let mut last_arrival = 0;
        self.schedule(PATIENCE, FleetEvent::Stalled(last_arrival));
        self.permit();
        loop {
            // An event is always scheduled: the end of a batch, or else the end of the trainer's patience.
            let Some(Reverse((now, _, event))) = self.events.pop() else {
                return Ok(End::Stopped);
            };
            self.now = now;
            match event {
                FleetEvent::Begin(actor) => {
                    self.begin(actor);
                    continue;
                }
                FleetEvent::Arrive(actor) => self.arrive(actor),
                FleetEvent::Trained => {
                    let since = now + self.link();
                    self.published
                        .extend(training.take().map(|weights| (since, weights)));
                }
                FleetEvent::Stalled(since) if since == last_arrival && training.is_none() => {
                    trainer.stall()
                }
                FleetEvent::Stalled(_) => continue,
            }
            if training.is_none() {
                last_arrival = self.scheduled;
                self.schedule(now + PATIENCE, FleetEvent::Stalled(last_arrival));
                if let Some(end) = trainer.finished() {
                    return Ok(end);
                }
                match trainer.poll(&mut clock) {
                    Next::Batch(batch, sessions) => {
                        let end = now + self.batch_time(batch.frames());
                        trainer.train_on(&batch, &sessions, || began + end, &mut clock)?;
                        trainer.wait_for_evaluations();
                        training = Some(trainer.newest());
                        self.schedule(end, FleetEvent::Trained);
                    }
                    Next::Idle => {}
                    Next::Stop => return Ok(End::Stopped),
                }
            }
            self.permit();
        }
    }

    fn batch_time(&mut self, frames: usize) -> Duration {
        let VirtualTimeConfig {
            learner_batch_seconds,
            learner_frames_per_second,
            ..
        } = self.config.virtual_time;
        self.sample(learner_batch_seconds + frames as f64 / learner_frames_per_second)
    }

    fn schedule(&mut self, at: Duration, event: FleetEvent) {
        self.scheduled += 1;
        self.events.push(Reverse((at, self.scheduled, event)));
    }

    /// Returns a time with this mean and the spread of the configuration.
    fn sample(&mut self, seconds: f64) -> Duration {
        let spread = self.config.virtual_time.spread;
        let seconds = match LogNormal::from_mean_cv(seconds, spread) {
            Ok(times) => times.sample(&mut self.rng),
            // A mean of 0 has no spread.
            Err(_) => seconds,
        };
        Duration::from_secs_f64(seconds)
    }

    fn link(&self) -> Duration {
        Duration::from_secs_f64(self.config.virtual_time.link_seconds)
    }

    /// Sends the permissions that the learner has given to actors that wait for one.
    fn permit(&mut self) {
        let at = self.now + self.link();
        for actor in 0..self.actors.len() {
            let VirtualActor {
                session,
                begun,
                busy,
                ..
            } = &mut self.actors[actor];
            if !*busy && session.permitted() > *begun {
                *busy = true;
                self.schedule(at, FleetEvent::Begin(actor));
            }
        }
    }

    /// Begins an unroll on the newest weights that the actor has.
    fn begin(&mut self, index: usize) {
        while self
            .published
            .get(1)
            .is_some_and(|(since, _)| *since <= self.now)
        {
            self.published.pop_front();
        }
        let Some((_, weights)) = self.published.front().cloned() else {
            return;
        };
        let VirtualTimeConfig {
            actor_frames_per_second,
            ..
        } = self.config.virtual_time;
        let seconds = self.config.rollout.frames() as f64 / actor_frames_per_second;
        let arrival = self.now + self.sample(seconds) + self.link();
        let uniform_share = self.config.curriculum.uniform_share;
        let actor = &mut self.actors[index];
        let Some(mut rollout) = actor.rollout.take() else {
            return;
        };
        actor.begun += 1;
        let first = actor.version.is_none();
        let changed = actor.version != Some(weights.version);
        actor.version = Some(weights.version);
        let (sender, played) = mpsc::sync_channel(1);
        actor.playing = Some(played);
        rayon::spawn(move || {
            if changed {
                let network = rollout.network();
                network
                    .load(&weights.body)
                    .expect("the learner's own weights");
                if first {
                    (0..network.envs()).for_each(|env| network.reset(env));
                }
                rollout.envs().set_curriculum(Curriculum {
                    max_distance: weights.curriculum_distance,
                    uniform_share,
                });
            }
            let mut clock = StageClock::new(names::ACTOR_STAGE_SECONDS, ActorStage::Wait);
            if let Some(unroll) = rollout.unroll(weights.version, &mut clock, || false) {
                // Only a run that ends receives nothing.
                let _ = sender.send(Box::new(PlayedUnroll { rollout, unroll }));
            }
        });
        self.schedule(arrival, FleetEvent::Arrive(index));
    }

    /// Admits an actor's unroll, which is computed by then or waited for.
    fn arrive(&mut self, index: usize) {
        let actor = &mut self.actors[index];
        actor.busy = false;
        let played = actor.playing.take().and_then(|playing| playing.recv().ok());
        let Some(played) = played else {
            return;
        };
        let PlayedUnroll { rollout, unroll } = *played;
        actor.rollout = Some(rollout);
        let frames = unroll.shape.frames() as u64;
        names::LEARNER_UNROLLS_RECEIVED.get().increment(1);
        names::LEARNER_FRAMES_RECEIVED.get().increment(frames);
        let ledger = &actor.session.ledger;
        ledger.receive(frames);
        match self.queue.send_now(unroll, actor.session.clone()) {
            Ok(()) => ledger.admit(frames),
            Err(_) => ledger.refuse(frames),
        }
    }
}
