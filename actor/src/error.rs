//! The reasons why a session ends, and which of them are final.

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

/// The learner's refusal of this wire version.
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
    /// The URL is no URL.
    #[error("actor.learner = {url:?} is not a URL such as http://127.0.0.1:50051: {reason}")]
    Url {
        /// What was configured.
        url: String,
        /// What the parser says.
        reason: String,
    },
    /// A certificate, key or token that cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// The learner cannot be reached, or the connection broke.
    #[error("connection to the learner: {}", causes(.0))]
    Transport(tonic::transport::Error),
    /// The learner ended a call.
    #[error("the learner answered {}: {}", .0.code(), .0.message())]
    Status(Box<Status>),
    /// The learner took a call and said nothing.
    #[error("the learner did not answer {call} within {} s", .after.as_secs_f64())]
    NoAnswer {
        /// The call.
        call: &'static str,
        /// The time that it was waited for.
        after: Duration,
    },
    /// The learner closed a stream without a status, as it does when it stops.
    #[error("the learner closed the {0} stream")]
    Closed(Stream),
    /// What the learner answered to the handshake is not what arrived.
    #[error("the learner's specification was damaged on its way")]
    Damaged,
    /// Damaged or foreign weights.
    #[error("weights: {0}")]
    Weights(WeightsError),
    /// The learner asks for a configuration that this actor cannot run.
    #[error("the learner's specification: {0}")]
    Spec(SpecError),
    /// The mazes of the specification cannot be played.
    #[error("the learner's mazes: {0}")]
    Env(InvalidValue),
    /// The model of the specification cannot be built.
    #[error("the learner's model: {0}")]
    Model(InvalidValue),
    /// The same specification gives another model here: the two programs are of different releases.
    #[error(
        "the learner's model has fingerprint {learner:016x}, this actor builds {actor:016x} from the \
         same specification; run the same release on both sides"
    )]
    Fingerprint {
        /// What the learner says.
        learner: u64,
        /// What was built here.
        actor: u64,
    },
    /// The rollout thread panicked.
    #[error("the rollout thread panicked")]
    Panicked,
    /// The operating system gave no thread.
    #[error("starting the rollout thread: {0}")]
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
    /// True when trying again cannot help.
    pub fn is_fatal(&self) -> bool {
        match self {
            Self::Url { .. }
            | Self::Spec(_)
            | Self::Env(_)
            | Self::Model(_)
            | Self::Fingerprint { .. }
            | Self::Panicked => true,
            // The learner's own word, not that of a proxy before a learner that restarts.
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

    /// True when the learner says that there is nothing left to act for.
    pub(crate) fn is_run_complete(&self) -> bool {
        matches!(self, Self::Status(status) if Refusal::RunComplete.is(status))
    }

    /// True when the upload ended as it does when the learner stops.
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
        model::{Hrm, ModelConfig},
    };

    use super::*;
    use crate::connect::{Credentials, connect};

    fn small_model() -> Hrm {
        let config = ModelConfig {
            hidden: 8,
            ..ModelConfig::small()
        };
        let grid = EnvConfig::four_rooms().grid();
        Hrm::new(&config, grid, 0, tch::Device::Cpu).expect("a valid model")
    }

    /// However they are printed: a cause stands in the text or behind it.
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
