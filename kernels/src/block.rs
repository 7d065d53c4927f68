use crate::{
    attention::{AttentionBlock, AttentionScratch, AttentionWeights},
    conv::{ConvBlock, ConvScratch, ConvWeights},
    kernel::Kernel,
    layout::Layout,
    rows::Rows,
    swiglu::SwiGlu,
};

/// The weights of a block, f32, in the shapes of the model's tensors.
#[derive(Debug, Clone, Copy)]
pub struct BlockWeights<'a> {
    /// Numbers of a vector.
    pub width: usize,
    /// Numbers of SwiGLU's inner vector.
    pub inner: usize,
    /// The mixing of the tokens.
    pub mixer: MixerWeights<'a>,
    /// `[2 * inner, width]`, gates first.
    pub gate_up: &'a [f32],
    /// `[width, inner]`.
    pub down: &'a [f32],
}

/// The weights of what mixes the tokens.
#[derive(Debug, Clone, Copy)]
pub enum MixerWeights<'a> {
    /// A convolution; the layout has a border.
    Conv(ConvWeights<'a>),
    /// Self-attention; the layout is dense.
    Attention(AttentionWeights<'a>),
}

/// A block, `y = rmsnorm(x + mix(x))` and then `rmsnorm(y + swiglu(y))`, with its weights packed for a kernel.
#[derive(Debug, Clone)]
pub struct Block<K: Kernel>(Mixer<K>);

#[derive(Debug, Clone)]
enum Mixer<K: Kernel> {
    Conv(ConvBlock<K>),
    Attention(AttentionBlock<K>),
}

/// Memory for a block's intermediate results. It serves any block of the same shapes.
#[derive(Debug, Clone)]
pub struct Scratch<K: Kernel>(MixerScratch<K>);

#[derive(Debug, Clone)]
enum MixerScratch<K: Kernel> {
    Conv(ConvScratch<K>),
    Attention(AttentionScratch<K>),
}

impl<K: Kernel> Block<K> {
    /// Packs the weights.
    ///
    /// # Panics
    ///
    /// Panics when a tensor has another size than its shape says.
    pub fn new(layout: Layout, weights: &BlockWeights<'_>) -> Self {
        let BlockWeights {
            width,
            inner,
            mixer,
            gate_up,
            down,
        } = *weights;
        let swiglu = SwiGlu::new(width, inner, gate_up, down);
        Self(match mixer {
            MixerWeights::Conv(conv) => Mixer::Conv(ConvBlock::new(width, conv, swiglu)),
            MixerWeights::Attention(attention) => {
                Mixer::Attention(AttentionBlock::new(width, layout, attention, swiglu))
            }
        })
    }

    /// Returns memory for [`Block::forward`].
    pub fn scratch(&self) -> Scratch<K> {
        Scratch(match &self.0 {
            Mixer::Conv(conv) => MixerScratch::Conv(conv.scratch()),
            Mixer::Attention(attention) => MixerScratch::Attention(attention.scratch()),
        })
    }

    /// Maps the vectors `x` of one environment to `out`.
    ///
    /// # Panics
    ///
    /// Panics when `x` and `out` differ in layout, or `scratch` belongs to a block of other shapes.
    pub fn forward(&self, kernel: K, x: &Rows<K>, out: &mut Rows<K>, scratch: &mut Scratch<K>) {
        match (&self.0, &mut scratch.0) {
            (Mixer::Conv(conv), MixerScratch::Conv(scratch)) => {
                conv.forward(kernel, x, out, scratch);
            }
            (Mixer::Attention(attention), MixerScratch::Attention(scratch)) => {
                attention.forward(kernel, x, out, scratch);
            }
            _ => panic!("the scratch memory is of another kind of block"),
        }
    }
}
