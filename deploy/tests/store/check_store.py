"""Copies a small run to an object store, kills it, empties its folder and restores it, with two servers.

A learner without its store must not start. The number of a start must be in the store before its first weights. A
learner is killed after its copy has a checkpoint, and its folder is removed, as with a lost volume. It must not begin
again by itself; with --resume it must continue from the copy. No version of the weights may repeat, the ledger must
balance, and the complete run must be in the store byte for byte.

    python3 -m deploy.tests.store.check_store --bin-dir target/debug
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from .. import command_line, programs, waiting
from ..observability.processes import Process
from ..paths import REPOSITORY
from ..trackers.small_run import CONFIG, SETTINGS
from ..waiting import Failure
from . import servers
from .servers import BUCKET, Server

TEST = "check_store"
PREFIX = "runs/copied/"
SERVERS = ("rclone", "moto")
# Versions of one start of the learner.
VERSIONS_PER_START = 1 << 32
# Seconds of the longest wait, for a test that hangs, and between two looks.
PATIENCE, PAUSE = 300.0, 0.25


class CopiedRun:
    """A run's folder, and its copy on a server."""

    def __init__(self, program: Path, folder: Path, server: Server) -> None:
        self.program = program
        self.folder = folder / "run"
        self.logs = folder
        self.server = server

    def command(self, *arguments: str, frames: int = 10**9) -> list[str]:
        """Returns the command of a learner that trains on so many frames."""
        settings = SETTINGS | {
            "learner.total_frames": str(frames),
            "checkpoint.copy_to": f"s3://{BUCKET}/{PREFIX}",
            "run.name": "copied",
        }
        given = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
        words = ["train", "--config", str(REPOSITORY / CONFIG), "--run-dir", str(self.folder), *arguments, *given]
        return [str(self.program), *words]

    def start(self, name: str, *arguments: str) -> Process:
        """Starts a learner beside the test."""
        return Process(name, self.command(*arguments), self.logs, self.server.variables())

    def run(self, *arguments: str, frames: int) -> subprocess.CompletedProcess[str]:
        """Runs a learner until its end."""
        environment = programs.environment(**self.server.variables())
        command = self.command(*arguments, frames=frames)
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False)

    def versions(self) -> list[int]:
        """The versions of the weights in the run's records, which come once a second."""
        log = self.folder / "metrics.jsonl"
        if not log.exists():
            return []
        records = [json.loads(line) for line in log.read_text(encoding="utf-8").split("\n")[:-1]]
        return [record["version"] for record in records if record["kind"] == "train"]

    def copied(self) -> set[str]:
        """The names of the files in the copy."""
        return self.server.names(PREFIX)

    def read_copy(self, name: str) -> bytes:
        """The content of a file of the copy."""
        return self.server.read(PREFIX + name)

    def copied_frames(self) -> int:
        """The frames of the newest checkpoint in the copy, or 0 without any."""
        checkpoints = (Path(name) for name in self.copied() if name.endswith(".safetensors"))
        return max((int(path.stem) for path in checkpoints), default=0)

    def identity(self) -> dict[str, Any]:
        """The identity of the run in the copy."""
        identity: dict[str, Any] = json.loads(self.read_copy("run.json"))
        return identity


def expect(condition: object, reason: str) -> None:
    if not condition:
        raise Failure(reason)


def check_without_a_store(run: CopiedRun) -> None:
    """A learner that cannot write its start to the store publishes nothing."""
    port = run.server.port
    run.server.port = 1
    try:
        refused = run.run(frames=128)
    finally:
        run.server.port = port
    expect(refused.returncode == 1, f"it started without a store: {refused.stderr}")
    expect("checkpoint.copy_to" in refused.stderr, f"the error does not name the key: {refused.stderr}")
    expect(not (run.folder / "metrics.jsonl").exists(), "it trained without a store")
    shutil.rmtree(run.folder)


def kill_after_a_copy(run: CopiedRun) -> None:
    """Trains until the copy has a checkpoint and the run has published newer weights; then kills the learner."""
    process = run.start("killed")

    def copied() -> bool:
        frames = run.copied_frames()
        newer = frames > 0 and int((run.folder / "trained-frames").read_text() or 0) > frames
        return newer and bool(run.versions())

    try:
        waiting.until("the copy has a checkpoint", copied, PATIENCE, TEST, PAUSE, process.check)
    finally:
        process.kill()


def restore(run: CopiedRun) -> list[int]:
    """Restores the run, stops it once its records have a version of this start, and returns those versions."""
    process = run.start("restored", "--resume")

    def after() -> list[int]:
        return [version for version in run.versions() if version >= VERSIONS_PER_START]

    try:
        waiting.until("the restored run has published weights", after, PATIENCE, TEST, PAUSE, process.check)
    finally:
        process.stop()
    expect(process.child.returncode == 0, f"the restored run failed:\n{process.tail()}")
    return after()


def check_ledger(folder: Path) -> int:
    """Checks that each session's frames balance. Returns the frames that were trained."""
    trained = 0
    for line in (folder / "ledger.jsonl").read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        if entry["kind"] != "session":
            continue
        settled = entry["trained"] + sum(entry["dropped"].values())
        expect(entry["received"] == entry["refused"] + entry["admitted"], f"the ledger does not balance: {entry}")
        expect(entry["admitted"] == settled, f"the ledger does not balance: {entry}")
        trained += entry["trained"]
    return trained


def check(program: Path, name: str, folder: Path) -> None:
    """Checks one server."""
    with servers.running(name, folder, TEST) as server:
        run = CopiedRun(program, folder, server)
        check_without_a_store(run)
        kill_after_a_copy(run)
        before, identity = run.versions(), run.identity()
        expect(identity["restarts"] == 0, f"the copy of the first start is {identity}")
        shutil.rmtree(run.folder)

        refused = run.run(frames=128)
        expect(refused.returncode == 1, f"a run began over its copy: {refused.stderr}")
        expect("--resume" in refused.stderr, f"the error names no remedy: {refused.stderr}")

        frames = run.copied_frames()
        after = restore(run)
        expect(run.identity() == identity | {"restarts": 1}, f"{run.identity()} is not the second start of {identity}")
        expect(max(before) < min(after), f"versions repeat: {before[-3:]}, {after[:3]}")
        trained, added = check_ledger(run.folder), run.copied_frames() - frames
        expect(trained == added, f"the sessions of the restored run trained {trained} frames, the copy has {added} more")

        copied, names = run.copied(), servers.remaining(run.folder)
        expect(copied <= names, f"only the copy has {sorted(copied - names)}")
        expect(names <= copied, f"the copy lacks {sorted(names - copied)}")
        different = [name for name in names if (run.folder / name).read_bytes() != run.read_copy(name)]
        expect(not different, f"the copy differs from the folder: {different}")
        print(f"{TEST}: {name}: restored at {frames} frames, {len(names)} files equal", flush=True)


def main() -> int:
    """Runs the check with each server, in a folder of its own."""
    parser = command_line.parser(__doc__)
    command_line.add_bin_dir(parser)
    learner = (parser.parse_args().bin_dir / "hrm-learner").resolve()
    if not learner.is_file():
        raise SystemExit(f"{TEST}: no {learner}: run `cargo build --workspace --bins`")
    found = []
    for name in SERVERS:
        with tempfile.TemporaryDirectory(prefix="hrm-store-") as folder:
            try:
                check(learner, name, Path(folder))
            except Failure as failure:
                found.append(f"{name}: {failure}")
    return command_line.report(TEST, found, f"a lost run is restored from its copy ({', '.join(SERVERS)})")


if __name__ == "__main__":
    sys.exit(main())
