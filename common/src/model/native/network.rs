//! Segments, cycles and blocks on one environment.

use hrm_kernels::{
    AttentionWeights, Block, BlockWeights, ConvWeights, Kernel, Layout, MixerWeights, Positions,
    Rows, Scratch,
};

use super::{
    embedding::Embedding,
    heads::{HeadOutputs, Heads},
};
use crate::model::{
    config::{CarryMode, Mixing, ModelConfig},
    halt::Depth,
    halting::Halting,
    parameters::Parameters,
    positions::PositionTables,
    segments::Segments,
    tensors::{BlockTensors, MixerTensors},
};

/// The state of one environment: `zH` and `zL`.
#[derive(Debug, Clone)]
pub(super) struct State<K: Kernel> {
    pub(super) z_h: Rows<K>,
    pub(super) z_l: Rows<K>,
}

impl<K: Kernel> State<K> {
    pub(super) fn copy_from(&mut self, from: &Self) {
        self.z_h.copy_from(&from.z_h);
        self.z_l.copy_from(&from.z_l);
    }

    /// `zH` and `zL`, in the order of the carry.
    pub(super) fn parts(&self) -> [&Rows<K>; 2] {
        [&self.z_h, &self.z_l]
    }

    pub(super) fn parts_mut(&mut self) -> [&mut Rows<K>; 2] {
        [&mut self.z_h, &mut self.z_l]
    }
}

/// A model with its parameters packed for a kernel.
#[derive(Debug, Clone)]
pub(super) struct Network<K: Kernel> {
    pub(super) kernel: K,
    config: ModelConfig,
    layout: Layout,
    embedding: Embedding<K>,
    h: Vec<Block<K>>,
    l: Vec<Block<K>>,
    heads: Heads,
    initial: State<K>,
}

/// Memory for the intermediate results of a decision.
#[derive(Debug, Clone)]
pub(super) struct Workspace<K: Kernel> {
    /// The embedded observation.
    e: Rows<K>,
    /// The input of a block, and its output unless it is the last one.
    pub(super) x: Rows<K>,
    pub(super) y: Rows<K>,
    scratch: Scratch<K>,
    vector: Vec<f32>,
    /// `zH` before a segment, for a rule that compares it with that after.
    before: Rows<K>,
}

impl<K: Kernel> Network<K> {
    /// Packs the parameters.
    pub(super) fn new(kernel: K, parameters: &Parameters) -> Self {
        let config = parameters.config().clone();
        let grid = parameters.grid();
        let layout = match config.mixing {
            Mixing::Conv => Layout::bordered(grid.height, grid.width),
            Mixing::Attention => Layout::dense(grid.height, grid.width),
        };
        let positions = PositionTables::new(&config, grid);
        let blocks = |tensors: &[BlockTensors]| {
            let block =
                |tensors| Block::new(layout, &block_weights(parameters, &positions, tensors));
            tensors.iter().map(block).collect()
        };
        let tensors = parameters.tensors();
        let initial = |vector: &[f32]| {
            let mut rows = Rows::zeros(layout, config.hidden);
            fill(&mut rows, vector);
            rows
        };
        Self {
            kernel,
            layout,
            embedding: Embedding::new(parameters),
            h: blocks(&tensors.h),
            l: blocks(&tensors.l),
            heads: Heads::new(parameters),
            initial: State {
                z_h: initial(parameters.get(tensors.h_init)),
                z_l: initial(parameters.get(tensors.l_init)),
            },
            config,
        }
    }

    pub(super) fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Returns the decision that is asked for, with the model's rule.
    pub(super) fn halting(&self, depth: Depth) -> Halting {
        let Segments { most, halt, .. } = self.config.segments;
        Halting::by(halt, most, depth)
    }

    pub(super) fn layout(&self) -> Layout {
        self.layout
    }

    /// The state at the start of an episode.
    pub(super) fn initial(&self) -> &State<K> {
        &self.initial
    }

    pub(super) fn workspace(&self) -> Workspace<K> {
        let rows = Rows::zeros(self.layout, self.config.hidden);
        Workspace {
            e: rows.clone(),
            x: rows.clone(),
            y: rows.clone(),
            before: rows,
            // A validated model has a block in each module, and all of them have the same shapes.
            scratch: self.h[0].scratch(),
            vector: vec![0.0; self.config.hidden],
        }
    }

    /// Makes one decision on an observation, u8 `[S]`, and advances the state. Returns what its depth was. Calls
    /// `before_last_calls` with the index of each segment and the state before its last call of L and of H, and
    /// `after_segment` with the index, the state and the heads after it.
    pub(super) fn decide(
        &self,
        (tokens, mut halting): (&[u8], Halting),
        state: &mut State<K>,
        work: &mut Workspace<K>,
        mut before_last_calls: impl FnMut(usize, &State<K>),
        mut after_segment: impl FnMut(usize, &State<K>, HeadOutputs),
    ) -> Depth {
        self.open(state, work);
        self.embed(tokens, work);
        let mut number = 0;
        loop {
            if halting.needs_change() {
                work.before.copy_from(&state.z_h);
            }
            self.run_prefix(state, work);
            before_last_calls(number, state);
            self.inject(state, work);
            self.run(&self.l, &mut state.z_l, work);
            self.consolidate(state, work);
            self.run(&self.h, &mut state.z_h, work);
            let heads = self.read(tokens, state, work);
            after_segment(number, state, heads);
            number += 1;
            if halting.ends(number, &heads, || change(&work.before, &state.z_h)) {
                return halting.ended(number);
            }
        }
    }

    /// Runs the calls of a segment before the last one of L and of H.
    pub(super) fn run_prefix(&self, state: &mut State<K>, work: &mut Workspace<K>) {
        for h_cycle in 1..=self.config.h_cycles {
            let last = h_cycle == self.config.h_cycles;
            for _ in 0..self.config.l_cycles - usize::from(last) {
                self.inject(state, work);
                self.run(&self.l, &mut state.z_l, work);
            }
            if !last {
                self.consolidate(state, work);
                self.run(&self.h, &mut state.z_h, work);
            }
        }
    }

    /// The indices of the vectors that are carried.
    pub(super) fn carried(&self) -> impl Iterator<Item = usize> + Clone + use<K> {
        let layout = self.layout;
        let cells = layout.cells();
        let positions = match self.config.carry {
            CarryMode::Full | CarryMode::Output => 0..cells + 1,
            CarryMode::Last => cells..cells + 1,
            CarryMode::Reset => 0..0,
        };
        positions.map(move |position| layout.position(position))
    }

    /// Sets what is carried, `zH` and `zL`.
    ///
    /// # Panics
    ///
    /// Panics when the carry has another size.
    pub(super) fn set_carry(&self, state: &mut State<K>, carry: [&[f32]; 2]) {
        for (rows, numbers) in state.parts_mut().into_iter().zip(carry) {
            rows.set_vectors(self.kernel, self.carried(), numbers);
        }
    }

    /// Sets the vectors of all positions, `zH` and `zL`, each `[P, d]`.
    ///
    /// # Panics
    ///
    /// Panics when `vectors` have another size.
    pub(super) fn set_state(&self, state: &mut State<K>, vectors: [&[f32]; 2]) {
        let indices = (0..=self.layout.cells()).map(|position| self.layout.position(position));
        for (rows, numbers) in state.parts_mut().into_iter().zip(vectors) {
            let indices = indices.clone();
            rows.set_vectors(self.kernel, indices, numbers);
        }
    }

    pub(super) fn heads(&self) -> &Heads {
        &self.heads
    }

    pub(super) fn embedding(&self) -> &Embedding<K> {
        &self.embedding
    }

    /// Embeds an observation.
    pub(super) fn embed(&self, tokens: &[u8], work: &mut Workspace<K>) {
        self.embedding.embed(tokens, &mut work.e);
    }

    /// Makes the input of L.
    pub(super) fn inject(&self, state: &State<K>, work: &mut Workspace<K>) {
        work.x
            .set_sum(self.kernel, [&state.z_l, &state.z_h, &work.e]);
    }

    /// Makes the input of H.
    pub(super) fn consolidate(&self, state: &State<K>, work: &mut Workspace<K>) {
        work.x.set_sum(self.kernel, [&state.z_h, &state.z_l]);
    }

    /// Computes the heads.
    pub(super) fn read(
        &self,
        tokens: &[u8],
        state: &State<K>,
        work: &mut Workspace<K>,
    ) -> HeadOutputs {
        self.heads.forward(tokens, &state.z_h, &mut work.vector)
    }

    /// Broadcasts what the model carries to all positions.
    pub(super) fn open(&self, state: &mut State<K>, work: &mut Workspace<K>) {
        let vector = &mut work.vector;
        match self.config.carry {
            CarryMode::Full => {}
            CarryMode::Output => state.z_l.copy_from(&self.initial.z_l),
            CarryMode::Last => {
                let last = self.layout.cell(self.layout.cells() - 1);
                for rows in state.parts_mut() {
                    for (number, element) in vector.iter_mut().zip(rows.vector(last)) {
                        *number = element;
                    }
                    fill(rows, vector);
                }
            }
            CarryMode::Reset => state.copy_from(&self.initial),
        }
    }

    /// Runs a module's blocks on `work.x` and writes the result to `z`.
    fn run(&self, blocks: &[Block<K>], z: &mut Rows<K>, work: &mut Workspace<K>) {
        let Some((last, first)) = blocks.split_last() else {
            return;
        };
        for block in first {
            block.forward(self.kernel, &work.x, &mut work.y, &mut work.scratch);
            std::mem::swap(&mut work.x, &mut work.y);
        }
        last.forward(self.kernel, &work.x, z, &mut work.scratch);
    }
}

/// Returns the root of the mean square of the changes of all elements.
fn change<K: Kernel>(before: &Rows<K>, after: &Rows<K>) -> f64 {
    let layout = after.layout();
    let mut sum = 0.0;
    for position in 0..=layout.cells() {
        let index = layout.position(position);
        let pairs = before.vector(index).zip(after.vector(index));
        let squares: f32 = pairs.map(|(b, a)| (a - b) * (a - b)).sum();
        sum += f64::from(squares);
    }
    (sum / ((layout.cells() + 1) * after.width()) as f64).sqrt()
}

/// Sets the vectors of all positions.
pub(super) fn fill<K: Kernel>(rows: &mut Rows<K>, vector: &[f32]) {
    let layout = rows.layout();
    for position in 0..=layout.cells() {
        rows.set_vector(layout.position(position), vector.iter().copied());
    }
}

/// Returns the weights of a block.
pub(super) fn block_weights<'a>(
    parameters: &'a Parameters,
    positions: &'a PositionTables,
    tensors: &BlockTensors,
) -> BlockWeights<'a> {
    let config = parameters.config();
    let mixer = match tensors.mixer {
        MixerTensors::Conv { kernel, prefix } => MixerWeights::Conv(ConvWeights {
            kernel: parameters.get(kernel),
            prefix: parameters.get(prefix),
        }),
        MixerTensors::Attention { qkv, out } => MixerWeights::Attention(AttentionWeights {
            heads: config.heads,
            qkv: parameters.get(qkv),
            out: parameters.get(out),
            positions: match positions {
                PositionTables::Unseen => Positions::Unseen,
                PositionTables::Turned { cos, sin } => Positions::Turned(cos, sin),
                PositionTables::Biased(bias) => Positions::Biased(bias),
            },
        }),
    };
    BlockWeights {
        width: config.hidden,
        inner: config.inter(),
        mixer,
        gate_up: parameters.get(tensors.gate_up),
        down: parameters.get(tensors.down),
    }
}
