//! The checked conversion of unrolls: what is valid survives the wire, and everything else is refused by
//! the name of its field.

use hrm_common::{
    env::{ACTIONS, EpisodeSummary, flag, tile},
    model::{Dtype, Halt, Segments},
    refusal::Refusal,
    trajectory::{Unroll, UnrollShape, float_bytes},
    wire::{self, Expectation, MAX_CARRY, MAX_LOGIT},
};
use hrm_proto::v1 as proto;
use proptest::{
    collection::{SizeRange, vec},
    prelude::*,
};
use prost::Message as _;
use rand::{Rng as _, SeedableRng as _};
use rand_xoshiro::Xoshiro256PlusPlus;

const FINGERPRINT: u64 = 0x1234_5678_9abc_def0;

fn expectation(
    ticks: usize,
    envs: usize,
    tokens: usize,
    carry: usize,
    carry_dtype: Dtype,
    max_steps: u32,
) -> Expectation {
    Expectation {
        shape: UnrollShape {
            ticks,
            envs,
            tokens,
            carry,
        },
        segments: Segments {
            halt: Some(Halt::Policy),
            ..Segments::range(1, 3)
        },
        carry_dtype,
        model_fingerprint: FINGERPRINT,
        max_steps,
    }
}

fn observation(size: usize, rng: &mut Xoshiro256PlusPlus) -> Vec<u8> {
    let others = [tile::FLOOR, tile::WALL, tile::CLOSED_DOOR, tile::UNKNOWN];
    let mut cells: Vec<u8> = (0..size)
        .map(|_| others[rng.random_range(0..others.len())])
        .collect();
    let agent = rng.random_range(0..size);
    cells[(agent + rng.random_range(1..size)) % size] = tile::GOAL;
    cells[agent] = tile::AGENT;
    cells
}

/// A random unroll as an actor with these sizes could make it.
fn valid(expected: &Expectation, newest: u64, rng: &mut Xoshiro256PlusPlus) -> Unroll {
    let shape = expected.shape.clone();
    let frames = shape.frames();
    let mut age: Vec<u32> = (0..shape.envs)
        .map(|_| rng.random_range(0..expected.max_steps))
        .collect();
    let (mut flags, mut final_tokens, mut episodes) = (vec![], vec![], vec![]);
    for frame in 0..frames {
        let age = &mut age[frame % shape.envs];
        *age += 1;
        let success = rng.random_bool(0.2);
        let ended = success || *age == expected.max_steps;
        if ended {
            let longest = if success { *age } else { u32::MAX };
            episodes.push(EpisodeSummary {
                episode_return: rng.random_range(-(*age as f32)..=1.0),
                length: std::mem::take(age),
                shortest_path: rng.random_range(1..=longest),
                success,
                curriculum_distance: rng.random(),
            });
        }
        if ended && !success {
            final_tokens.extend(observation(shape.tokens, rng));
        }
        flags.push(match (ended, success) {
            (false, _) => 0,
            (true, true) => flag::TERMINATED,
            (true, false) => flag::TRUNCATED,
        });
    }
    let bound = |most: f32, rng: &mut Xoshiro256PlusPlus| match rng.random_range(0..8) {
        0 => most,
        1 => -most,
        2 => -0.0,
        3 => f32::MIN_POSITIVE / 4.0,
        _ => rng.random_range(-most..=most),
    };
    let carry: Vec<f32> = (0..shape.envs * shape.carry)
        .map(|_| bound(MAX_CARRY, rng))
        .collect();
    let mut policy_versions: Vec<u64> = (0..shape.ticks)
        .map(|_| rng.random_range(0..=newest))
        .collect();
    policy_versions.sort_unstable();
    Unroll {
        session: rng.random(),
        thread: rng.random(),
        model_fingerprint: expected.model_fingerprint,
        sequence: rng.random(),
        tokens: (0..frames + shape.envs)
            .flat_map(|_| observation(shape.tokens, rng))
            .collect(),
        segments: (0..frames).map(|_| rng.random_range(1..=3)).collect(),
        halt_log_probs: float_bytes((0..frames).map(|_| -rng.random::<f32>())),
        actions: (0..frames)
            .map(|_| rng.random_range(0..ACTIONS as u8))
            .collect(),
        rewards: float_bytes((0..frames).map(|_| bound(1.0, rng))),
        flags: flags.into(),
        behaviour_logits: float_bytes((0..frames * ACTIONS).map(|_| bound(MAX_LOGIT, rng))),
        carry_dtype: expected.carry_dtype,
        carry: match expected.carry_dtype {
            Dtype::F32 => float_bytes(carry),
            Dtype::Bf16 => carry
                .iter()
                // Towards zero, so that the bound itself does not round past itself.
                .flat_map(|z| ((z.to_bits() >> 16) as u16).to_le_bytes())
                .collect(),
        },
        policy_versions,
        final_tokens: final_tokens.into(),
        episodes,
        running_distances: (0..shape.envs).map(|_| rng.random()).collect(),
        shape,
    }
}

fn expectations() -> impl Strategy<Value = Expectation> {
    let dtype = prop_oneof![Just(Dtype::F32), Just(Dtype::Bf16)];
    let carry = prop_oneof![Just(0_usize), Just(2), Just(24)];
    (1_usize..6, 1_usize..5, 2_usize..9, carry, dtype, 1_u32..9).prop_map(
        |(ticks, envs, tokens, carry, dtype, max_steps)| {
            expectation(ticks, envs, tokens, carry, dtype, max_steps)
        },
    )
}

fn newest() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), 1_u64..100, Just(u64::MAX)]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_valid_unroll_survives_the_wire(expected in expectations(), newest in newest(), seed: u64) {
        let unroll = valid(&expected, newest, &mut Xoshiro256PlusPlus::seed_from_u64(seed));
        let bytes = wire::encode(&unroll).encode_to_vec();
        prop_assert!(bytes.len() <= expected.max_message_size());
        let message = proto::UnrollBatch::decode(&bytes[..]).expect("protobuf");
        prop_assert_eq!(wire::decode(message, &expected, newest), Ok(unroll));
    }
}

/// Generates the number that a mutation puts in the place of another.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        0_u64..12,
        any::<u64>(),
        Just(u64::from(u32::MAX)),
        Just(u64::MAX)
    ]
}

/// One way to damage a message: which part of it, where, and with what.
fn damage() -> impl Strategy<Value = (u8, prop::sample::Index, u64, Vec<u8>)> {
    let bytes = vec(any::<u8>(), SizeRange::from(0..40));
    (0_u8..46, any::<prop::sample::Index>(), number(), bytes)
}

fn spoil(
    message: &mut proto::UnrollBatch,
    (part, at, number, bytes): (u8, prop::sample::Index, u64, Vec<u8>),
) {
    let arrays = [
        &mut message.tokens,
        &mut message.halt_log_probs,
        &mut message.actions,
        &mut message.rewards,
        &mut message.flags,
        &mut message.behaviour_logits,
        &mut message.carry,
        &mut message.final_tokens,
    ];
    // Every array in four ways, then every other field.
    match (part, usize::from(part) / 4) {
        (0..32, array) => {
            let mut content = arrays[array].to_vec();
            match part % 4 {
                0 => content = bytes,
                1 => content.extend(bytes),
                2 => content.truncate(at.index(content.len() + 1)),
                _ if content.is_empty() => content.push(number as u8),
                _ => {
                    let index = at.index(content.len());
                    content[index] = number as u8;
                }
            }
            *arrays[array] = content.into();
        }
        (32, _) => message.ticks = number as u32,
        (33, _) => message.envs = number as u32,
        (34, _) => message.carry_dtype = number as i32,
        (35, _) => message.policy_versions.push(number),
        (36, _) => drop(message.policy_versions.pop()),
        (37, _) => {
            if let Some(version) = message.policy_versions.first_mut() {
                *version = number;
            }
        }
        (38, _) => message.episodes.push(proto::EpisodeSummary::default()),
        (39, _) => drop(message.episodes.pop()),
        (44, _) => message.running_distances.push(number as u32),
        (45, _) => drop(message.running_distances.pop()),
        (part, _) => {
            let count = message.episodes.len();
            if count == 0 {
                return;
            }
            let episode = &mut message.episodes[at.index(count)];
            match part {
                40 => episode.episode_return = f32::from_bits(number as u32),
                41 => episode.length = number as u32,
                42 => episode.shortest_path = number as u32,
                _ => episode.success = !episode.success,
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever a peer sends is refused or can be trained on; nothing panics.
    #[test]
    fn damaged_messages_are_rejected_or_valid(
        expected in expectations(),
        seed: u64,
        damages in vec(damage(), 1..4),
    ) {
        let newest = 50;
        let unroll = valid(&expected, newest, &mut Xoshiro256PlusPlus::seed_from_u64(seed));
        let mut message = wire::encode(&unroll);
        for damage in damages {
            spoil(&mut message, damage);
        }
        if let Ok(admitted) = wire::decode(message.clone(), &expected, newest) {
            let Expectation { shape, .. } = &expected;
            let frames = shape.frames();
            prop_assert_eq!(wire::encode(&admitted), message);
            prop_assert_eq!(admitted.tokens.len(), (frames + shape.envs) * shape.tokens);
            prop_assert_eq!(admitted.actions.len(), frames);
            prop_assert_eq!(admitted.rewards.len(), 4 * frames);
            prop_assert_eq!(admitted.behaviour_logits.len(), 4 * ACTIONS * frames);
            prop_assert_eq!(admitted.policy_versions.len(), shape.ticks);
            let ends = admitted.flags.iter().filter(|&&f| f != 0).count();
            let truncated = admitted.flags.iter().filter(|&&f| f == flag::TRUNCATED).count();
            prop_assert_eq!(admitted.episodes.len(), ends);
            prop_assert_eq!(admitted.final_tokens.len(), truncated * shape.tokens);
            prop_assert_eq!(admitted.running_distances.len(), shape.envs);
            prop_assert!(admitted.oldest_version() <= newest);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(expected in expectations(), bytes in vec(any::<u8>(), 0..200)) {
        if let Ok(message) = proto::UnrollBatch::decode(&bytes[..]) {
            prop_assert!(wire::decode(message, &expected, 0).is_err());
        }
    }
}

/// Three ticks of two environments: the first reaches the goal at tick 1, the second is cut off at tick 2.
fn sample(carry_dtype: Dtype) -> (Expectation, proto::UnrollBatch) {
    let expected = expectation(3, 2, 4, 6, carry_dtype, 5);
    let carry = 12 * carry_dtype.size();
    let unroll = Unroll {
        session: 1,
        thread: 0,
        model_fingerprint: FINGERPRINT,
        sequence: 0,
        shape: expected.shape.clone(),
        tokens: [3, 4, 0, 1].repeat(8).into(),
        segments: vec![1, 2, 3, 1, 2, 3].into(),
        halt_log_probs: float_bytes([-0.5, -1.0, 0.0, -0.25, -0.75, -9.0]),
        actions: vec![0, 1, 2, 3, 0, 1].into(),
        rewards: float_bytes([0.0, -0.01, 1.0, 0.0, 0.0, 0.0]),
        flags: vec![0, 0, flag::TERMINATED, 0, 0, flag::TRUNCATED].into(),
        behaviour_logits: float_bytes((0..24).map(|i| i as f32)),
        carry_dtype,
        carry: vec![0; carry].into(),
        policy_versions: vec![6, 6, 7],
        final_tokens: vec![4, 3, 0, 2].into(),
        episodes: vec![
            EpisodeSummary {
                episode_return: 1.0,
                length: 4,
                shortest_path: 4,
                success: true,
                curriculum_distance: 0,
            },
            EpisodeSummary {
                episode_return: -0.05,
                length: 5,
                shortest_path: 9,
                success: false,
                curriculum_distance: 3,
            },
        ],
        running_distances: vec![0, 3],
    };
    (expected, wire::encode(&unroll))
}

const NEWEST: u64 = 7;

fn with_byte(array: &bytes::Bytes, index: usize, value: u8) -> bytes::Bytes {
    let mut content = array.to_vec();
    content[index] = value;
    content.into()
}

fn with_float(array: &bytes::Bytes, index: usize, value: f32) -> bytes::Bytes {
    let mut content = array.to_vec();
    content[4 * index..4 * index + 4].copy_from_slice(&value.to_le_bytes());
    content.into()
}

fn with_half(array: &bytes::Bytes, index: usize, value: f32) -> bytes::Bytes {
    let mut content = array.to_vec();
    content[2 * index..2 * index + 2].copy_from_slice(&half::bf16::from_f32(value).to_le_bytes());
    content.into()
}

type Damage = fn(&mut proto::UnrollBatch);

/// Each damage to an otherwise valid message, the field that the refusal names, and what it says of it.
#[rustfmt::skip]
const DAMAGES: &[(&str, &str, Damage)] = &[
    ("ticks", "0, but this run uses 3", |m| m.ticks = 0),
    ("ticks", "4, but this run uses 3", |m| m.ticks = 4),
    ("ticks", "4294967295", |m| m.ticks = u32::MAX),
    ("envs", "1, but this run uses 2", |m| m.envs = 1),
    ("envs", "4294967295", |m| m.envs = u32::MAX),
    ("tokens", "31 bytes, expected 32", |m| m.tokens.truncate(31)),
    ("tokens", "36 bytes, expected 32", |m| m.tokens = [3, 4, 0, 1].repeat(9).into()),
    ("tokens", "observation 7 holds 1 codes outside", |m| m.tokens = with_byte(&m.tokens, 30, 6)),
    ("tokens", "outside the vocabulary of 6", |m| m.tokens = with_byte(&m.tokens, 2, 255)),
    ("tokens", "observation 3 holds 2 agents and 1 goals", |m| m.tokens = with_byte(&m.tokens, 14, tile::AGENT)),
    ("tokens", "observation 2 holds 0 agents", |m| m.tokens = with_byte(&m.tokens, 8, tile::FLOOR)),
    ("tokens", "observation 0 holds 1 agents and 2 goals", |m| m.tokens = with_byte(&m.tokens, 3, tile::GOAL)),
    ("segments", "5 bytes, expected 6", |m| m.segments.truncate(5)),
    ("segments", "0 bytes, expected 6", |m| m.segments.clear()),
    ("halt_log_probs", "20 bytes, expected 24", |m| m.halt_log_probs.truncate(20)),
    ("halt_log_probs", "0 bytes, expected 24", |m| m.halt_log_probs.clear()),
    ("halt_log_probs", "0.5 is not the logarithm of a probability", |m| m.halt_log_probs = with_float(&m.halt_log_probs, 5, 0.5)),
    ("halt_log_probs", "NaN is not the logarithm", |m| m.halt_log_probs = with_float(&m.halt_log_probs, 0, f32::NAN)),
    ("halt_log_probs", "-inf is not the logarithm", |m| m.halt_log_probs = with_float(&m.halt_log_probs, 1, f32::NEG_INFINITY)),
    ("segments", "a decision has 0 segments, expected 1 to 3", |m| m.segments = with_byte(&m.segments, 5, 0)),
    ("segments", "a decision has 4 segments, expected 1 to 3", |m| m.segments = with_byte(&m.segments, 0, 4)),
    ("actions", "5 bytes, expected 6", |m| m.actions.truncate(5)),
    ("actions", "0 bytes, expected 6", |m| m.actions.clear()),
    ("actions", "4 is not one of the 4 moves", |m| m.actions = with_byte(&m.actions, 5, 4)),
    ("actions", "255 is not one of", |m| m.actions = with_byte(&m.actions, 0, 255)),
    ("rewards", "23 bytes, expected 24", |m| m.rewards.truncate(23)),
    ("rewards", "1.0000001 is outside", |m| m.rewards = with_float(&m.rewards, 5, 1.000_000_1)),
    ("rewards", "-1.5 is outside", |m| m.rewards = with_float(&m.rewards, 0, -1.5)),
    ("rewards", "NaN is outside", |m| m.rewards = with_float(&m.rewards, 3, f32::NAN)),
    ("rewards", "inf is outside", |m| m.rewards = with_float(&m.rewards, 3, f32::INFINITY)),
    ("rewards", "-inf is outside", |m| m.rewards = with_float(&m.rewards, 3, f32::NEG_INFINITY)),
    ("behaviour_logits", "92 bytes, expected 96", |m| m.behaviour_logits.truncate(92)),
    ("behaviour_logits", "NaN is not", |m| m.behaviour_logits = with_float(&m.behaviour_logits, 23, f32::NAN)),
    ("behaviour_logits", "-inf is not", |m| m.behaviour_logits = with_float(&m.behaviour_logits, 0, f32::NEG_INFINITY)),
    ("behaviour_logits", "10001 is not", |m| m.behaviour_logits = with_float(&m.behaviour_logits, 9, 10_001.0)),
    ("behaviour_logits", "-10001 is not", |m| m.behaviour_logits = with_float(&m.behaviour_logits, 9, -10_001.0)),
    ("flags", "5 bytes, expected 6", |m| m.flags.truncate(5)),
    ("flags", "0x03 is not one of", |m| m.flags = with_byte(&m.flags, 2, 3)),
    ("flags", "0x04 is not one of", |m| m.flags = with_byte(&m.flags, 0, 4)),
    ("flags", "0x80 is not one of", |m| m.flags = with_byte(&m.flags, 0, 0x80)),
    ("final_tokens", "0 bytes, expected 4", |m| m.final_tokens.clear()),
    ("final_tokens", "8 bytes, expected 4", |m| m.final_tokens = m.final_tokens.repeat(2).into()),
    ("final_tokens", "outside the vocabulary", |m| m.final_tokens = with_byte(&m.final_tokens, 3, 9)),
    ("final_tokens", "observation 0 holds 0 agents", |m| m.final_tokens = with_byte(&m.final_tokens, 1, tile::WALL)),
    ("carry_dtype", "0 is unknown", |m| m.carry_dtype = 0),
    ("carry_dtype", "3 is unknown", |m| m.carry_dtype = 3),
    ("carry_dtype", "-1 is unknown", |m| m.carry_dtype = -1),
    ("carry_dtype", "Bf16, but this run uses F32", |m| m.carry_dtype = proto::CarryDtype::Bf16 as i32),
    ("carry", "47 bytes, expected 48", |m| m.carry.truncate(47)),
    ("carry", "0 bytes, expected 48", |m| m.carry.clear()),
    ("carry", "NaN is not", |m| m.carry = with_float(&m.carry, 11, f32::NAN)),
    ("carry", "inf is not", |m| m.carry = with_float(&m.carry, 0, f32::INFINITY)),
    ("carry", "-10001 is not", |m| m.carry = with_float(&m.carry, 5, -10_001.0)),
    ("policy_versions", "2 versions for 3 ticks", |m| m.policy_versions = vec![6, 7]),
    ("policy_versions", "4 versions for 3 ticks", |m| m.policy_versions.push(7)),
    ("policy_versions", "go backwards", |m| m.policy_versions = vec![6, 7, 6]),
    ("policy_versions", "8 is newer than the newest published, 7", |m| m.policy_versions[2] = 8),
    ("episodes", "1 summaries for 2 ended", |m| m.episodes.truncate(1)),
    ("episodes", "3 summaries for 2 ended", |m| m.episodes.push(m.episodes[1])),
    ("episodes", "episode 0: success is false", |m| m.episodes[0].success = false),
    ("episodes", "episode 1: success is true", |m| m.episodes[1].success = true),
    ("episodes", "episode 0: length 0 is not in 1..=5", |m| m.episodes[0].length = 0),
    ("episodes", "episode 0: length 6 is not in 1..=5", |m| m.episodes[0].length = 6),
    ("episodes", "episode 1: truncated after 4 of 5", |m| m.episodes[1].length = 4),
    ("episodes", "episode 1: shortest path 0", |m| m.episodes[1].shortest_path = 0),
    ("episodes", "episode 0: shortest path 5 with length 4", |m| m.episodes[0].shortest_path = 5),
    ("episodes", "episode 0: length 1 does not fit its end at tick 1", |m| {
        m.episodes[0].length = 1;
        m.episodes[0].shortest_path = 1;
    }),
    ("checksum", "does not match", |m| m.halt_log_probs = with_float(&m.halt_log_probs, 0, -0.25)),
    ("checksum", "does not match", |m| m.segments = with_byte(&m.segments, 0, 2)),
    ("checksum", "does not match", |m| m.actions = with_byte(&m.actions, 0, 1)),
    ("checksum", "does not match", |m| m.rewards = with_float(&m.rewards, 0, 0.5)),
    ("checksum", "does not match", |m| m.policy_versions[0] = 5),
    ("checksum", "does not match", |m| m.sequence = 1),
    ("checksum", "does not match", |m| m.session = 2),
    ("checksum", "does not match", |m| m.episodes[1].curriculum_distance = 4),
    ("checksum", "does not match", |m| m.running_distances[1] = 4),
    ("checksum", "does not match", |m| m.checksum.truncate(15)),
    ("checksum", "missing", |m| m.checksum.clear()),
    ("running_distances", "0 distances for 2 environments", |m| m.running_distances.clear()),
    ("running_distances", "3 distances for 2 environments", |m| m.running_distances.push(0)),
    ("episodes", "episode 0: return NaN", |m| m.episodes[0].episode_return = f32::NAN),
    ("episodes", "episode 0: return 1.5", |m| m.episodes[0].episode_return = 1.5),
    ("episodes", "episode 1: return -5.5", |m| m.episodes[1].episode_return = -5.5),
];

#[test]
fn every_check_names_the_field_that_is_wrong() {
    let (expected, sound) = sample(Dtype::F32);
    assert!(wire::decode(sound.clone(), &expected, NEWEST).is_ok());
    for (field, says, damage) in DAMAGES {
        let mut message = sound.clone();
        damage(&mut message);
        let refusal = wire::decode(message, &expected, NEWEST).expect_err(says);
        assert_eq!(refusal.reason(), *field, "{refusal}");
        let text = refusal.to_string();
        assert!(text.starts_with(&format!("field `{field}`: ")), "{text}");
        assert!(text.contains(says), "{text:?} does not say {says:?}");
    }
}

#[test]
fn the_second_of_two_episodes_is_exactly_as_long_as_the_ticks_between() {
    let (expected, sound) = sample(Dtype::F32);
    // Tick 0 and tick 2 of the first environment.
    let twice = |length| {
        let mut message = sound.clone();
        message.flags = vec![flag::TERMINATED, 0, 0, 0, flag::TERMINATED, 0].into();
        message.final_tokens.clear();
        message.episodes[1] = message.episodes[0];
        message.episodes[1].length = length;
        message.episodes[1].shortest_path = 1;
        wire::decode(wire::seal_unroll(message), &expected, NEWEST)
    };
    assert!(twice(2).is_ok(), "{:?}", twice(2));
    for length in [1, 3] {
        assert_eq!(
            twice(length).expect_err("not two ticks").reason(),
            "episodes"
        );
    }
}

#[test]
fn a_carry_of_half_floats_is_checked_for_values_and_length() {
    let (expected, sound) = sample(Dtype::Bf16);
    assert!(wire::decode(sound.clone(), &expected, NEWEST).is_ok());
    let refusal = |carry: bytes::Bytes| {
        let message = proto::UnrollBatch {
            carry,
            ..sound.clone()
        };
        wire::decode(message, &expected, NEWEST).expect_err("a bad carry")
    };
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e5, -1e30] {
        let refusal = refusal(with_half(&sound.carry, 11, value));
        assert_eq!(refusal.reason(), "carry", "{value}: {refusal}");
    }
    let refusal = refusal(vec![0; 48].into());
    assert_eq!(refusal, Refusal::field("carry", "48 bytes, expected 24"));
}

#[test]
fn an_unroll_of_another_model_is_refused_before_anything_else() {
    let (expected, sound) = sample(Dtype::F32);
    let stranger = proto::UnrollBatch {
        model_fingerprint: 5,
        ticks: 99,
        ..sound
    };
    assert_eq!(
        wire::decode(stranger, &expected, NEWEST),
        Err(Refusal::Fingerprint {
            found: 5,
            expected: FINGERPRINT
        })
    );
}

/// The largest message there is: every tick truncates every environment, every number is as long as it gets.
fn largest(expected: &Expectation) -> proto::UnrollBatch {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
    let mut unroll = valid(expected, u64::MAX, &mut rng);
    let (frames, envs) = (unroll.shape.frames(), unroll.shape.envs);
    let observation = observation(unroll.shape.tokens, &mut rng);
    unroll.flags = vec![flag::TRUNCATED; frames].into();
    unroll.final_tokens = observation.repeat(frames).into();
    unroll.policy_versions = vec![u64::MAX; frames / envs];
    unroll.sequence = u64::MAX;
    unroll.running_distances = vec![u32::MAX; envs];
    unroll.episodes = vec![
        EpisodeSummary {
            episode_return: -0.5,
            length: expected.max_steps,
            shortest_path: u32::MAX,
            success: false,
            curriculum_distance: u32::MAX,
        };
        frames
    ];
    wire::encode(&unroll)
}

#[test]
fn the_size_limit_bounds_every_valid_message_and_little_more() {
    // A carry per token, a carry per environment, none; the runs of the presets and the smallest one.
    for (ticks, envs, tokens, carry, dtype) in [
        (16, 32, 121, 2 * 122 * 32, Dtype::F32),
        (16, 32, 143, 2 * 144 * 64, Dtype::Bf16),
        (16, 32, 121, 2 * 64, Dtype::Bf16),
        (1024, 4, 121, 0, Dtype::F32),
        (1, 1, 2, 0, Dtype::F32),
    ] {
        // One step each, so that every tick can end every episode.
        let expected = expectation(ticks, envs, tokens, carry, dtype, 1);
        let limit = expected.max_message_size();
        let largest = largest(&expected);
        assert!(wire::decode(largest.clone(), &expected, u64::MAX).is_ok());
        let size = largest.encoded_len();
        assert!(size <= limit, "{size} bytes do not fit into {limit}");
        assert!(
            limit <= size + size / 16 + 4096,
            "{limit} for {size} bytes at most"
        );
    }
}

#[test]
fn the_answer_to_a_handshake_is_taken_whole_or_not_at_all() {
    let joined = wire::seal_join(proto::JoinResponse {
        session: 1,
        run_id: "a run".into(),
        spec: "{\"p_change\":0.05}".into(),
        model_fingerprint: 2,
        seed: 3,
        wire_major: 1,
        wire_minor: 2,
        ..proto::JoinResponse::default()
    });
    assert!(wire::is_whole(&joined));
    let change = |how: fn(&mut proto::JoinResponse)| {
        let mut changed = joined.clone();
        how(&mut changed);
        wire::is_whole(&changed)
    };
    assert!(!change(|j| j.session ^= 1));
    assert!(!change(|j| j.run_id.push('x')));
    assert!(!change(|j| j.spec = j.spec.replace("0.05", "0.04")));
    assert!(!change(|j| j.model_fingerprint ^= 1));
    assert!(!change(|j| j.seed ^= 1));
    assert!(!change(|j| j.wire_major ^= 2));
    assert!(!change(|j| j.wire_minor ^= 4));
    assert!(!change(|j| j.checksum.clear()));
    assert!(!change(|j| j.checksum = vec![7; 16].into()));
    assert!(!change(|j| {
        j.wire_minor = 0;
        j.checksum.clear();
    }));
}

#[test]
fn only_decisions_that_halt_by_chance_have_log_probabilities() {
    let (expected, message) = sample(Dtype::F32);
    let other = Expectation {
        segments: Segments::range(1, 3),
        ..expected
    };
    let refused = wire::decode(message, &other, NEWEST);
    let expected = Refusal::field("halt_log_probs", "24 bytes, expected 0".to_owned());
    assert_eq!(refused, Err(expected));
}
