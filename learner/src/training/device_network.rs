//! The model on the learner's device, as a network that acts.

use hrm_common::{
    model::{Depth, Parameters, Segments},
    policy::{RecurrentNetwork, SharedNetwork},
    weights::{self, WeightsError},
};
use tch::{Device, Tensor, no_grad};

use crate::training::{
    host::host,
    model::{Gradient, Hrm, Prepared, carry_tensor},
};

/// Environments with their carry, and the model that acts in them, on one device. Each tick sends the observations
/// there and waits for the logits.
#[derive(Debug)]
pub struct DeviceNetwork {
    parameters: Parameters,
    model: Hrm,
    prepared: Prepared,
    /// The carry, in the shape of [`Hrm::carry_shape`].
    carry: Tensor,
}

impl DeviceNetwork {
    /// Returns `envs` environments at the start of an episode.
    pub fn new(parameters: Parameters, envs: usize, device: Device) -> Self {
        let model = Hrm::from_parameters(parameters.clone(), device);
        Self {
            parameters,
            prepared: model.prepare(Gradient::None),
            carry: no_grad(|| model.initial_carry(envs)),
            model,
        }
    }

    fn device(&self) -> Device {
        self.model.device()
    }
}

impl RecurrentNetwork for DeviceNetwork {
    fn envs(&self) -> usize {
        self.carry.size()[1] as usize
    }

    fn segments(&self) -> Segments {
        self.model.config().segments
    }

    fn decide(&mut self, tokens: &[u8], depths: &mut [Depth], logits: &mut [f32]) {
        let shape = [self.envs() as i64, self.model.grid().len() as i64];
        let tokens = Tensor::from_slice(tokens)
            .view(shape)
            .to_device(self.device());
        let acted = self.model.act(&self.prepared, &tokens, &self.carry, depths);
        self.carry = acted.carry;
        logits.copy_from_slice(&host(&acted.logits));
    }

    fn reset(&mut self, env: usize) {
        let initial = no_grad(|| self.model.initial_carry(1)).select(1, 0);
        self.carry.select(1, env as i64).copy_(&initial);
    }

    fn carry(&self, env: usize) -> Vec<f32> {
        host(&self.carry.select(1, env as i64))
    }

    fn set_carries(&mut self, carries: &[Vec<f32>]) {
        self.carry = carry_tensor(carries, &self.model.carry_shape(carries.len()))
            .to_device(self.device())
            .to_kind(self.model.kind());
    }

    fn load(&mut self, body: &[u8]) -> Result<(), WeightsError> {
        weights::load(&mut self.parameters, body)?;
        // A new model, because others may share the present one.
        self.model = Hrm::from_parameters(self.parameters.clone(), self.device());
        self.prepared = self.model.prepare(Gradient::None);
        Ok(())
    }

    fn retain(&mut self, envs: &[usize]) {
        let envs: Vec<i64> = envs.iter().map(|&env| env as i64).collect();
        let envs = Tensor::from_slice(&envs).to_device(self.device());
        self.carry = self.carry.index_select(1, &envs);
    }
}

impl SharedNetwork for DeviceNetwork {
    fn with_envs(&self, envs: usize) -> Self {
        let model = self.model.share();
        Self {
            parameters: self.parameters.clone(),
            prepared: model.prepare(Gradient::None),
            carry: no_grad(|| model.initial_carry(envs)),
            model,
        }
    }

    fn share_model(&mut self, other: &Self) {
        assert_eq!(
            self.parameters.fingerprint(),
            other.parameters.fingerprint(),
            "the same model"
        );
        self.parameters = other.parameters.clone();
        self.model = other.model.share();
        self.prepared = self.model.prepare(Gradient::None);
    }
}

#[cfg(test)]
mod tests {
    use hrm_common::{
        env::{ACTIONS, EnvConfig, VecEnv},
        model::{CarryMode, Dtype, Halt, ModelConfig, native::Lanes, state},
    };

    use super::*;

    const ENVS: usize = 5;

    fn parameters(config: &ModelConfig, seed: u64) -> Parameters {
        let grid = EnvConfig::four_rooms().grid();
        let mut parameters = Parameters::new(config, grid, seed).expect("a valid model");
        // An initial halt head treats all states alike.
        if let Some(halt) = parameters.tensors().halt {
            let weights = parameters.get_mut(halt.weight).iter_mut();
            weights
                .zip(0_u8..)
                .for_each(|(weight, at)| *weight = f32::from(at % 7) - 3.0);
            parameters.get_mut(halt.bias).fill(0.1);
        }
        parameters
    }

    /// The two networks must take the same steps; `what` says after which.
    fn assert_agree(what: &str, device: &mut DeviceNetwork, native: &mut Lanes, tokens: &[u8]) {
        assert_eq!(device.envs(), native.envs());
        let mut logits = [device.envs(); 2].map(|envs| vec![0.0; envs * ACTIONS]);
        let asked = |env: u8| Depth {
            draw: [0.2, 0.6, 0.9, 0.45][usize::from(env % 4)],
            ..Depth::at_least(1 + env % 3)
        };
        let asked: Vec<Depth> = (0..).map(asked).take(device.envs()).collect();
        let mut depths = [asked.clone(), asked];
        device.decide(tokens, &mut depths[0], &mut logits[0]);
        native.decide(tokens, &mut depths[1], &mut logits[1]);
        for (found, expected) in depths[0].iter().zip(&depths[1]) {
            assert_eq!(found.segments, expected.segments, "{what}");
            assert!((found.log_prob - expected.log_prob).abs() < 1e-4, "{what}");
        }
        let carries = |network: &dyn RecurrentNetwork| -> Vec<f32> {
            (0..network.envs())
                .flat_map(|env| network.carry(env))
                .collect()
        };
        for [found, expected] in [logits, [carries(device), carries(native)]] {
            assert_eq!(found.len(), expected.len(), "{what}");
            for (found, expected) in found.iter().zip(expected) {
                assert!((found - expected).abs() < 1e-4, "{what}");
            }
        }
    }

    #[test]
    fn the_device_network_acts_as_the_kernels_do() {
        let rules = [
            None,
            Some(Halt::Change(0.4)),
            Some(Halt::Entropy(1.383)),
            Some(Halt::Value),
            Some(Halt::Policy),
            Some(Halt::Agreement(0.5)),
        ];
        for (carry, halt) in CarryMode::ALL
            .into_iter()
            .flat_map(|carry| rules.map(|halt| (carry, halt)))
        {
            let config = ModelConfig {
                hidden: 16,
                dtype: Dtype::F32,
                carry,
                segments: Segments {
                    halt,
                    ..Segments::range(1, 3)
                },
                halt_head: true,
                ..ModelConfig::small()
            };
            let cells = EnvConfig::four_rooms().grid().len();
            let mazes = VecEnv::new(&EnvConfig::four_rooms(), ENVS, 3).expect("mazes");
            let tokens = mazes.observations();
            let mut device = DeviceNetwork::new(parameters(&config, 1), ENVS, Device::Cpu);
            let mut native = Lanes::new(parameters(&config, 1), ENVS);
            let both = |what: &str, device: &mut DeviceNetwork, native: &mut Lanes| {
                let tokens = &tokens[..device.envs() * cells];
                assert_agree(what, device, native, tokens);
            };
            both("the first tick", &mut device, &mut native);
            device.reset(2);
            native.reset(2);
            both("a reset", &mut device, &mut native);
            let carries = [1, 0, 2, 4, 3].map(|env| native.carry(env));
            device.set_carries(&carries);
            native.set_carries(&carries);
            both("other carries", &mut device, &mut native);
            let sent = device.carry_bytes(Dtype::Bf16);
            let rounded: Vec<_> = (0..ENVS).map(|env| device.carry(env)).collect();
            native.set_carries(&rounded);
            assert!(sent == native.carry_bytes(Dtype::Bf16), "the same bytes");
            both("rounded carries", &mut device, &mut native);
            device.retain(&[3, 0, 1]);
            native.retain(&[3, 0, 1]);
            both("fewer environments", &mut device, &mut native);

            let published = state::encode(&parameters(&config, 9));
            let (mut loaded, mut loaded_natively) = (device.with_envs(0), native.with_envs(0));
            loaded.load(&published).expect("the same model");
            loaded_natively.load(&published).expect("the same model");
            both(
                "weights that only another one has",
                &mut device,
                &mut native,
            );
            device.share_model(&loaded);
            native.share_model(&loaded_natively);
            both("shared weights", &mut device, &mut native);
            let (mut fresh, mut fresh_natively) = (device.with_envs(2), native.with_envs(2));
            both("new environments", &mut fresh, &mut fresh_natively);
            assert!(loaded.load(b"no weights").is_err());
        }
    }
}
