//! Published weights: encoded once, shared by all subscribers, verified before an actor uses them.
//!
//! ```text
//!   trainer: Weights::new(body) --watch--> every subscription: chunks() ~~~ gRPC ~~~> Assembler --> Weights
//! ```

use bytes::{Bytes, BytesMut};
use hrm_proto::v1 as proto;
use thiserror::Error;

use crate::{
    checksum::{MessageChecksum, MessageHasher},
    model::{
        LoadError, Parameters,
        state::{self, StateError},
    },
};

/// Bytes of one piece on the wire. It is far below gRPC's usual message limit of 4 MiB, and the small model fits in
/// one.
const CHUNK: usize = 1 << 20;

/// Largest body that an actor accepts, in bytes. The paper's model has 2 MB.
pub(crate) const MAX_WEIGHTS_SIZE: usize = 1 << 30;

/// One version of the model's weights, with the state that the learner sends along. Cloning is cheap.
#[derive(Debug, Clone, PartialEq)]
pub struct Weights {
    /// The version. It rises with every batch, and never repeats within a run.
    pub version: u64,
    /// The model's tensors as safetensors.
    pub body: Bytes,
    /// Checksum of `body`.
    pub checksum: MessageChecksum,
    /// Fingerprint of the model's shape.
    pub model_fingerprint: u64,
    /// The curriculum's current distance limit, in steps; 0 when every episode is uniform.
    pub curriculum_distance: u32,
    /// True for the last version of a complete run.
    pub run_complete: bool,
}

/// The error for pieces that are not weights of this model.
#[derive(Debug, Error)]
pub enum WeightsError {
    /// A piece arrived before its header, or a header in the middle of a body.
    #[error("pieces out of order: {0}")]
    Order(&'static str),
    /// The announced body is larger than `MAX_WEIGHTS_SIZE`.
    #[error("the header announces {0} bytes of weights, but the limit is {MAX_WEIGHTS_SIZE}")]
    TooLarge(u64),
    /// The body has more bytes than announced.
    #[error("received {found} bytes of weights, but the header announced {announced}")]
    Overrun {
        /// Bytes received so far.
        found: usize,
        /// Bytes that the header announced.
        announced: usize,
    },
    /// The header was damaged in transit.
    #[error("the checksum of a weights header does not match")]
    Header,
    /// The body was damaged in transit.
    #[error("the checksum of weights version {version} does not match")]
    Checksum {
        /// The version in the header.
        version: u64,
    },
    /// The weights belong to a model of another shape.
    #[error("the weights have model fingerprint {found:016x}, expected {expected:016x}")]
    Fingerprint {
        /// The fingerprint in the header.
        found: u64,
        /// The fingerprint of this model.
        expected: u64,
    },
    /// The body is not safetensors of f32.
    #[error(transparent)]
    State(#[from] StateError),
    /// The tensors are not those of this model.
    #[error(transparent)]
    Load(#[from] LoadError),
}

impl Weights {
    /// Returns the weights of a version, with their checksum.
    pub fn new(
        version: u64,
        body: Bytes,
        model_fingerprint: u64,
        curriculum_distance: u32,
        run_complete: bool,
    ) -> Self {
        let checksum = MessageHasher::new().bytes(&body).finish();
        Self {
            version,
            body,
            checksum,
            model_fingerprint,
            curriculum_distance,
            run_complete,
        }
    }

    /// Returns the pieces to send, in order. The first one has the header. All share the body's bytes.
    pub fn chunks(&self) -> impl Iterator<Item = proto::WeightsChunk> + use<> {
        let mut header = proto::WeightsHeader {
            version: self.version,
            size: self.body.len() as u64,
            body_checksum: Bytes::copy_from_slice(&self.checksum),
            model_fingerprint: self.model_fingerprint,
            curriculum_distance: self.curriculum_distance,
            run_complete: self.run_complete,
            checksum: Bytes::new(),
        };
        header.checksum = Bytes::copy_from_slice(&header_checksum(&header));
        let body = self.body.clone();
        let pieces = body.len().div_ceil(CHUNK).max(1);
        (0..pieces).map(move |i| proto::WeightsChunk {
            header: (i == 0).then(|| header.clone()),
            data: body.slice(i * CHUNK..body.len().min((i + 1) * CHUNK)),
        })
    }
}

/// Returns the checksum of a header without its checksum: numbers little-endian, in the order of the fields.
fn header_checksum(header: &proto::WeightsHeader) -> MessageChecksum {
    MessageHasher::new()
        .fixed(header.version.to_le_bytes())
        .fixed(header.size.to_le_bytes())
        .bytes(&header.body_checksum)
        .fixed(header.model_fingerprint.to_le_bytes())
        .fixed(header.curriculum_distance.to_le_bytes())
        .fixed([u8::from(header.run_complete)])
        .finish()
}

/// Puts the checksum over the header of a piece, if it has one.
pub fn seal_header(mut chunk: proto::WeightsChunk) -> proto::WeightsChunk {
    if let Some(header) = &mut chunk.header {
        header.checksum = header_checksum(header).to_vec().into();
    }
    chunk
}

/// Loads encoded weights into a model, all of them or none.
///
/// # Errors
///
/// Fails when the body is not safetensors or its tensors are not those of the model, which then stays unchanged.
pub fn load(parameters: &mut Parameters, body: &[u8]) -> Result<(), WeightsError> {
    Ok(parameters.load(&state::decode(body)?)?)
}

/// Assembles the pieces of one subscription into weights.
#[derive(Debug)]
pub struct Assembler {
    model_fingerprint: u64,
    pending: Option<(proto::WeightsHeader, BytesMut)>,
}

impl Assembler {
    /// Returns an assembler for weights of one model.
    pub fn new(model_fingerprint: u64) -> Self {
        Self {
            model_fingerprint,
            pending: None,
        }
    }

    /// Takes the next piece. Returns the weights if the piece completes them, verified.
    ///
    /// # Errors
    ///
    /// Fails when pieces are out of order, too many, of another model, or damaged. The actor must then subscribe again.
    pub fn push(&mut self, chunk: proto::WeightsChunk) -> Result<Option<Weights>, WeightsError> {
        let (header, mut body) = match (chunk.header, self.pending.take()) {
            (Some(_), Some(_)) => return Err(WeightsError::Order("a header within a body")),
            (None, None) => return Err(WeightsError::Order("data before a header")),
            (None, Some(pending)) => pending,
            (Some(header), None) => {
                if header.checksum[..] != header_checksum(&header) {
                    return Err(WeightsError::Header);
                }
                if header.model_fingerprint != self.model_fingerprint {
                    return Err(WeightsError::Fingerprint {
                        found: header.model_fingerprint,
                        expected: self.model_fingerprint,
                    });
                }
                if header.size > MAX_WEIGHTS_SIZE as u64 {
                    return Err(WeightsError::TooLarge(header.size));
                }
                // Capacity grows with the bytes that arrive, because a header can claim any size.
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
        if weights.checksum[..] != header.body_checksum[..] {
            return Err(WeightsError::Checksum {
                version: header.version,
            });
        }
        Ok(Some(weights))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;
    use crate::{
        env::Grid,
        model::{LoadError, ModelConfig},
    };

    const FINGERPRINT: u64 = 9;

    /// Returns weights whose body of `size` bytes differs from piece to piece.
    fn weights(version: u64, size: usize) -> Weights {
        let body: Vec<u8> = (0..size).map(|i| (i % 251 + i / CHUNK) as u8).collect();
        Weights::new(version, body.into(), FINGERPRINT, 3, false)
    }

    fn assemble(
        assembler: &mut Assembler,
        chunks: impl IntoIterator<Item = proto::WeightsChunk>,
    ) -> Result<Vec<Weights>, WeightsError> {
        let pushed = chunks.into_iter().map(|chunk| assembler.push(chunk));
        pushed.filter_map(Result::transpose).collect()
    }

    fn refused(chunks: Vec<proto::WeightsChunk>) -> WeightsError {
        let mut assembler = Assembler::new(FINGERPRINT);
        let error = assemble(&mut assembler, chunks).expect_err("damaged");
        // The assembler drops the incomplete version, so the next version is complete.
        let next = weights(100, 2 * CHUNK);
        let found = assemble(&mut assembler, next.chunks()).expect("a whole version");
        assert_eq!(found, [next]);
        error
    }

    fn pieces(size: usize) -> Vec<proto::WeightsChunk> {
        weights(4, size).chunks().collect()
    }

    #[test]
    fn a_body_survives_in_pieces_of_bounded_size() {
        let mut assembler = Assembler::new(FINGERPRINT);
        for (size, count) in [
            (0, 1),
            (1, 1),
            (CHUNK - 1, 1),
            (CHUNK, 1),
            (CHUNK + 1, 2),
            (3 * CHUNK, 3),
            (3 * CHUNK + 5, 4),
        ] {
            let sent = Weights {
                run_complete: size == 0,
                ..weights(size as u64, size)
            };
            let chunks: Vec<_> = sent.chunks().collect();
            assert_eq!(chunks.len(), count, "{size} bytes");
            // gRPC libraries decode this size by default.
            assert!(chunks.iter().all(|c| c.encoded_len() <= 4 << 20));
            let received = chunks.iter().map(|chunk| {
                let bytes = chunk.encode_to_vec();
                proto::WeightsChunk::decode(&bytes[..]).expect("protobuf")
            });
            let found = assemble(&mut assembler, received).expect("in order");
            assert_eq!(found, [sent]);
        }
    }

    #[test]
    fn pieces_out_of_order_are_refused() {
        let whole = pieces(3 * CHUNK);
        let [first, second, third] = &whole[..] else {
            panic!("three pieces");
        };
        let order = |chunks: &[&proto::WeightsChunk]| {
            refused(chunks.iter().map(|chunk| (*chunk).clone()).collect())
        };
        assert!(matches!(order(&[second]), WeightsError::Order(_)));
        assert!(matches!(order(&[first, first]), WeightsError::Order(_)));
        assert!(matches!(
            order(&[first, second, first]),
            WeightsError::Order(_)
        ));
        assert!(matches!(
            order(&[first, third, second]),
            WeightsError::Checksum { version: 4 }
        ));
        assert!(matches!(
            order(&[first, second, second]),
            WeightsError::Checksum { version: 4 }
        ));
    }

    #[test]
    fn a_body_longer_than_announced_is_rejected() {
        let mut chunks = pieces(CHUNK + 5);
        chunks[1].data = vec![0; 6].into();
        assert!(matches!(
            refused(chunks),
            WeightsError::Overrun { found, announced } if (found, announced) == (CHUNK + 6, CHUNK + 5)
        ));
    }

    #[test]
    fn another_models_weights_are_refused() {
        let stranger = Weights::new(1, Bytes::from_static(b"body"), 8, 0, false);
        assert!(matches!(
            refused(stranger.chunks().collect()),
            WeightsError::Fingerprint {
                found: 8,
                expected: FINGERPRINT
            }
        ));
    }

    fn announce(size: u64) -> proto::WeightsChunk {
        let mut chunk = pieces(0).remove(0);
        if let Some(header) = &mut chunk.header {
            header.size = size;
            header.checksum = header_checksum(header).to_vec().into();
        }
        chunk.data = Bytes::from_static(b"only this");
        chunk
    }

    #[test]
    fn the_announced_size_is_bounded_and_not_allocated() {
        for size in [MAX_WEIGHTS_SIZE as u64 + 1, u64::MAX] {
            let error = refused(vec![announce(size)]);
            assert!(matches!(error, WeightsError::TooLarge(found) if found == size));
        }
        let mut assembler = Assembler::new(FINGERPRINT);
        let pushed = assembler.push(announce(MAX_WEIGHTS_SIZE as u64));
        assert!(matches!(pushed, Ok(None)));
        let (_, body) = assembler.pending.expect("an incomplete body");
        assert!(body.capacity() < 4096, "{} bytes", body.capacity());
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_flipped_bit_is_found(at: prop::sample::Index, bit in 0_u32..8, in_checksum: bool) {
            let mut chunk = pieces(300).remove(0);
            let header = chunk.header.as_mut().expect("the first piece");
            let damaged = if in_checksum { &mut header.body_checksum } else { &mut chunk.data };
            let mut bytes = damaged.to_vec();
            let index = at.index(bytes.len());
            bytes[index] ^= 1_u8 << bit;
            *damaged = bytes.into();
            // The header is valid, as if the sender had damaged the body.
            header.checksum = header_checksum(header).to_vec().into();
            let found = matches!(
                Assembler::new(FINGERPRINT).push(chunk),
                Err(WeightsError::Checksum { version: 4 })
            );
            prop_assert!(found);
        }
    }

    #[test]
    fn a_changed_header_is_detected() {
        let changes: [fn(&mut proto::WeightsHeader); 7] = [
            |h| h.version ^= 1 << 40,
            |h| h.size ^= 1,
            |h| h.body_checksum = vec![0; 32].into(),
            |h| h.model_fingerprint ^= 1,
            |h| h.curriculum_distance ^= 1,
            |h| h.run_complete ^= true,
            |h| h.checksum = vec![0; 32].into(),
        ];
        for change in changes {
            let mut chunk = pieces(3).remove(0);
            change(chunk.header.as_mut().expect("the first piece"));
            assert!(matches!(refused(vec![chunk]), WeightsError::Header));
        }
    }

    #[test]
    fn a_checksum_of_another_length_is_rejected() {
        let mut chunk = pieces(3).remove(0);
        if let Some(header) = &mut chunk.header {
            header.body_checksum.truncate(15);
            header.checksum = header_checksum(header).to_vec().into();
        }
        assert!(matches!(
            refused(vec![chunk]),
            WeightsError::Checksum { .. }
        ));
        for length in [0, 15] {
            let mut chunk = pieces(3).remove(0);
            let header = chunk.header.as_mut().expect("the first piece");
            header.checksum.truncate(length);
            assert!(matches!(refused(vec![chunk]), WeightsError::Header));
        }
    }

    fn model(hidden: usize, seed: u64) -> Parameters {
        let config = ModelConfig {
            hidden,
            ..ModelConfig::small()
        };
        let grid = Grid {
            height: 3,
            width: 3,
        };
        Parameters::new(&config, grid, seed).expect("a valid model")
    }

    #[test]
    fn weights_are_loaded_whole_or_not_at_all() {
        let (published, mut other) = (model(8, 1), model(8, 2));
        let mine = state::encode(&other);
        let body = state::encode(&published);
        let wider = state::encode(&model(16, 1));
        assert!(matches!(
            load(&mut other, &wider),
            Err(WeightsError::Load(LoadError::Shape { .. }))
        ));
        for damaged in [&body[..body.len() - 1], &body[..4], &[]] {
            assert!(matches!(
                load(&mut other, damaged),
                Err(WeightsError::State(_))
            ));
        }
        assert_eq!(state::encode(&other), mine);
        load(&mut other, &body).expect("the same shape");
        assert_eq!(state::encode(&other), body);
    }
}
