//! The one-step gradient, segment by segment.

use tch::{Kind, Tensor, no_grad};

use super::{
    carry::CarryTensors as _,
    decision::{Gradient, Start},
    heads::Heads,
    hrm::{Hrm, Observed, Prepared},
};

impl Hrm {
    /// Returns the one-step gradient of a loss that is a sum over the segments from `first` on, f32 in the order of
    /// [`Hrm::flat_parameters`]. `loss` computes the summand of a segment from its index, counted from `first`, and its
    /// heads.
    ///
    /// Each segment's backward pass follows its forward pass, so the graph of one segment is in memory at a time. The
    /// segments share only the parameters and the embedding.
    ///
    /// # Panics
    ///
    /// Panics as [`Hrm::forward`] does.
    pub(crate) fn one_step_gradient(
        &self,
        tokens: &Tensor,
        start: Start<'_>,
        first: usize,
        mut loss: impl FnMut(usize, &Heads) -> Tensor,
    ) -> Tensor {
        let whole = self.prepare(Gradient::OneStep);
        let Observed {
            rows,
            embedded,
            aim,
        } = self.observe(&whole, tokens);
        // Leaves of their own end a segment's graph before what the segments share.
        let cut = |tensor: &Tensor| tensor.detach().set_requires_grad(true);
        let prepared = Prepared {
            weights: whole.weights.iter().map(cut).collect(),
            ..whole
        };
        let observed = Observed {
            rows,
            embedded: cut(&embedded),
            aim,
        };
        let parameters = self.parameters();
        let inputs: Vec<&Tensor> = (prepared.weights.iter())
            .chain(parameters)
            .chain([&observed.embedded])
            .collect();
        let mut sums = GradientSums::new(inputs.len());

        let kind = self.kind();
        let kept = |prefixes: &Tensor, segment: usize| {
            let states = prefixes.select(1, (segment - first) as i64).to_kind(kind);
            [0, 1].map(|which| rows.pack(&states.select(1, which)))
        };
        let mut z = match start {
            Start::Carry(carry) => {
                let carry = carry.to_kind(kind);
                let open = self.config().carry.open(&rows, &carry, &prepared.initial);
                self.untrained(&prepared, &observed, open, first)
            }
            Start::Prefixes(prefixes) => kept(prefixes, first),
        };
        for segment in first..self.config().segments.most {
            let before = match start {
                Start::Carry(_) => no_grad(|| self.prefix(&prepared, &observed, z)),
                Start::Prefixes(prefixes) => kept(prefixes, segment),
            };
            let after = self.last_calls(&prepared, &observed, before);
            let summand = loss(segment - first, &self.read(&observed, &after[0]));
            sums.add(&Tensor::run_backward(&[summand], &inputs, false, false));
            z = after.map(|z| z.detach());
        }

        let embedding = sums.0.pop().unwrap_or_default();
        if embedding.defined() {
            let product = &embedded * embedding.to_kind(kind);
            let product = product.sum(Kind::Float);
            sums.0
                .extend(Tensor::run_backward(&[product], parameters, false, false));
        }
        // The copies in the activations' kind, the heads' own use of the parameters, and the embedding's.
        let mut of_parameters = GradientSums::new(parameters.len());
        for part in sums.0.chunks_exact(parameters.len()) {
            of_parameters.add(part);
        }
        self.flat(&of_parameters.0)
    }

    /// Runs so many segments, and records no graph of them.
    pub(super) fn untrained(
        &self,
        prepared: &Prepared,
        observed: &Observed,
        z: [Tensor; 2],
        segments: usize,
    ) -> [Tensor; 2] {
        no_grad(|| {
            (0..segments).fold(z, |z, _| {
                let before = self.prefix(prepared, observed, z);
                self.last_calls(prepared, observed, before)
            })
        })
    }
}

/// Sums of gradients in 32 bits, undefined where there was none.
struct GradientSums(Vec<Tensor>);

impl GradientSums {
    fn new(tensors: usize) -> Self {
        Self((0..tensors).map(|_| Tensor::default()).collect())
    }

    fn add(&mut self, gradients: &[Tensor]) {
        for (sum, gradient) in self.0.iter_mut().zip(gradients) {
            if gradient.defined() {
                let gradient = gradient.to_kind(Kind::Float);
                *sum = if sum.defined() {
                    &*sum + gradient
                } else {
                    gradient
                };
            }
        }
    }
}
