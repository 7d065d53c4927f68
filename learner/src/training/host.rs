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

/// Returns the bytes of a u8 tensor, row by row.
pub(crate) fn bytes(tensor: &Tensor) -> Vec<u8> {
    let tensor = tensor.contiguous();
    let elements = tensor.numel();
    let mut bytes = vec![0; elements];
    if elements > 0 {
        tensor.copy_data_u8(&mut bytes, elements);
    }
    bytes
}
