"""Ten minutes in which actors die all the time: eight of them, six of which are killed every 20 s and come back.

Real processes on loopback, scraped by a real Prometheus with the project's rules, unchanged. A new actor has a new
address, as a new pod has a new name. Checks that every minute trains frames, that in the end every received frame of
every session is accounted for, and that the autoscaler's rule never gives a wrong value. It may give none: under such
losses no actor's share of its time is known.

Needs the built programs and Debian's package prometheus.

    python3 -m deploy.tests.observability.churn --bin-dir target/debug
"""

from __future__ import annotations

import json
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import yaml

from .. import command_line
from ..paths import REPOSITORY, RULES
from ..waiting import Failure, until
from .api import Prometheus
from .live import SMALL, find
from .processes import Process, free_ports, program

CONFIG = REPOSITORY / "configs/four-rooms.toml"
TEST = "churn"
ACTORS = 8
# Actors killed at a time, and the seconds between.
KILLED = 6
PAUSE = 20.0
MINUTES = 10
# Longest wait for a start or an end, in seconds.
PATIENCE = 120.0
HEADROOM = "namespace:hrm_learner_headroom:ratio"
BUSY = "instance:hrm_learner_busy:ratio_rate5m"
# Above this share the learner's own share says nothing about the number of actors (recording.yml).
SATURATED = 0.95


class Fleet:
    """A learner, actors and Prometheus."""

    def __init__(self, binaries: Path, folder: Path, seed: int) -> None:
        self.binaries, self.folder = binaries, folder
        self.random = random.Random(seed)
        self.grpc, self.metrics, prometheus_port = free_ports(3)
        self.targets = folder / "actors.json"
        self.started = 0
        self.actors: dict[int, Process] = {}
        self.learner = self._learner()
        self.prometheus = Prometheus(prometheus_port)
        for _ in range(ACTORS):
            self.start_actor()
        self.write_targets()
        self.watcher = self._watcher(prometheus_port)

    def _learner(self) -> Process:
        command = [str(self.binaries / "hrm-learner"), "serve", "--config", str(CONFIG)]
        command += ["--listen", f"127.0.0.1:{self.grpc}", "--metrics-listen", f"127.0.0.1:{self.metrics}"]
        command += ["--run-dir", str(self.folder / "run")]
        for key, value in SMALL.items():
            command += ["--set", f"{key}={value}"]
        return Process("learner", command, self.folder)

    def _watcher(self, port: int) -> Process:
        configuration = {
            "global": {"scrape_interval": "5s", "evaluation_interval": "5s"},
            "rule_files": [str(RULES / "*.yml")],
            "scrape_configs": [
                {"job_name": "hrm-learner", "static_configs": [{"targets": [f"127.0.0.1:{self.metrics}"]}]},
                {"job_name": "hrm-actor", "file_sd_configs": [{"files": [str(self.targets)], "refresh_interval": "5s"}]},
            ],
        }
        path = self.folder / "prometheus.yml"
        path.write_text(yaml.safe_dump(configuration, sort_keys=False), encoding="utf-8")
        command = [program("prometheus", "prometheus"), f"--config.file={path}"]
        command += [f"--storage.tsdb.path={self.folder}/data", f"--web.listen-address=127.0.0.1:{port}"]
        return Process("prometheus", command, self.folder)

    def start_actor(self) -> None:
        """Starts an actor at a new address."""
        (port,) = free_ports(1)
        command = [str(self.binaries / "hrm-actor"), "run", "--learner", f"http://127.0.0.1:{self.grpc}"]
        command += ["--metrics-listen", f"127.0.0.1:{port}", "--set", "actor.threads=1"]
        self.actors[port] = Process(f"actor-{self.started}", command, self.folder)
        self.started += 1

    def write_targets(self) -> None:
        """Tells Prometheus which actors there are. The file changes in one step."""
        draft = self.targets.with_suffix(".draft")
        draft.write_text(json.dumps([{"targets": [f"127.0.0.1:{port}" for port in self.actors]}]), encoding="utf-8")
        draft.replace(self.targets)

    def replace_some(self) -> None:
        """Kills six actors, and starts as many."""
        for port in self.random.sample(sorted(self.actors), KILLED):
            self.actors.pop(port).kill()
            self.start_actor()
        self.write_targets()

    def number(self, expr: str) -> float | None:
        """Returns the value of an expression with one series, if it has one."""
        found = self.prometheus.now(expr)
        return float(found[0]["value"][1]) if found else None

    def trained(self) -> float | None:
        """Returns the frames trained so far."""
        return self.number("hrm_learner_frames_trained_total")

    def check(self) -> None:
        """Fails when a process that nobody killed has ended."""
        for process in (self.learner, self.watcher, *self.actors.values()):
            process.check()

    def close(self) -> None:
        """Ends everything."""
        for process in (*self.actors.values(), self.watcher, self.learner):
            process.stop()


def churn(fleet: Fleet, minutes: int) -> list[str]:
    """Kills and replaces actors for so many minutes. Returns the faults that were seen."""
    until("Prometheus is ready", fleet.prometheus.ready, PATIENCE, TEST, meanwhile=fleet.check)
    until("it trains", lambda: (fleet.trained() or 0.0) > 0.0, PATIENCE, TEST, meanwhile=fleet.check)
    faults = []
    began = time.monotonic()
    next_kill, next_minute = began + PAUSE, began + 60.0
    before = fleet.trained() or 0.0
    while next_minute <= began + 60.0 * minutes:
        time.sleep(1.0)
        fleet.check()
        faults += headroom(fleet)
        now = time.monotonic()
        if now >= next_kill:
            fleet.replace_some()
            next_kill += PAUSE
        if now >= next_minute:
            after = fleet.trained() or 0.0
            minute = round((next_minute - began) / 60.0)
            print(f"churn: minute {minute}: {after - before:,.0f} frames trained, {fleet.started} actors started", flush=True)
            if after <= before:
                faults.append(f"minute {minute} trained no frames")
            before = after
            next_minute += 60.0
    return faults


def headroom(fleet: Fleet) -> list[str]:
    """Compares the autoscaler's value with the learner's share. No actor lives for the five minutes of its own share."""
    value, busy = fleet.number(HEADROOM), fleet.number(BUSY)
    if value is None or busy is None:
        return []
    if busy > SATURATED:
        return [f"the learner is busy for {busy:.2f} of its time, no actor lives long, and the autoscaler has {value:.2f}"]
    # The two queries can see neighbouring evaluations.
    right = min(1.0 / busy, 2.0)
    return [f"the autoscaler has {value:.2f}, where 1 / {busy:.2f} is right"] if abs(value - right) > 0.1 * right else []


def accounts(ledger: Path) -> list[str]:
    """Returns the sessions whose frames do not balance, and prints the sums."""
    faults = []
    sums = dict.fromkeys(("received", "refused", "admitted", "trained", "dropped"), 0)
    sessions = 0
    for line in ledger.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        if entry["kind"] != "session":
            continue
        sessions += 1
        entry["dropped"] = sum(entry["dropped"].values())
        for name in sums:
            sums[name] += entry[name]
        if entry["received"] != entry["refused"] + entry["admitted"] or entry["admitted"] != entry["trained"] + entry["dropped"]:
            faults.append(f"frames of a session are not accounted for: {line}")
    print(f"churn: {sessions} sessions: " + ", ".join(f"{value:,} {name}" for name, value in sums.items()))
    return faults if sessions >= ACTORS else [*faults, f"the ledger has only {sessions} sessions"]


def main() -> int:
    """Runs the test in a folder of its own."""
    parser = command_line.parser(__doc__)
    command_line.add_bin_dir(parser)
    parser.add_argument("--minutes", type=int, default=MINUTES, help="duration")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32), help="seed of the choice of actors")
    arguments = parser.parse_args()
    binaries = find(arguments.bin_dir)

    folder = Path(tempfile.mkdtemp(prefix="hrm-churn-"))
    print(f"churn: seed {arguments.seed}, logs in {folder}", flush=True)
    fleet = Fleet(binaries, folder, arguments.seed)
    try:
        faults = churn(fleet, arguments.minutes)
        fleet.learner.stop()
        if fleet.learner.child.returncode not in (0, -signal.SIGTERM):
            faults.append(f"the learner ended with status {fleet.learner.child.returncode}:\n{fleet.learner.tail()}")
        faults += accounts(folder / "run/ledger.jsonl")
    except Failure as failure:
        faults = [str(failure)]
    finally:
        fleet.close()
    if faults:
        shown = "\n".join(dict.fromkeys(faults))
        print(f"churn: FAILED: {shown}\nchurn: logs are in {folder}", file=sys.stderr)
        return 1
    shutil.rmtree(folder)
    print(f"churn: passed: {fleet.started - ACTORS} actors were killed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
