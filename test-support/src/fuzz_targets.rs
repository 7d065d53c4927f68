//! The bodies of the fuzz targets. Each takes bytes that any peer could have sent or left on a disk. It panics if the
//! program would panic, or if the program accepts invalid input; it returns whether the input was accepted.
//!
//! The programs in `fuzz/fuzz_targets/` call them, and `learner/tests/training/corpora.rs` replays the committed corpora
//! with them.

use std::{cell::RefCell, io::Write as _, path::Path};

use hrm_common::{
    checkpoint::{Checkpoint, seal},
    config::{Config, Layers, Override},
    model::{Parameters, state},
    weights::{Assembler, load, seal_header},
    wire::{self, Expectation},
};
use hrm_learner::training::batch::Batch;
use hrm_proto::v1::{UnrollBatch, WeightsChunk};
use prost::Message as _;
use tch::Device;

/// The newest version that the imagined learner has published.
pub const NEWEST: u64 = 7;

/// A run whose messages are a few hundred bytes.
pub const SETTINGS: [(&str, &str); 6] = [
    ("model.hidden", "4"),
    ("model.inter_multiple", "4"),
    ("model.carry", "last"),
    ("rollout.envs", "2"),
    ("rollout.unroll_length", "4"),
    ("loss.updates_per_batch", "4"),
];

/// The configuration of [`SETTINGS`].
pub fn settings() -> Config {
    let command_line = SETTINGS
        .iter()
        .map(|(key, value)| Override::new("--set", *key, value))
        .collect();
    let layers = Layers {
        command_line,
        ..Layers::default()
    };
    Config::load(&layers).expect("a configuration").config
}

/// Its model.
pub fn model() -> Parameters {
    let config = settings();
    Parameters::new(&config.model, config.env.grid(), 1).expect("a model")
}

struct Peer {
    expected: Expectation,
    model: Parameters,
    file: tempfile::NamedTempFile,
}

thread_local! {
    /// Made once: an input should cost microseconds.
    static PEER: RefCell<Peer> = RefCell::new(Peer {
        expected: Expectation::new(&settings(), model().fingerprint()),
        model: model(),
        file: tempfile::NamedTempFile::new().expect("a file"),
    });
}

/// A message of an upload, as gRPC hands it over; also with its checksum mended, so that changed fields are checked
/// too. An admitted unroll can be stacked.
pub fn unroll(bytes: &[u8]) -> bool {
    let Ok(message) = UnrollBatch::decode(bytes) else {
        return false;
    };
    PEER.with_borrow(|peer| {
        let mended = wire::seal_unroll(message.clone());
        let admitted = wire::decode(message, &peer.expected, NEWEST);
        let Ok(unroll) = admitted.or_else(|_| wire::decode(mended, &peer.expected, NEWEST)) else {
            return false;
        };
        let frames = unroll.shape.frames();
        let batch = Batch::stack(&[unroll], NEWEST, Device::Cpu);
        assert_eq!(batch.frames(), frames);
        assert!(batch.behaviour_log_probs.iter().all(|p| p.is_finite()));
        true
    })
}

/// The messages of a subscription, each with its length before it, as they are and with the checksums of their headers
/// mended; and a body that a learner sent. A model takes all of it or stays as it was.
pub fn weights(bytes: &[u8]) -> bool {
    PEER.with_borrow_mut(|peer| {
        let as_it_is = |chunk| chunk;
        let mut taken = swap(&mut peer.model, bytes);
        for seal in [as_it_is, seal_header] {
            let mut assembler = Assembler::new(peer.model.fingerprint());
            let mut rest = bytes;
            while let Ok(chunk) = WeightsChunk::decode_length_delimited(&mut rest) {
                match assembler.push(seal(chunk)) {
                    Ok(Some(weights)) => taken |= swap(&mut peer.model, &weights.body),
                    Ok(None) => {}
                    Err(_) => break,
                }
            }
        }
        taken
    })
}

fn swap(model: &mut Parameters, body: &[u8]) -> bool {
    let before = state::encode(model);
    let taken = load(model, body).is_ok();
    assert!(
        taken || state::encode(model) == before,
        "half of it was taken"
    );
    taken
}

/// A configuration file, and the same as settings of a command line. What is taken means the same when it is
/// printed and read again.
pub fn config(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return false;
    };
    let mut taken = false;
    let settings = text.lines().map(|line| Override::parse("--set", line));
    if let Ok(command_line) = settings.collect::<Result<Vec<_>, _>>() {
        let layers = Layers {
            command_line,
            ..Layers::default()
        };
        if let Ok(effective) = Config::load(&layers) {
            again(&effective.to_toml(), &effective.config);
            taken = true;
        }
    }
    if let Some(Ok(effective)) = as_file(bytes, load_file) {
        again(&effective.to_toml(), &effective.config);
        taken = true;
    }
    taken
}

fn load_file(
    path: &Path,
) -> Result<hrm_common::config::Effective, hrm_common::config::ConfigError> {
    Config::load(&Layers {
        file: Some(path.to_owned()),
        ..Layers::default()
    })
}

fn again(printed: &str, config: &Config) {
    let read = as_file(printed.as_bytes(), load_file).expect("room");
    assert_eq!(&read.expect("what was printed can be read").config, config);
}

/// A checkpoint file, also with its checksum mended. What can be read fits its own kind of model or is refused by it.
/// The model of its own configuration is no larger than the file.
pub fn checkpoint(bytes: &[u8]) -> bool {
    let mended = seal(bytes).ok();
    let mut taken = false;
    for file in [Some(bytes), mended.as_deref()].into_iter().flatten() {
        let Some(Ok(checkpoint)) = as_file(file, Checkpoint::read) else {
            continue;
        };
        if let Ok(own) = checkpoint.parameters() {
            // The file may hold bf16.
            let most = 2 * file.len();
            assert!(size_of_val(own.values()) <= most, "larger than its file");
        }
        let mut model = model();
        let before = state::encode(&model);
        let fits = checkpoint.restore(&mut model).is_ok();
        assert!(
            fits || state::encode(&model) == before,
            "half of it was taken"
        );
        taken |= fits;
    }
    taken
}

/// The result of `read` on a file with this content; `None` if the file cannot be written.
fn as_file<T>(bytes: &[u8], read: impl FnOnce(&Path) -> T) -> Option<T> {
    PEER.with_borrow_mut(|peer| {
        let file = peer.file.as_file_mut();
        file.set_len(0).ok()?;
        std::io::Seek::rewind(file).ok()?;
        file.write_all(bytes).ok()?;
        Some(read(peer.file.path()))
    })
}
