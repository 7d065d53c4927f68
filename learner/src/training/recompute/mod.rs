//! The forward pass over time with the learner's own weights. It computes the values, log-probabilities and carries
//! that updates need from the carry at an unroll's first tick.
//!
//! ```text
//!   carry_0 --decide--> z' --reset at an episode's end--> carry_1 --decide--> ... --> V of tick T
//!                        `-- if truncated: V of the final observation, computed from z' itself
//! ```
//!
//! `native` computes this with the kernels that act, and `libtorch` on GPUs; `episodes` is their input and result.

mod episodes;
mod libtorch;
mod native;

use hrm_common::config::LossConfig;
use rayon::iter::{IntoParallelIterator as _, ParallelIterator as _};

use self::episodes::Episodes;
pub use self::episodes::Recomputed;

use crate::training::{backend::Backend, batch::Batch, model::Hrm};

/// Computes the outputs of a model on a batch, its environments split over the threads of `pool`.
pub(crate) fn recompute_sharded(
    backend: Backend,
    model: &Hrm,
    batch: &Batch,
    config: &LossConfig,
    pool: &rayon::ThreadPool,
) -> Recomputed {
    let shards = Episodes::split(batch, model, pool.current_num_threads());
    let pieces: Vec<Recomputed> = match backend {
        Backend::Native | Backend::Mixed => {
            let parameters = model.to_parameters();
            let recompute = |episodes| native::recompute(&parameters, &episodes, config);
            pool.install(|| shards.into_par_iter().map(recompute).collect())
        }
        Backend::Libtorch => {
            let recompute = |(model, episodes)| libtorch::recompute(&model, &episodes, config);
            let shards = shards.into_iter().map(|episodes| (model.share(), episodes));
            let shards: Vec<(Hrm, Episodes)> = shards.collect();
            pool.install(|| shards.into_par_iter().map(recompute).collect())
        }
    };
    Recomputed::join(pieces)
}
