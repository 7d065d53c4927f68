//! The device on which the learner's own process acts: its evaluations and local actors.

use hrm_common::{
    config::{ActingDevice, Config},
    model::native::Lanes,
};
use tch::Device;

use crate::{evaluation::evaluator::NewNetwork, training::device_network::DeviceNetwork};

/// Returns the device, from `run.acting_device` and the device of the learner's tensors.
pub(super) fn device(config: &Config, learner: Device) -> Device {
    match config.run.acting_device {
        ActingDevice::Cpu => Device::Cpu,
        ActingDevice::Learner => learner,
    }
}

/// Returns what makes networks on that device: the kernels' on a CPU, and otherwise libtorch's.
pub(super) fn network(config: &Config, learner: Device) -> NewNetwork {
    match device(config, learner) {
        Device::Cpu => Box::new(|parameters, envs| Box::new(Lanes::new(parameters, envs))),
        device => {
            Box::new(move |parameters, envs| Box::new(DeviceNetwork::new(parameters, envs, device)))
        }
    }
}
