use std::sync::Arc;

use hrm_common::{
    env::Grid,
    invalid_value::InvalidValue,
    model::{LoadError, ModelConfig, NamedTensor, Parameters, TensorIndex},
};
use tch::{Device, Kind, Tensor, no_grad};

use super::{
    active::{Active, ActiveBatch},
    carry::CarryTensors as _,
    context::Context,
    decision::{Decision, Gradient, Segment, Trace},
    embed::Embedding,
    heads::{Aim, Heads, ModelHeads},
    module::Module,
    parameters::TensorStorage,
    places::Places,
    rows::Rows,
};

/// A hierarchical reasoning model on a grid of fixed size.
///
/// All trainable parameters are in one flat f32 vector, [`Hrm::flat_parameters`]. Each of [`Hrm::parameters`] is a leaf
/// that shares its storage. An optimiser that updates the flat vector in place (under [`tch::no_grad`]) therefore
/// updates the model.
///
/// Tensors of libtorch are `Send` but not `Sync`, so each thread needs its own [`Hrm::share`].
#[derive(Debug)]
pub struct Hrm {
    /// Configuration, names and shapes. Its values are those that the model began with.
    declared: Arc<Parameters>,
    device: Device,
    storage: TensorStorage,
    embedding: Embedding,
    h: Module,
    l: Module,
    heads: ModelHeads,
    places: Places,
}

/// The parameters in the form that decisions need, computed once for all decisions with the same ones.
#[derive(Debug)]
pub struct Prepared {
    /// The parameters in the activations' kind, in the order of [`Hrm::parameters`].
    pub(super) weights: Vec<Tensor>,
    /// The table of embeddings, f32.
    pub(super) table: Tensor,
    /// The initial vectors of `zH` and `zL`, `[2, d]` in the activations' kind.
    pub(super) initial: Tensor,
    /// The bias of attention's scores in the activations' kind, if there is one.
    pub(super) bias: Option<Tensor>,
}

/// The input of a batch of decisions.
#[derive(Debug, Clone, Copy)]
struct Input<'a> {
    /// u8 `[B, S]`.
    tokens: &'a Tensor,
    /// In the shape of [`Hrm::carry_shape`].
    carry: &'a Tensor,
    /// The rows that run each segment, unless all run the most.
    active: Option<ActiveBatch<'a>>,
}

/// Receives the index of a segment and a state, `zH` and `zL`.
type SeesState<'a> = dyn FnMut(usize, &Rows, [&Tensor; 2]) + 'a;

/// A batch of observations.
#[derive(Debug)]
pub(super) struct Observed {
    pub(super) rows: Rows,
    /// The embedded observations.
    pub(super) embedded: Tensor,
    pub(super) aim: Aim,
}

impl Observed {
    /// Returns some of the observations, i64 `[n]`.
    pub(super) fn select(&self, sequences: &Tensor) -> Self {
        Self {
            rows: self.rows.with_batch(sequences.size()[0]),
            embedded: self.rows.select(&self.embedded, sequences),
            aim: self.aim.select(sequences),
        }
    }
}

impl Hrm {
    /// Returns a model with initial parameters: the same bits for the same configuration, grid and seed.
    ///
    /// # Errors
    ///
    /// Fails when the configuration is invalid.
    pub fn new(
        config: &ModelConfig,
        grid: Grid,
        seed: u64,
        device: Device,
    ) -> Result<Self, InvalidValue> {
        Ok(Self::from_parameters(
            Parameters::new(config, grid, seed)?,
            device,
        ))
    }

    /// Returns a model with these parameters.
    pub fn from_parameters(parameters: Parameters, device: Device) -> Self {
        let (config, tensors) = (parameters.config(), parameters.tensors());
        Self {
            device,
            storage: TensorStorage::new(&parameters, device),
            embedding: Embedding::new(tensors.embedding, config),
            h: Module::new(&tensors.h, config),
            l: Module::new(&tensors.l, config),
            heads: ModelHeads {
                readout: config.readout,
                policy: tensors.policy,
                value: tensors.value,
                halt: tensors.halt.filter(|_| config.segments.reads_halt_head()),
            },
            places: Places::new(config, parameters.grid(), device),
            declared: Arc::new(parameters),
        }
    }

    /// Returns the same model for another thread. It shares the storage, and so sees every later update.
    pub fn share(&self) -> Self {
        Self {
            declared: self.declared.clone(),
            device: self.device,
            storage: self.storage.share(&self.declared),
            embedding: self.embedding.clone(),
            h: self.h.clone(),
            l: self.l.clone(),
            heads: self.heads.clone(),
            places: self.places.share(),
        }
    }

    /// Returns a copy of the present parameters.
    pub fn to_parameters(&self) -> Parameters {
        let mut parameters = Parameters::clone(&self.declared);
        parameters
            .values_mut()
            .copy_from_slice(&self.storage.values());
        parameters
    }

    /// The configuration.
    pub fn config(&self) -> &ModelConfig {
        self.declared.config()
    }

    /// The size of the observations.
    pub fn grid(&self) -> Grid {
        self.declared.grid()
    }

    /// The device of the tensors.
    pub fn device(&self) -> Device {
        self.device
    }

    /// The kind of the activations and of the carry.
    pub fn kind(&self) -> Kind {
        super::kind(self.config().dtype)
    }

    /// Returns a number that identifies the structure of the model; see [`Parameters::fingerprint`].
    pub fn fingerprint(&self) -> u64 {
        self.declared.fingerprint()
    }

    /// Returns the shape of the carry of `batch` environments: `[2, B, P, d]`, `[2, B, d]` or `[2, B, 0]`, see
    /// [`CarryMode`](hrm_common::model::CarryMode). Index 0 is `zH`, 1 is `zL`.
    pub fn carry_shape(&self, batch: usize) -> Vec<i64> {
        let positions = self.grid().len() as i64 + 1;
        self.config()
            .carry
            .shape(batch as i64, positions, self.config().hidden as i64)
    }

    /// Returns the carry of `batch` environments at the start of an episode.
    pub fn initial_carry(&self, batch: usize) -> Tensor {
        self.config()
            .carry
            .broadcastable(&self.initial())
            .expand(self.carry_shape(batch), false)
            .contiguous()
    }

    /// Returns `carry` with the rows of the environments whose episode `ended` (bool `[B]`, on the same device) reset
    /// to the initial vectors.
    pub(crate) fn reset_carry(
        &self,
        prepared: &Prepared,
        carry: &Tensor,
        ended: &Tensor,
    ) -> Tensor {
        let initial = self
            .config()
            .carry
            .broadcastable(&prepared.initial)
            .to_kind(carry.kind());
        let mut rows = vec![1; carry.dim()];
        rows[1] = ended.size()[0];
        initial.where_self(&ended.view(rows.as_slice()), carry)
    }

    /// The trainable parameters: leaves that require gradient, in the order of [`Hrm::named_tensors`].
    pub fn parameters(&self) -> &[Tensor] {
        self.storage.leaves()
    }

    /// All trainable parameters in one f32 vector, in the order of [`Hrm::parameters`].
    pub fn flat_parameters(&self) -> &Tensor {
        self.storage.flat()
    }

    /// Returns the gradient of a scalar that was computed with any [`Gradient`] except [`Gradient::None`], f32 in the
    /// order of [`Hrm::flat_parameters`]. It is zero for parameters on which the scalar does not depend. Frees the
    /// graph.
    pub fn gradient(&self, loss: &Tensor) -> Tensor {
        self.flat(&Tensor::run_backward(
            &[loss],
            self.parameters(),
            false,
            false,
        ))
    }

    /// Returns the gradients of all parameters in one vector, with zeros for those that are not defined.
    pub(super) fn flat(&self, gradients: &[Tensor]) -> Tensor {
        let flat = |(gradient, parameter): (&Tensor, &Tensor)| {
            if gradient.defined() {
                // Some gradients are transposed or channels-last.
                gradient.reshape(-1)
            } else {
                parameter.detach().zeros_like().view(-1)
            }
        };
        let flat: Vec<Tensor> = gradients.iter().zip(self.parameters()).map(flat).collect();
        Tensor::cat(&flat, 0)
    }

    /// Returns all tensors by name: the trainable parameters, then the fixed ones (initial vectors, halt head). They
    /// share the model's storage and are detached from its graph.
    pub fn named_tensors(&self) -> Vec<(String, Tensor)> {
        let declared = self.declared.tensors().declared.iter();
        declared
            .zip(self.storage.all())
            .map(|(declared, tensor)| (declared.name.clone(), tensor.detach()))
            .collect()
    }

    /// Copies `named` into the model, in place. Every [`Hrm::share`] sees the change.
    ///
    /// # Errors
    ///
    /// Fails when `named` are not exactly the model's tensors by name and shape, in any order. It then copies nothing.
    pub fn load(&mut self, named: &[NamedTensor]) -> Result<(), LoadError> {
        Arc::make_mut(&mut self.declared).load(named)?;
        self.storage.load(&self.declared);
        Ok(())
    }

    /// Computes what decisions need of the present parameters. For a decision with a gradient, it must be prepared with
    /// one too.
    pub fn prepare(&self, gradient: Gradient) -> Prepared {
        let _no_grad = (gradient == Gradient::None).then(tch::no_grad_guard);
        let kind = self.kind();
        let parameters = self.storage.leaves();
        Prepared {
            weights: parameters.iter().map(|w| w.to_kind(kind)).collect(),
            table: self.embedding.table(parameters, self.grid().len() as i64),
            initial: self.initial(),
            bias: self.places.bias(kind),
        }
    }

    /// Makes one decision for a batch: `tokens` u8 `[B, S]` and `carry` in the shape of [`Hrm::carry_shape`], both on
    /// the model's device.
    ///
    /// # Panics
    ///
    /// Panics when a shape or kind differs, or a token code is not below [`VOCABULARY`](hrm_common::env::VOCABULARY).
    /// The caller checks input from outside first.
    pub fn forward(&self, tokens: &Tensor, carry: &Tensor, gradient: Gradient) -> Decision {
        self.forward_prepared(&self.prepare(gradient), tokens, carry, None, gradient)
    }

    /// Makes one decision as [`Hrm::forward`] does, with parameters prepared for several. `active` are the rows that run
    /// each segment; without it, all run the most. A state stays as it is after its last segment, and so do its heads.
    ///
    /// # Panics
    ///
    /// Panics as [`Hrm::forward`] does.
    pub fn forward_prepared(
        &self,
        prepared: &Prepared,
        tokens: &Tensor,
        carry: &Tensor,
        active: Option<ActiveBatch<'_>>,
        gradient: Gradient,
    ) -> Decision {
        let input = Input {
            tokens,
            carry,
            active,
        };
        let mut segments = Vec::with_capacity(self.config().segments.most);
        let push = |_: &Rows, _: [&Tensor; 2], heads| segments.push(heads);
        let carry = self.decide(prepared, input, gradient, None, push);
        Decision { segments, carry }
    }

    /// Makes one decision as [`Hrm::forward_prepared`] does, without a gradient. Also returns the state before the last
    /// call of L and of H in each segment from `first` on: `zH` and `zL`, `[B, segments - first, 2, P, d]` in the
    /// activations' kind.
    ///
    /// # Panics
    ///
    /// Panics as [`Hrm::forward`] does.
    pub(crate) fn forward_with_prefixes(
        &self,
        prepared: &Prepared,
        tokens: &Tensor,
        carry: &Tensor,
        active: Option<ActiveBatch<'_>>,
        first: usize,
    ) -> (Decision, Tensor) {
        let input = Input {
            tokens,
            carry,
            active,
        };
        let (mut segments, mut prefixes) = (vec![], vec![]);
        let mut keep = |segment, rows: &Rows, z: [&Tensor; 2]| {
            if segment >= first {
                prefixes.push(Tensor::stack(&z.map(|z| rows.unpack(z)), 1));
            }
        };
        let push = |_: &Rows, _: [&Tensor; 2], heads| segments.push(heads);
        let carry = self.decide(prepared, input, Gradient::None, Some(&mut keep), push);
        (Decision { segments, carry }, Tensor::stack(&prefixes, 1))
    }

    /// Makes one decision as [`Hrm::forward`] does, and keeps `zH` and `zL` after each segment.
    ///
    /// # Panics
    ///
    /// Panics as [`Hrm::forward`] does.
    pub fn trace(&self, tokens: &Tensor, carry: &Tensor, gradient: Gradient) -> Trace {
        let mut segments = Vec::with_capacity(self.config().segments.most);
        let push = |rows: &Rows, [z_h, z_l]: [&Tensor; 2], heads| {
            segments.push(Segment {
                z_h: rows.unpack(z_h),
                z_l: rows.unpack(z_l),
                heads,
            });
        };
        let prepared = self.prepare(gradient);
        let input = Input {
            tokens,
            carry,
            active: None,
        };
        let carry = self.decide(&prepared, input, gradient, None, push);
        Trace { segments, carry }
    }

    /// Runs every segment and returns the carry. Passes the index of each segment and the state before its last call of
    /// L and of H to `before_last_calls`, and the state and heads after it to `after_segment`.
    fn decide(
        &self,
        prepared: &Prepared,
        Input {
            tokens,
            carry,
            active,
        }: Input<'_>,
        gradient: Gradient,
        mut before_last_calls: Option<&mut SeesState<'_>>,
        mut after_segment: impl FnMut(&Rows, [&Tensor; 2], Heads),
    ) -> Tensor {
        assert_eq!(
            carry.size(),
            self.carry_shape(tokens.size()[0] as usize),
            "the carry's shape"
        );
        let _no_grad = (gradient == Gradient::None).then(tch::no_grad_guard);
        let observed = self.observe(prepared, tokens);
        let rows = &observed.rows;
        let mut z = self
            .config()
            .carry
            .open(rows, &carry.to_kind(self.kind()), &prepared.initial);
        let one_step = gradient == Gradient::OneStep;
        let prefix = |observed: &Observed, z: [Tensor; 2]| match one_step {
            true => no_grad(|| self.prefix(prepared, observed, z.map(|z| z.detach()))),
            false => self.prefix(prepared, observed, z),
        };
        let mut heads: Option<Heads> = None;
        for segment in 0..self.config().segments.most {
            let run = active.map_or(Active::All, |active| active.of_segment(segment));
            let after = match (run, heads.take()) {
                (Active::Some(sequences), Some(earlier)) => {
                    let some = observed.select(&sequences);
                    let replace = |all: &Tensor, by: &Tensor| rows.replace(all, &sequences, by);
                    let before = z.each_ref().map(|z| rows.select(z, &sequences));
                    let before = prefix(&some, before);
                    if let Some(keep) = &mut before_last_calls {
                        let all = [0, 1].map(|part| replace(&z[part], &before[part]));
                        keep(segment, rows, all.each_ref());
                    }
                    let last = self.last_calls(prepared, &some, before);
                    let of_some = self.read(&some, &last[0]);
                    z = [0, 1].map(|part| replace(&z[part], &last[part]));
                    earlier.replace(&sequences, &of_some)
                }
                (Active::Nobody, Some(earlier)) => {
                    if let Some(keep) = &mut before_last_calls {
                        keep(segment, rows, z.each_ref());
                    }
                    earlier
                }
                // All run the first.
                (Active::All, _) | (_, None) => {
                    let before = prefix(&observed, z);
                    if let Some(keep) = &mut before_last_calls {
                        keep(segment, rows, before.each_ref());
                    }
                    z = self.last_calls(prepared, &observed, before);
                    self.read(&observed, &z[0])
                }
            };
            after_segment(rows, z.each_ref(), after.share());
            heads = Some(after);
        }
        if one_step {
            z = z.map(|z| z.detach());
        }
        self.config().carry.close(rows, z.each_ref())
    }

    /// Embeds a batch of observations, u8 `[B, S]`.
    pub(super) fn observe(&self, prepared: &Prepared, tokens: &Tensor) -> Observed {
        let batch = tokens.size()[0];
        assert_eq!(
            tokens.size(),
            [batch, self.grid().len() as i64],
            "tokens are [B, S]"
        );
        assert_eq!(tokens.kind(), Kind::Uint8, "tokens are u8");
        let rows = Rows::new(self.config().mixing, self.grid(), batch);
        Observed {
            embedded: self
                .embedding
                .look_up(&prepared.table, &rows, tokens, self.kind()),
            aim: self.heads.aim(tokens),
            rows,
        }
    }

    /// Runs the calls of a segment before the last one of L and of H, from `zH` and `zL`.
    pub(super) fn prefix(
        &self,
        prepared: &Prepared,
        observed: &Observed,
        [mut z_h, mut z_l]: [Tensor; 2],
    ) -> [Tensor; 2] {
        for h_cycle in 1..=self.config().h_cycles {
            let last = h_cycle == self.config().h_cycles;
            let injection = &z_h + &observed.embedded;
            for _ in 0..self.config().l_cycles - usize::from(last) {
                z_l = self.call(&self.l, prepared, observed, &z_l, &injection);
            }
            if !last {
                z_h = self.call(&self.h, prepared, observed, &z_h, &z_l);
            }
        }
        [z_h, z_l]
    }

    /// Runs the last call of L and of H of a segment.
    pub(super) fn last_calls(
        &self,
        prepared: &Prepared,
        observed: &Observed,
        [z_h, z_l]: [Tensor; 2],
    ) -> [Tensor; 2] {
        let injection = &z_h + &observed.embedded;
        let z_l = self.call(&self.l, prepared, observed, &z_l, &injection);
        [self.call(&self.h, prepared, observed, &z_h, &z_l), z_l]
    }

    fn call(
        &self,
        module: &Module,
        prepared: &Prepared,
        observed: &Observed,
        z: &Tensor,
        injection: &Tensor,
    ) -> Tensor {
        let context = Context {
            weights: &prepared.weights,
            rows: &observed.rows,
            places: &self.places,
            bias: prepared.bias.as_ref(),
        };
        module.forward(context, z, injection)
    }

    /// Computes the heads.
    pub(super) fn read(&self, observed: &Observed, z_h: &Tensor) -> Heads {
        // The halt head is fixed in a model that was trained without a rule.
        let tensors: Vec<&Tensor> = self.storage.all().collect();
        self.heads
            .forward(&tensors, &observed.rows, &observed.aim, z_h)
    }

    /// Returns the initial vectors of `zH` and `zL`, `[2, d]` in the activations' kind.
    fn initial(&self) -> Tensor {
        let all: Vec<&Tensor> = self.storage.all().collect();
        let vector = |index: TensorIndex| *index.of(&all);
        let tensors = self.declared.tensors();
        Tensor::stack(&[vector(tensors.h_init), vector(tensors.l_init)], 0).to_kind(self.kind())
    }
}
