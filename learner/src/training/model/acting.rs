//! Decisions of different lengths. Each ends by itself, and the others continue without its rows.

use hrm_common::{
    env::ACTIONS,
    model::{Depth, Halting, Segments, native::HeadOutputs},
};
use tch::{Kind, Tensor};

use super::{
    carry::CarryTensors as _,
    heads::Heads,
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
            let judged = match halt.is_some() && number < most {
                true => judged(&heads, &observed.rows, [&before, &z[0]]),
                false => vec![Judged::default(); going.len()],
            };
            let ends =
                (going.iter_mut().zip(&judged)).map(|((_, halting), Judged(heads, change))| {
                    halting.ends(number, heads, || (*change).into())
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

/// The results of a segment that a rule reads: the outputs of the heads, and the change of `zH`.
#[derive(Debug, Clone, Copy, Default)]
struct Judged(HeadOutputs, f32);

/// Reads what rules need, of each decision. `z_h` is `zH` before and after the segment.
fn judged(heads: &Heads, rows: &Rows, [before, after]: [&Tensor; 2]) -> Vec<Judged> {
    let change = rows.unpack(&(after.to_kind(Kind::Float) - before.to_kind(Kind::Float)));
    let change = change
        .square()
        .mean_dim([1, 2].as_slice(), false, Kind::Float);
    let halt = (heads.halt.as_ref()).map_or_else(
        || Tensor::zeros([rows.batch, 2], (Kind::Float, change.device())),
        Tensor::shallow_clone,
    );
    let all = Tensor::cat(&[&heads.logits, &halt, &change.sqrt().unsqueeze(1)], 1);
    let numbers = host(&all);
    let (decisions, _) = numbers.as_chunks();
    let judge = |&[a, b, c, d, halts, continues, change]: &[f32; ACTIONS + 3]| {
        let heads = HeadOutputs {
            logits: [a, b, c, d],
            value: 0.0,
            halt: [halts, continues],
        };
        Judged(heads, change)
    };
    decisions.iter().map(judge).collect()
}
