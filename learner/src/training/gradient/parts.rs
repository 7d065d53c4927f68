//! The parts of a minibatch's gradient that shards compute, and their sum.

use tch::Tensor;

use crate::training::{host::read, noise_scale::SquaredNorms, queued::Queued};

/// A shard's part of the gradient of a minibatch's mean loss.
pub(super) struct Part {
    /// Frames of this part.
    frames: usize,
    /// f32 `[n]`, in the order of the flat parameters.
    flat: Queued,
    /// f64 `[3]` or `[4]`: policy loss, value loss, entropy and, if the halt head is trained, its loss.
    losses: Queued,
}

impl Part {
    /// Creates the part of so many frames; `losses` are the policy's, the value's, the entropy and, if the halt head is
    /// trained, its loss.
    pub(super) fn new(frames: usize, flat: Tensor, losses: Tensor) -> Self {
        Self {
            frames,
            flat: Queued::new(flat),
            losses: Queued::new(losses),
        }
    }
}

/// The gradient of a minibatch's mean loss.
pub(crate) struct MinibatchGradient {
    /// f32 `[n]`, in the order of the flat parameters.
    pub(crate) flat: Queued,
    /// The numbers for the report of the batch.
    pub(crate) kept: Kept,
}

/// The numbers of a minibatch that are kept until the batch is over.
pub(crate) struct Kept {
    /// The frames of each part.
    frames: Vec<usize>,
    /// The number of losses.
    losses: usize,
    /// f64: the losses, then the squared norm of the whole gradient and of each part, if there are several.
    numbers: Queued,
}

/// A minibatch's mean losses, and what its gradient says about the noise scale.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct MinibatchNumbers {
    pub(crate) policy: f64,
    pub(crate) value: f64,
    pub(crate) entropy: f64,
    /// `None` if the halt head is not trained.
    pub(crate) halt: Option<f64>,
    /// Norm of the gradient before clipping.
    pub(crate) norm: f64,
    /// `None` for a single part.
    pub(crate) squared_norms: Option<SquaredNorms>,
}

impl MinibatchGradient {
    /// Sums the parts in order, so that the result is reproducible.
    pub(super) fn sum(parts: &[Part]) -> Self {
        let sum =
            |field: fn(&Part) -> &Queued| Queued::sum(&parts.iter().map(field).collect::<Vec<_>>());
        let flat = sum(|part| &part.flat);
        let mut numbers = vec![sum(|part| &part.losses)];
        if parts.len() > 1 {
            numbers.push(flat.squared_norm());
            numbers.extend(parts.iter().map(|part| part.flat.squared_norm()));
        }
        Self {
            flat,
            kept: Kept {
                frames: parts.iter().map(|part| part.frames).collect(),
                losses: parts.first().map_or(0, |part| part.losses.elements()),
                numbers: Queued::cat(&numbers),
            },
        }
    }
}

impl Kept {
    /// Reads what was kept of several minibatches, each with the norm of its gradient, in one transfer.
    pub(crate) fn read(minibatches: Vec<(Self, Queued)>) -> Vec<MinibatchNumbers> {
        let mut queued = Vec::new();
        let frames: Vec<(Vec<usize>, usize)> = minibatches
            .into_iter()
            .map(|(kept, norm)| {
                queued.extend([kept.numbers, norm]);
                (kept.frames, kept.losses)
            })
            .collect();
        let numbers = read(&queued);
        let minibatches = numbers.chunks_exact(2).zip(frames);
        minibatches
            .map(|(numbers, (frames, losses))| {
                let (losses, squares) = numbers[0].split_at(losses);
                MinibatchNumbers {
                    policy: losses[0],
                    value: losses[1],
                    entropy: losses[2],
                    halt: losses.get(3).copied(),
                    norm: numbers[1][0],
                    squared_norms: squared_norms(squares, &frames),
                }
            })
            .collect()
    }
}

/// Returns the norms of mean gradients from those of a minibatch's gradient and of its parts, of so many frames each. A
/// part holds its share of the minibatch's mean.
fn squared_norms(squares: &[f64], frames: &[usize]) -> Option<SquaredNorms> {
    let (&whole, parts) = squares.split_first()?;
    let all = frames.iter().sum::<usize>() as f64;
    let count = frames.len() as f64;
    let shard = parts.iter().zip(frames);
    let shard = shard.map(|(square, &frames)| square * (all / frames as f64).powi(2));
    let inverse = frames.iter().map(|&frames| 1.0 / frames as f64);
    Some(SquaredNorms {
        whole,
        inverse_frames: 1.0 / all,
        shard: shard.sum::<f64>() / count,
        inverse_shard_frames: inverse.sum::<f64>() / count,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_norms_are_those_of_mean_gradients() {
        // Mean gradients (3, 4) of one frame and (1, 0) of three, each as its share of four frames.
        let part = |frames, flat: [f32; 2], losses: [f64; 3]| {
            Part::new(
                frames,
                Tensor::from_slice(&flat),
                Tensor::from_slice(&losses),
            )
        };
        let parts = [
            part(1, [0.75, 1.0], [0.5, 1.0, 1.5]),
            part(3, [0.75, 0.0], [0.25, 1.0, -0.5]),
        ];
        let norm = || Queued::new(Tensor::from_slice(&[1.8_f64]));
        let both = MinibatchGradient::sum(&parts).kept;
        let one = MinibatchGradient::sum(&parts[..1]).kept;
        let read = Kept::read(vec![(both, norm()), (one, norm())]);
        let expected = MinibatchNumbers {
            policy: 0.75,
            value: 2.0,
            entropy: 1.0,
            halt: None,
            norm: 1.8,
            squared_norms: Some(SquaredNorms {
                whole: 1.5 * 1.5 + 1.0,
                inverse_frames: 0.25,
                shard: f64::midpoint(25.0, 1.0),
                inverse_shard_frames: f64::midpoint(1.0, 1.0 / 3.0),
            }),
        };
        let of_one = MinibatchNumbers {
            policy: 0.5,
            value: 1.0,
            entropy: 1.5,
            halt: None,
            norm: 1.8,
            squared_norms: None,
        };
        assert_eq!(read, [expected, of_one]);
    }
}
