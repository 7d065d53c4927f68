//! The one-step gradient, segment by segment.

use tch::{Kind, Tensor, no_grad};

use super::{
    active::{Active, ActiveBatch},
    carry::CarryTensors as _,
    decision::{Gradient, Start},
    heads::Heads,
    hrm::{Hrm, Observed, Prepared},
};

impl Hrm {
    /// Returns the one-step gradient of a loss that is a sum over the segments from `first` on, f32 in the order of
    /// [`Hrm::flat_parameters`]. `active` are the rows that run each segment; without it, all run the most. `loss`
    /// computes the summand of a segment from its index, counted from `first`, its heads, and the rows that they are of,
    /// i64 `[n]`, unless they are of all.
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
        (first, active): (usize, Option<ActiveBatch<'_>>),
        mut loss: impl FnMut(usize, &Heads, Option<&Tensor>) -> Tensor,
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
        let rows = &observed.rows;
        let kept = |prefixes: &Tensor, segment: usize, of: Option<&Tensor>| {
            let states = prefixes.select(1, (segment - first) as i64);
            let (states, rows) = match of {
                Some(of) => (states.index_select(0, of), rows.with_batch(of.size()[0])),
                None => (states, *rows),
            };
            let states = states.to_kind(kind);
            [0, 1].map(|which| rows.pack(&states.select(1, which)))
        };
        let mut z = match start {
            Start::Carry(carry) => {
                let carry = carry.to_kind(kind);
                let open = self.config().carry.open(rows, &carry, &prepared.initial);
                self.untrained(&prepared, &observed, open, first)
            }
            Start::Prefixes(prefixes) => kept(prefixes, first, None),
        };
        for segment in first..self.config().segments.most {
            let of = match active.map_or(Active::All, |active| active.of_segment(segment)) {
                Active::All => None,
                Active::Some(of) => Some(of),
                Active::Nobody => break,
            };
            let some = of.as_ref().map(|of| observed.select(of));
            let some = some.as_ref().unwrap_or(&observed);
            let before = match start {
                Start::Prefixes(prefixes) => kept(prefixes, segment, of.as_ref()),
                Start::Carry(_) => no_grad(|| {
                    let z = z.each_ref().map(|z| match &of {
                        Some(of) => rows.select(z, of),
                        None => z.shallow_clone(),
                    });
                    self.prefix(&prepared, some, z)
                }),
            };
            let after = self.last_calls(&prepared, some, before);
            let heads = self.read(some, &after[0]);
            let summand = loss(segment - first, &heads, of.as_ref());
            sums.add(&Tensor::run_backward(&[summand], &inputs, false, false));
            let after = after.map(|z| z.detach());
            z = match &of {
                Some(of) => [0, 1].map(|part| rows.replace(&z[part], of, &after[part])),
                None => after,
            };
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
