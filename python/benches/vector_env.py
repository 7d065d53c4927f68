"""Measures the steps per second of the vector environment, from Python: 64 environments, random actions, one core."""

import os
import time

import gymnasium
import numpy as np

import hrm_impala  # noqa: F401  registers the environments

ENVS = 64
# Ticks of one measurement, and measurements; the median counts.
TICKS = 20_000
ROUNDS = 5


def steps_per_second(name: str) -> float:
    """Returns the median over the measurements."""
    envs = gymnasium.make_vec(name, num_envs=ENVS)
    envs.reset(seed=1)
    actions = np.random.default_rng(1).integers(hrm_impala.ACTIONS, size=(TICKS, ENVS))
    rates = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for of_tick in actions:
            envs.step(of_tick)
        rates.append(ENVS * TICKS / (time.perf_counter() - start))
    return float(np.median(rates))


if __name__ == "__main__":
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    for name in ("hrm_impala/FourRooms-v0", "hrm_impala/RandomMaze-v0"):
        print(f"{name:<28} {steps_per_second(name) / 1e6:6.2f} M steps/s  ({ENVS} environments, one core)")
