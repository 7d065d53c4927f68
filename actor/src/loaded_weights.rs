//! The newest weights, loaded once for all rollout threads of the process.

use std::sync::{Mutex, PoisonError};

use hrm_common::{policy::SharedNetwork, weights::Weights};
use tokio::sync::watch;

use crate::error::SessionError;

/// The newest weights of a session. The first rollout thread that needs a version loads it, and the others share its
/// memory.
#[derive(Debug)]
pub(crate) struct LoadedWeights<N> {
    newest: watch::Receiver<Option<Weights>>,
    fingerprint: u64,
    loaded: Mutex<Loaded<N>>,
}

/// The version that was loaded last, if there is one, and a model without environments that holds it.
#[derive(Debug)]
struct Loaded<N> {
    version: Option<u64>,
    model: N,
}

impl<N: SharedNetwork> LoadedWeights<N> {
    /// Starts without weights, with an untrained model that has this fingerprint.
    pub(crate) fn new(
        model: N,
        fingerprint: u64,
        newest: watch::Receiver<Option<Weights>>,
    ) -> Self {
        let version = None;
        Self {
            newest,
            fingerprint,
            loaded: Mutex::new(Loaded { version, model }),
        }
    }

    /// The fingerprint of the model.
    pub(crate) fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// Returns `envs` environments with the model that was loaded last.
    pub(crate) fn network(&self, envs: usize) -> N {
        let loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        loaded.model.with_envs(envs)
    }

    /// Waits for weights of a version above `known`, or for any. Returns false when none will come.
    pub(crate) async fn newer_than(&self, known: Option<u64>) -> bool {
        let newer = |newest: &Option<Weights>| {
            let version = newest.as_ref().map(|weights| weights.version);
            version.is_some() && version > known
        };
        self.newest.clone().wait_for(newer).await.is_ok()
    }

    /// Puts the newest weights into `network` unless it has their `version`. Returns them, or `None` before the first.
    ///
    /// # Errors
    ///
    /// Fails when the weights do not fit the model.
    pub(crate) fn load(
        &self,
        network: &mut N,
        version: Option<u64>,
    ) -> Result<Option<Weights>, SessionError> {
        // A load that panics leaves the version unchanged, so the next thread repeats it.
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        // Read under the lock, so that no thread takes back what another one has loaded.
        let Some(newest) = self.newest.borrow().clone() else {
            return Ok(None);
        };
        if loaded.version != Some(newest.version) {
            let body = &newest.body;
            loaded.model.load(body).map_err(SessionError::Weights)?;
            loaded.version = Some(newest.version);
        }
        if version != loaded.version {
            network.share_model(&loaded.model);
        }
        Ok(Some(newest))
    }
}
