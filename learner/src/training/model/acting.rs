//! Decisions of different lengths. Each ends by itself, and the others go on without its rows.

use hrm_common::model::{Halt, Segments};
use tch::{Kind, Tensor, no_grad};

use super::{
    carry::CarryTensors as _,
    hrm::{Hrm, Observed, Prepared},
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
    /// `segments`, u8 `[B]`, says. If the model's segments have a rule, it has at least as many, and ends as soon as the
    /// rule is met. `segments` becomes their numbers.
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
        segments: &mut [u8],
    ) -> Acted {
        no_grad(|| {
            let mut observed = self.observe(prepared, tokens);
            let kind = self.kind();
            let opened = carry.to_kind(kind);
            let mode = self.config().carry;
            let mut z = mode.open(&observed.rows, &opened, &prepared.initial);
            let mut acted = Acted {
                logits: Tensor::zeros(
                    [observed.rows.batch, hrm_common::env::ACTIONS as i64],
                    (Kind::Float, self.device()),
                ),
                carry: Tensor::zeros_like(&opened),
            };
            let mut going: Vec<usize> = (0..segments.len()).collect();
            for number in 1..=self.config().segments.most {
                let before = z[0].shallow_clone();
                let prefix = self.prefix(prepared, &observed, z);
                z = self.last_calls(prepared, &observed, prefix);
                let logits = self.read(&observed, &z[0]).logits;
                let ends = self.ends(
                    number,
                    &going,
                    segments,
                    [&before, &z[0]],
                    &logits,
                    &observed,
                );
                if !ends.contains(&true) {
                    continue;
                }
                let carry = mode.close(&observed.rows, z.each_ref());
                let (ended, left) = split(&going, &ends);
                let places = self.places_of(ended.iter().map(|&row| going[row]));
                let rows = self.places_of(ended.iter().copied());
                let of_ended = |tensor: &Tensor, axis| tensor.index_select(axis, &rows);
                let _ = acted.logits.index_copy_(0, &places, &of_ended(&logits, 0));
                let _ = acted.carry.index_copy_(1, &places, &of_ended(&carry, 1));
                for &row in &ended {
                    // A number of segments is a byte.
                    segments[going[row]] = number as u8;
                }
                if left.is_empty() {
                    break;
                }
                let rows = self.places_of(left.iter().copied());
                going = left.iter().map(|&row| going[row]).collect();
                let places = self.places_of(going.iter().copied());
                let states = z.map(|z| observed.rows.unpack(&z).index_select(0, &rows));
                observed = self.observe(prepared, &tokens.index_select(0, &places));
                z = states.map(|states| observed.rows.pack(&states));
            }
            acted
        })
    }

    /// Returns which of the decisions that go on end after this number of segments. `z_h` is `zH` before and after the
    /// last one.
    fn ends(
        &self,
        number: usize,
        going: &[usize],
        fewest: &[u8],
        z_h: [&Tensor; 2],
        logits: &Tensor,
        observed: &Observed,
    ) -> Vec<bool> {
        let Segments { most, halt, .. } = self.config().segments;
        let due = |env: &usize| number >= usize::from(fewest[*env]);
        let Some(halt) = halt.filter(|_| number < most) else {
            return going.iter().map(due).collect();
        };
        let changes = match halt {
            Halt::Change(_) => changes(&observed.rows, z_h),
            Halt::Entropy(_) => vec![0.0; going.len()],
        };
        let logits = host(logits);
        let rows = logits.chunks_exact(logits.len() / going.len());
        let meets = |(logits, change): (&[f32], f32)| halt.ends(logits, || change.into());
        let met = rows.zip(changes).map(meets);
        going
            .iter()
            .map(due)
            .zip(met)
            .map(|(a, b)| a && b)
            .collect()
    }

    /// Returns an index on the model's device.
    fn places_of(&self, places: impl Iterator<Item = usize>) -> Tensor {
        let places: Vec<i64> = places.map(|place| place as i64).collect();
        Tensor::from_slice(&places).to_device(self.device())
    }
}

/// Returns the places of true and of false.
fn split(going: &[usize], ends: &[bool]) -> (Vec<usize>, Vec<usize>) {
    (0..going.len()).partition(|&row| ends[row])
}

/// Returns the root of the mean square of the changes of each sequence's elements.
fn changes(rows: &Rows, [before, after]: [&Tensor; 2]) -> Vec<f32> {
    let change = rows.unpack(&(after.to_kind(Kind::Float) - before.to_kind(Kind::Float)));
    let mean = change
        .square()
        .mean_dim([1, 2].as_slice(), false, Kind::Float);
    host(&mean.sqrt())
}
