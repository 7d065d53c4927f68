//! The signals that end a subcommand without tasks of its own.

use hrm_common::shutdown::Shutdown;
use tokio::runtime::{Builder, Runtime};

/// Receives signals until it is dropped.
#[derive(Debug)]
pub(super) struct Signals {
    shutdown: Shutdown,
    /// Runs nothing but the receiver.
    _runtime: Runtime,
}

impl Signals {
    /// Begins to receive.
    ///
    /// # Errors
    ///
    /// Returns an error when the system does not permit it.
    pub(super) fn receive() -> anyhow::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let shutdown = runtime.block_on(async { Shutdown::on_signals() })?;
        Ok(Self {
            shutdown,
            _runtime: runtime,
        })
    }

    /// Returns true once a signal has asked for the end.
    pub(super) fn stop(&self) -> bool {
        self.shutdown.is_tripped()
    }
}
