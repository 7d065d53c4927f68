//! The code that actors and the learner share, in the order of the data's path:
//!
//! - [`env`](mod@env): the mazes, pure, seeded and without I/O, and a vectorised environment of them
//! - [`model`]: HRM: its tensors, presets, carry, and the forward pass that acts
//! - [`policy`]: acting: one batched decision, actions, the carry of each environment
//! - [`trajectory`]: an unroll: T ticks of N environments
//! - [`wire`]: checked conversion of unrolls to and from the wire
//! - [`weights`]: published versions of the model's weights
//! - [`checkpoint`]: the files from which a run resumes, and from which programs act
//! - [`refusal`]: the reasons for which the learner rejects a message or call
//!
//! Settings: [`config`], [`invalid_value`], [`token`] and [`pem`]. Ports: [`listen`], [`connections`], [`descriptors`],
//! [`http1`],
//! [`http2`], [`health`] and [`reload`]. Observation: [`telemetry`] and [`stage`]. Processes: [`program`], [`output`],
//! [`verbosity`], [`completions`], [`manual`], [`shutdown`] and [`backoff`]. Checksums: [`checksum`].

pub mod backoff;
pub mod checkpoint;
pub mod checksum;
pub mod completions;
pub mod config;
pub mod connections;
pub mod descriptors;
pub mod env;
pub mod health;
pub mod http1;
pub mod http2;
pub mod invalid_value;
pub mod listen;
pub mod manual;
pub mod model;
pub mod output;
pub mod pem;
pub mod policy;
pub mod program;
pub mod refusal;
pub mod reload;
pub mod shutdown;
pub mod stage;
pub mod telemetry;
pub mod token;
pub mod trajectory;
pub mod verbosity;
pub mod weights;
pub mod wire;
