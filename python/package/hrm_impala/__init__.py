"""HRM-Agent's mazes as Gymnasium environments, and trained agents that act in them.

Importing the package registers `hrm_impala/FourRooms-v0` and `hrm_impala/RandomMaze-v0`.
"""

import gymnasium

from hrm_impala._native import ACTIONS, TILES, Agent, held_out_seed
from hrm_impala.envs import MazeEnv, MazeVectorEnv

__all__ = ["ACTIONS", "TILES", "Agent", "MazeEnv", "MazeVectorEnv", "held_out_seed"]

for _name, _maze in (("FourRooms", "four-rooms"), ("RandomMaze", "random-maze")):
    gymnasium.register(
        f"hrm_impala/{_name}-v0",
        entry_point="hrm_impala.envs:MazeEnv",
        vector_entry_point="hrm_impala.envs:MazeVectorEnv",
        kwargs={"maze": _maze},
    )
