//! Reads numbers out of tensors. Each call waits for all work that a device has been given.

use std::sync::atomic::{AtomicU64, Ordering};

use tch::{Device, Kind, Tensor};

use crate::training::queued::Queued;

static READS: AtomicU64 = AtomicU64::new(0);

/// Returns how often this process has read numbers out of tensors.
pub fn reads() -> u64 {
    READS.load(Ordering::Relaxed)
}

/// Returns a tensor's numbers, row by row.
pub(crate) fn host(tensor: &Tensor) -> Vec<f32> {
    READS.fetch_add(1, Ordering::Relaxed);
    let flat = tensor
        .detach()
        .to_device(Device::Cpu)
        .to_kind(Kind::Float)
        .contiguous();
    let elements = flat.numel();
    let mut values = vec![0.0; elements];
    flat.copy_data(&mut values, elements);
    values
}

/// Returns the numbers of several tensors in one transfer, a vector for each.
pub(crate) fn read(queued: &[Queued]) -> Vec<Vec<f64>> {
    if queued.is_empty() {
        return Vec::new();
    }
    READS.fetch_add(1, Ordering::Relaxed);
    let all = Queued::cat(queued).into_read().to_device(Device::Cpu);
    let mut values = vec![0.0; all.numel()];
    let elements = values.len();
    all.copy_data(&mut values, elements);
    let mut rest = values.as_slice();
    let lengths = queued.iter().map(Queued::elements);
    lengths
        .map(|length| rest.split_off(..length).unwrap_or_default().to_vec())
        .collect()
}

/// Returns the bytes of a u8 tensor, row by row.
pub(crate) fn bytes(tensor: &Tensor) -> Vec<u8> {
    READS.fetch_add(1, Ordering::Relaxed);
    let tensor = tensor.contiguous();
    let elements = tensor.numel();
    let mut bytes = vec![0; elements];
    if elements > 0 {
        tensor.copy_data_u8(&mut bytes, elements);
    }
    bytes
}
