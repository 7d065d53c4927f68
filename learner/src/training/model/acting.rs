//! Decisions of different lengths. Each ends by itself, and the others continue without its rows.

use hrm_common::{
    env::ACTIONS,
    model::{Depth, Halting, Segments},
};
use tch::{Kind, Tensor};

use super::{
    carry::CarryTensors as _,
    heads::read_outputs,
    hrm::{Hrm, Prepared},
    rows::Rows,
};
use crate::training::host::host;

/// The logits and the carry of a batch of decisions that [`Hrm::act`] made.
#[derive(Debug)]
pub(crate) struct Acted {
    /// f32 `[B, 4]`.
    pub(crate) logits: Tensor,
    /// In the shape of [`Hrm::carry_shape`].
    pub(crate) carry: Tensor,
}

impl Hrm {
    /// Makes one decision for a batch as [`Hrm::forward`] does, without a gradient. A decision has as many segments as
    /// its depth says. If the model's segments have a rule, it has at least as many, and ends as soon as the rule is met.
    /// `depths`, `[B]`, then says what the decisions were.
    ///
    /// A rule needs the outputs of each segment, so the device is waited for after each one.
    ///
    /// # Panics
    ///
    /// Panics as [`Hrm::forward`] does.
    pub(crate) fn act(
        &self,
        prepared: &Prepared,
        tokens: &Tensor,
        carry: &Tensor,
        depths: &mut [Depth],
    ) -> Acted {
        let _no_grad = tch::no_grad_guard();
        let Segments { most, halt, .. } = self.config().segments;
        let mode = self.config().carry;
        let mut observed = self.observe(prepared, tokens);
        let opened = carry.to_kind(self.kind());
        let mut z = mode.open(&observed.rows, &opened, &prepared.initial);
        let logits = [observed.rows.batch, ACTIONS as i64];
        let mut acted = Acted {
            logits: Tensor::zeros(logits, (Kind::Float, self.device())),
            carry: Tensor::zeros_like(&opened),
        };
        let halting = depths.iter().map(|&depth| Halting::by(halt, most, depth));
        // The decisions that continue, each with its place.
        let mut going: Vec<(usize, Halting)> = halting.enumerate().collect();
        for number in 1..=most {
            let before = z[0].shallow_clone();
            let prefix = self.prefix(prepared, &observed, z);
            z = self.last_calls(prepared, &observed, prefix);
            let heads = self.read(&observed, &z[0]);
            // Only a rule reads the outputs and the change of `zH`, and none does after the most segments.
            let asks = halt.is_some() && number < most;
            let outputs = asks.then(|| host(&heads.outputs()));
            let outputs = outputs.as_deref().unwrap_or_default().as_chunks().0;
            let needs_change = asks && going.iter().any(|(_, halting)| halting.needs_change());
            let changes = needs_change.then(|| host(&changes(&observed.rows, [&before, &z[0]])));
            let ends = going.iter_mut().enumerate().map(|(row, (_, halting))| {
                let heads = outputs.get(row).map(read_outputs).unwrap_or_default();
                let change = || changes.as_ref().map_or(f32::NAN, |changes| changes[row]);
                halting.ends(number, &heads, || change().into())
            });
            let ends: Vec<bool> = ends.collect();
            let (ended, left): (Vec<usize>, Vec<usize>) =
                (0..going.len()).partition(|&row| ends[row]);
            if ended.is_empty() {
                continue;
            }
            let rows = self.index(ended.iter().copied());
            let places = self.index(ended.iter().map(|&row| going[row].0));
            let carry = mode.close(&observed.rows, z.each_ref());
            let _ = (acted.logits).index_copy_(0, &places, &heads.logits.index_select(0, &rows));
            let _ = (acted.carry).index_copy_(1, &places, &carry.index_select(1, &rows));
            for &row in &ended {
                let (place, halting) = &going[row];
                depths[*place] = halting.ended(number);
            }
            if left.is_empty() {
                break;
            }
            let rows = self.index(left.iter().copied());
            going = left.iter().map(|&row| going[row]).collect();
            z = z.map(|z| observed.rows.select(&z, &rows));
            observed = observed.select(&rows);
        }
        acted
    }

    /// Returns an index on the model's device.
    fn index(&self, places: impl Iterator<Item = usize>) -> Tensor {
        let places: Vec<i64> = places.map(|place| place as i64).collect();
        Tensor::from_slice(&places).to_device(self.device())
    }
}

/// Returns the root of the mean square of the changes of `zH` in each sequence, f32 `[B]`.
fn changes(rows: &Rows, [before, after]: [&Tensor; 2]) -> Tensor {
    let change = rows.unpack(&(after.to_kind(Kind::Float) - before.to_kind(Kind::Float)));
    let mean = (change.square()).mean_dim([1, 2].as_slice(), false, Kind::Float);
    mean.sqrt()
}
