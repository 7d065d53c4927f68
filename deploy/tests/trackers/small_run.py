"""A run of seconds that is killed after a checkpoint, and resumed until it is complete."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .. import waiting
from ..observability.processes import Process

CONFIG = "configs/four-rooms.toml"
SETTINGS = {
    "run.name": "tracked",
    "env.max_steps": "5",
    "model.hidden": "16",
    "model.h_cycles": "1",
    "model.l_cycles": "1",
    "rollout.envs": "16",
    "rollout.unroll_length": "8",
    "learner.local_actors": "1",
    "learner.batch_unrolls": "1",
    "learner.listen": "127.0.0.1:0",
    "learner.metrics_listen": "",
    "learner.max_minutes": "0",
    "eval.interval_frames": "512",
    "eval.episodes": "8",
    "eval.final_episodes": "16",
    "checkpoint.interval_frames": "4096",
    "telemetry.log_interval_seconds": "1",
    "telemetry.tensorboard": "true",
}
TEST = "check_trackers"
# Seconds of the longest wait, for a test that hangs, and between two looks.
PATIENCE, PAUSE = 300.0, 0.25


class SmallRun:
    """The run's folder and its learner."""

    def __init__(self, program: Path, config: Path, folder: Path) -> None:
        self.folder = folder / "runs" / "tracked"
        self.command = [str(program), "train", "--resume", "--config", str(config), "--run-dir", str(self.folder)]
        self.logs = folder
        # The records that the resumed run no longer has.
        self.lost: list[dict[str, Any]] = []

    def start(self, name: str, frames: int) -> Process:
        """Starts or resumes the run, which is complete after these frames."""
        settings = SETTINGS | {"learner.total_frames": str(frames)}
        given = [argument for key, value in settings.items() for argument in ("--set", f"{key}={value}")]
        return Process(name, [*self.command, *given], self.logs)

    def kill_after_a_checkpoint(self) -> None:
        """Trains until there are records after a checkpoint, and kills the learner."""
        process = self.start("killed", 10**9)

        def recorded() -> bool:
            kinds = [record["kind"] for record in self.records() if record["frames"] > self.checkpointed() > 0]
            return {"train", "eval"} <= set(kinds)

        try:
            waiting.until("it has records after a checkpoint", recorded, PATIENCE, TEST, PAUSE, process.check)
        finally:
            process.kill()

    def complete(self) -> None:
        """Resumes the run, and waits until it is complete."""
        before = self.records()
        process = self.start("resumed", self.checkpointed() + 4096)
        try:
            waiting.until("the run is complete", lambda: process.child.poll() is not None, PATIENCE, TEST, PAUSE)
        finally:
            process.kill()
        if process.child.returncode != 0:
            process.check()
        after = self.records()
        self.lost = [record for record in before if record not in after]

    def checkpointed(self) -> int:
        """The frames of the newest checkpoint."""
        return max((int(path.stem) for path in self.folder.glob("checkpoints/[0-9]*.safetensors")), default=0)

    def records(self) -> list[dict[str, Any]]:
        """The records of the run so far; the last line may be incomplete."""
        log = self.folder / "metrics.jsonl"
        lines = log.read_text(encoding="utf-8").split("\n")[:-1] if log.exists() else []
        return [json.loads(line) for line in lines]

    def summary(self) -> dict[str, Any]:
        """The result of the complete run."""
        result: dict[str, Any] = json.loads((self.folder / "summary.json").read_text(encoding="utf-8"))
        return result

    def expected(self) -> dict[str, dict[int, float]]:
        """The numbers of the run's records and result, by name and frames; of two records at the same frames, the first."""
        expected: dict[str, dict[int, float]] = {}
        known = set()
        entries = [(record["kind"], record["frames"], record) for record in self.records()]
        result = self.summary()
        entries += [(f"final/{each['policy']}", result["frames"], each) for each in result["evaluations"]]
        for prefix, frames, record in entries:
            # Also if the first one lacks a number that the second has, such as the path ratio without any success.
            if (prefix, frames) in known:
                continue
            known.add((prefix, frames))
            for name, number in numbers(record):
                if name not in ("frames", "seed", "time"):
                    expected.setdefault(f"{prefix}/{name}", {})[frames] = number
        return expected


def numbers(value: Any, name: str = "") -> list[tuple[str, float]]:
    """The numbers in a JSON value, each with its path."""
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return []
    if isinstance(value, (int, float)):
        return [(name, float(value))]
    items = value.items() if isinstance(value, dict) else enumerate(value)
    return [found for key, item in items for found in numbers(item, f"{name}/{key}" if name else str(key))]
