//! The content of the page as server-sent events: the run, its records, its state and its newest episodes.
//!
//! | event | data |
//! |-|-|
//! | `run` | the settings that the page shows, and a number of this start of the run |
//! | `record` | a line of `metrics.jsonl`, with the shares of the actors' stages |
//! | `status` | the run's phase, its actors, frames and updates, the share done and the time left |
//! | `recording` | the identity of the recording that `recording.json` has |
//!
//! A client forgets all records and the state when it receives `run`, because the history follows. It forgets its
//! recording only if another start made it.
//!
//! An event is encoded once, and all clients share its bytes.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use hrm_common::{
    config::{Config, Preset},
    model::{CarryMode, Parameters},
    stage::{ActorStage, Stage as _},
    telemetry::names::Labelled as _,
};
use serde::Serialize;
use tokio::sync::broadcast;

use super::{
    episodes::{RecordedEpisodes, RecordingId},
    history::History,
};
use crate::storage::records::Record;

/// Events that a client may be behind; it is dropped beyond. Records come every `telemetry.log_interval_seconds`, and
/// a status at most every two seconds.
const BEHIND: usize = 64;

/// Largest number of training records in the history. A chart is at most about as many pixels wide.
const TRAIN_RECORDS: usize = 720;

/// Largest number of evaluations in the history.
const EVALUATIONS: usize = 360;

/// The content of the page. A trainer and an evaluator write it, clients follow it.
#[derive(Debug)]
pub(crate) struct Feed {
    /// A random number, by which a client recognises a restarted learner.
    start: u32,
    state: Mutex<FeedState>,
    events: broadcast::Sender<Bytes>,
    episodes: RecordedEpisodes,
}

#[derive(Debug)]
struct FeedState {
    run: Bytes,
    train: History,
    evaluations: History,
    status: RunStatus,
    /// The event about the newest recording, and the recording as JSON.
    recording: Option<(Bytes, Bytes)>,
    /// The actors' times at the previous training record.
    actor_times: PerStage,
}

/// The settings of a run that the page shows.
#[derive(Debug, Serialize)]
struct RunSettings<'a> {
    start: u32,
    name: &'a str,
    maze: String,
    preset: Preset,
    carry: CarryMode,
    total_frames: u64,
    release: &'static str,
}

/// The part of a run's life in which it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Phase {
    /// The learner trains, or waits for actors.
    Training,
    /// Training has ended; the final evaluations are under way.
    Evaluating,
    /// The run is complete.
    Complete,
    /// The run was stopped, and can be resumed.
    Stopped,
    /// Training failed.
    Failed,
}

/// The state of a run between two records.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct RunStatus {
    phase: Phase,
    actors: usize,
    frames: u64,
    #[serde(rename = "updates")]
    updates_tried: u64,
    /// The completed share of the run.
    done: f64,
    /// The time until the run is complete; `None` while it is unknown.
    seconds_left: Option<u64>,
}

/// A record, and how the threads of local actors divided the time since the previous training record. Empty without
/// any.
#[derive(Debug, Serialize)]
struct RecordEvent<'a> {
    #[serde(flatten)]
    record: &'a Record,
    actor_stages: Option<PerStage>,
}

/// A number for each stage, in the order of the loop.
type PerStage = Vec<(&'static str, f64)>;

/// Returns the seconds that local actors have spent in each stage so far.
fn actor_times() -> PerStage {
    let spent = |stage: ActorStage| (stage.as_str(), stage.spent().as_secs_f64());
    ActorStage::known().into_iter().map(spent).collect()
}

fn shares(now: &PerStage, earlier: &PerStage) -> PerStage {
    let pairs = now.iter().zip(earlier);
    let passed: PerStage = pairs
        .map(|((stage, now), (_, earlier))| (*stage, now - earlier))
        .collect();
    let all: f64 = passed.iter().map(|(_, seconds)| seconds).sum();
    match all > 0.0 {
        true => passed
            .into_iter()
            .map(|(stage, seconds)| (stage, seconds / all))
            .collect(),
        false => PerStage::new(),
    }
}

impl Feed {
    /// Creates the feed of a run that begins or resumes.
    pub(crate) fn new(config: &Config) -> Arc<Self> {
        let start = rand::random();
        let run = RunSettings {
            start,
            name: &config.run.name,
            maze: config.env.maze.to_string(),
            preset: config.preset,
            carry: config.model.carry,
            total_frames: config.learner.total_frames,
            release: env!("CARGO_PKG_VERSION"),
        };
        Arc::new(Self {
            start,
            state: Mutex::new(FeedState {
                run: event("run", &run),
                train: History::new(TRAIN_RECORDS),
                evaluations: History::new(EVALUATIONS),
                status: RunStatus {
                    phase: Phase::Training,
                    actors: 0,
                    frames: 0,
                    updates_tried: 0,
                    done: 0.0,
                    seconds_left: None,
                },
                recording: None,
                actor_times: actor_times(),
            }),
            events: broadcast::channel(BEHIND).0,
            episodes: RecordedEpisodes::new(config),
        })
    }

    /// Adds the records of the run's earlier starts.
    pub(crate) fn resume(&self, records: &[Record]) {
        let mut state = self.lock();
        for record in records {
            state.keep(record, None);
        }
    }

    /// Adds a record.
    pub(crate) fn record(&self, record: &Record) {
        let mut state = self.lock();
        let actor_stages = matches!(record, Record::Train(_)).then(|| {
            let now = actor_times();
            let shares = shares(&now, &state.actor_times);
            state.actor_times = now;
            shares
        });
        let event = state.keep(record, actor_stages);
        self.send(event);
    }

    /// Records the first held-out episodes with weights that were evaluated at `frames`, unless `stop` requests an
    /// earlier end. It takes up to a second of the calling thread.
    pub(crate) fn evaluated(&self, frames: u64, parameters: &Parameters, stop: &dyn Fn() -> bool) {
        let id = RecordingId {
            start: self.start,
            frames,
        };
        let Some(recording) = self.episodes.record(id, parameters, stop) else {
            return;
        };
        let event = event("recording", &id);
        self.lock().recording = Some((event.clone(), recording));
        self.send(event);
    }

    /// Sets the completed share of the run, shown as at most 1, and the time until it is complete. Browsers learn of it
    /// with the next change of the run's state.
    pub(crate) fn progress(&self, done: f64, left: Option<Duration>) {
        let status = &mut self.lock().status;
        status.done = done.min(1.0);
        status.seconds_left = left.map(|left| left.as_secs());
    }

    /// Sets the phase of the run.
    pub(crate) fn enter(&self, phase: Phase) {
        self.update(|status| RunStatus { phase, ..status });
    }

    /// Sets the number of joined actors, and the run's frames and updates.
    pub(super) fn observe(&self, actors: usize, frames: u64, updates_tried: u64) {
        self.update(|status| RunStatus {
            actors,
            frames,
            updates_tried,
            ..status
        });
    }

    fn update(&self, change: impl FnOnce(RunStatus) -> RunStatus) {
        let mut state = self.lock();
        let changed = change(state.status);
        if changed != state.status {
            state.status = changed;
            self.send(event("status", &changed));
        }
    }

    /// Returns the events so far, and a receiver of all later ones.
    pub(super) fn subscribe(&self) -> (Vec<Bytes>, broadcast::Receiver<Bytes>) {
        let state = self.lock();
        let mut events = vec![state.run.clone()];
        events.extend(
            state
                .train
                .events()
                .chain(state.evaluations.events())
                .cloned(),
        );
        events.push(event("status", &state.status));
        events.extend(state.recording.iter().map(|(event, _)| event.clone()));
        // Under the lock, so that no event is lost or comes twice.
        (events, self.events.subscribe())
    }

    /// Returns the newest recording as JSON.
    pub(super) fn recording(&self) -> Option<Bytes> {
        let state = self.lock();
        state
            .recording
            .as_ref()
            .map(|(_, recording)| recording.clone())
    }

    fn send(&self, event: Bytes) {
        // Without a client nobody receives it.
        let _ = self.events.send(event);
    }

    fn lock(&self) -> MutexGuard<'_, FeedState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FeedState {
    fn keep(&mut self, record: &Record, actor_stages: Option<PerStage>) -> Bytes {
        let data = RecordEvent {
            record,
            actor_stages,
        };
        let event = event("record", &data);
        match record {
            Record::Train(_) => self.train.push(event.clone()),
            Record::Eval(_) => self.evaluations.push(event.clone()),
        }
        event
    }
}

/// Encodes a server-sent event. JSON on one line has no character that ends it.
fn event(name: &str, data: &impl Serialize) -> Bytes {
    match serde_json::to_string(data) {
        Ok(data) => Bytes::from(format!("event: {name}\ndata: {data}\n\n")),
        Err(error) => {
            tracing::warn!(%error, name, "an event of the live page cannot be encoded");
            Bytes::new()
        }
    }
}
