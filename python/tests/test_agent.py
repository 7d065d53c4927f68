"""Checkpoints that act."""

import csv
import hashlib
import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hrm_impala import Agent, MazeVectorEnv, held_out_seed

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
EPISODES, SEED = 150, 17


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_it_decides_as_hrm_learner_forward_does(checkpoint: Path) -> None:
    agent = Agent.load(checkpoint)
    observations = lines(checkpoint.with_name("tokens.jsonl"))
    expected = lines(checkpoint.with_name("forward.jsonl"))
    assert len(observations) == 3
    for tokens, forward in zip(observations, expected, strict=True):
        action = agent.act(np.array(tokens, dtype=np.uint8).reshape(11, 11))
        last = forward["segments"][-1]
        np.testing.assert_allclose(agent.logits, [last["logits"]], rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(agent.values, [last["value"]], rtol=1e-4, atol=1e-4)
        assert action == np.argmax(last["logits"])
        assert agent.segments.tolist() == [len(forward["segments"])]


def evaluate(learner: Path, checkpoint: Path, policy: str, out: Path) -> tuple[int, list[tuple[bool, int]]]:
    """Returns the successes that `hrm-learner eval` prints, and the success and length of each episode."""
    arguments = ["eval", "--json", "--policy", policy, "--episodes", str(EPISODES), "--seed", str(SEED)]
    arguments += ["--checkpoint", str(checkpoint), "--episodes-out", str(out)]
    printed = subprocess.run([learner, *arguments], check=True, capture_output=True, text=True).stdout
    with out.open() as file:
        rows = list(csv.DictReader(file))
    success: float = json.loads(printed)["success"]
    return round(success * EPISODES), [
        (row[f"{policy}_success"] == "1", int(row[f"{policy}_length"])) for row in rows
    ]


@pytest.mark.parametrize("policy", ["greedy", "sampled"])
def test_it_walks_every_held_out_episode_as_hrm_learner_eval_does(
    policy: str, learner: Path, checkpoint: Path, tmp_path: Path
) -> None:
    successes, expected = evaluate(learner, checkpoint, policy, tmp_path / "episodes.csv")
    agent = Agent.load(checkpoint)
    seeds = [held_out_seed(SEED, index) for index in range(EPISODES)]
    envs = MazeVectorEnv(EPISODES, **agent.config["env"])
    observations, _ = envs.reset(seed=seeds)
    agent.seed(seeds)
    walked: list[tuple[bool, int] | None] = [None] * EPISODES
    while None in walked:
        actions = agent.act(observations, sample=policy == "sampled")
        observations, _, terminated, truncated, infos = envs.step(actions)
        agent.reset(terminated | truncated)
        for env in np.flatnonzero(terminated | truncated):
            walked[env] = walked[env] or (bool(terminated[env]), int(infos["final_info"]["length"][env]))
    assert walked == expected
    assert sum(success for success, _ in expected) == successes
    assert 0 < successes < EPISODES, "both ends occur"


def test_the_example_gets_the_successes_of_hrm_learner_eval(learner: Path, checkpoint: Path, tmp_path: Path) -> None:
    successes, _ = evaluate(learner, checkpoint, "greedy", tmp_path / "episodes.csv")
    arguments = ["--episodes", str(EPISODES), "--seed", str(SEED)]
    command = [sys.executable, str(EXAMPLES / "evaluate.py"), str(checkpoint), *arguments]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert printed.startswith(f"{successes} of {EPISODES} held-out episodes reach the goal")


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="PyTorch is not installed")
def test_the_example_with_pytorch_runs() -> None:
    printed = subprocess.run([sys.executable, EXAMPLES / "torch_loop.py"], check=True, capture_output=True, text=True)
    assert printed.stdout.startswith("8192 frames, ")


def test_it_is_found_by_run_by_folder_and_by_file(checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    copied = shutil.copy(checkpoint, folder)
    for place in (tmp_path, folder, copied, str(copied)):
        assert Agent.load(place).config["run"]["name"] == "four-rooms"
    (folder / "000000006145.safetensors").write_bytes(Path(copied).read_bytes()[:-1])
    with pytest.warns(UserWarning, match=r"000000006145\.safetensors: .*; using the previous checkpoint"):
        Agent.load(tmp_path)


def test_exported_weights_act_as_their_checkpoint(learner: Path, checkpoint: Path, tmp_path: Path) -> None:
    weights, plain = tmp_path / "weights.safetensors", tmp_path / "plain.safetensors"
    export = ["export", "--checkpoint", str(checkpoint), "--out", str(weights)]
    subprocess.run([learner, *export], check=True, capture_output=True)
    saved, exported = Agent.load(checkpoint), Agent.load(weights)
    assert exported.config == saved.config
    observations, _ = MazeVectorEnv(4).reset(seed=1)
    assert np.array_equal(saved.act(observations), exported.act(observations))
    assert np.array_equal(saved.logits, exported.logits)
    # A file of other tensors: no metadata, and none of its own either.
    plain.write_bytes((2).to_bytes(8, "little") + b"{}")
    with pytest.raises(ValueError, match="not a checkpoint of this program.*\n  remedy: .* import"):
        Agent.load(plain)


def test_what_cannot_be_loaded_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no checkpoint"):
        Agent.load(tmp_path)
    (tmp_path / "text.safetensors").write_text("no tensors")
    with pytest.raises(ValueError, match=r"text\.safetensors: not safetensors"):
        Agent.load(tmp_path / "text.safetensors")
    with pytest.raises(ValueError, match=r"gone\.safetensors: holds no checkpoint"):
        Agent.load(tmp_path / "gone.safetensors")


def write_with(checkpoint: Path, out: Path, settings: dict[str, Any]) -> None:
    """Writes a checkpoint with other settings of its run, and with the checksum of its new content."""
    content = checkpoint.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    tensors = json.loads(content[8:start])
    metadata = tensors.pop("__metadata__")
    config = json.loads(metadata["hrm.config"])
    for key, value in settings.items():
        section, name = key.split(".")
        config[section][name] = value
    metadata["hrm.config"] = json.dumps(config)
    fields = [metadata["hrm.config"].encode(), metadata["hrm.state"].encode()]
    for name, tensor in sorted(tensors.items()):
        first, end = tensor["data_offsets"]
        kind = f"{tensor['dtype']} {tensor['shape']}"
        fields += [name.encode(), kind.encode(), content[start + first : start + end]]
    lengths = (len(field).to_bytes(8, "little") for field in fields)
    parts = b"".join(length + field for length, field in zip(lengths, fields, strict=True))
    metadata["hrm.sha256"] = hashlib.sha256(parts).hexdigest()
    header = json.dumps({"__metadata__": metadata, **tensors}).encode()
    out.write_bytes(len(header).to_bytes(8, "little") + header + content[start:])


def test_a_file_with_the_settings_of_a_huge_model_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "000000006144.safetensors"
    write_with(checkpoint, out, {})
    assert Agent.load(out).config == Agent.load(checkpoint).config
    huge: list[tuple[dict[str, Any], str]] = [
        (
            {"env.maze": "random-maze", "env.rows": 100_000, "env.cols": 100_000},
            r"6144\.safetensors: invalid env\.rows = 100000 in its configuration: .*\n  remedy: use a checkpoint",
        ),
        (
            {"model.hidden": 4096, "model.h_layers": 256, "model.l_layers": 256},
            r"tensor embed\.token has shape \[6, 16\], expected \[6, 4096\]",
        ),
    ]
    for settings, message in huge:
        write_with(checkpoint, out, settings)
        with pytest.raises(ValueError, match=message):
            Agent.load(out)


def test_each_environment_has_its_own_carry_until_it_is_reset(checkpoint: Path) -> None:
    agent = Agent.load(checkpoint)
    observations, _ = MazeVectorEnv(3).reset(seed=4)

    def logits() -> Any:
        agent.act(observations)
        return agent.logits

    first, second = logits(), logits()
    assert not np.allclose(first, second, atol=1e-6), "the carry matters"
    for indices, mask in (([1], [False, True, False]), (np.array([True, False, True]), [True, False, True])):
        agent.reset()
        assert np.array_equal(logits(), first)
        agent.reset(indices)
        assert np.array_equal(logits(), np.where(np.array(mask)[:, None], first, second))
    agent.reset()
    alone = agent.act(observations[2])
    assert isinstance(alone, int)
    assert np.array_equal(agent.logits, first[2:]) and agent.values.shape == (1,)
    agent.reset()
    assert np.array_equal(agent.act(observations.reshape(3, 121)), np.argmax(first, axis=1))


def test_draws_follow_the_seed(checkpoint: Path) -> None:
    agent = Agent.load(checkpoint)
    observations, _ = MazeVectorEnv(64).reset(seed=4)

    def drawn(seeds: int | list[int]) -> Any:
        agent.reset()
        agent.seed(seeds)
        return agent.act(observations, sample=True)

    assert np.array_equal(drawn(1), drawn(1))
    assert not np.array_equal(drawn(1), drawn(2))
    assert np.array_equal(drawn(list(range(64))), drawn(list(range(64))))
    with pytest.raises(ValueError, match="invalid number of seeds 2"):
        drawn([1, 2])
    refused: list[tuple[Any, type[Exception], str]] = [
        (-1, ValueError, "invalid seed -1: it must be a whole number from 0 to"),
        ([1, 2**64], ValueError, f"invalid seed {2**64}: it must be a whole number from 0 to"),
        (0.5, TypeError, "invalid seed 0.5: it must be a whole number from 0 to"),
        ([1, None], TypeError, "invalid seed None: it must be a whole number from 0 to"),
    ]
    for seeds, kind, message in refused:
        with pytest.raises(kind, match=message):
            agent.seed(seeds)
    arrays: tuple[Any, ...] = (np.array(1), np.arange(64))
    for seeds in arrays:
        agent.seed(seeds)


def test_wrong_observations_and_indices_are_refused(checkpoint: Path) -> None:
    agent = Agent.load(checkpoint)
    observations, _ = MazeVectorEnv(3).reset(seed=4)
    before: tuple[Any, ...] = ([0], [-1], np.zeros(3, dtype=bool))
    for unknown in before:
        with pytest.raises(ValueError, match=r"the agent keeps no carry until it acts\n  remedy: call act\(\) first"):
            agent.reset(unknown)
    agent.reset([])
    agent.act(observations)
    with pytest.raises(ValueError, match="invalid number of environments 2"):
        agent.act(observations[:2])
    with pytest.raises(ValueError, match=r"invalid observation of shape \[3, 11, 10\]"):
        agent.act(observations[:, :, 1:])
    with pytest.raises(ValueError, match="invalid observation with the tile 6"):
        agent.act(np.full((11, 11), 6, dtype=np.uint8))
    with pytest.raises(TypeError):
        agent.act(observations.astype(np.float32))
    for index in (3, -1):
        with pytest.raises(ValueError, match=f"invalid index {index}: .*\n  remedy: give indices from 0 to 2"):
            agent.reset([index])
    no_indices: tuple[Any, ...] = (1, [0.5], [[0], [1]], ["all"])
    for given in no_indices:
        with pytest.raises(TypeError, match="invalid indices .*\n  remedy: give a list of the environments' numbers"):
            agent.reset(given)
    with pytest.raises(ValueError, match="invalid number of environments 2"):
        agent.reset(np.zeros(2, dtype=bool))
