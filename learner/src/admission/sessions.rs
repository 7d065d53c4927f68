//! Sessions of connected actors. A new session of an actor fences the actor's old one.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

use crossbeam::channel::{Receiver, Sender, bounded};
use hrm_common::{env::env_seed, refusal::Refusal, shutdown::Shutdown, telemetry::names};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::{
    admission::{access::Caller, ledger::Ledger, window::Window},
    storage::ledger_file::Entry,
};

/// Upload places per session. A reconnecting actor may have left an old upload that the learner does not yet know is
/// dead.
const UPLOADS_PER_SESSION: usize = 2;

/// An actor's name, size and token, known when it joins.
#[derive(Debug, Clone)]
pub struct Peer {
    /// The name that the actor gives itself.
    pub name: String,
    /// Its rollout threads.
    pub threads: u32,
    /// The caller that joined, identified by its token.
    pub caller: Caller,
}

impl Default for Peer {
    fn default() -> Self {
        Self {
            name: String::new(),
            threads: 1,
            caller: Caller::default(),
        }
    }
}

/// One connection of one actor process.
#[derive(Debug)]
pub struct Session {
    /// Random identifier, which every message of the session carries.
    pub id: u64,
    /// Identifier of the actor process.
    pub actor_id: u64,
    /// Name and token from the `Join` call.
    pub peer: Peer,
    /// Frame accounting of the session.
    pub ledger: Ledger,
    fenced: AtomicBool,
    claimed: AtomicBool,
    uploading: AtomicBool,
    subscribed: AtomicBool,
    /// True when the actor need not return: it left in order, or knows that the run is complete.
    dismissed: AtomicBool,
    /// Unrolls that the trainer took, and unrolls that the actor may have begun.
    taken: AtomicU64,
    permitted: watch::Sender<u64>,
    /// Trips when the session is closed or fenced.
    ended: Shutdown,
}

impl Session {
    /// Returns true once the same actor has joined again; the rest of this session is discarded.
    pub(crate) fn is_fenced(&self) -> bool {
        self.fenced.load(Ordering::Acquire)
    }

    /// Returns the number of unrolls that the trainer took.
    pub fn taken(&self) -> u64 {
        self.taken.load(Ordering::Acquire)
    }

    /// Returns the number of unrolls that the actor may have begun.
    pub fn permitted(&self) -> u64 {
        *self.permitted.borrow()
    }

    /// Returns the session's line for `ledger.jsonl`.
    pub fn entry(&self) -> Entry {
        self.ledger.entry(self.id, &self.peer.name)
    }

    /// Returns a receiver of the number of unrolls that the actor may have begun.
    pub(crate) fn watch_permitted(&self) -> watch::Receiver<u64> {
        self.permitted.subscribe()
    }

    /// Waits until the session is closed or fenced.
    pub async fn ended(&self) {
        self.ended.tripped().await;
    }

    /// Records that the upload has ended: no more unrolls of the session are admitted.
    pub(crate) fn end_upload(&self) {
        self.uploading.store(false, Ordering::Release);
    }

    /// Records that the subscription has ended.
    pub(crate) fn end_subscription(&self) {
        self.subscribed.store(false, Ordering::Release);
    }

    /// Records that the actor will not return: it left in order or was told that the run is complete.
    pub(crate) fn dismiss(&self) {
        self.dismissed.store(true, Ordering::Release);
    }

    /// Returns the number of unrolls that the actor may have begun and the trainer has not taken.
    fn under_way(&self) -> usize {
        self.permitted().saturating_sub(self.taken()) as usize
    }
}

/// Sessions by state.
#[derive(Debug)]
struct SessionTable {
    open: HashMap<u64, Arc<Session>>,
    window: Window,
    /// Ended sessions whose ledger lines are not written yet.
    ended: Vec<Arc<Session>>,
    /// The end of the last session of each actor that has not returned.
    away: HashMap<u64, (Instant, Arc<Session>)>,
    /// Has a notice for the batcher once a session has ended.
    left: Sender<()>,
}

impl SessionTable {
    /// Ends an open session. Remembers only the last `most` actors that are away.
    fn end(&mut self, id: u64, most: usize) {
        if let Some(session) = self.open.remove(&id) {
            session.ended.trip();
            self.window.release(session.under_way());
            self.permit();
            let now = Instant::now();
            self.away.insert(session.actor_id, (now, session.clone()));
            self.ended.push(session);
            // A full channel holds a notice already.
            let _ = self.left.try_send(());
        }
        while self.away.len() > most {
            let oldest = self.away.iter().min_by_key(|(_, (since, _))| *since);
            let Some(oldest) = oldest.map(|(actor, _)| *actor) else {
                break;
            };
            self.away.remove(&oldest);
        }
        names::LEARNER_ACTORS.get().set(self.open.len() as f64);
    }

    /// Gives as many permissions as the window allows.
    fn permit(&mut self) {
        while let Some(id) = self.window.permit() {
            match self.open.get(&id) {
                Some(session) => session.permitted.send_modify(|permitted| *permitted += 1),
                None => self.window.release(1),
            }
        }
    }
}

/// Sessions of this learner process.
#[derive(Debug)]
pub struct Sessions {
    state: Mutex<SessionTable>,
    /// Number of sessions ever opened in this run, across restarts; seeds derive from it.
    joined: AtomicU64,
    run_seed: u64,
    /// Limit of open sessions.
    most: usize,
    /// Unrolls that one rollout thread may have under way.
    in_flight: usize,
    uploads: Arc<Semaphore>,
    changed: tokio::sync::Notify,
    left: Receiver<()>,
}

impl Sessions {
    /// Starts without sessions and with a limit of `most`; `joined` sessions were opened earlier in this run. Each of
    /// their rollout threads may have one unroll under way.
    pub fn new(run_seed: u64, joined: u64, most: usize) -> Self {
        names::LEARNER_ACTORS.get().set(0.0);
        let (sender, left) = bounded(1);
        Self {
            state: Mutex::new(SessionTable {
                open: HashMap::new(),
                window: Window::unlimited(),
                ended: Vec::new(),
                away: HashMap::new(),
                left: sender,
            }),
            left,
            in_flight: 1,
            joined: AtomicU64::new(joined),
            run_seed,
            most,
            uploads: Arc::new(Semaphore::new(most * UPLOADS_PER_SESSION)),
            changed: tokio::sync::Notify::new(),
        }
    }

    /// Permits each rollout thread `in_flight` unrolls under way, and all sessions together those of `window`.
    pub fn with_flow(self, in_flight: usize, window: Window) -> Self {
        self.lock().window = window;
        Self { in_flight, ..self }
    }

    /// Opens a session for an actor and fences its older one. Returns the session and the seed of its environments. The
    /// seed derives from the run's seed and the session count. So a run with one rollout thread is reproducible, and no
    /// two sessions play the same episodes.
    ///
    /// # Errors
    ///
    /// Returns [`Refusal::TooManySessions`] when the limit is reached.
    pub fn join(&self, actor_id: u64, peer: Peer) -> Result<(Arc<Session>, u64), Refusal> {
        let mut state = self.lock();
        let old = state.open.values().find(|s| s.actor_id == actor_id);
        match old.map(|session| session.id) {
            Some(old) => {
                state.open[&old].fenced.store(true, Ordering::Release);
                state.end(old, self.most);
            }
            None if state.open.len() >= self.most => {
                return Err(Refusal::TooManySessions { most: self.most });
            }
            None => {}
        }
        names::LEARNER_JOINS.get().increment(1);
        let ordinal = self.joined.fetch_add(1, Ordering::AcqRel);
        let id = loop {
            let id = rand::random::<u64>();
            if id != 0 && !state.open.contains_key(&id) {
                break id;
            }
        };
        let session = Arc::new(Session {
            id,
            actor_id,
            peer,
            ledger: Ledger::default(),
            fenced: AtomicBool::new(false),
            claimed: AtomicBool::new(false),
            uploading: AtomicBool::new(false),
            subscribed: AtomicBool::new(false),
            dismissed: AtomicBool::new(false),
            taken: AtomicU64::new(0),
            permitted: watch::Sender::new(0),
            ended: Shutdown::new(),
        });
        state.away.remove(&actor_id);
        state.open.insert(id, session.clone());
        names::LEARNER_ACTORS.get().set(state.open.len() as f64);
        Ok((session, env_seed(self.run_seed, ordinal)))
    }

    /// Reserves a place for an upload, to hold until the upload ends. The session is unknown until the first unroll is
    /// decoded, so these places bound the memory that decoding needs.
    ///
    /// # Errors
    ///
    /// Returns [`Refusal::TooManyUploads`] when all places are taken.
    pub(crate) fn place_for_upload(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        let most = self.most * UPLOADS_PER_SESSION;
        let place = self.uploads.clone().try_acquire_owned();
        place.map_err(|_| Refusal::TooManyUploads { most })
    }

    /// Returns the open session with this identifier.
    ///
    /// # Errors
    ///
    /// Returns [`Refusal::Session`] when the session never existed, has ended or was fenced.
    pub fn find(&self, id: u64) -> Result<Arc<Session>, Refusal> {
        let found = self.lock().open.get(&id).cloned();
        found.ok_or(Refusal::Session { session: id })
    }

    /// Records that the upload has begun; the session now lives as long as the upload.
    ///
    /// # Errors
    ///
    /// Returns [`Refusal::CallOpen`] when the session already has an upload.
    pub fn open_upload(&self, session: &Session) -> Result<(), Refusal> {
        self.open(session, &session.uploading, "upload")
    }

    /// Records that the subscription has begun.
    ///
    /// # Errors
    ///
    /// Returns [`Refusal::CallOpen`] when the session already has a subscription.
    pub(crate) fn open_subscription(&self, session: &Session) -> Result<(), Refusal> {
        self.open(session, &session.subscribed, "subscription")
    }

    fn open(
        &self,
        session: &Session,
        flag: &AtomicBool,
        call: &'static str,
    ) -> Result<(), Refusal> {
        if flag.swap(true, Ordering::AcqRel) {
            let session = session.id;
            return Err(Refusal::CallOpen { session, call });
        }
        // The actor opened a call of its own, so the session lives as long as that call, and may play.
        if !session.claimed.swap(true, Ordering::AcqRel) {
            let mut state = self.lock();
            let unrolls = self.in_flight * session.peer.threads as usize;
            (0..unrolls).for_each(|_| state.window.ask(session.id));
            state.permit();
        }
        Ok(())
    }

    /// Counts an unroll that the trainer took. Its session may play another one when its turn comes.
    pub fn take(&self, session: &Session) {
        let mut state = self.lock();
        let taken = session.taken.fetch_add(1, Ordering::AcqRel) + 1;
        if !state.open.contains_key(&session.id) {
            return;
        }
        if taken > session.permitted() {
            // The peer did not wait for its permission. HTTP/2 flow control bounds what it sends.
            session.permitted.send_replace(taken);
            return;
        }
        state.window.release(1);
        state.window.ask(session.id);
        state.permit();
    }

    /// Records that the trainer waits for an unroll of a batch of `batch`, and has waited for long if it is `stalled`.
    pub(crate) fn starve(&self, batch: usize, stalled: bool) {
        let mut state = self.lock();
        state.window.widen(batch, stalled);
        state.permit();
    }

    /// Records that a batch of `batch` unrolls is complete while `left` more are queued.
    pub(crate) fn settle(&self, batch: usize, left: usize) {
        let mut state = self.lock();
        state.window.settle(batch, left);
        state.permit();
    }

    /// Closes a session whose upload ended. Unrolls that it sent remain valid.
    pub fn close(&self, id: u64) {
        self.lock().end(id, self.most);
        self.changed.notify_one();
    }

    /// Closes a session whose subscription ended or whose time limit passed, unless it has an upload.
    pub(crate) fn close_idle(&self, session: &Session) {
        if !session.uploading.load(Ordering::Acquire) {
            self.close(session.id);
        }
    }

    /// Closes a session for which its actor opened no call.
    pub(crate) fn close_unclaimed(&self, session: &Session) {
        if !session.claimed.load(Ordering::Acquire) {
            self.close(session.id);
        }
    }

    /// Takes out the ended sessions whose frames all have a known fate.
    pub fn settled(&self) -> Vec<Arc<Session>> {
        let settled = |session: &mut Arc<Session>| {
            !session.uploading.load(Ordering::Acquire) && session.ledger.is_settled()
        };
        self.lock().ended.extract_if(.., settled).collect()
    }

    /// Puts back settled sessions whose ledger lines could not be written.
    pub(crate) fn put_back(&self, sessions: impl Iterator<Item = Arc<Session>>) {
        self.lock().ended.extend(sessions);
    }

    /// Takes out all sessions, settled or not, at the end of the learner.
    pub(crate) fn take_all(&self) -> Vec<Arc<Session>> {
        let mut state = self.lock();
        let ids: Vec<u64> = state.open.keys().copied().collect();
        for id in ids {
            state.end(id, self.most);
        }
        std::mem::take(&mut state.ended)
    }

    /// Waits until a session has closed since the last call. Supports one waiter.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Returns a channel with a notice whenever a session has ended since the last receipt. Supports one receiver.
    ///
    /// The batcher of a synchronous run waits for every session at work. It must see that one has left before its
    /// actor, which may return within 0.1 s, is at work again: otherwise the batch waits for that one, too.
    pub(crate) fn left(&self) -> &Receiver<()> {
        &self.left
    }

    /// Returns the number of open sessions.
    pub fn len(&self) -> usize {
        self.lock().open.len()
    }

    /// Returns true when no actor is connected.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the number of rollout threads of the open sessions whose actor has opened a call: only these can owe an
    /// unroll.
    pub(crate) fn rollouts_at_work(&self) -> usize {
        let state = self.lock();
        let at_work = |session: &&Arc<Session>| session.claimed.load(Ordering::Acquire);
        let rollouts = state.open.values().filter(at_work);
        rollouts.map(|session| session.peer.threads as usize).sum()
    }

    /// Returns the time of the last loss of an actor that may still return.
    pub fn last_loss(&self) -> Option<Instant> {
        let state = self.lock();
        let expected = |session: &Session| !session.dismissed.load(Ordering::Acquire);
        let away = state.away.values();
        away.filter(|(_, session)| expected(session))
            .map(|(since, _)| *since)
            .max()
    }

    /// Records that an actor that reconnected was told that the run is complete.
    pub(crate) fn dismiss(&self, actor_id: u64) {
        self.lock().away.remove(&actor_id);
        self.changed.notify_one();
    }

    /// Returns the number of sessions ever opened in this run.
    pub fn joined(&self) -> u64 {
        self.joined.load(Ordering::Acquire)
    }

    fn lock(&self) -> MutexGuard<'_, SessionTable> {
        // A panic while the lock was held cannot leave the state half written.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_session_fences_the_old_one_of_the_same_actor_only() {
        let sessions = Sessions::new(1, 0, 9);
        let (first, seed1) = sessions.join(7, Peer::default()).expect("room");
        let (other, seed2) = sessions.join(8, Peer::default()).expect("room");
        let (second, seed3) = sessions.join(7, Peer::default()).expect("room");
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
    fn a_stream_keeps_a_session_claimed_and_an_upload_keeps_it_open() {
        let sessions = Sessions::new(1, 0, 9);
        let (died, _) = sessions.join(1, Peer::default()).expect("room");
        let (subscribed, _) = sessions.join(2, Peer::default()).expect("room");
        let (uploads, _) = sessions.join(3, Peer::default()).expect("room");
        sessions.open_subscription(&subscribed).expect("the first");
        sessions.open_upload(&uploads).expect("the first");
        let open = || [&died, &subscribed, &uploads].map(|s| sessions.find(s.id).is_ok());
        for session in [&died, &subscribed, &uploads] {
            sessions.close_unclaimed(session);
        }
        assert_eq!(open(), [false, true, true]);
        assert_eq!(sessions.rollouts_at_work(), 2);
        sessions.close_idle(&subscribed);
        sessions.close_idle(&uploads);
        assert_eq!(open(), [false, false, true]);
        sessions.close(uploads.id);
        assert!(sessions.is_empty());
        sessions.join(4, Peer::default()).expect("room");
        assert_eq!((sessions.rollouts_at_work(), sessions.len()), (0, 1));
    }

    #[test]
    fn an_actor_is_lost_until_it_is_back_or_dismissed() {
        let sessions = Sessions::new(1, 0, 9);
        let lose = |actor| {
            let (session, _) = sessions.join(actor, Peer::default()).expect("room");
            sessions.close(session.id);
            session
        };
        assert_eq!(sessions.last_loss(), None);
        lose(1);
        let first = sessions.last_loss().expect("one is lost");
        let told_late = lose(2);
        assert!(sessions.last_loss() > Some(first));
        told_late.dismiss();
        assert_eq!(sessions.last_loss(), Some(first));
        let (back, _) = sessions.join(1, Peer::default()).expect("room");
        assert_eq!(sessions.last_loss(), None, "it is back");
        back.dismiss();
        sessions.close(back.id);
        assert_eq!(sessions.last_loss(), None, "it left in order");
        lose(3);
        assert!(sessions.last_loss().is_some());
        sessions.dismiss(3);
        assert_eq!(sessions.last_loss(), None, "told as it came back");
    }

    #[test]
    fn no_more_lost_actors_are_remembered_than_there_may_be() {
        let sessions = Sessions::new(1, 0, 2);
        for actor in 0..9 {
            let (session, _) = sessions.join(actor, Peer::default()).expect("room");
            sessions.close(session.id);
        }
        assert_eq!(sessions.lock().away.len(), 2);
        sessions.dismiss(7);
        assert!(sessions.last_loss().is_some());
        sessions.dismiss(8);
        assert_eq!(sessions.last_loss(), None, "the newest are");
    }

    #[test]
    fn seeds_depend_on_the_run_and_continue_after_a_restart() {
        let seeds = |joined| {
            let sessions = Sessions::new(42, joined, 9);
            (0..3)
                .map(|actor| sessions.join(actor, Peer::default()).expect("room").1)
                .collect::<Vec<_>>()
        };
        assert_eq!(seeds(0), seeds(0));
        assert_eq!(seeds(0)[1..], seeds(1)[..2]);
    }

    #[test]
    fn sessions_are_limited_and_a_rejoining_actor_keeps_its_place() {
        let sessions = Sessions::new(1, 0, 2);
        let join = |actor| sessions.join(actor, Peer::default()).map(|(s, _)| s.id);
        let first = join(1).expect("room");
        join(2).expect("room");
        assert_eq!(join(3), Err(Refusal::TooManySessions { most: 2 }));
        let again = join(1).expect("its own place");
        assert_eq!(sessions.joined(), 3, "a rejected actor did not join");
        assert!(sessions.find(first).is_err());
        sessions.close(again);
        join(3).expect("room again");
    }

    #[test]
    fn a_session_has_one_upload_and_one_subscription() {
        let sessions = Sessions::new(1, 0, 9);
        let (session, _) = sessions.join(1, Peer::default()).expect("room");
        sessions.open_upload(&session).expect("the first");
        sessions.open_subscription(&session).expect("the first");
        let again = [
            sessions.open_upload(&session),
            sessions.open_subscription(&session),
        ];
        for (again, call) in again.into_iter().zip(["upload", "subscription"]) {
            let session = session.id;
            assert_eq!(again, Err(Refusal::CallOpen { session, call }));
        }
        session.end_subscription();
        sessions
            .open_subscription(&session)
            .expect("the first has ended");
    }

    #[test]
    fn a_session_is_settled_once_no_unroll_of_it_can_arrive() {
        let sessions = Sessions::new(1, 0, 9);
        let (session, _) = sessions.join(1, Peer::default()).expect("room");
        let settled = || sessions.settled().len();
        sessions.open_upload(&session).expect("the first");
        session.ledger.admit(8);
        assert_eq!(settled(), 0, "it is open");
        // The same actor joins again; its old upload may still be admitting an unroll.
        sessions.join(1, Peer::default()).expect("room");
        session.ledger.train(8);
        assert_eq!(settled(), 0, "it uploads");
        session.ledger.admit(8);
        session.end_upload();
        assert_eq!(settled(), 0, "an unroll is on its way");
        session.ledger.train(8);
        assert_eq!((settled(), settled()), (1, 0), "once");
        assert_eq!(sessions.take_all().len(), 1, "the new one");
        assert!(sessions.is_empty());
    }

    /// Joins as an actor, and opens its upload.
    fn uploading(sessions: &Sessions, actor: u64) -> Arc<Session> {
        let (session, _) = sessions.join(actor, Peer::default()).expect("room");
        sessions.open_upload(&session).expect("the first");
        session
    }

    #[test]
    fn permissions_rotate_and_pass_on_when_a_session_ends() {
        let sessions = Sessions::new(1, 0, 9).with_flow(1, Window::from_batches(1, 8));
        let all = [1, 2, 3, 4].map(|actor| uploading(&sessions, actor));
        for session in &all {
            sessions.open_subscription(session).expect("the first");
        }
        let permitted = || [0, 1, 2, 3].map(|i| all[i].permitted());
        assert_eq!(permitted(), [1, 1, 0, 0]);
        sessions.take(&all[0]);
        assert_eq!(permitted(), [1, 1, 1, 0], "the first waits its turn");
        sessions.close(all[1].id);
        assert_eq!(permitted(), [1, 1, 1, 1]);
        // An unroll of the ended session, which may have been queued.
        sessions.take(&all[1]);
        assert_eq!(permitted(), [1, 1, 1, 1]);
        sessions.starve(1, false);
        assert_eq!(permitted(), [2, 1, 1, 1]);
        assert_eq!(sessions.lock().window.permit(), None, "nobody waits");
    }

    #[test]
    fn unrolls_without_permission_permit_no_others() {
        let sessions = Sessions::new(1, 0, 9).with_flow(1, Window::from_batches(1, 8));
        let [hasty, _, other] = [1, 2, 3].map(|actor| uploading(&sessions, actor));
        (0..3).for_each(|_| sessions.take(&hasty));
        assert_eq!((hasty.permitted(), other.permitted()), (3, 1));
        sessions.starve(1, false);
        assert_eq!(hasty.permitted(), 4, "one beyond what it sent");
    }
}
