#!/usr/bin/env python3
"""Trains with 1, 2, 4 and 8 slowed actor processes, and compares the time to 99% with the prediction.

    python3 scripts/scaling_validation.py --results docs/results/scaling/validation

One `hrm-learner serve` and N `hrm-actor run` train as arm slow-N of configs/studies/scaling.toml, but in real time, until
an evaluation has 99% success. Each actor has one rollout thread, which plays no faster than the simulated actors. The
predictions are in predictions.json of the results' folder: minutes by the number of actors, written before the runs.
Needs `make build`.

The files of each run go to raw/N-actors/seed-S/. A run that is there already is not repeated, so the same command
continues after an interruption; --report-only trains nothing. --actors and --seeds select runs. While few actors leave
the machine almost idle, several of these commands can run at once. Writes validation.csv and validation.md from all runs
that are there. Exit status: 0 if every median is within 20% of its prediction, 1 with the reason on stderr otherwise.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from measured_learner import ROOT, Failed, MeasuredLearner, machine

ACTORS = (1, 2, 4, 8)
TARGET = 0.99
# Largest relative difference between a median and its prediction.
TOLERANCE = 0.2
# Longest time of a run, in seconds; the slowest needs about a quarter of it.
PATIENCE = 3600.0
POLL_SECONDS = 1.0
FILES = ("metrics.jsonl", "episodes.csv", "summary.json")
STUDY = ROOT / "configs/studies/scaling.toml"
SEEDS = (1, 2, 3)


@dataclass(frozen=True)
class Arm:
    """An arm of the study, for real processes."""

    config: Path
    settings: dict[str, Any]
    # Frames per second of an actor.
    pace: float

    @staticmethod
    def slow(actors: int) -> Arm:
        study = tomllib.loads(STUDY.read_text())
        arm = next(arm for arm in study["arm"] if arm["name"] == f"slow-{actors}")
        settings = {**flat(study["set"]), **flat(arm["set"])}
        pace = settings["virtual_time.actor_frames_per_second"]
        real = {key: value for key, value in settings.items() if not key.startswith("virtual_time.")}
        return Arm((STUDY.parent / arm["config"]).resolve(), real, pace)


def flat(table: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns the values of nested tables by their dotted keys."""
    values: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, dict):
            values.update(flat(value, f"{prefix}{key}."))
        else:
            values[f"{prefix}{key}"] = str(value).lower() if isinstance(value, bool) else value
    return values


@dataclass(frozen=True)
class Reached:
    """The first evaluation of a run with at least `TARGET` success."""

    actors: int
    seed: int
    frames: int
    minutes: float


class Fleet:
    """Actor processes of one learner, killed at the end of the `with` block."""

    def __init__(self, program: Path, port: int, number: int, pace: float, folder: Path) -> None:
        self.logs = [folder / f"actor-{index}.log" for index in range(number)]
        self.processes: list[subprocess.Popen[bytes]] = []
        words: list[str | Path] = [program, "run", "--learner", f"http://127.0.0.1:{port}", "--metrics-listen", ""]
        words += ["--set", "actor.threads=1", "--set", f"actor.max_frames_per_second={pace}"]
        for log in self.logs:
            with log.open("w") as file:
                self.processes.append(subprocess.Popen(words, stdout=file, stderr=file))

    def __enter__(self) -> Fleet:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            process.kill()
            process.wait()

    def check(self) -> None:
        """Fails if an actor has ended, because the run would continue with fewer."""
        for process, log in zip(self.processes, self.logs, strict=True):
            if process.poll() is not None:
                raise Failed(f"an actor ended with status {process.returncode}: {log.read_text()[-2000:]}")


def train(programs: Path, actors: int, seed: int, raw: Path) -> None:
    """Trains one run and keeps its files."""
    arm = Arm.slow(actors)
    with tempfile.TemporaryDirectory(prefix="scaling-") as name:
        folder = Path(name)
        settings = {**arm.settings, "run.seed": seed}
        learner = MeasuredLearner(programs / "hrm-learner", "serve", arm.config, folder, settings)
        try:
            with Fleet(programs / "hrm-actor", learner.port, actors, arm.pace, folder) as fleet:
                wait(learner, fleet, actors)
        finally:
            learner.process.kill()
            learner.process.wait()
        run = folder / "run"
        summary = json.loads((run / "summary.json").read_text())
        if not summary["complete"]:
            raise Failed(f"the run did not complete: {(folder / 'learner.log').read_text()[-2000:]}")
        raw.mkdir(parents=True, exist_ok=True)
        about = {"machine": machine(), "actors": actors, "frames_per_second_per_actor": arm.pace}
        (raw / "machine.json").write_text(json.dumps(about, indent=2) + "\n")
        # Without the folders of this machine.
        config = (run / "config.toml").read_text()
        (raw / "config.toml").write_text(config.replace(str(run), "runs/scaling").replace(f"{ROOT}/", ""))
        # The summary last: a folder that has it is whole.
        for file in FILES:
            shutil.copy(run / file, raw / file)


def wait(learner: MeasuredLearner, fleet: Fleet, actors: int) -> None:
    """Waits until training is complete, and then until the learner has written its result."""
    deadline = time.monotonic() + PATIENCE
    all_joined = False
    while True:
        if time.monotonic() > deadline:
            raise Failed(f"the run took more than {PATIENCE:.0f} s")
        if learner.process.poll() is not None:
            break
        metrics = learner.metrics()
        joined = metrics.get("hrm_learner_actors", 0.0)
        all_joined = all_joined or joined == actors
        # Actors of a complete run end by themselves.
        if metrics.get("hrm_learner_run_complete", 0.0) == 0.0:
            fleet.check()
        time.sleep(POLL_SECONDS)
    if learner.process.returncode != 0:
        raise Failed(f"the learner ended with status {learner.process.returncode}: see its log")
    if not all_joined:
        raise Failed(f"not all {actors} actors were joined at the same time")


def folder_of(results: Path, actors: int, seed: int) -> Path:
    """Returns the folder of a run's files."""
    return results / f"raw/{actors}-actors/seed-{seed}"


def reached(raw: Path, actors: int, seed: int) -> Reached:
    """Reads when a run reached the target."""
    for line in (raw / "metrics.jsonl").read_text().splitlines():
        record = json.loads(line)
        if record["kind"] == "eval" and record["success"] >= TARGET:
            return Reached(actors, seed, record["frames"], record["seconds"] / 60)
    raise Failed(f"{raw}: no evaluation has {TARGET:.0%}")


def report(runs: list[Reached], predicted: dict[str, float], results: Path) -> list[str]:
    """Writes the tables, and returns what missed its prediction."""
    with (results / "validation.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["actors", "seed", "frames_to_99", "minutes_to_99"])
        writer.writerows([run.actors, run.seed, run.frames, f"{run.minutes:.4f}"] for run in runs)
    lines = [
        "| actors | frames to 99% | minutes to 99%, by seed | median | predicted | measured / predicted | sooner than with 1 |",
        "|-|-|-|-|-|-|-|",
    ]
    missed: list[str] = []
    first = 0.0
    for actors in sorted({run.actors for run in runs}):
        these = [run for run in runs if run.actors == actors]
        median = statistics.median(run.minutes for run in these)
        first = first or median
        prediction = predicted[str(actors)]
        ratio = median / prediction
        frames = ", ".join(f"{run.frames:,}" for run in these)
        minutes = ", ".join(f"{run.minutes:.2f}" for run in these)
        lines.append(
            f"| {actors} | {frames} | {minutes} | {median:.2f} | {prediction:.2f} | {ratio:.2f} | {first / median:.2f} |"
        )
        if abs(ratio - 1) > TOLERANCE:
            missed.append(f"{actors} actors: {median:.2f} minutes, predicted {prediction:.2f}")
    (results / "validation.md").write_text("\n".join(lines) + "\n")
    return missed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", type=Path, default=ROOT / "target/release", help="folder of both programs")
    parser.add_argument("--results", type=Path, required=True, help="folder with predictions.json, for all results")
    parser.add_argument("--actors", type=int, nargs="+", choices=ACTORS, default=ACTORS, help="numbers of actors to train with")
    parser.add_argument("--seeds", type=int, nargs="+", choices=SEEDS, default=SEEDS, help="seeds to train with")
    parser.add_argument("--report-only", action="store_true", help="train nothing; report the runs that are there")
    options = parser.parse_args()
    predictions = options.results / "predictions.json"
    try:
        if not predictions.exists():
            raise Failed(f"{predictions} is missing: write the predicted minutes by number of actors before the runs")
        predicted = json.loads(predictions.read_text())
        for seed, actors in itertools.product(options.seeds, options.actors):
            raw = folder_of(options.results, actors, seed)
            if not options.report_only and not (raw / "summary.json").exists():
                train(options.programs.resolve(), actors, seed, raw)
                print("{actors} actors, seed {seed}: {frames} frames, {minutes:.2f} min".format(**vars(reached(raw, actors, seed))), flush=True)
        finished = [(actors, seed) for actors, seed in itertools.product(ACTORS, SEEDS) if (folder_of(options.results, actors, seed) / "summary.json").exists()]
        runs = [reached(folder_of(options.results, actors, seed), actors, seed) for actors, seed in finished]
        if not runs:
            raise Failed(f"{options.results} has no runs")
        missed = report(runs, predicted, options.results)
    except Failed as failed:
        print(f"scaling_validation: {failed}", file=sys.stderr)
        return 1
    print((options.results / "validation.md").read_text(), end="")
    for miss in missed:
        print(f"scaling_validation: more than {TOLERANCE:.0%} off: {miss}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
