//! Environments with their carry.

use std::{any::Any, fmt::Debug, sync::Arc};

use hrm_kernels::{Instructions, Kernel, Visitor, dispatch};

use super::{
    heads::HeadOutputs,
    network::{Network, State, Workspace},
    precision,
};
use crate::{
    model::{halt::Depth, halting::Halting, parameters::Parameters, segments::Segments},
    policy::{RecurrentNetwork, SharedNetwork},
    weights::{self, WeightsError},
};

/// Environments with the carry of each, and the model that acts in them.
#[derive(Debug)]
pub struct Lanes {
    parameters: Arc<Parameters>,
    lanes: Box<dyn AnyLanes>,
}

/// `zH` and `zL` of one environment after a segment, `[2, P, d]`, and the heads.
#[derive(Debug, Clone, PartialEq)]
pub struct StateAfterSegment {
    /// `[2, P, d]`: `zH`, then `zL`.
    pub state: Vec<f32>,
    /// The outputs of the heads.
    pub heads: HeadOutputs,
}

/// One environment's decision.
#[derive(Debug, Clone, PartialEq)]
pub struct DecisionTrace {
    /// The state in which the decision starts, `[2, P, d]`: `zH`, then `zL`. It follows from the carry.
    pub start: Vec<f32>,
    /// The state after each segment.
    pub segments: Vec<StateAfterSegment>,
}

/// The numbers of segments of one decision in each environment, `[N]`.
enum Numbers<'a> {
    /// Exactly these.
    Exact(&'a [u8]),
    /// The numbers that the model's rule decides, if it has one.
    ByRule(&'a mut [Depth]),
}

/// [`Lanes`] of any kernel.
trait AnyLanes: Debug + Send {
    fn len(&self) -> usize;
    /// `prefixes` is the first segment whose prefix is kept, and where to.
    fn decide(
        &mut self,
        tokens: &[u8],
        segments: Numbers<'_>,
        prefixes: Option<(usize, &mut Vec<Vec<f32>>)>,
        outputs: &mut dyn FnMut(usize, usize, HeadOutputs),
    );
    fn trace(&mut self, tokens: &[u8]) -> Vec<DecisionTrace>;
    fn reset(&mut self, env: usize);
    fn retain(&mut self, envs: &[usize]);
    /// Becomes `envs` environments at the start of an episode.
    fn restart(&mut self, envs: usize);
    fn carry(&self, env: usize) -> Vec<f32>;
    fn set_carries(&mut self, carries: &[Vec<f32>]);
    fn boxed(&self) -> Box<dyn AnyLanes>;
    fn repack(&mut self, parameters: &Parameters);
    /// The packed parameters, a `Network` of the kernel.
    fn network(&self) -> Arc<dyn Any + Send + Sync>;
    fn set_network(&mut self, network: Arc<dyn Any + Send + Sync>);
}

impl Lanes {
    /// Returns `envs` environments at the start of an episode, with the instructions that this process uses.
    pub fn new(parameters: Parameters, envs: usize) -> Self {
        Self::with_instructions(parameters, envs, Instructions::chosen())
    }

    /// Returns the same with other instructions.
    pub fn with_instructions(
        parameters: Parameters,
        envs: usize,
        instructions: Instructions,
    ) -> Self {
        let precision = precision(parameters.config().dtype);
        let new = NewLanes {
            parameters: &parameters,
            envs,
        };
        let lanes = dispatch(instructions, precision, new);
        Self {
            parameters: Arc::new(parameters),
            lanes,
        }
    }

    /// The model.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Makes one decision in each environment, with tokens u8 `[N, S]` and the number of segments of each, u8 `[N]`.
    /// Advances the carry. Calls `outputs` with the environment, the segment and its heads.
    ///
    /// # Panics
    ///
    /// Panics when an array is of another size, or a code is not a token. The caller checks input from outside first.
    pub fn decide_all(
        &mut self,
        tokens: &[u8],
        segments: &[u8],
        mut outputs: impl FnMut(usize, usize, HeadOutputs),
    ) {
        let segments = Numbers::Exact(segments);
        self.lanes.decide(tokens, segments, None, &mut outputs);
    }

    /// Makes one decision as [`Lanes::decide_all`] does, of the depths `[N]`. If
    /// [`ModelConfig::segments`](crate::model::ModelConfig) have a rule, those are the fewest segments, and become the
    /// numbers with which the rule was met.
    ///
    /// # Panics
    ///
    /// Panics as [`Lanes::decide_all`] does.
    pub fn decide_by_rule(
        &mut self,
        tokens: &[u8],
        depths: &mut [Depth],
        mut outputs: impl FnMut(usize, usize, HeadOutputs),
    ) {
        let depths = Numbers::ByRule(depths);
        self.lanes.decide(tokens, depths, None, &mut outputs);
    }

    /// Makes one decision as [`Lanes::decide_all`] does. Appends to `prefixes` one vector for each environment, with
    /// the state before the last call of L and of H in each of its segments from `first` on: `zH` and `zL`, `[segments -
    /// first, 2, P, d]`.
    ///
    /// # Panics
    ///
    /// Panics as [`Lanes::decide_all`] does.
    pub fn decide_with_prefixes(
        &mut self,
        tokens: &[u8],
        segments: &[u8],
        first: usize,
        prefixes: &mut Vec<Vec<f32>>,
        mut outputs: impl FnMut(usize, usize, HeadOutputs),
    ) {
        let (segments, prefixes) = (Numbers::Exact(segments), Some((first, prefixes)));
        self.lanes.decide(tokens, segments, prefixes, &mut outputs);
    }

    /// Makes one decision in each environment as in an evaluation, and advances the carry: of the most segments, or of
    /// those that the model's rule decides. Returns the state at its start and after each segment.
    ///
    /// # Panics
    ///
    /// Panics as [`Lanes::decide_all`] does.
    pub fn trace(&mut self, tokens: &[u8]) -> Vec<DecisionTrace> {
        self.lanes.trace(tokens)
    }
}

impl Clone for Lanes {
    fn clone(&self) -> Self {
        Self {
            parameters: self.parameters.clone(),
            lanes: self.lanes.boxed(),
        }
    }
}

impl RecurrentNetwork for Lanes {
    fn envs(&self) -> usize {
        self.lanes.len()
    }

    fn segments(&self) -> Segments {
        self.parameters.config().segments
    }

    fn decide(&mut self, tokens: &[u8], depths: &mut [Depth], logits: &mut [f32]) {
        let (rows, _) = logits.as_chunks_mut();
        // The last segment's stay.
        self.decide_by_rule(tokens, depths, |env, _, heads| rows[env] = heads.logits);
    }

    fn reset(&mut self, env: usize) {
        self.lanes.reset(env);
    }

    fn retain(&mut self, envs: &[usize]) {
        self.lanes.retain(envs);
    }

    fn carry(&self, env: usize) -> Vec<f32> {
        self.lanes.carry(env)
    }

    fn set_carries(&mut self, carries: &[Vec<f32>]) {
        self.lanes.set_carries(carries);
    }

    fn load(&mut self, body: &[u8]) -> Result<(), WeightsError> {
        weights::load(Arc::make_mut(&mut self.parameters), body)?;
        self.lanes.repack(&self.parameters);
        Ok(())
    }
}

impl SharedNetwork for Lanes {
    fn with_envs(&self, envs: usize) -> Self {
        let mut lanes = self.clone();
        lanes.lanes.restart(envs);
        lanes
    }

    fn share_model(&mut self, other: &Self) {
        let form = |lanes: &Self| (lanes.parameters.config().clone(), lanes.parameters.grid());
        assert_eq!(form(self), form(other), "the same model");
        self.parameters = other.parameters.clone();
        self.lanes.set_network(other.lanes.network());
    }
}

/// A number of environments at the start of an episode, with the packed parameters of their model.
#[derive(Debug, Clone, Copy)]
struct NewLanes<'a> {
    parameters: &'a Parameters,
    envs: usize,
}

impl Visitor for NewLanes<'_> {
    type Output = Box<dyn AnyLanes>;

    fn visit<K: Kernel>(self, kernel: K) -> Self::Output {
        Box::new(KernelLanes::new(kernel, self.parameters, self.envs))
    }
}

/// [`Lanes`] of one kernel.
#[derive(Debug, Clone)]
struct KernelLanes<K: Kernel> {
    network: Arc<Network<K>>,
    work: Workspace<K>,
    states: Vec<State<K>>,
}

impl<K: Kernel> KernelLanes<K> {
    fn new(kernel: K, parameters: &Parameters, envs: usize) -> Self {
        let network = Arc::new(Network::new(kernel, parameters));
        Self {
            work: network.workspace(),
            states: vec![network.initial().clone(); envs],
            network,
        }
    }

    /// Passes each environment's state and part of `tokens` to `decide`.
    fn each(
        &mut self,
        tokens: &[u8],
        mut decide: impl FnMut(&Network<K>, &mut Workspace<K>, usize, &[u8], &mut State<K>),
    ) {
        let cells = self.network.layout().cells();
        assert_eq!(tokens.len(), self.states.len() * cells, "tokens are [N, S]");
        let tokens = tokens.chunks_exact(cells);
        for (env, (tokens, state)) in tokens.zip(&mut self.states).enumerate() {
            decide(&self.network, &mut self.work, env, tokens, state);
        }
    }
}

/// Appends the vectors of all positions to `numbers`: those of `zH`, then those of `zL`, each with the prefix token's
/// first.
fn append_state<K: Kernel>(state: &State<K>, numbers: &mut Vec<f32>) {
    for rows in state.parts() {
        let layout = rows.layout();
        numbers.reserve((layout.cells() + 1) * rows.width());
        for position in 0..=layout.cells() {
            numbers.extend(rows.vector(layout.position(position)));
        }
    }
}

impl<K: Kernel> AnyLanes for KernelLanes<K> {
    fn len(&self) -> usize {
        self.states.len()
    }

    fn decide(
        &mut self,
        tokens: &[u8],
        mut segments: Numbers<'_>,
        mut prefixes: Option<(usize, &mut Vec<Vec<f32>>)>,
        outputs: &mut dyn FnMut(usize, usize, HeadOutputs),
    ) {
        let decisions = match &segments {
            Numbers::Exact(numbers) => numbers.len(),
            Numbers::ByRule(depths) => depths.len(),
        };
        assert_eq!(decisions, self.states.len(), "segments are [N]");
        self.each(tokens, |network, work, env, tokens, state| {
            let mut prefix = Vec::new();
            let first = prefixes.as_ref().map(|(first, _)| *first);
            let keep = |segment, state: &State<K>| {
                if first.is_some_and(|first| segment >= first) {
                    append_state(state, &mut prefix);
                }
            };
            let outputs = |segment, _: &State<K>, heads| outputs(env, segment, heads);
            let halting = match &segments {
                Numbers::Exact(numbers) => Halting::after(numbers[env].into()),
                Numbers::ByRule(depths) => network.halting(depths[env]),
            };
            let depth = network.decide((tokens, halting), state, work, keep, outputs);
            if let Numbers::ByRule(depths) = &mut segments {
                depths[env] = depth;
            }
            if let Some((_, prefixes)) = &mut prefixes {
                prefixes.push(prefix);
            }
        });
    }

    fn trace(&mut self, tokens: &[u8]) -> Vec<DecisionTrace> {
        let numbers = |state: &State<K>| {
            let mut numbers = Vec::new();
            append_state(state, &mut numbers);
            numbers
        };
        let mut traces = Vec::with_capacity(self.states.len());
        let depths = self.network.config().segments.depths(self.states.len());
        self.each(tokens, |network, work, env, tokens, state| {
            // The decision opens the state again, which changes nothing.
            network.open(state, work);
            let start = numbers(state);
            let halting = network.halting(depths[env]);
            let mut segments = Vec::with_capacity(halting.most());
            let keep = |_, state: &State<K>, heads| {
                segments.push(StateAfterSegment {
                    state: numbers(state),
                    heads,
                });
            };
            network.decide((tokens, halting), state, work, |_, _| {}, keep);
            traces.push(DecisionTrace { start, segments });
        });
        traces
    }

    fn reset(&mut self, env: usize) {
        self.states[env].copy_from(self.network.initial());
    }

    fn retain(&mut self, envs: &[usize]) {
        self.states = envs.iter().map(|&env| self.states[env].clone()).collect();
    }

    fn restart(&mut self, envs: usize) {
        self.states = vec![self.network.initial().clone(); envs];
    }

    fn carry(&self, env: usize) -> Vec<f32> {
        let carried = self.network.carried();
        let numbers = 2 * carried.clone().count() * self.network.config().hidden;
        let mut carry = Vec::with_capacity(numbers);
        for rows in self.states[env].parts() {
            for index in carried.clone() {
                carry.extend(rows.vector(index));
            }
        }
        carry
    }

    fn set_carries(&mut self, carries: &[Vec<f32>]) {
        let initial = self.network.initial();
        self.states.resize_with(carries.len(), || initial.clone());
        for (state, carry) in self.states.iter_mut().zip(carries) {
            self.network
                .set_carry(state, carry.split_at(carry.len() / 2).into());
        }
    }

    fn boxed(&self) -> Box<dyn AnyLanes> {
        Box::new(self.clone())
    }

    fn repack(&mut self, parameters: &Parameters) {
        self.network = Arc::new(Network::new(self.network.kernel, parameters));
    }

    fn network(&self) -> Arc<dyn Any + Send + Sync> {
        self.network.clone()
    }

    fn set_network(&mut self, network: Arc<dyn Any + Send + Sync>) {
        self.network = network.downcast().expect("the same kernel");
    }
}
