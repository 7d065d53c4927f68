//! The sessions of connected actors, and the fence between an actor's new session and its old one.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use hrm_common::{env::env_seed, error::Refusal, telemetry::names};
use tokio::sync::watch;

/// One connection of one actor process.
#[derive(Debug)]
pub struct Session {
    /// Random; carried by every message of the session.
    pub id: u64,
    /// The actor process.
    pub actor_id: u64,
    /// What the actor calls itself.
    pub name: String,
    fenced: AtomicBool,
    claimed: AtomicBool,
    uploading: AtomicBool,
    taken: watch::Sender<u64>,
}

impl Session {
    /// True once the same actor has joined anew: whatever is left of this session is discarded.
    pub fn is_fenced(&self) -> bool {
        self.fenced.load(Ordering::Acquire)
    }

    /// Books one of its unrolls as taken by the trainer: the actor may make another.
    pub fn take(&self) {
        self.taken.send_modify(|taken| *taken += 1);
    }

    /// Unrolls of it that the trainer took.
    pub fn taken(&self) -> u64 {
        *self.taken.borrow()
    }

    /// Follows the unrolls of it that the trainer takes.
    pub fn watch_taken(&self) -> watch::Receiver<u64> {
        self.taken.subscribe()
    }

    /// Books that its actor came back with a call of its own: the session then lives as long as that.
    pub fn claim(&self) {
        self.claimed.store(true, Ordering::Release);
    }

    /// Books that its upload has begun: the session then lives as long as that.
    pub fn open_upload(&self) {
        self.claim();
        self.uploading.store(true, Ordering::Release);
    }
}

/// All open sessions.
#[derive(Debug)]
pub struct Sessions {
    open: Mutex<HashMap<u64, Arc<Session>>>,
    /// Sessions ever opened in this run, across restarts: seeds are made of it.
    joined: AtomicU64,
    run_seed: u64,
    changed: tokio::sync::Notify,
}

impl Sessions {
    /// No open session; `joined` were opened before in this run.
    pub fn new(run_seed: u64, joined: u64) -> Self {
        Self {
            open: Mutex::default(),
            joined: AtomicU64::new(joined),
            run_seed,
            changed: tokio::sync::Notify::new(),
        }
    }

    /// Opens a session for an actor and fences its older one. Returns it with the seed of its
    /// environments: drawn from the run's seed and the count of sessions, so that a run with one
    /// actor repeats itself and no two sessions play the same episodes.
    pub fn join(&self, actor_id: u64, name: String) -> (Arc<Session>, u64) {
        names::LEARNER_JOINS.get().increment(1);
        let ordinal = self.joined.fetch_add(1, Ordering::AcqRel);
        let mut open = self.lock();
        open.retain(|_, session| {
            let superseded = session.actor_id == actor_id;
            if superseded {
                session.fenced.store(true, Ordering::Release);
            }
            !superseded
        });
        let id = loop {
            let id = rand::random::<u64>();
            if id != 0 && !open.contains_key(&id) {
                break id;
            }
        };
        let session = Arc::new(Session {
            id,
            actor_id,
            name,
            fenced: AtomicBool::new(false),
            claimed: AtomicBool::new(false),
            uploading: AtomicBool::new(false),
            taken: watch::Sender::new(0),
        });
        open.insert(id, session.clone());
        names::LEARNER_ACTORS.get().set(open.len() as f64);
        (session, env_seed(self.run_seed, ordinal))
    }

    /// The open session of this id.
    ///
    /// # Errors
    ///
    /// [`Refusal::Session`] when it never existed, has ended or was fenced.
    pub fn find(&self, id: u64) -> Result<Arc<Session>, Refusal> {
        self.lock()
            .get(&id)
            .cloned()
            .ok_or(Refusal::Session { session: id })
    }

    /// Closes a session whose upload ended. What it sent stays good.
    pub fn close(&self, id: u64) {
        let mut open = self.lock();
        open.remove(&id);
        names::LEARNER_ACTORS.get().set(open.len() as f64);
        self.changed.notify_one();
    }

    /// Closes a session whose subscription ended, unless its upload goes on.
    pub fn close_idle(&self, session: &Session) {
        if !session.uploading.load(Ordering::Acquire) {
            self.close(session.id);
        }
    }

    /// Closes a session that its actor never came back to.
    pub fn close_unclaimed(&self, session: &Session) {
        if !session.claimed.load(Ordering::Acquire) {
            self.close(session.id);
        }
    }

    /// Returns once a session was closed since this was last waited for. For one waiter.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Open sessions.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// True when no actor is connected.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sessions ever opened in this run.
    pub fn joined(&self) -> u64 {
        self.joined.load(Ordering::Acquire)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Arc<Session>>> {
        // A panic while the map was held cannot leave it half written.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_session_fences_the_old_one_of_the_same_actor_only() {
        let sessions = Sessions::new(1, 0);
        let (first, seed1) = sessions.join(7, "a".into());
        let (other, seed2) = sessions.join(8, "b".into());
        let (second, seed3) = sessions.join(7, "a".into());
        assert!(first.is_fenced() && !other.is_fenced() && !second.is_fenced());
        assert_eq!(
            sessions.find(first.id).map(|s| s.id),
            Err(Refusal::Session { session: first.id })
        );
        assert!(sessions.find(second.id).is_ok() && sessions.find(other.id).is_ok());
        assert_eq!((sessions.len(), sessions.joined()), (2, 3));
        assert!(seed1 != seed2 && seed2 != seed3 && seed1 != seed3);
        sessions.close(other.id);
        assert!(
            !other.is_fenced(),
            "what an actor sent before it left in order stays good"
        );
        assert!(sessions.find(other.id).is_err());
    }

    #[test]
    fn a_session_lives_as_long_as_what_its_actor_came_back_for() {
        let sessions = Sessions::new(1, 0);
        let (died, _) = sessions.join(1, String::new());
        let (subscribed, _) = sessions.join(2, String::new());
        let (uploads, _) = sessions.join(3, String::new());
        subscribed.claim();
        uploads.open_upload();
        let open = || [&died, &subscribed, &uploads].map(|s| sessions.find(s.id).is_ok());
        for session in [&died, &subscribed, &uploads] {
            sessions.close_unclaimed(session);
        }
        assert_eq!(open(), [false, true, true]);
        sessions.close_idle(&subscribed);
        sessions.close_idle(&uploads);
        assert_eq!(open(), [false, false, true]);
        sessions.close(uploads.id);
        assert!(sessions.is_empty());
    }

    #[test]
    fn seeds_repeat_with_the_run_and_go_on_after_a_restart() {
        let seeds = |joined| {
            let sessions = Sessions::new(42, joined);
            (0..3)
                .map(|actor| sessions.join(actor, String::new()).1)
                .collect::<Vec<_>>()
        };
        assert_eq!(seeds(0), seeds(0));
        assert_eq!(seeds(0)[1..], seeds(1)[..2]);
    }
}
