"""What every panel must show of run `carry` at the end of each state of history.py: healthy, starved, down, complete.

A stat panel has a text and a colour per state. A panel of curves has four numbers per curve, or None where the curve
has no value. A table has its number of lines, and cells of its first line.
"""

from __future__ import annotations

Row = tuple[float | None, float | None, float | None, float | None]
NONE: Row = (None, None, None, None)
ZERO: Row = (0, 0, None, 0)


def constant(value: float) -> Row:
    """A value of the learner that does not depend on the state; it ends when the learner is down."""
    return (value, value, None, value)


def of_actors(healthy: float, starved: float, down: float) -> dict[str, Row]:
    """The curves of a value that is the same for each actor."""
    return dict.fromkeys(SPREAD, (healthy, starved, down, None))


SPREAD = ("lowest", "10% are below", "half are below", "90% are below", "highest")
ACTORS = tuple(f"actors, {curve}" for curve in SPREAD)
STAGES = ("batch", "recompute", "vtrace", "passes", "publish", "checkpoint", "wait")

# Tiles: the text and the colour in each state.
TILES: dict[str, dict[str, tuple[str, str, str, str]]] = {
    "Training": {
        "Alerts": ("none green", "HrmLearnerStarved red", "HrmLearnerDown red", "none green"),
        "Actors": ("200 green", "4 green", "0 red", "complete blue"),
        # They describe the run, so the tile keeps its last value of the range.
        "Progress": ("50% blue", "75% blue", "not known blue", "100% blue"),
        "Success": ("95% green", "95% green", "not known yet blue", "95% green"),
        "Frames trained": ("20000 frames/s green", "400 frames/s green", "0 frames/s red", "complete blue"),
        "Too old to train on": ("0% green", "0% green", "0% green", "complete blue"),
        # The last checkpoint is that of the state before.
        "Checkpoint age": ("5 min green", "5 min green", "1.08 hour red", "complete blue"),
        "Updates skipped": ("0 green", "0 green", "0 green", "complete blue"),
    },
    "Pipeline": {
        "Bottleneck": (
            "learner: passes blue",
            "actor: infer blue",
            "none: nothing moves blue",
            "none: nothing moves blue",
        ),
        "Learner busy": ("88% green", "28% red", "0% red", "complete blue"),
        "Actors busy": ("87% green", "98% green", "0% red", "complete blue"),
        "Frames trained": ("20000 frames/s green", "400 frames/s green", "0 frames/s red", "complete blue"),
        "Queue full": ("12.5% green", "0% green", "0% green", "complete blue"),
        "Too old to train on": ("0% green", "0% green", "0% green", "complete blue"),
        "Rejected": ("0 green", "0 green", "0 green", "complete blue"),
        # 20,000 frames of 50 bytes, and 200 copies of 1 MB every two seconds.
        "Traffic": ("101 MB/s blue", "420 kB/s blue", "0 B/s blue", "0 B/s blue"),
    },
    "Fleet": {
        "Learners down": ("0 green", "0 green", "1 red", "complete blue"),
        "Actors up": ("100% green", "100% green", "100% green", "complete blue"),
        "Actors joined": ("200 green", "4 green", "0 red", "complete blue"),
        # Two versions of eight.
        "Farthest behind": ("25% green", "25% green", "0% green", "complete blue"),
        "Reconnections": ("0 green", "0 green", "480 red", "complete blue"),
        # 48 of 201 processes.
        "Started lately": ("23.9% orange", "0% green", "0% green", "complete blue"),
        "Starts of the run": ("3 green", "3 green", "not known green", "3 green"),
        "Releases": ("1 green", "1 green", "1 green", "1 green"),
    },
}

# The tiles of the other two runs, which are the same in every state.
OTHER_TILES: dict[str, dict[str, str]] = {
    "Training": {
        "Alerts": "none green",
        "Actors": "3 green",
        "Progress": "10% blue",
        "Success": "not known yet blue",
        "Frames trained": "60 frames/s green",
        "Too old to train on": "0% green",
        "Checkpoint age": "2 min green",
        "Updates skipped": "0 green",
    },
    "Pipeline": {
        "Bottleneck": "actor: infer blue",
        "Learner busy": "68% green",
        "Actors busy": "87% green",
        "Frames trained": "60 frames/s green",
        "Queue full": "3.12% green",
        "Too old to train on": "0% green",
        "Rejected": "0 green",
        "Traffic": "603 kB/s blue",
    },
    "Fleet": {
        "Learners down": "0 green",
        "Actors up": "100% green",
        "Actors joined": "3 green",
        "Farthest behind": "25% green",
        "Reconnections": "0 green",
        "Started lately": "0% green",
        "Starts of the run": "3 green",
        "Releases": "1 green",
    },
}

# Curves, points, bars and heat maps: the last value in each state.
CURVES: dict[str, dict[str, dict[str, Row]]] = {
    "Training": {
        "Success by maze": {
            "carry on four-rooms": constant(0.95),
            "carry on four-rooms, evaluated": constant(0.97),
        },
        "Success against frames": {
            "frames": (5e6, 7.5e6, None, 1e7),
            "in training": constant(0.95),
            "frames then": (4.5e6, 6.75e6, None, 1e7),
            "evaluated": constant(0.97),
        },
        "Return by maze": {"carry on four-rooms": constant(0.8)},
        "Return against frames": {"frames": (5e6, 7.5e6, None, 1e7), "in training": constant(0.8)},
        "Episode length": {
            "carry on four-rooms": constant(20),
            "carry on four-rooms, evaluated": constant(18),
        },
        "Path ratio": {
            "carry on four-rooms": constant(1.4),
            "carry on four-rooms, evaluated": constant(1.3),
        },
        "Path ratio against frames": {
            "frames": (5e6, 7.5e6, None, 1e7),
            "in training": constant(1.4),
            "frames then": (4.5e6, 6.75e6, None, 1e7),
            "evaluated": constant(1.3),
        },
        "Curriculum's distance": {"carry": ZERO},
        "Losses": {"policy carry": constant(0.01), "value carry": constant(0.1), "total carry": constant(0.2)},
        "Entropy": {"carry": constant(0.5)},
        "Gradient norm": {"carry": constant(1.5)},
        "Gradient noise scale": {"carry": constant(4000)},
        "Policy lag": {
            "half are below": (1.5, 1.5, None, None),
            "95% are below": (1.95, 1.95, None, None),
            "bound": constant(8),
        },
        "Importance weights clipped": {"rho carry": constant(0.2), "c carry": constant(0.1)},
        "Actors against learner": {"mean carry": constant(0.001), "max carry": constant(0.01)},
        "Learning rate": {"carry": constant(0.0003)},
        # 20,000 frames per second in episodes of 20 steps.
        "Episodes": {"success": (950, 19, None, 0), "truncated": (50, 1, None, 0)},
        "Segments per decision": {"carry": (1.5, 1.5, None, None)},
        "Updates": {"made": (2, 0.4, None, 0), "skipped": ZERO},
        "Frames": {
            "trained carry": (5e6, 7.5e6, None, 1e7),
            "saved carry": (4.5e6, 6.75e6, None, 9e6),
            "evaluated carry": (4.5e6, 6.75e6, None, 1e7),
        },
    },
    "Pipeline": {
        "Frames at each step": {
            "1 acted": (20_000, 400, 0, None),
            **dict.fromkeys(("2 received", "3 admitted", "4 batched", "5 trained"), (20_000, 400, None, 0)),
        },
        "Learner's time": {
            "batch": (0.02, 0.02, None, 0),
            "recompute": (0.1, 0.1, None, 0),
            "vtrace": (0.02, 0.02, None, 0),
            "passes": (0.7, 0.1, None, 0),
            "publish": (0.03, 0.03, None, 0),
            "checkpoint": (0.01, 0.01, None, 0),
            "wait": (0.12, 0.72, None, 0),
        },
        "Actors' time": {
            "infer": (0.8, 0.9, 0, None),
            "step": (0.05, 0.06, 0, None),
            "encode": (0.02, 0.02, 0, None),
            "wait": (0.13, 0.02, 0, None),
        },
        "Busy": {"learner": (0.88, 0.28, None, 0), "actor": (0.87, 0.98, 0, None)},
        "Learner's stages, slowest 5%": dict.fromkeys(STAGES, (0.95, 0.95, None, None)),
        "Actors' stages, slowest 5%": dict.fromkeys(("infer", "step", "encode", "wait"), (0.95, 0.95, None, None)),
        "Queue": {
            "waiting carry": (16, 0, None, 0),
            "bound carry": constant(128),
            "batch carry": constant(64),
            "window carry": constant(256),
        },
        # Frames in the 20 s of $__rate_interval.
        "Policy lag": {"1": ZERO, **dict.fromkeys(("2", "4", "8", "+Inf"), (400_000, 8_000, None, 0))},
        "Dropped, by reason": {
            "fenced": constant(0.01),
            **dict.fromkeys(("stale", "not_finite", "stopped", "untrained"), ZERO),
        },
        "Rejected, by field": {"session carry": constant(2)},
        "Unrolls of the actors": {
            "produced": (200, 4, 0, None),
            "sent": (200, 4, 0, None),
            "abandoned": (0, 0, 0, None),
        },
        "Unrolls of the learner": dict.fromkeys(("received", "admitted", "batched"), (200, 4, None, 0)),
        "Unrolls up": {
            "sent by actors": (1e6, 20_000, 0, None),
            "received by the learner": (1e6, 20_000, None, 0),
        },
        "Weights down": {
            "sent by the learner": (1e8, 400_000, None, 0),
            "received by actors": (1e8, 400_000, 0, None),
        },
        "Bytes of a frame, bytes of a broadcast": {
            "a frame": (50, 50, None, None),
            "a version of the weights": (1e6, 1e6, None, None),
        },
    },
    "Fleet": {
        # Three groups of actors are 0, 1 and 2 versions behind. Without a learner no distance is known.
        "Versions behind": {
            "lowest": (0, 0, None, None),
            "10% are below": (0, 0, None, None),
            "half are below": (1, 0.5, None, None),
            "90% are below": (2, 1.7, None, None),
            "highest": (2, 2, None, None),
            "bound carry": constant(8),
        },
        "Actors, by versions behind": {
            "0 behind": (67, 2, None, None),
            "1 behind": (67, 1, None, None),
            "2 behind": (66, 1, None, None),
        },
        "Frames of an actor": of_actors(100, 100, 0),
        # 88% and 28% busy; room for at most twice the present number.
        "Connections": {
            "joined, by the learner": (200, 4, None, 0),
            "joined, by the actors": (200, 4, 0, None),
            "room for": (227.3, 8, None, 0),
        },
        "Joins and reconnections": {"joins": (0.1, 0, None, 0), "reconnections": (0, 0, 0.8, None)},
        "Weights received by an actor": {**of_actors(0.5, 0.1, 0), "bound: published carry": (0.5, 0.1, None, 0)},
        "Turned away": dict.fromkeys(
            ("connections", "handshake", "sessions", "uploads", "unauthenticated", "forbidden"), ZERO
        ),
        "CPU": {"learner carry": (7.04, 2.24, None, 0), **dict.fromkeys(ACTORS, (0.87, 0.98, 0, None))},
        "Memory": {
            "learner carry": constant(4e9),
            "actors, lowest": (1e8, 1e8, 1e8, None),
            "actors, 10% are below": (1.0199e8, 1.0003e8, 1.0003e8, None),
            "actors, half are below": (1.0995e8, 1.0015e8, 1.0015e8, None),
            "actors, 90% are below": (1.1791e8, 1.0027e8, 1.0027e8, None),
            "actors, highest": (1.199e8, 1.003e8, 1.003e8, None),
        },
        "Open files": {"learner carry": (0.25, 0.054, None, 0.05), "actors, highest": (0.02, 0.02, 0.02, None)},
        "Threads": {"learner carry": constant(24), **dict.fromkeys(ACTORS, (6, 6, 6, None))},
        "Files that cannot be written": {"checkpoint": ZERO, "metrics": ZERO},
        "Undone": {"frames after a kill": ZERO, "batches": ZERO},
        # The GPU of another workload on the same host does not appear.
        "GPU busy": {"node-1 GPU 0": (92, 20, None, 0)},
        "GPU memory": {"node-1 GPU 0": constant(0.25)},
        "GPU power": {"node-1 GPU 0": (560, 200, None, 100)},
        "GPU temperature": {"node-1 GPU 0": (63, 45, None, 40)},
    },
}

# Tables: the number of lines, and cells of the first one, in each state.
TABLES: dict[str, dict[str, dict[str, tuple]]] = {
    "Fleet": {
        "Actors": {
            "lines": (200, 4, 4, 0),
            # A pod's name, of the second life of an actor that is two versions behind. None is known without a learner.
            "instance": ("hrm-actor-5d9c1-00002", "hrm-actor-5d9c0-00002", None, None),
            "joined": (1, 1, 0, None),
            "versions behind": (2, 2, None, None),
            "frames/s": (100, 100, 0, None),
            "busy": (0.87, 0.98, 0, None),
            "cores": (0.87, 0.98, 0, None),
            "up for": (780, 900, 900, None),
        },
        "Builds": {
            "lines": (2, 2, 1, 1),
            "role": ("actor", "actor", "actor", "learner"),
            "Value": (200, 4, 4, 1),
        },
        "Runs": {
            "lines": (1, 1, 0, 1),
            "run": ("carry", "carry", None, "carry"),
            "instance": ("hrm-learner-0", "hrm-learner-0", None, "hrm-learner-0"),
            "device": ("cuda:0", "cuda:0", None, "cuda:0"),
        },
    },
}

# The events of run `carry` up to the end of the healthy state: within that state, six hours and a week.
EVENTS = {"Evaluation": (1, 1, 27), "Learner started": (0, 0, 2), "Checkpoint": (1, 1, 27)}
