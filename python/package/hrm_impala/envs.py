"""The mazes as Gymnasium environments."""

import operator
from collections.abc import Sequence
from typing import Any, SupportsIndex, TypeVar, cast

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete, MultiDiscrete, Space
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray
from typing_extensions import TypedDict, Unpack

from hrm_impala._native import ACTIONS, TILES, Mazes, MazeSettings, SingleMaze, text

Observation = NDArray[np.uint8]
Frame = NDArray[np.uint8]

# The colour of each tile: floor, wall, closed door, agent, goal, unknown.
COLOURS = np.array(
    [(250, 250, 247), (58, 62, 70), (186, 117, 23), (37, 99, 176), (46, 139, 87), (160, 160, 160)], dtype=np.uint8
)
# Pixels of a tile's side.
TILE_SIDE = 16
RENDER_MODES = ["ansi", "rgb_array"]
# Seeds of mazes have 64 bits; NumPy's generator draws them with 63.
SEEDS, LAST_SEED = 2**63, 2**64 - 1

Native = TypeVar("Native", SingleMaze, Mazes)


class Options(TypedDict, total=False):
    """The `env.*` keys of a configuration but `env.maze`, with its defaults."""

    p_change: float
    doors: int
    fixed_walls: int
    max_steps: int
    rows: int
    cols: int
    min_distance: int
    max_distance: int
    door_process: str


class MazeEnv(gymnasium.Env[Observation, np.int64]):
    """One maze whose doors open and close. Actions are 0 north, 1 east, 2 south, 3 west.

    An observation is a `uint8` array of tiles: 0 floor, 1 wall, 2 closed door, 3 agent, 4 goal. `info` has
    `shortest_path` and `length` of the episode, in steps. Every option has the name, default and error of its `env.*`
    key.
    """

    metadata: dict[str, Any] = {"render_modes": RENDER_MODES, "render_fps": 8}

    def __init__(
        self, maze: str = "four-rooms", render_mode: str | None = None, **options: Unpack[Options]
    ) -> None:
        self.render_mode = _checked(render_mode)
        self._settings = MazeSettings({"maze": maze, **options})
        self.observation_space, self.action_space = _spaces(self._settings)
        self._maze: SingleMaze | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Starts an episode: with a seed the first one of that seed, otherwise the next one."""
        super().reset(seed=seed)
        if seed is None and self._maze is not None:
            self._maze.reset()
        else:
            drawn = int(self.np_random.integers(SEEDS)) if seed is None else seed
            self._maze = SingleMaze(self._settings, drawn)
        return self._maze.observation(), self._info()

    def step(self, action: SupportsIndex) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Makes one move. Then the doors may change."""
        maze = self._started()
        reward, terminated, truncated = maze.step(_code(action))
        return maze.observation(), reward, terminated, truncated, self._info()

    def oracle_action(self) -> int:
        """Returns the first move of a shortest path to the goal with the current doors, the replanning oracle's."""
        return self._started().oracle_action()

    def render(self) -> Any:
        """Returns the maze as text or as pixels `[H, W, 3]`, by `render_mode`."""
        return _rendered(self._started().observation(), self.render_mode)

    def _started(self) -> SingleMaze:
        return _started(self._maze)

    def _info(self) -> dict[str, Any]:
        maze = self._started()
        return {"shortest_path": maze.shortest_path, "length": maze.length}


class MazeVectorEnv(VectorEnv[Observation, NDArray[np.integer[Any]], NDArray[Any]]):
    """N mazes that step together in native code, each as `MazeEnv`.

    An episode that ends is followed by the next one in the same step. Its last observation and info are then in
    `final_obs` and `final_info`, as in Gymnasium's own vector environments with this autoreset mode.
    """

    metadata: dict[str, Any] = {**MazeEnv.metadata, "autoreset_mode": AutoresetMode.SAME_STEP}

    def __init__(
        self, num_envs: int = 1, maze: str = "four-rooms", render_mode: str | None = None, **options: Unpack[Options]
    ) -> None:
        self.num_envs = num_envs
        self.render_mode = _checked(render_mode)
        self._settings = MazeSettings({"maze": maze, **options})
        self.single_observation_space, self.single_action_space = _spaces(self._settings)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = MultiDiscrete([ACTIONS] * num_envs)
        # All infos share it, so nobody may write to it.
        self._all = np.ones(num_envs, dtype=np.bool_)
        self._all.flags.writeable = False
        self._mazes: Mazes | None = None

    def reset(
        self, *, seed: int | Sequence[int] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Starts an episode in every maze.

        `seed` is one seed for each maze, or a number to which each maze's index is added. Without it every maze starts
        its next episode.
        """
        if seed is None and self._mazes is not None:
            self._mazes.reset()
        else:
            self._mazes = Mazes(self._settings, self._seeds(seed))
        return self._mazes.observations(), _infos(*self._mazes.figures(), self._all)

    def step(
        self, actions: NDArray[np.integer[Any]]
    ) -> tuple[Observation, NDArray[Any], NDArray[Any], NDArray[Any], dict[str, Any]]:
        """Makes one move in every maze."""
        mazes = _started(self._mazes)
        codes = np.asarray(actions).astype(np.int64, casting="safe", copy=False)
        rewards, terminated, truncated, any_ended = mazes.step(codes)
        infos = _infos(*mazes.figures(), self._all)
        if any_ended:
            ended = terminated | truncated
            observations, figures = mazes.ended()
            final_info = _infos(*figures, ended)
            infos.update(final_obs=observations, _final_obs=ended, final_info=final_info, _final_info=ended)
        return mazes.observations(), rewards, terminated, truncated, infos

    def render(self) -> tuple[Any, ...] | None:
        """Returns every maze as `MazeEnv.render` does."""
        observations = _started(self._mazes).observations()
        return tuple(_rendered(observation, self.render_mode) for observation in observations)

    def _seeds(self, seed: int | Sequence[int] | None) -> list[int]:
        if seed is not None and not isinstance(seed, int):
            if len(seed) != self.num_envs:
                raise ValueError(
                    f"invalid number of seeds {len(seed)}: there are {self.num_envs} environments\n"
                    "  remedy: give one seed, or one for each"
                )
            return list(seed)
        super().reset(seed=seed)
        if seed is not None:
            last = seed + self.num_envs - 1
            if last > LAST_SEED:
                raise ValueError(
                    f"invalid seed {seed}: the last of {self.num_envs} environments would have the seed {last}\n"
                    f"  remedy: give a seed of at most {LAST_SEED - self.num_envs + 1}"
                )
            return [seed + index for index in range(self.num_envs)]
        return [int(drawn) for drawn in self.np_random.integers(SEEDS, size=self.num_envs)]


def _code(action: SupportsIndex) -> int:
    try:
        return operator.index(action)
    except TypeError:
        raise TypeError(
            f"invalid action {action!r}: it must be a whole number from 0 to {ACTIONS - 1}\n"
            "  remedy: 0 is north, 1 east, 2 south, 3 west"
        ) from None


def _infos(
    shortest_paths: NDArray[np.int64], lengths: NDArray[np.int64], present: NDArray[np.bool_]
) -> dict[str, Any]:
    """Returns the infos of episodes. The mask under `_key` tells which environments have the key."""
    return {"shortest_path": shortest_paths, "_shortest_path": present, "length": lengths, "_length": present}


def _spaces(settings: MazeSettings) -> tuple[Space[Observation], Space[np.int64]]:
    # The type of a Box does not tell its dtype.
    tiles = cast("Space[Observation]", Box(0, TILES - 1, settings.shape, np.uint8))
    return tiles, Discrete(ACTIONS)


def _checked(render_mode: str | None) -> str | None:
    if render_mode is not None and render_mode not in RENDER_MODES:
        raise ValueError(f'invalid render_mode = "{render_mode}"\n  remedy: set it to {" or ".join(RENDER_MODES)}')
    return render_mode


def _started(maze: Native | None) -> Native:
    if maze is None:
        raise gymnasium.error.ResetNeeded("no episode has started\n  remedy: call reset() first")
    return maze


def _rendered(observation: Observation, render_mode: str | None) -> str | Frame | None:
    if render_mode is None:
        gymnasium.logger.warn('render() without a render_mode; set render_mode="ansi" or "rgb_array"')
        return None
    if render_mode == "ansi":
        return text(observation)
    return COLOURS[observation].repeat(TILE_SIDE, axis=0).repeat(TILE_SIDE, axis=1)
