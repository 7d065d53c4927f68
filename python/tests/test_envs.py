"""The mazes as Gymnasium environments."""

import warnings
from pathlib import Path
from types import MappingProxyType
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import hrm_impala
from hrm_impala import MazeEnv, MazeVectorEnv
from hrm_impala._native import MazeSettings

NAMES = ["hrm_impala/FourRooms-v0", "hrm_impala/RandomMaze-v0"]


@pytest.mark.parametrize("name", NAMES)
def test_gymnasium_accepts_the_environments(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gymnasium.make(name, render_mode="rgb_array")
        check_env(env.unwrapped)
        env.close()


@pytest.mark.parametrize(
    ("maze", "actions", "picture"),
    [
        ("four-rooms", [], "four-rooms-7.txt"),
        ("random-maze", [], "random-maze-7.txt"),
        ("random-maze", [2, 2, 3, 0, 1] * 16, "random-maze-7-end.txt"),
    ],
)
def test_a_seed_gives_the_mazes_that_it_gives_in_rust(
    maze: str, actions: list[int], picture: str, known_mazes: Path
) -> None:
    env = MazeEnv(maze, render_mode="ansi")
    env.reset(seed=7)
    steps = [env.step(action) for action in actions]
    assert env.render() == (known_mazes / picture).read_text().strip()
    assert [truncated for _, _, _, truncated, _ in steps] == [False] * (len(steps) - 1) + [True] * bool(steps)


def test_the_seed_of_a_held_out_episode_is_that_of_an_evaluation() -> None:
    # The Rust test of seeds has the same number.
    assert hrm_impala.held_out_seed(7, 3) == 0x55ED_56AC_0B40_19C6


def test_the_oracle_reaches_the_goal_and_info_tells_how() -> None:
    env = MazeEnv("random-maze", p_change=0.0, doors=0)
    for seed in range(5):
        observation, info = env.reset(seed=seed)
        assert info == {"shortest_path": info["shortest_path"], "length": 0}
        rewards, terminated = [], False
        while not terminated:
            observation, reward, terminated, truncated, info = env.step(env.oracle_action())
            rewards.append(reward)
            assert not truncated
        assert info == {"shortest_path": len(rewards), "length": len(rewards)}
        assert rewards == [0.0] * (len(rewards) - 1) + [1.0]
        assert observation.shape == (11, 13) and observation.dtype == np.uint8


def test_options_are_those_of_the_configuration_and_so_are_their_errors() -> None:
    env = gymnasium.make(NAMES[1], rows=3, cols=4, fixed_walls=2, doors=1, max_steps=5)
    assert env.observation_space.shape == (7, 9)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"doors": 38}, r"invalid env\.doors = 38 \(from a keyword argument\): .*\n  remedy: set it to at most 37"),
        ({"p_change": 1.5}, r"invalid env\.p_change = 1\.5 .*from 0 to 1"),
        ({"p_change": "often"}, r"invalid env\.p_change = \"often\" "),
        ({"rows": True}, r"invalid env\.rows = true "),
        ({"dors": 3}, r"invalid env\.dors = 3 .*unknown key\n  remedy: did you mean env\.doors"),
        ({"maze": "hedge"}, r"invalid env\.maze = \"hedge\""),
    ]
    for options, message in wrong:
        for create in (MazeEnv, MazeVectorEnv):
            with pytest.raises(ValueError, match=message):
                create(**{"maze": "random-maze", **options})


def test_settings_take_a_dictionary_as_their_signature_says() -> None:
    with pytest.raises(TypeError):
        MazeSettings(MappingProxyType({"maze": "four-rooms"}))  # type: ignore[arg-type]


def test_pixels_and_text_show_the_observation() -> None:
    pixels = gymnasium.make(NAMES[0], render_mode="rgb_array")
    observation, _ = pixels.reset(seed=7)
    frame = np.asarray(pixels.render())
    assert frame.shape == (11 * 16, 11 * 16, 3) and frame.dtype == np.uint8
    colours = {tile: {tuple(colour) for colour in frame[8::16, 8::16][observation == tile]} for tile in (0, 1, 3, 4)}
    assert all(len(of_tile) == 1 for of_tile in colours.values())
    assert len(set.union(*colours.values())) == 4
    texts = MazeVectorEnv(2, render_mode="ansi")
    texts.reset(seed=7)
    single = MazeEnv(render_mode="ansi")
    for text, seed in zip(texts.render() or (), (7, 8), strict=True):
        single.reset(seed=seed)
        assert text == single.render()
    with pytest.raises(ValueError, match='invalid render_mode = "human"'):
        MazeEnv(render_mode="human")


def test_wrong_actions_and_steps_out_of_turn_are_refused() -> None:
    env = MazeEnv(max_steps=1)
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(0)
    env.reset(seed=1)
    for action in (-1, 4, 300):
        with pytest.raises(ValueError, match=f"invalid action {action}"):
            env.step(action)
    for number in (1.9, np.float64(1.0), "1"):
        with pytest.raises(TypeError, match="invalid action .*from 0 to 3\n  remedy: 0 is north"):
            env.step(number)  # type: ignore[arg-type]
    env.step(np.int8(0))
    with pytest.raises(RuntimeError, match="the episode has ended"):
        env.step(0)
    envs = MazeVectorEnv(2)
    with pytest.raises(gymnasium.error.ResetNeeded):
        envs.step(np.zeros(2, dtype=np.int64))
    envs.reset(seed=1)
    with pytest.raises(ValueError, match=r"invalid actions of shape \[3\]"):
        envs.step(np.zeros(3, dtype=np.int64))
    with pytest.raises(ValueError, match="invalid action 4"):
        envs.step(np.array([0, 4]))
    with pytest.raises(TypeError):
        envs.step(np.array([0.0, 1.5]))
    with pytest.raises(ValueError, match="invalid number of seeds 3"):
        envs.reset(seed=[1, 2, 3])


def test_seeds_that_are_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match=f"invalid seed {2**64}: it must be a whole number from 0 to {2**64 - 1}"):
        MazeEnv().reset(seed=2**64)
    envs = MazeVectorEnv(2)
    with pytest.raises(ValueError, match="invalid seed -1: .*\n  remedy: give a number in this range"):
        envs.reset(seed=[0, -1])
    with pytest.raises(ValueError, match=f"seed {2**64}\n  remedy: give a seed of at most {2**64 - 2}"):
        envs.reset(seed=2**64 - 1)
    envs.reset(seed=2**64 - 2)
    half: Any = [0, 0.5]
    with pytest.raises(TypeError, match="invalid seed 0.5: it must be a whole number"):
        envs.reset(seed=half)


def equal(first: Any, second: Any) -> bool:
    """Compares what environments return: arrays, also of arrays and None, and dictionaries of them."""
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(equal(first[key], second[key]) for key in first)
    if isinstance(first, np.ndarray) and first.dtype == object:
        return all(map(equal, first, second))
    if isinstance(first, tuple):
        return len(first) == len(second) and all(map(equal, first, second))
    same_type: bool = getattr(first, "dtype", None) == getattr(second, "dtype", None)
    return same_type and np.array_equal(first, second)


@pytest.mark.parametrize("name", NAMES)
def test_the_vector_environment_is_gymnasiums_of_single_ones(name: str) -> None:
    count = 5
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        envs = gymnasium.make_vec(name, num_envs=count, max_steps=30)
    assert isinstance(envs, MazeVectorEnv)
    reference = SyncVectorEnv(
        [lambda: gymnasium.make(name, max_steps=30, disable_env_checker=True)] * count,
        autoreset_mode=AutoresetMode.SAME_STEP,
    )
    for space in ("observation_space", "action_space", "single_observation_space", "single_action_space"):
        assert getattr(envs, space) == getattr(reference, space)
    assert envs.metadata["autoreset_mode"] == AutoresetMode.SAME_STEP
    actions = np.random.default_rng(1)
    ended = 0
    for seed in (3, None, [5, 9, 2**64 - 1, 0, 9]):
        assert equal(envs.reset(seed=seed), reference.reset(seed=seed))  # type: ignore[arg-type]
        for _ in range(100):
            chosen = actions.integers(4, size=count)
            stepped, expected = envs.step(chosen), reference.step(chosen)
            assert equal(stepped, expected)
            assert stepped[0] in envs.observation_space
            ended += int(np.count_nonzero(stepped[2] | stepped[3]))
    assert ended > 40


def test_returned_arrays_stay_as_they_are() -> None:
    envs = MazeVectorEnv(3)
    observations, _ = envs.reset(seed=1)
    before = observations.copy()
    after = envs.step(np.full(3, 1))[0]
    assert np.array_equal(observations, before) and not np.array_equal(after, before)


def test_without_a_seed_episodes_differ() -> None:
    first, second = (MazeVectorEnv(4).reset()[0] for _ in range(2))
    assert not np.array_equal(first, second)
    first, second = (MazeEnv().reset()[0] for _ in range(2))
    assert not np.array_equal(first, second)
