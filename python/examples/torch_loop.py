"""Collects a rollout with a PyTorch policy from the vector environment. It trains nothing.

python python/examples/torch_loop.py
"""

import gymnasium
import torch

import hrm_impala  # registers the environments

ENVS, TICKS = 64, 128


def main() -> None:
    """Acts with a small network, and shows where a learner would take over."""
    envs = gymnasium.make_vec("hrm_impala/RandomMaze-v0", num_envs=ENVS, p_change=0.1)
    policy = torch.nn.Sequential(
        torch.nn.Embedding(hrm_impala.TILES, 8),
        torch.nn.Flatten(),
        torch.nn.LazyLinear(64),
        torch.nn.ReLU(),
        torch.nn.Linear(64, hrm_impala.ACTIONS),
    )
    observations, _ = envs.reset(seed=1)
    episodes = successes = 0
    returns = torch.zeros(ENVS)
    for _ in range(TICKS):
        tiles = torch.from_numpy(observations).long()
        with torch.no_grad():
            actions = torch.distributions.Categorical(logits=policy(tiles)).sample()
        observations, rewards, terminated, truncated, infos = envs.step(actions.numpy())
        returns += torch.from_numpy(rewards)
        # A learner would store tiles, actions and rewards here. Where an episode was truncated, it would bootstrap
        # from infos["final_obs"], because `observations` already shows the next episode.
        ended = terminated | truncated
        episodes += int(ended.sum())
        successes += int(terminated.sum())
    print(f"{ENVS * TICKS} frames, {episodes} episodes ended, {successes} of them at the goal")
    print(f"mean return of an environment: {returns.mean():.3f}")


if __name__ == "__main__":
    main()
