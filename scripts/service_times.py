#!/usr/bin/env python3
"""Measures the times of [virtual_time] on this machine: of a batch at the learner, of an actor's unroll, of the link.

    python3 scripts/service_times.py --results docs/results/scaling

Run it on an otherwise idle machine after `make build`. It trains with 1 to 16 local actors and batches of as many
unrolls. In a synchronous run, actors wait while the learner trains and the learner waits while actors play, so each has
the machine for itself. The learner's time is that of its stages other than waiting, read from /metrics after every
batch. A line through the means gives learner_batch_seconds and learner_frames_per_second. One actor alone gives the rate
of a fast actor, and what remains of its cycle is two links. Writes service-times.json to the folder of --results, and
prints the section for a configuration. Exit status: 0, or 1 with the reason on stderr.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from measured_learner import ROOT, Failed, MeasuredLearner, machine

# Unrolls per batch, and local actors that play one each.
SIZES = (1, 2, 4, 8, 16)
# Batches before the first that counts: the first ones fill caches and start threads.
WARM_UP = 3
# Fewest batches that count.
LEAST_BATCHES = 20
POLL_SECONDS = 0.005


@dataclass(frozen=True)
class Reading:
    """Sums of /metrics at a moment."""

    seconds: float
    batches: int
    learner_busy: float
    unrolls: float
    actors_busy: float

    @staticmethod
    def of(metrics: dict[str, float], frames_per_batch: int) -> Reading:
        def busy(side: str) -> float:
            stages = {name: value for name, value in metrics.items() if name.startswith(f"hrm_{side}_stage_seconds_sum")}
            return sum(value for name, value in stages.items() if 'stage="wait"' not in name)

        trained = metrics.get("hrm_learner_frames_trained_total", 0.0)
        return Reading(
            seconds=time.monotonic(),
            batches=round(trained / frames_per_batch),
            learner_busy=busy("learner"),
            unrolls=metrics.get("hrm_actor_unrolls_produced_total", 0.0),
            actors_busy=busy("actor"),
        )


@dataclass(frozen=True)
class Times:
    """Service times with batches of one size, in seconds."""

    unrolls: int
    batches: int
    batch_mean: float
    batch_deviation: float
    unroll_mean: float
    cycle_mean: float


def frames_per_unroll(program: Path, config: Path) -> int:
    """Returns the frames of an unroll by this configuration, as the learner reads it."""
    words = [program, "config", "--print", "--json", "--config", config]
    printed = subprocess.run(words, stdout=subprocess.PIPE, text=True)
    if printed.returncode != 0:
        raise Failed(f"{program} does not accept {config}")
    rollout = json.loads(printed.stdout)["rollout"]
    return int(rollout["envs"]["value"]) * int(rollout["unroll_length"]["value"])


def measure(program: Path, config: Path, unrolls: int, frames: int, seconds: float) -> Times:
    """Trains for so long with `unrolls` local actors, whose unrolls have so many frames."""
    settings = {
        "learner.local_actors": unrolls,
        "learner.batch_unrolls": unrolls,
        "learner.queue_unrolls": max(4, unrolls),
        "learner.max_minutes": 0,
        "learner.total_frames": 100_000_000,
        "checkpoint.interval_frames": 1_000_000,
        "eval.interval_frames": 0,
    }
    with tempfile.TemporaryDirectory(prefix="service-times-") as folder:
        learner = MeasuredLearner(program, "train", config, Path(folder), settings)
        try:
            readings = [Reading.of(learner.metrics(), frames * unrolls)]
            first = None
            while first is None or time.monotonic() - first < seconds or len(readings) <= LEAST_BATCHES:
                time.sleep(POLL_SECONDS)
                reading = Reading.of(learner.metrics(), frames * unrolls)
                if learner.process.poll() is not None:
                    raise Failed("the learner ended before the time was over")
                if reading.batches <= readings[-1].batches:
                    continue
                readings.append(reading)
                if first is None and reading.batches >= WARM_UP:
                    first, readings = reading.seconds, [reading]
        finally:
            learner.process.kill()
            learner.process.wait()
    steps = list(zip(readings, readings[1:], strict=False))
    # A page can be read while the trainer is between two of its stages, so single batches come from pages one batch apart.
    single = [b.learner_busy - a.learner_busy for a, b in steps if b.batches == a.batches + 1]
    begin, end = readings[0], readings[-1]
    batches = end.batches - begin.batches
    if len(single) < 10:
        raise Failed(f"only {len(single)} batches of {unrolls} unrolls were seen one by one: is the machine busy?")
    return Times(
        unrolls=unrolls,
        batches=batches,
        batch_mean=(end.learner_busy - begin.learner_busy) / batches,
        batch_deviation=statistics.stdev(single),
        unroll_mean=(end.actors_busy - begin.actors_busy) / (end.unrolls - begin.unrolls),
        cycle_mean=(end.seconds - begin.seconds) / batches,
    )


def section(times: list[Times], frames: int) -> dict[str, Any]:
    """Returns the values of [virtual_time], for unrolls of so many frames."""
    batches = [t for t in times if t.unrolls > 1]
    line = statistics.linear_regression([t.unrolls * frames for t in batches], [t.batch_mean for t in batches])
    alone = next(t for t in times if t.unrolls == 1)
    rest = alone.cycle_mean - alone.batch_mean - alone.unroll_mean
    spreads = [t.batch_deviation / t.batch_mean for t in times]
    return {
        "actor_frames_per_second": round(frames / alone.unroll_mean),
        "learner_batch_seconds": round(max(line.intercept, 0.0), 4),
        "learner_frames_per_second": round(1 / line.slope),
        "spread": round(statistics.median(spreads), 3),
        "link_seconds": round(max(rest / 2, 0.0), 4),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", type=Path, default=ROOT / "target/release/hrm-learner")
    parser.add_argument("--config", type=Path, default=ROOT / "configs/four-rooms.toml")
    parser.add_argument("--seconds", type=float, default=30.0, help="least time for each size of a batch")
    parser.add_argument("--results", type=Path, help="folder for service-times.json")
    options = parser.parse_args()
    program, config = options.program.resolve(), options.config.resolve()
    times = []
    try:
        frames = frames_per_unroll(program, config)
        for unrolls in SIZES:
            times.append(measure(program, config, unrolls, frames, options.seconds))
            print(
                "{unrolls:>2} unrolls: batch {batch_mean:.4f} s (deviation {batch_deviation:.4f}), unroll {unroll_mean:.4f} s, "
                "cycle {cycle_mean:.4f} s, {batches} batches".format(**asdict(times[-1])),
                flush=True,
            )
    except Failed as failed:
        print(f"service_times: {failed}", file=sys.stderr)
        return 1
    values = section(times, frames)
    print("\n[virtual_time]\n" + "\n".join(f"{key} = {value}" for key, value in values.items()))
    if options.results:
        options.results.mkdir(parents=True, exist_ok=True)
        result = {"machine": machine(), "config": options.config.name, "times": list(map(asdict, times)), "virtual_time": values}
        (options.results / "service-times.json").write_text(json.dumps(result, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
