//! The labels of metrics, and every value that is known beforehand.

use metrics::Label;

/// A label, or none: what a metric is split by.
pub trait Labelled: Sized {
    /// The label as Prometheus has it.
    fn labels(&self) -> Vec<Label>;

    /// Every value that is known beforehand, so that counters can start at 0.
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
            /// How many values there are.
            pub const COUNT: usize = [$(Self::$variant),*].len();

            /// The label's value.
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
    /// What an actor spends its time on.
    ActorStage = "stage" {
        /// The model's forward and the choice of actions.
        Infer = "infer",
        /// The mazes.
        Step = "step",
        /// Making a message of an unroll.
        Encode = "encode",
        /// Waiting for leave to make another unroll, or for weights.
        Wait = "wait",
    }
}

label! {
    /// What the learner's trainer spends its time on.
    LearnerStage = "stage" {
        /// Waiting for unrolls.
        Wait = "wait",
        /// Stacking unrolls to a batch.
        Batch = "batch",
        /// Recomputing carries, logits and values with the present weights.
        Recompute = "recompute",
        /// V-trace targets.
        Vtrace = "vtrace",
        /// Forward, backward and optimiser over the minibatches.
        Passes = "passes",
        /// Encoding and publishing weights.
        Publish = "publish",
        /// Saving.
        Checkpoint = "checkpoint",
    }
}

label! {
    /// Why an unroll that was sound did not reach training.
    DropReason = "reason" {
        /// Its policy was too old.
        Stale = "stale",
        /// Its session had been replaced by a newer one of the same actor.
        Fenced = "fenced",
        /// No update on its batch had a finite gradient and left finite weights.
        NotFinite = "not_finite",
        /// The learner stopped before its turn came.
        Stopped = "stopped",
    }
}

label! {
    /// What a learner writes while it trains.
    RunFile = "file" {
        /// A checkpoint.
        Checkpoint = "checkpoint",
        /// An old checkpoint, which was to be removed.
        OldCheckpoint = "old_checkpoint",
        /// `metrics.jsonl`.
        Metrics = "metrics",
        /// `ledger.jsonl` and what belongs to it.
        Ledger = "ledger",
        /// Weights of an evaluation that is still to be made, and results that no longer hold.
        Evaluation = "evaluation",
    }
}

label! {
    /// How an episode ended.
    Outcome = "outcome" {
        /// At the goal.
        Success = "success",
        /// Out of steps.
        Truncated = "truncated",
    }
}

label! {
    /// A term of the loss.
    LossTerm = "term" {
        /// The policy gradient.
        Policy = "policy",
        /// The value's error.
        Value = "value",
        /// The policy's entropy, before its cost.
        Entropy = "entropy",
        /// The weighted sum.
        Total = "total",
    }
}

label! {
    /// An importance weight that V-trace clips.
    Clip = "weight" {
        /// Clipped at rho-bar.
        Rho = "rho",
        /// Clipped at c-bar.
        C = "c",
    }
}

label! {
    /// Why somebody was turned away before anything that they sent was read.
    CallRefused = "reason" {
        /// Too many connections.
        Connections = "connections",
        /// No TLS handshake: plaintext, another protocol, or no certificate that is trusted.
        Handshake = "handshake",
        /// Too many actors joined.
        Sessions = "sessions",
        /// Too many uploads.
        Uploads = "uploads",
        /// No token, or an unknown one.
        Unauthenticated = "unauthenticated",
        /// A token that does not allow the call.
        Forbidden = "forbidden",
    }
}

/// The field of a message that made the learner refuse it.
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

/// The release that is running, and as what.
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

/// What a learner trains.
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
    /// `rollout.synchronous`: whether the learner waits while actors act.
    pub synchronous: bool,
    /// The device of the learner's tensors: `cpu`, or `cuda:0`.
    pub device: String,
}

impl Labelled for RunInfo {
    fn labels(&self) -> Vec<Label> {
        [
            ("run", &self.run),
            ("maze", &self.maze),
            ("preset", &self.preset),
            ("carry", &self.carry),
            ("synchronous", &self.synchronous.to_string()),
            ("device", &self.device),
        ]
        .map(|(key, value)| Label::new(key, value.clone()))
        .into()
    }

    fn known() -> Vec<Self> {
        Vec::new()
    }
}

/// What a process is. One that trains alone is both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Steps mazes.
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
