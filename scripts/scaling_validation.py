#!/usr/bin/env python3
"""Trains with 1, 2, 4 and 8 slowed actor processes, and compares the time to 99% with the prediction.

    python3 scripts/scaling_validation.py --results docs/results/scaling/validation

One `hrm-learner serve` and N `hrm-actor run` train on four rooms until an evaluation of 1,000 episodes has at least 99%
success. Each actor has one rollout thread of at most --pace frames per second, as the simulated actors of
configs/studies/scaling.toml. The predictions are in predictions.json of the results' folder: minutes by the number of
actors, written before the runs. Needs `make build`.

The files of each run go to raw/N-actors/seed-S/. A run that is there already is not repeated, so the same command
continues after an interruption; --report-only trains nothing. Writes validation.csv and validation.md. Exit status: 0
if every median is within 20% of its prediction, 1 with the reason on stderr otherwise.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from measured_learner import ROOT, Failed, MeasuredLearner, machine

ACTORS = (1, 2, 4, 8)
TARGET = 0.99
# Largest relative difference between a median and its prediction.
TOLERANCE = 0.2
# Longest time of a run, in seconds; the slowest needs about a quarter of it.
PATIENCE = 3600.0
POLL_SECONDS = 1.0
FILES = ("config.toml", "metrics.jsonl", "summary.json", "episodes.csv")
SETTINGS = {
    "learner.target_success": TARGET,
    "learner.max_minutes": 0,
    "learner.batch_unrolls": 2,
    "learner.queue_unrolls": 64,
    "rollout.synchronous": "false",
    "eval.interval_frames": 10_000,
    "eval.episodes": 1_000,
    "telemetry.log_interval_seconds": 3,
}


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


def train(programs: Path, actors: int, seed: int, pace: float, raw: Path) -> None:
    """Trains one run and keeps its files."""
    config = ROOT / "configs/four-rooms.toml"
    with tempfile.TemporaryDirectory(prefix="scaling-") as name:
        folder = Path(name)
        settings = {**SETTINGS, "run.seed": seed}
        learner = MeasuredLearner(programs / "hrm-learner", "serve", config, folder, settings)
        try:
            with Fleet(programs / "hrm-actor", learner.port, actors, pace, folder) as fleet:
                wait(learner, fleet, actors)
        finally:
            learner.process.kill()
            learner.process.wait()
        run = folder / "run"
        summary = json.loads((run / "summary.json").read_text())
        if not summary["complete"]:
            raise Failed(f"the run did not complete: {(folder / 'learner.log').read_text()[-2000:]}")
        raw.mkdir(parents=True, exist_ok=True)
        about = {"machine": machine(), "actors": actors, "frames_per_second_per_actor": pace}
        (raw / "machine.json").write_text(json.dumps(about, indent=2) + "\n")
        # The summary last: a folder that has it is whole.
        for file in sorted(FILES, key="summary.json".__eq__):
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
    parser.add_argument("--pace", type=float, help="frames per second of an actor; without --report-only")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--report-only", action="store_true", help="train nothing; report the runs that are there")
    options = parser.parse_args()
    if options.pace is None and not options.report_only:
        parser.error("give the pace of an actor with --pace")
    predictions = options.results / "predictions.json"
    runs: list[Reached] = []
    try:
        if not predictions.exists():
            raise Failed(f"{predictions} is missing: write the predicted minutes by number of actors before the runs")
        predicted = json.loads(predictions.read_text())
        for seed in options.seeds:
            for actors in ACTORS:
                raw = options.results / f"raw/{actors}-actors/seed-{seed}"
                if not (raw / "summary.json").exists():
                    if options.report_only:
                        continue
                    train(options.programs.resolve(), actors, seed, options.pace, raw)
                runs.append(reached(raw, actors, seed))
                print("{actors} actors, seed {seed}: {frames} frames, {minutes:.2f} min".format(**vars(runs[-1])), flush=True)
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
