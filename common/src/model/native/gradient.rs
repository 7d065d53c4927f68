//! The one-step gradient of a model with convolutions: through the last call of L and of H in each segment.
//!
//! ```text
//!   prefix: the calls before the last     the forward pass of acting, or kept from an earlier one
//!     of L and of H
//!   last L, last H                        traced
//!   heads                                 the caller's loss: logits, value -> their gradients
//!   heads, last H, last L, embedding      backward
//! ```
//!
//! One environment is computed at a time. Blocks round the operands of products to the model's precision. Heads,
//! embedding and all sums are f32.

use std::fmt::Debug;

use hrm_kernels::{
    BackwardScratch, ConvGradient, ConvGradientTensors, ConvTrace, DifferentiableConv,
    Instructions, Kernel, Rows, Visitor, dispatch,
};

use super::{
    heads::{HeadGradients, HeadOutputs},
    network::{Network, State, Workspace, block_weights},
    precision,
};
use crate::model::{
    config::Mixing,
    parameters::Parameters,
    positions::PositionTables,
    tensors::{BlockTensors, HaltTensors, MixerTensors},
};

/// The loss of a segment: its index and its heads to their gradients, or `None` where the segment is not trained.
type SegmentLoss<'a> = dyn FnMut(usize, HeadOutputs) -> Option<HeadGradients> + 'a;

/// Sums of gradients by a model's parameters.
#[derive(Debug)]
pub struct OneStepGradient(Box<dyn AnyGradient>);

/// [`OneStepGradient`] of any kernel.
trait AnyGradient: Debug + Send {
    fn add(
        &mut self,
        tokens: &[u8],
        segments: usize,
        carry: [&[f32]; 2],
        loss: &mut SegmentLoss<'_>,
    );
    fn add_from_prefix(
        &mut self,
        tokens: &[u8],
        segment: usize,
        prefix: &[f32],
        loss: &mut SegmentLoss<'_>,
    );
    fn finish(&mut self) -> Vec<f32>;
}

impl OneStepGradient {
    /// True for the models whose gradient this is: those with convolutions.
    pub fn supports(mixing: Mixing) -> bool {
        mixing == Mixing::Conv
    }

    /// Packs the parameters for the instructions that this process uses; the sums are zero.
    ///
    /// # Panics
    ///
    /// Panics for a model that [`OneStepGradient::supports`] excludes.
    pub fn new(parameters: &Parameters) -> Self {
        Self::with_instructions(parameters, Instructions::chosen())
    }

    /// Returns the same with other instructions.
    ///
    /// # Panics
    ///
    /// Panics as [`OneStepGradient::new`] does.
    pub fn with_instructions(parameters: &Parameters, instructions: Instructions) -> Self {
        let new = NewGradient(parameters);
        let precision = precision(parameters.config().dtype);
        Self(dispatch(instructions, precision, new))
    }

    /// Makes a decision of so many segments on an observation, u8 `[S]`, from a carry (`zH` and `zL`), and adds the
    /// gradient of the loss.
    ///
    /// # Panics
    ///
    /// Panics when tokens or carry are of another size, or a code is not a token. The caller checks input from outside
    /// first.
    pub fn add(
        &mut self,
        tokens: &[u8],
        segments: usize,
        carry: [&[f32]; 2],
        mut loss: impl FnMut(usize, HeadOutputs) -> Option<HeadGradients>,
    ) {
        self.0.add(tokens, segments, carry, &mut loss);
    }

    /// Adds the gradient of the loss of one segment, from the state before its last call of L and of H: `zH` and `zL`,
    /// `[2, P, d]`, as [`Lanes::decide_with_prefixes`](super::Lanes::decide_with_prefixes) keeps it.
    ///
    /// # Panics
    ///
    /// Panics as [`OneStepGradient::add`] does.
    pub fn add_from_prefix(
        &mut self,
        tokens: &[u8],
        segment: usize,
        prefix: &[f32],
        mut loss: impl FnMut(usize, HeadOutputs) -> Option<HeadGradients>,
    ) {
        self.0.add_from_prefix(tokens, segment, prefix, &mut loss);
    }

    /// Returns the sums, in the order of [`Parameters::trained`].
    pub fn finish(mut self) -> Vec<f32> {
        self.0.finish()
    }
}

#[derive(Debug, Clone, Copy)]
struct NewGradient<'a>(&'a Parameters);

impl Visitor for NewGradient<'_> {
    type Output = Box<dyn AnyGradient>;

    fn visit<K: Kernel>(self, kernel: K) -> Self::Output {
        Box::new(KernelGradient::new(kernel, self.0))
    }
}

/// [`OneStepGradient`] of one kernel.
#[derive(Debug)]
struct KernelGradient<K: Kernel> {
    network: Network<K>,
    work: Workspace<K>,
    state: State<K>,
    h: Vec<TracedBlock<K>>,
    l: Vec<TracedBlock<K>>,
    scratch: BackwardScratch<K>,
    /// A gradient by the vectors of one environment: a row for each cell, and one for the prefix token.
    vectors: Vec<f32>,
    /// The parameters' shapes, with gradients as values.
    sums: Parameters,
}

/// A block, what its gradient needs of the last forward pass, and the sums of its gradient.
#[derive(Debug)]
struct TracedBlock<K: Kernel> {
    block: DifferentiableConv<K>,
    trace: ConvTrace<K>,
    gradient: ConvGradient<K>,
    tensors: BlockTensors,
}

impl<K: Kernel> TracedBlock<K> {
    fn new(network: &Network<K>, parameters: &Parameters, tensors: BlockTensors) -> Self {
        let weights = block_weights(parameters, &PositionTables::Unseen, &tensors);
        let block =
            DifferentiableConv::new(network.layout(), &weights).expect("a model with convolutions");
        Self {
            trace: block.memory(),
            gradient: block.gradient(),
            block,
            tensors,
        }
    }

    /// Adds the block's sums to its tensors.
    fn add_to(&self, sums: &mut Parameters) {
        let MixerTensors::Conv { kernel, prefix } = self.tensors.mixer else {
            return;
        };
        let tensors = [kernel, prefix, self.tensors.gate_up, self.tensors.down];
        let mut parts = tensors.map(|index| vec![0.0; sums.get(index).len()]);
        let [kernel, prefix, gate_up, down] = &mut parts;
        self.gradient.add_to(ConvGradientTensors {
            kernel,
            prefix,
            gate_up,
            down,
        });
        for (index, part) in tensors.into_iter().zip(&parts) {
            sums.get_mut(index).copy_from_slice(part);
        }
    }
}

impl<K: Kernel> KernelGradient<K> {
    fn new(kernel: K, parameters: &Parameters) -> Self {
        let network = Network::new(kernel, parameters);
        let blocks = |tensors: &[BlockTensors]| -> Vec<TracedBlock<K>> {
            let block = |&tensors| TracedBlock::new(&network, parameters, tensors);
            tensors.iter().map(block).collect()
        };
        let (h, l) = (
            blocks(&parameters.tensors().h),
            blocks(&parameters.tensors().l),
        );
        let mut sums = parameters.clone();
        sums.values_mut().fill(0.0);
        Self {
            work: network.workspace(),
            state: network.initial().clone(),
            // A validated model has a block in each module, and all of them have the same shapes.
            scratch: h[0].block.backward_scratch(),
            vectors: h[0].block.vectors(),
            network,
            h,
            l,
            sums,
        }
    }

    /// Traces the last call of L and of H in a segment, and adds the gradient of its loss.
    fn last_calls(&mut self, tokens: &[u8], segment: usize, loss: &mut SegmentLoss<'_>) {
        let Self {
            network,
            work,
            state,
            ..
        } = self;
        let kernel = network.kernel;
        network.inject(state, work);
        trace(kernel, &mut self.l, &mut state.z_l, work);
        network.consolidate(state, work);
        trace(kernel, &mut self.h, &mut state.z_h, work);
        let heads = network.read(tokens, state, work);
        if let Some(gradients) = loss(segment, heads) {
            self.backward(tokens, &gradients);
        }
    }

    /// Adds the gradients of a segment's heads by all parameters.
    fn backward(&mut self, tokens: &[u8], heads: &HeadGradients) {
        let kernel = self.network.kernel;
        let layout = self.network.layout();
        let cells = layout.cells();
        let hidden = self.network.config().hidden;
        let stride = self.vectors.len() / (cells + 1);
        let (policy, value) = (self.sums.tensors().policy, self.sums.tensors().value);

        self.vectors.fill(0.0);
        let position = self.network.heads().position(tokens);
        let row = position.checked_sub(1).unwrap_or(cells);
        let read = &mut self.vectors[row * stride..][..hidden];
        self.network.heads().backward(heads, read);
        let z: Vec<f32> = self.state.z_h.vector(layout.position(position)).collect();
        let rows = self.sums.get_mut(policy).chunks_exact_mut(hidden);
        for (sums, &gradient) in rows.zip(&heads.logits) {
            add_scaled(sums, gradient, &z);
        }
        add_scaled(self.sums.get_mut(value), heads.value, &z);
        self.halt_backward(heads.halt, cells * stride, hidden);

        // The gradient by H's input is also that by zL, its one part with a gradient, and that by L's input is also
        // that by the embedded observation.
        for block in self.h.iter_mut().rev().chain(self.l.iter_mut().rev()) {
            block.block.backward(
                kernel,
                &block.trace,
                &mut self.vectors,
                &mut block.gradient,
                &mut self.scratch,
            );
        }
        let scale = self.network.embedding().scale();
        let embedding = self.sums.tensors().embedding;
        let rows = self.vectors.chunks_exact(stride).map(|row| &row[..hidden]);
        let codes = tokens.iter().map(|&code| Some(usize::from(code)));
        for (cell, (row, code)) in rows.zip(codes.chain([None])).enumerate() {
            let (tensor, at, position) = match code {
                Some(code) => (embedding.token, code, cell + 1),
                None => (embedding.prefix, 0, 0),
            };
            let sums = &mut self.sums.get_mut(tensor)[at * hidden..][..hidden];
            add_scaled(sums, scale, row);
            if let Some(tensor) = embedding.position {
                let sums = &mut self.sums.get_mut(tensor)[position * hidden..][..hidden];
                add_scaled(sums, scale, row);
            }
        }
    }
}

impl<K: Kernel> KernelGradient<K> {
    /// Adds the gradient of the halt head, which reads the prefix token, whose gradient is at `at`.
    fn halt_backward(&mut self, gradients: [f32; 2], at: usize, hidden: usize) {
        let Some(HaltTensors { weight, bias }) = self.sums.tensors().halt else {
            return;
        };
        if gradients == [0.0; 2] {
            return;
        }
        let read = &mut self.vectors[at..][..hidden];
        self.network.heads().halt_backward(gradients, read);
        let prefix = self.network.layout().position(0);
        let z: Vec<f32> = self.state.z_h.vector(prefix).collect();
        let rows = self.sums.get_mut(weight).chunks_exact_mut(hidden);
        for (sums, gradient) in rows.zip(gradients) {
            add_scaled(sums, gradient, &z);
        }
        for (sum, gradient) in self.sums.get_mut(bias).iter_mut().zip(gradients) {
            *sum += gradient;
        }
    }
}

impl<K: Kernel> AnyGradient for KernelGradient<K> {
    fn add(
        &mut self,
        tokens: &[u8],
        segments: usize,
        carry: [&[f32]; 2],
        loss: &mut SegmentLoss<'_>,
    ) {
        self.network.set_carry(&mut self.state, carry);
        self.network.open(&mut self.state, &mut self.work);
        self.network.embed(tokens, &mut self.work);
        for segment in 0..segments {
            self.network.run_prefix(&mut self.state, &mut self.work);
            self.last_calls(tokens, segment, loss);
        }
    }

    fn add_from_prefix(
        &mut self,
        tokens: &[u8],
        segment: usize,
        prefix: &[f32],
        loss: &mut SegmentLoss<'_>,
    ) {
        let parts = prefix.split_at(prefix.len() / 2).into();
        self.network.set_state(&mut self.state, parts);
        self.network.embed(tokens, &mut self.work);
        self.last_calls(tokens, segment, loss);
    }

    fn finish(&mut self) -> Vec<f32> {
        for block in self.h.iter().chain(&self.l) {
            block.add_to(&mut self.sums);
        }
        self.sums.trained().to_vec()
    }
}

/// Runs a module's blocks on the workspace's input, writes the result to `z`, and keeps what the gradient needs.
fn trace<K: Kernel>(
    kernel: K,
    blocks: &mut [TracedBlock<K>],
    z: &mut Rows<K>,
    work: &mut Workspace<K>,
) {
    let Some((last, first)) = blocks.split_last_mut() else {
        return;
    };
    for TracedBlock { block, trace, .. } in first {
        block.trace(kernel, &work.x, &mut work.y, trace);
        std::mem::swap(&mut work.x, &mut work.y);
    }
    last.block.trace(kernel, &work.x, z, &mut last.trace);
}

/// Adds `factor * numbers` to `sums`.
fn add_scaled(sums: &mut [f32], factor: f32, numbers: &[f32]) {
    for (sum, number) in sums.iter_mut().zip(numbers) {
        *sum += factor * number;
    }
}
