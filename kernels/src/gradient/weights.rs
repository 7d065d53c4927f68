//! The gradients of a block's weights, in the order in which the products make them.

use std::marker::PhantomData;

use crate::{aligned::Aligned, conv::TAPS, kernel::Kernel, swiglu::gate_up_rows};

/// The gradients of the weights of a block with a convolution, added up.
#[derive(Debug, Clone)]
pub struct ConvGradient<K: Kernel> {
    width: usize,
    inner: usize,
    /// `[9, width, stride]`: tap, input, output.
    pub(super) kernel: Aligned<f32>,
    /// `[width, stride]`.
    pub(super) prefix: Aligned<f32>,
    /// `[width, 2 * inner]`, where each register of gates is followed by the same register of ups.
    pub(super) gate_up: Aligned<f32>,
    /// `[inner, stride]`.
    pub(super) down: Aligned<f32>,
    lanes: PhantomData<K>,
}

/// The tensors to which gradients are added, in the model's shapes.
#[derive(Debug)]
pub struct ConvGradientTensors<'a> {
    /// `[width, width, 3, 3]`.
    pub kernel: &'a mut [f32],
    /// `[width, width]`.
    pub prefix: &'a mut [f32],
    /// `[2 * inner, width]`.
    pub gate_up: &'a mut [f32],
    /// `[width, inner]`.
    pub down: &'a mut [f32],
}

impl<K: Kernel> ConvGradient<K> {
    /// Returns zeros.
    pub(super) fn zeros(width: usize, inner: usize) -> Self {
        let stride = width.next_multiple_of(K::LANES);
        Self {
            width,
            inner,
            kernel: Aligned::zeros(TAPS * width * stride),
            prefix: Aligned::zeros(width * stride),
            gate_up: Aligned::zeros(width * 2 * inner.next_multiple_of(K::LANES)),
            down: Aligned::zeros(inner * stride),
            lanes: PhantomData,
        }
    }

    /// Adds the sums to tensors in the model's shapes.
    ///
    /// # Panics
    ///
    /// Panics when a tensor has another size than its shape says.
    pub fn add_to(&self, tensors: ConvGradientTensors<'_>) {
        let (width, inner) = (self.width, self.inner);
        let stride = width.next_multiple_of(K::LANES);
        let gates = 2 * inner.next_multiple_of(K::LANES);
        assert_eq!(tensors.kernel.len(), TAPS * width * width);
        assert_eq!(tensors.prefix.len(), width * width);
        assert_eq!(tensors.gate_up.len(), 2 * inner * width);
        assert_eq!(tensors.down.len(), width * inner);
        for output in 0..width {
            for input in 0..width {
                for tap in 0..TAPS {
                    tensors.kernel[(output * width + input) * TAPS + tap] +=
                        self.kernel[(tap * width + input) * stride + output];
                }
                tensors.prefix[output * width + input] += self.prefix[input * stride + output];
            }
            for input in 0..inner {
                tensors.down[output * inner + input] += self.down[input * stride + output];
            }
        }
        for (lane, output) in gate_up_rows::<K>(inner).into_iter().enumerate() {
            let Some(output) = output else { continue };
            for input in 0..width {
                tensors.gate_up[output * width + input] += self.gate_up[input * gates + lane];
            }
        }
    }
}
