//! Published weights: encoded once, shared by every subscriber, verified before they are swapped in.
//!
//! ```text
//!   trainer: Weights::new(body) --watch--> every subscription: chunks() ~~~ gRPC ~~~> Assembler --> Weights
//! ```

use bytes::{Bytes, BytesMut};
use hrm_proto::v1 as proto;
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::model::{
    Hrm, LoadError,
    state::{self, StateError},
};

/// Bytes of one piece on the wire: below gRPC's usual 4 MiB message limit with room to spare, and
/// large enough that the small model is a single message.
const CHUNK: usize = 1 << 20;

/// Largest body an actor accepts. The paper's model is 2 MB.
pub const MAX_WEIGHTS_SIZE: usize = 1 << 30;

/// One version of the model's weights, and what the learner steers with them. Cloning is cheap.
#[derive(Debug, Clone, PartialEq)]
pub struct Weights {
    /// Rises with every update, and never stands for two different weights within a run.
    pub version: u64,
    /// The model's tensors as safetensors.
    pub body: Bytes,
    /// SHA-256 of `body`.
    pub sha256: [u8; 32],
    /// Fingerprint of the model's shape.
    pub model_fingerprint: u64,
    /// The distance curriculum's present level; 0: every episode is uniform.
    pub curriculum_distance: u32,
    /// True on the last version of a finished run.
    pub run_complete: bool,
}

/// A stream of pieces that does not make up weights of this model.
#[derive(Debug, Error)]
pub enum WeightsError {
    /// A piece came before any header, or a header in the middle of a body.
    #[error("pieces out of order: {0}")]
    Order(&'static str),
    /// The announced body is larger than [`MAX_WEIGHTS_SIZE`].
    #[error("announced {0} bytes of weights, more than {MAX_WEIGHTS_SIZE}")]
    TooLarge(u64),
    /// More bytes than announced.
    #[error("received {found} bytes of weights, announced {announced}")]
    Overrun {
        /// Bytes so far.
        found: usize,
        /// Bytes the header announced.
        announced: usize,
    },
    /// The body is not what was sent.
    #[error("checksum of weights version {version} does not match")]
    Checksum {
        /// The version it claimed to be.
        version: u64,
    },
    /// The weights are of a model of another shape.
    #[error("weights have model fingerprint {found:016x}, expected {expected:016x}")]
    Fingerprint {
        /// What the header says.
        found: u64,
        /// The model at hand.
        expected: u64,
    },
    /// The body is not safetensors of f32.
    #[error(transparent)]
    State(#[from] StateError),
    /// The tensors are not those of the model at hand.
    #[error(transparent)]
    Load(#[from] LoadError),
}

impl Weights {
    /// Weights of a version, with their checksum.
    pub fn new(
        version: u64,
        body: Bytes,
        model_fingerprint: u64,
        curriculum_distance: u32,
        run_complete: bool,
    ) -> Self {
        let sha256 = Sha256::digest(&body).into();
        Self {
            version,
            body,
            sha256,
            model_fingerprint,
            curriculum_distance,
            run_complete,
        }
    }

    /// The pieces to send, in order: the first carries the header. The body's bytes are shared.
    pub fn chunks(&self) -> impl Iterator<Item = proto::WeightsChunk> + use<> {
        let header = proto::WeightsHeader {
            version: self.version,
            size: self.body.len() as u64,
            sha256: Bytes::copy_from_slice(&self.sha256),
            model_fingerprint: self.model_fingerprint,
            curriculum_distance: self.curriculum_distance,
            run_complete: self.run_complete,
        };
        let body = self.body.clone();
        let pieces = body.len().div_ceil(CHUNK).max(1);
        (0..pieces).map(move |i| proto::WeightsChunk {
            header: (i == 0).then(|| header.clone()),
            data: body.slice(i * CHUNK..body.len().min((i + 1) * CHUNK)),
        })
    }
}

/// Swaps encoded weights into a model, all of them or none.
///
/// # Errors
///
/// When the body is no safetensors, or its tensors are not those of `model`, which then stays as it was.
pub fn load(model: &mut Hrm, body: &[u8]) -> Result<(), WeightsError> {
    Ok(model.load(&state::decode(body)?)?)
}

/// Puts the pieces of one subscription together again.
#[derive(Debug)]
pub struct Assembler {
    model_fingerprint: u64,
    pending: Option<(proto::WeightsHeader, BytesMut)>,
}

impl Assembler {
    /// An assembler for weights of one model.
    pub fn new(model_fingerprint: u64) -> Self {
        Self {
            model_fingerprint,
            pending: None,
        }
    }

    /// Takes the next piece; returns the weights that it completes, verified.
    ///
    /// # Errors
    ///
    /// When the pieces are out of order, too many, of another model, or damaged. The subscription
    /// must then be opened anew.
    pub fn push(&mut self, chunk: proto::WeightsChunk) -> Result<Option<Weights>, WeightsError> {
        let (header, mut body) = match (chunk.header, self.pending.take()) {
            (Some(_), Some(_)) => return Err(WeightsError::Order("a header within a body")),
            (None, None) => return Err(WeightsError::Order("data before a header")),
            (None, Some(pending)) => pending,
            (Some(header), None) => {
                if header.model_fingerprint != self.model_fingerprint {
                    return Err(WeightsError::Fingerprint {
                        found: header.model_fingerprint,
                        expected: self.model_fingerprint,
                    });
                }
                if header.size > MAX_WEIGHTS_SIZE as u64 {
                    return Err(WeightsError::TooLarge(header.size));
                }
                // Capacity grows with what really arrives, not with what a header claims.
                (header, BytesMut::new())
            }
        };
        let announced = header.size as usize;
        body.extend_from_slice(&chunk.data);
        if body.len() > announced {
            return Err(WeightsError::Overrun {
                found: body.len(),
                announced,
            });
        }
        if body.len() < announced {
            self.pending = Some((header, body));
            return Ok(None);
        }
        let weights = Weights::new(
            header.version,
            body.freeze(),
            header.model_fingerprint,
            header.curriculum_distance,
            header.run_complete,
        );
        if weights.sha256[..] != header.sha256[..] {
            return Err(WeightsError::Checksum {
                version: header.version,
            });
        }
        Ok(Some(weights))
    }
}
