//! A tick allocates nothing: the decision in every environment, the choice of actions, and the step of the mazes.

use allocation_counter::measure;
use hrm_common::{
    env::{EnvConfig, VecEnv},
    model::{Dtype, Mixing, ModelConfig, Parameters, native::Lanes},
    policy::{Choice, Policy, RecurrentNetwork as _, action_rng},
};

const ENVS: usize = 4;

/// Ticks in which every environment ends an episode at least once.
const TICKS: usize = 100;

fn tick(
    envs: &mut VecEnv,
    policy: &mut Policy<Lanes>,
    rng: &mut [rand_xoshiro::Xoshiro256PlusPlus],
) {
    let acted = policy.act(envs.observations(), Choice::Sampled, rng);
    envs.step(acted.actions);
    for env in 0..ENVS {
        if envs.flags()[env] != 0 {
            policy.network().reset(env);
        }
    }
}

#[test]
fn a_tick_allocates_nothing() {
    for env in [EnvConfig::four_rooms(), EnvConfig::random_maze()] {
        for (mixing, dtype) in [
            (Mixing::Conv, Dtype::F32),
            (Mixing::Conv, Dtype::Bf16),
            (Mixing::Attention, Dtype::F32),
        ] {
            let config = ModelConfig {
                mixing,
                dtype,
                hidden: 16,
                ..ModelConfig::small()
            };
            let parameters = Parameters::new(&config, env.grid(), 1).expect("a valid model");
            let mut policy = Policy::new(Lanes::new(parameters, ENVS));
            let mut envs = VecEnv::new(&env, ENVS, 1).expect("a valid maze");
            let mut rng = [action_rng(1)];
            // The search for shortest paths allocates at its first use.
            (0..TICKS).for_each(|_| tick(&mut envs, &mut policy, &mut rng));
            let counted =
                measure(|| (0..TICKS).for_each(|_| tick(&mut envs, &mut policy, &mut rng)));
            assert_eq!(counted.count_total, 0, "{mixing:?} {dtype:?}: {counted:?}");
        }
    }
}

#[test]
fn an_allocation_is_counted() {
    let counted = measure(|| drop(std::hint::black_box(vec![1_u8; 64])));
    assert_eq!(counted.count_total, 1);
}
