"""Evaluates a checkpoint on held-out episodes, and gets the same successes as `hrm-learner eval`.

python python/examples/evaluate.py runs/four-rooms --episodes 200
"""

import argparse

import numpy as np

from hrm_impala import Agent, MazeVectorEnv, held_out_seed


def successes(agent: Agent, seeds: list[int]) -> int:
    """Walks one episode per seed, side by side, and returns the number that reaches the goal."""
    envs = MazeVectorEnv(len(seeds), **agent.config["env"])
    observations, _ = envs.reset(seed=seeds)
    agent.reset()
    walking, reached = np.ones(len(seeds), dtype=bool), 0
    while walking.any():
        observations, _, terminated, truncated, _ = envs.step(agent.act(observations))
        reached += np.count_nonzero(walking & terminated)
        walking &= ~(terminated | truncated)
    return reached


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", help="a run's folder, or a checkpoint file")
    parser.add_argument("--episodes", type=int, default=200)
    parser.add_argument("--seed", type=int, help="the evaluation's seed (default: eval.seed)")
    arguments = parser.parse_args()
    trained = Agent.load(arguments.checkpoint)
    seed = trained.config["eval"]["seed"] if arguments.seed is None else arguments.seed
    held_out = [held_out_seed(seed, index) for index in range(arguments.episodes)]
    total = sum(successes(trained, held_out[first : first + 128]) for first in range(0, len(held_out), 128))
    print(f"{total} of {len(held_out)} held-out episodes reach the goal ({total / len(held_out):.1%})")
