//! The number of unrolls that actors may have under way: permitted, but not yet taken by the trainer.
//!
//! ```text
//!   waiting places --permit, in turn--> under way --take--> waiting again
//!                     while fewer than `size` are
//! ```
//!
//! An unroll that waits for a busy trainer grows old. A window just large enough to keep the trainer busy therefore
//! gives the smallest policy lag, and surplus actors wait before they play instead of after. The window widens when the
//! trainer waits for unrolls, and narrows when the next batch is already complete.

use std::collections::VecDeque;

use hrm_common::{config::Config, telemetry::names};

/// Permits unrolls to sessions, in the order in which they ask.
#[derive(Debug)]
pub struct Window {
    /// Limit of the unrolls under way; `None` for no limit.
    size: Option<usize>,
    max_policy_lag: usize,
    under_way: usize,
    waiting: VecDeque<u64>,
}

impl Window {
    /// Permits every unroll at once. In a synchronous run the weights set the pace, and a learner that does not train
    /// takes all that arrives.
    pub(crate) fn unlimited() -> Self {
        Self::with_size(None, 0)
    }

    /// Returns the window of a configuration.
    pub fn new(config: &Config) -> Self {
        let learner = &config.learner;
        match config.rollout.synchronous || !learner.train {
            true => Self::unlimited(),
            false => {
                Self::from_batches(learner.batch_range().least, learner.max_policy_lag_batches)
            }
        }
    }

    /// Starts with two batches of `batch` unrolls, the one in training and the next. `max_policy_lag` is in batches.
    pub(crate) fn from_batches(batch: usize, max_policy_lag: u64) -> Self {
        let max_policy_lag = usize::try_from(max_policy_lag).unwrap_or(usize::MAX);
        Self::with_size(Some(batch.saturating_mul(2)), max_policy_lag)
    }

    fn with_size(size: Option<usize>, max_policy_lag: usize) -> Self {
        Self {
            size,
            max_policy_lag,
            under_way: 0,
            waiting: VecDeque::new(),
        }
    }

    /// Queues a session for one unroll.
    pub(crate) fn ask(&mut self, session: u64) {
        self.waiting.push_back(session);
    }

    /// Returns the next session that may play an unroll, if there is one.
    pub(crate) fn permit(&mut self) -> Option<u64> {
        if self.size.is_some_and(|size| self.under_way >= size) {
            return None;
        }
        let session = self.waiting.pop_front()?;
        self.under_way += 1;
        Some(session)
    }

    /// Takes back permissions: unrolls that were taken, or that will not come.
    pub(crate) fn release(&mut self, unrolls: usize) {
        self.under_way = self.under_way.saturating_sub(unrolls);
    }

    /// Widens the window by one unroll, because the trainer waits for a batch of `batch` unrolls. Does nothing if no
    /// session waits, or if the lag could exceed the limit. Actors that were permitted to play can hang, so that limit
    /// does not apply when the trainer is `stalled`.
    pub(crate) fn widen(&mut self, batch: usize, stalled: bool) {
        let most = self.most(batch);
        if let Some(size) = &mut self.size
            && !self.waiting.is_empty()
            && (stalled || *size < most)
        {
            *size += 1;
        }
    }

    /// Adapts the window to a batch of `batch` unrolls that is complete while `left` more are queued.
    pub(crate) fn settle(&mut self, batch: usize, left: usize) {
        let most = self.most(batch);
        if let Some(size) = &mut self.size {
            if left >= batch {
                *size = size.saturating_sub(1);
            }
            *size = (*size).clamp(batch, most);
            names::LEARNER_WINDOW_UNROLLS.get().set(*size as f64);
        }
    }

    /// Returns the largest useful size: the last unroll of a full window has the largest policy lag that is trained on.
    fn most(&self, batch: usize) -> usize {
        batch.saturating_mul(self.max_policy_lag.saturating_add(2))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn permits(window: &mut Window) -> Vec<u64> {
        std::iter::from_fn(|| window.permit()).collect()
    }

    #[test]
    fn sessions_play_in_turn() {
        let mut window = Window::from_batches(1, 8);
        (0..5).for_each(|session| window.ask(session));
        assert_eq!(permits(&mut window), [0, 1]);
        window.release(1);
        window.ask(0);
        assert_eq!(permits(&mut window), [2]);
        window.release(2);
        assert_eq!(permits(&mut window), [3, 4]);
    }

    #[test]
    fn a_window_widens_only_for_a_session_that_waits() {
        let mut window = Window::from_batches(2, 8);
        for _ in 0..9 {
            window.widen(2, true);
        }
        (0..9).for_each(|session| window.ask(session));
        assert_eq!(permits(&mut window).len(), 4);
        window.widen(2, false);
        assert_eq!(permits(&mut window), [4]);
    }

    #[test]
    fn no_lag_beyond_the_limit_is_permitted_unless_training_stalls() {
        let mut window = Window::from_batches(2, 1);
        (0..99).for_each(|session| window.ask(session));
        for _ in 0..99 {
            window.widen(2, false);
        }
        assert_eq!(permits(&mut window).len(), 2 * 3);
        window.widen(2, true);
        assert_eq!(permits(&mut window).len(), 1);
        window.settle(2, 0);
        window.release(1);
        assert_eq!(permits(&mut window).len(), 0, "the limit holds again");
    }

    #[test]
    fn an_unlimited_window_permits_all() {
        let mut window = Window::unlimited();
        (0..999).for_each(|session| window.ask(session));
        window.widen(2, true);
        window.settle(2, 99);
        assert_eq!(permits(&mut window).len(), 999);
    }

    /// Plays actors against a trainer in whole ticks, with a window that a stall has widened. Returns the largest lag
    /// after the start, in batches, and the share of its time that the trainer trained.
    fn simulate(actors: u64, batch: usize, play: u64, train: u64, stall: usize) -> (u64, f64) {
        const BATCHES: u64 = 400;
        const START: u64 = 100;
        let mut window = Window::from_batches(batch, 8);
        (0..actors).for_each(|session| window.ask(session));
        (0..stall).for_each(|_| window.widen(batch, true));
        // Unrolls in play with their end, and complete ones, each with its version.
        let (mut playing, mut queue) = (VecDeque::new(), VecDeque::new());
        let (mut now, mut version, mut trained, mut worst) = (0_u64, 0_u64, 0_u64, 0_u64);
        let mut begin = 0;
        while version < BATCHES {
            if version == START {
                begin = now;
            }
            let mut starved = false;
            while queue.len() < batch {
                if !starved {
                    window.widen(batch, false);
                    starved = true;
                }
                let permitted = permits(&mut window);
                playing.extend(permitted.into_iter().map(|s| (s, now + play, version)));
                while let Some(&(session, end, made)) = playing.front()
                    && end <= now
                {
                    queue.push_back((session, made));
                    playing.pop_front();
                    starved = false;
                }
                now += u64::from(queue.len() < batch);
            }
            for (session, made) in queue.drain(..batch) {
                window.release(1);
                window.ask(session);
                if version > START {
                    worst = worst.max(version - made);
                }
            }
            window.settle(batch, queue.len());
            let permitted = permits(&mut window);
            playing.extend(permitted.into_iter().map(|s| (s, now + play, version)));
            now += train;
            if version >= START {
                trained += train;
            }
            version += 1;
            while let Some(&(session, end, made)) = playing.front()
                && end <= now
            {
                queue.push_back((session, made));
                playing.pop_front();
            }
        }
        (worst, trained as f64 / (now - begin) as f64)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Enough actors keep the trainer busy, and those that are not needed add no lag.
        #[test]
        fn surplus_actors_add_no_lag(
            (actors, batch) in (2..200_u64, 1..8_usize),
            (play, train, stall) in (1..300_u64, 50..300_u64, 0..40_usize),
        ) {
            let needed = 2 * batch as u64 * (1 + play / train);
            prop_assume!(actors >= needed && needed <= 9 * batch as u64);
            let (lag, busy) = simulate(actors, batch, play, train, stall);
            prop_assert!(busy > 0.95, "busy {busy}");
            prop_assert!(lag <= 2 + play / train, "lag {lag}");
        }
    }
}
