//! The labels of metrics, and the label values that are known in advance.

use metrics::Label;

/// The label that splits a metric into series, or [`Unlabelled`].
pub trait Labelled: Sized {
    /// Returns the labels for Prometheus.
    fn labels(&self) -> Vec<Label>;

    /// Returns the values that are known in advance. Their counters start at 0.
    fn known() -> Vec<Self>;
}

/// A metric without labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unlabelled;

impl Labelled for Unlabelled {
    fn labels(&self) -> Vec<Label> {
        Vec::new()
    }

    fn known() -> Vec<Self> {
        vec![Self]
    }
}

/// Declares an enum whose variants are the values of a label.
macro_rules! label {
    ($(#[$doc:meta])* $name:ident = $key:literal { $($(#[$variant_doc:meta])* $variant:ident = $value:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
        }

        impl $name {
            /// The number of values.
            pub const COUNT: usize = [$(Self::$variant),*].len();

            /// Returns the label's value.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $value,)*
                }
            }
        }

        impl Labelled for $name {
            fn labels(&self) -> Vec<Label> {
                vec![Label::from_static_parts($key, self.as_str())]
            }

            fn known() -> Vec<Self> {
                vec![$(Self::$variant,)*]
            }
        }
    };
}

label! {
    /// A stage of an actor's loop.
    ActorStage = "stage" {
        /// The model's forward pass and the choice of actions.
        Infer = "infer",
        /// Steps of the mazes.
        Step = "step",
        /// Encoding of an unroll.
        Encode = "encode",
        /// Waiting for a credit or for weights.
        Wait = "wait",
    }
}

label! {
    /// A stage of the learner's training loop.
    LearnerStage = "stage" {
        /// Waiting for unrolls.
        Wait = "wait",
        /// Stacking unrolls into a batch.
        Batch = "batch",
        /// Recomputing carries, logits and values with the current weights.
        Recompute = "recompute",
        /// Computing the V-trace targets.
        Vtrace = "vtrace",
        /// Forward and backward passes and optimiser steps over the minibatches.
        Passes = "passes",
        /// Encoding and publishing weights.
        Publish = "publish",
        /// Saving a checkpoint.
        Checkpoint = "checkpoint",
    }
}

label! {
    /// The reason why training did not use a valid unroll.
    DropReason = "reason" {
        /// Its policy lag was above `learner.max_policy_lag_batches`.
        Stale = "stale",
        /// Its session was fenced.
        Fenced = "fenced",
        /// No update on its batch had a finite gradient and finite resulting weights.
        NotFinite = "not_finite",
        /// The learner stopped before it was trained on.
        Stopped = "stopped",
        /// The learner does not train (`learner.train` = false).
        Untrained = "untrained",
    }
}

label! {
    /// A file that the learner writes while it trains.
    RunFile = "file" {
        /// A checkpoint.
        Checkpoint = "checkpoint",
        /// An old checkpoint that is to be removed.
        OldCheckpoint = "old_checkpoint",
        /// `metrics.jsonl`.
        Metrics = "metrics",
        /// `ledger.jsonl` and its companion files.
        Ledger = "ledger",
        /// The weights of a pending evaluation, and outdated results.
        Evaluation = "evaluation",
        /// The event file for TensorBoard.
        Tensorboard = "tensorboard",
        /// The copy of the run at `checkpoint.copy_to`.
        Copy = "copy",
    }
}

label! {
    /// The end of an episode.
    Outcome = "outcome" {
        /// The agent reached the goal.
        Success = "success",
        /// The episode reached `env.max_steps`.
        Truncated = "truncated",
    }
}

label! {
    /// A term of the loss.
    LossTerm = "term" {
        /// The policy gradient.
        Policy = "policy",
        /// The value loss.
        Value = "value",
        /// The policy's entropy, before it is multiplied by its cost.
        Entropy = "entropy",
        /// The halt head's loss, with its cost; only if it is trained.
        Halt = "halt",
        /// The weighted sum of the other terms.
        Total = "total",
    }
}

label! {
    /// An importance weight that V-trace clips.
    Clip = "weight" {
        /// rho, clipped at rho-bar.
        Rho = "rho",
        /// c, clipped at c-bar.
        C = "c",
    }
}

label! {
    /// The reason why a connection or call was rejected before its content was read.
    CallRefused = "reason" {
        /// Too many connections.
        Connections = "connections",
        /// A failed TLS handshake: plaintext, another protocol, or no trusted certificate.
        Handshake = "handshake",
        /// Too many joined actors.
        Sessions = "sessions",
        /// Too many uploads.
        Uploads = "uploads",
        /// Too many clients that follow the live page, or that receive a recording from it.
        PageClients = "page_clients",
        /// A request to the live page under a host name to which it does not answer.
        Host = "host",
        /// No token, or an unknown one. Requests to the live page without one do not count, because every browser's
        /// first request lacks it.
        Unauthenticated = "unauthenticated",
        /// A token that does not allow the call.
        Forbidden = "forbidden",
    }
}

/// The field for which the learner rejected a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Field(pub &'static str);

impl Labelled for Field {
    fn labels(&self) -> Vec<Label> {
        vec![Label::from_static_parts("field", self.0)]
    }

    fn known() -> Vec<Self> {
        Vec::new()
    }
}

/// The release of the running process, and its role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Build {
    /// The role.
    pub role: Role,
    /// The release.
    pub version: &'static str,
}

impl Labelled for Build {
    fn labels(&self) -> Vec<Label> {
        vec![
            Label::from_static_parts("role", self.role.as_str()),
            Label::from_static_parts("version", self.version),
        ]
    }

    fn known() -> Vec<Self> {
        Vec::new()
    }
}

label! {
    /// A statistic of several numbers.
    Statistic = "statistic" {
        /// Their mean.
        Mean = "mean",
        /// The largest.
        Max = "max",
    }
}

/// The run that a learner trains.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RunInfo {
    /// `run.name`.
    pub run: String,
    /// `env.maze`.
    pub maze: String,
    /// `model.preset`.
    pub preset: String,
    /// `model.carry`.
    pub carry: String,
    /// `rollout.synchronous`.
    pub synchronous: bool,
    /// The device of the learner's tensors: `cpu` or `cuda:0`.
    pub device: String,
    /// The kernels of this processor: `avx2`, for example.
    pub kernels: String,
    /// The backend of the learner: `native` (the kernels), `libtorch`, or `mixed` (libtorch for gradients only).
    pub backend: String,
}

impl Labelled for RunInfo {
    fn labels(&self) -> Vec<Label> {
        [
            ("run", &self.run),
            ("maze", &self.maze),
            ("preset", &self.preset),
            ("carry", &self.carry),
            ("synchronous", &self.synchronous.to_string()),
            ("kernels", &self.kernels),
            ("backend", &self.backend),
            ("device", &self.device),
        ]
        .map(|(key, value)| Label::new(key, value.clone()))
        .into()
    }

    fn known() -> Vec<Self> {
        Vec::new()
    }
}

/// The role of a process. `hrm-learner train` has both roles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Plays mazes.
    Actor,
    /// Trains.
    Learner,
}

impl Role {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Actor => "actor",
            Self::Learner => "learner",
        }
    }
}
