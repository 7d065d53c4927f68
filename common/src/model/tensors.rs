//! The tensors of a model: names, shapes, initial values, and the part that each belongs to.

use super::{
    config::{Mixing, ModelConfig, PositionEncoding},
    init::Init,
};
use crate::env::{ACTIONS, Grid, VOCABULARY};

/// The factor on the initial weights of the heads.
///
/// The elements of the read-out are about 1. Heads with LeCun's weights would therefore start with a policy that
/// prefers random moves, and with values as large as the goal's reward. A tenth of these weights gives a nearly uniform
/// policy and values near 0. On-policy learning needs both (Andrychowicz et al. 2021, "What matters in on-policy
/// reinforcement learning", section 3.2).
const HEAD_SCALE: f64 = 0.1;

/// Initial bias of the published halt head. With equal numbers it never halts by value, and half of the time by chance.
const HALT_BIAS: f32 = -5.0;

/// The index of a tensor in the order of declaration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TensorIndex(usize);

impl TensorIndex {
    /// Returns this tensor from `tensors`, which must be in the order of declaration.
    pub fn of<T>(self, tensors: &[T]) -> &T {
        &tensors[self.0]
    }
}

/// Name, shape and initial values of one tensor.
#[derive(Debug, Clone)]
pub struct DeclaredTensor {
    /// The name in checkpoints.
    pub name: String,
    /// The shape.
    pub shape: Vec<usize>,
    pub(super) init: Init,
}

impl DeclaredTensor {
    /// Returns the number of elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// All tensors of a model, and the part that each belongs to.
#[derive(Debug, Clone)]
pub struct ModelTensors {
    /// In the order of checkpoints and of the flat parameters: first what is trained, then what is fixed.
    pub declared: Vec<DeclaredTensor>,
    /// The number of trained tensors.
    pub trained: usize,
    /// The map from token codes to vectors.
    pub embedding: EmbeddingTensors,
    /// The blocks of the slow module.
    pub h: Vec<BlockTensors>,
    /// The blocks of the fast module.
    pub l: Vec<BlockTensors>,
    /// `[4, d]`: the policy head.
    pub policy: TensorIndex,
    /// `[1, d]`: the value head.
    pub value: TensorIndex,
    /// The halt head, if the model has one. It is trained if `model.segments` has a rule that reads it.
    pub halt: Option<HaltTensors>,
    /// `[d]`, fixed: the initial vector of `zH`.
    pub h_init: TensorIndex,
    /// `[d]`, fixed: the initial vector of `zL`.
    pub l_init: TensorIndex,
}

/// The tensors of the embedding.
#[derive(Debug, Clone, Copy)]
pub struct EmbeddingTensors {
    /// `[VOCABULARY, d]`.
    pub token: TensorIndex,
    /// `[1, d]`: the vector of the prefix token.
    pub prefix: TensorIndex,
    /// `[P, d]`: added to the token's vector; none with rotary positions.
    pub position: Option<TensorIndex>,
}

/// The tensors of the halt head.
#[derive(Debug, Clone, Copy)]
pub struct HaltTensors {
    /// `[2, d]`.
    pub weight: TensorIndex,
    /// `[2]`.
    pub bias: TensorIndex,
}

/// The tensors of a block.
#[derive(Debug, Clone, Copy)]
pub struct BlockTensors {
    /// The mixing of the tokens.
    pub mixer: MixerTensors,
    /// `[2 * inner, d]`: SwiGLU's gates, then its ups.
    pub gate_up: TensorIndex,
    /// `[d, inner]`: SwiGLU's output.
    pub down: TensorIndex,
}

/// The tensors of what mixes the tokens.
#[derive(Debug, Clone, Copy)]
pub enum MixerTensors {
    /// [`Mixing::Attention`].
    Attention {
        /// `[3 * d, d]`: queries, keys and values.
        qkv: TensorIndex,
        /// `[d, d]`.
        out: TensorIndex,
    },
    /// [`Mixing::Conv`].
    Conv {
        /// `[d, d, 3, 3]`.
        kernel: TensorIndex,
        /// `[d, d]`: what the prefix token adds to every cell.
        prefix: TensorIndex,
    },
}

/// Tensors in the order of their declaration.
#[derive(Default)]
struct Declaration(Vec<DeclaredTensor>);

impl Declaration {
    fn tensor(&mut self, name: impl Into<String>, shape: &[usize], init: Init) -> TensorIndex {
        self.0.push(DeclaredTensor {
            name: name.into(),
            shape: shape.to_vec(),
            init,
        });
        TensorIndex(self.0.len() - 1)
    }

    /// Declares a matrix with LeCun's initial values.
    fn matrix(&mut self, name: String, outputs: usize, inputs: usize) -> TensorIndex {
        self.tensor(name, &[outputs, inputs], Init::lecun(inputs))
    }

    /// Declares the published halt head.
    fn halt_head(&mut self, d: usize) -> HaltTensors {
        HaltTensors {
            weight: self.tensor("halt.weight", &[2, d], Init::Constant(0.0)),
            bias: self.tensor("halt.bias", &[2], Init::Constant(HALT_BIAS)),
        }
    }

    fn blocks(&mut self, module: &str, layers: usize, config: &ModelConfig) -> Vec<BlockTensors> {
        (0..layers)
            .map(|layer| self.block(&format!("{module}.{layer}"), config))
            .collect()
    }

    fn block(&mut self, prefix: &str, config: &ModelConfig) -> BlockTensors {
        let (d, inner) = (config.hidden, config.inter());
        let mixer = match config.mixing {
            Mixing::Attention => MixerTensors::Attention {
                qkv: self.matrix(format!("{prefix}.attention.qkv"), 3 * d, d),
                out: self.matrix(format!("{prefix}.attention.out"), d, d),
            },
            Mixing::Conv => MixerTensors::Conv {
                kernel: self.tensor(
                    format!("{prefix}.conv.kernel"),
                    &[d, d, 3, 3],
                    Init::lecun(9 * d),
                ),
                prefix: self.matrix(format!("{prefix}.conv.prefix"), d, d),
            },
        };
        BlockTensors {
            mixer,
            gate_up: self.matrix(format!("{prefix}.mlp.gate_up"), 2 * inner, d),
            down: self.matrix(format!("{prefix}.mlp.down"), d, inner),
        }
    }
}

impl ModelTensors {
    /// Returns the tensors of a model of this configuration on a grid of this size.
    pub fn new(config: &ModelConfig, grid: Grid) -> Self {
        let d = config.hidden;
        let mut declaration = Declaration::default();
        let learned = config.position != PositionEncoding::Rotary;
        let embedding = EmbeddingTensors {
            token: declaration.matrix("embed.token".into(), VOCABULARY, d),
            prefix: declaration.tensor("embed.prefix", &[1, d], Init::Constant(0.0)),
            position: learned
                .then(|| declaration.matrix("embed.position".into(), grid.len() + 1, d)),
        };
        let h = declaration.blocks("h", config.h_layers, config);
        let l = declaration.blocks("l", config.l_layers, config);
        let head = Init::TruncatedNormal(HEAD_SCALE / (d as f64).sqrt());
        let policy = declaration.tensor("policy", &[ACTIONS, d], head);
        let value = declaration.tensor("value", &[1, d], head);
        let trains_halt = config.segments.reads_halt_head();
        let trained_halt = (config.halt_head && trains_halt).then(|| declaration.halt_head(d));
        let trained = declaration.0.len();
        let mut initial = |name| declaration.tensor(name, &[d], Init::TruncatedNormal(1.0));
        let (h_init, l_init) = (initial("h_init"), initial("l_init"));
        let fixed_halt = || config.halt_head.then(|| declaration.halt_head(d));
        let halt = trained_halt.or_else(fixed_halt);
        Self {
            declared: declaration.0,
            trained,
            embedding,
            h,
            l,
            policy,
            value,
            halt,
            h_init,
            l_init,
        }
    }
}
