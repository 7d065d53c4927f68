use tch::{Device, Kind, Tensor};

/// Returns a tensor's numbers, row by row.
pub(crate) fn host(tensor: &Tensor) -> Vec<f32> {
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
