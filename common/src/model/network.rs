//! The parts of the model, in the order of its state.

use super::config::ModelConfig;
use super::embed::Embedding;
use super::heads::HeadPair;
use super::init::Init;
use super::module::Module;
use super::parameters::{Declaration, Index};
use crate::env::Grid;

/// Initial bias of the published halt head, with which it never halts.
const HALT_BIAS: f32 = -5.0;

/// The model's parts, as indices into the list of parameters.
#[derive(Clone, Debug)]
pub(super) struct Network {
    pub(super) embedding: Embedding,
    pub(super) h: Module,
    pub(super) l: Module,
    pub(super) heads: HeadPair,
    pub(super) h_init: Index,
    pub(super) l_init: Index,
}

impl Network {
    pub(super) fn declare(config: &ModelConfig, grid: Grid, declaration: &mut Declaration) -> Self {
        let embedding = Embedding::declare(config, grid, declaration);
        let h = Module::declare("h", config.h_layers, config, declaration);
        let l = Module::declare("l", config.l_layers, config, declaration);
        let heads = HeadPair::declare(config, declaration);
        let mut initial =
            |name| declaration.fixed(name, &[config.hidden], Init::TruncatedNormal(1.0));
        let (h_init, l_init) = (initial("h_init"), initial("l_init"));
        if config.halt_head {
            declaration.fixed("halt.weight", &[2, config.hidden], Init::Constant(0.0));
            declaration.fixed("halt.bias", &[2], Init::Constant(HALT_BIAS));
        }
        Self {
            embedding,
            h,
            l,
            heads,
            h_init,
            l_init,
        }
    }
}
