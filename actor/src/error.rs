//! The errors that end a session, and which of them a retry cannot mend.

use std::{fmt, time::Duration};

use hrm_common::{
    config::{FileError, SpecError},
    invalid_value::InvalidValue,
    refusal::{Refusal, causes},
    weights::WeightsError,
};
use hrm_proto::WIRE_MAJOR;
use thiserror::Error;
use tonic::{Code, Status};

/// The learner's rejection of this wire version.
const WIRE_VERSION: Refusal = Refusal::WireVersion {
    found: WIRE_MAJOR,
    expected: WIRE_MAJOR,
};

/// One of the two streams of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Unrolls to the learner.
    Upload,
    /// Weights to the actor.
    Weights,
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Upload => "upload",
            Self::Weights => "weights",
        })
    }
}

/// The reason why a session ended.
#[derive(Debug, Error)]
pub enum SessionError {
    /// The URL is invalid.
    #[error(
        "invalid actor.learner = {url:?}: {reason}\n  remedy: set it to the learner's address, such as \
         http://127.0.0.1:50051"
    )]
    Url {
        /// The configured URL.
        url: String,
        /// The parser's message.
        reason: String,
    },
    /// A certificate, key or token file is unusable.
    #[error(transparent)]
    File(#[from] FileError),
    /// The learner cannot be reached, or the connection broke.
    #[error("connection to the learner: {}", causes(.0))]
    Transport(tonic::transport::Error),
    /// The learner ended a call.
    #[error("the learner answered {}: {}", .0.code(), .0.message())]
    Status(Box<Status>),
    /// The learner accepted a call and did not answer it.
    #[error("the learner did not answer {call} within {} s", .after.as_secs_f64())]
    NoAnswer {
        /// The name of the call.
        call: &'static str,
        /// The time limit that passed.
        after: Duration,
    },
    /// The learner closed a stream without a status, as it does when it stops.
    #[error("the learner closed the {0} stream")]
    Closed(Stream),
    /// The handshake's answer fails its checksum.
    #[error("the learner's specification was damaged in transit")]
    Damaged,
    /// The weights are damaged or belong to another model.
    #[error("weights: {0}")]
    Weights(WeightsError),
    /// The learner's specification is unreadable or invalid.
    #[error("{0}")]
    Spec(SpecError),
    /// The specification's mazes are invalid.
    #[error("the learner's mazes: {0}")]
    Env(InvalidValue),
    /// The specification's model is invalid.
    #[error("the learner's model: {0}")]
    Model(InvalidValue),
    /// Actor and learner build different models from the same specification, so their releases differ.
    #[error(
        "the learner's model has fingerprint {learner:016x}, but this actor's model of the same specification has \
         {actor:016x}\n  remedy: run the same release of actor and learner"
    )]
    Fingerprint {
        /// The fingerprint of the learner's model.
        learner: u64,
        /// The fingerprint of this actor's model.
        actor: u64,
    },
    /// The rollout thread panicked.
    #[error("the rollout thread panicked")]
    Panicked,
    /// The operating system started no thread.
    #[error("cannot start the rollout thread: {0}")]
    Thread(std::io::Error),
}

impl From<tonic::transport::Error> for SessionError {
    fn from(error: tonic::transport::Error) -> Self {
        Self::Transport(error)
    }
}

impl From<Status> for SessionError {
    fn from(status: Status) -> Self {
        Self::Status(Box::new(status))
    }
}

impl SessionError {
    /// True when a retry cannot help.
    pub fn is_fatal(&self) -> bool {
        match self {
            Self::Url { .. }
            | Self::Spec(_)
            | Self::Env(_)
            | Self::Model(_)
            | Self::Fingerprint { .. }
            | Self::Panicked => true,
            // Only the learner's own rejection counts, not a proxy's answer while the learner restarts.
            Self::Status(status) => WIRE_VERSION.is(status),
            Self::NoAnswer { .. }
            | Self::Damaged
            | Self::File(_)
            | Self::Transport(_)
            | Self::Closed(_)
            | Self::Weights(_)
            | Self::Thread(_) => false,
        }
    }

    /// True when the learner says that the run is complete.
    pub(crate) fn is_run_complete(&self) -> bool {
        matches!(self, Self::Status(status) if Refusal::RunComplete.is(status))
    }

    /// True when the upload ended as it does when a learner stops.
    pub(crate) fn is_goodbye(&self) -> bool {
        match self {
            Self::Closed(stream) => *stream == Stream::Upload,
            Self::Status(status) => status.code() == Code::Unavailable,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use hrm_common::{
        config::Spec,
        env::EnvConfig,
        model::{ModelConfig, Parameters},
    };

    use super::*;
    use crate::connect::{Credentials, connect};

    fn small_model() -> Parameters {
        let config = ModelConfig {
            hidden: 8,
            ..ModelConfig::small()
        };
        let grid = EnvConfig::four_rooms().grid();
        Parameters::new(&config, grid, 0).expect("a valid model")
    }

    /// A cause is in the message or in `source`, never in both.
    #[tokio::test]
    async fn errors_say_their_cause_once() {
        let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", closed.local_addr().expect("an address"));
        drop(closed);
        let no_credentials = Credentials::default();
        let refused = connect(&url, &no_credentials)
            .await
            .expect_err("nobody listens");
        assert!(refused.to_string().contains("refused"), "{refused}");
        let no_url = connect("no url", &no_credentials)
            .await
            .expect_err("no URL");
        let env = EnvConfig {
            max_steps: 0,
            ..EnvConfig::four_rooms()
        };
        let weights = hrm_common::weights::load(&mut small_model(), b"x");
        for error in [
            refused,
            no_url,
            SessionError::Weights(weights.expect_err("no weights")),
            SessionError::Spec(Spec::from_json("{").expect_err("half")),
            SessionError::Env(env.validate().expect_err("no steps")),
            SessionError::Thread(std::io::Error::other("no more threads")),
        ] {
            let text = error.to_string();
            let mut cause = std::error::Error::source(&error);
            while let Some(error) = cause {
                let said = error.to_string();
                assert!(!text.contains(&said), "{text:?} and its cause {said:?}");
                cause = error.source();
            }
        }
    }
}
