#!/usr/bin/env python3
"""Measures how many frames a learner on one core admits from many sessions, and what memory they take.

    make fleet

Starts `hrm-learner serve` with learner.train = false on the first core that this process may use, and `hrm-actor load`
on the second. First it sends frames as fast as the learner permits, then at a lower, stated rate for a longer time.
Checks that no session fails, that every frame is in the learner's ledger, and that its memory stays level and below the
bound of SECURITY.md. Writes fleet.json and fleet.csv to the folder of --results. Exit status: 0, or 1 with the reason
on stderr.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from measured_learner import ROOT, Failed, MeasuredLearner, machine

MB = 1e6
# The memory may differ by this between the last two quarters of the steady test.
SLACK_MB = 8.0
WINDOWS_PER_CONNECTION = 4 << 20
PIECE_OF_WEIGHTS = 1 << 20


@dataclass(frozen=True)
class Sample:
    """The learner at a moment."""

    seconds: float
    memory_mb: float
    threads: int
    files: int
    cpu_seconds: float


class Learner(MeasuredLearner):
    """A learner on one core that admits without training."""

    def __init__(self, programs: Path, folder: Path, core: int, sessions: int) -> None:
        settings = {
            "learner.train": "false",
            "learner.max_sessions": sessions + 24,
            "learner.max_connections": 2 * sessions + 64,
            "rollout.carry_dtype": "bf16",
            "telemetry.log_interval_seconds": 10,
        }
        config = ROOT / "configs/four-rooms.toml"
        super().__init__(programs / "hrm-learner", "serve", config, folder, settings, pinned(core))

    def sample(self, began: float) -> Sample:
        proc = Path("/proc") / str(self.process.pid)
        fields = dict(line.split(":", 1) for line in (proc / "status").read_text().splitlines())
        stat = (proc / "stat").read_text().rsplit(")", 1)[1].split()
        ticks = int(stat[11]) + int(stat[12])
        return Sample(
            seconds=time.monotonic() - began,
            memory_mb=int(fields["VmRSS"].split()[0]) * 1024 / MB,
            threads=int(fields["Threads"]),
            files=len(list((proc / "fd").iterdir())),
            cpu_seconds=ticks / os.sysconf("SC_CLK_TCK"),
        )

    def ledger(self) -> dict[str, int]:
        """Returns the frames of all ended sessions."""
        sums: dict[str, int] = {"sessions": 0}
        for line in (self.folder / "run/ledger.jsonl").read_text().splitlines():
            entry = json.loads(line)
            if entry["kind"] != "session":
                continue
            sums["sessions"] += 1
            dropped = {f"dropped_{reason}": frames for reason, frames in entry["dropped"].items()}
            for key, frames in {**entry, **dropped}.items():
                if isinstance(frames, int):
                    sums[key] = sums.get(key, 0) + frames
        return sums


def pinned(core: int) -> Any:
    """Returns what a child runs to stay on one core."""
    return lambda: os.sched_setaffinity(0, {core})


def load(programs: Path, learner: Learner, core: int, sessions: int, seconds: float, rate: float | None) -> dict[str, Any]:
    """Runs one load test and returns its report with the learner's samples."""
    command = [programs / "hrm-actor", "load", "--json", "--learner", f"http://127.0.0.1:{learner.port}"]
    command += ["--sessions", str(sessions), "--seconds", str(seconds)]
    if rate is not None:
        command += ["--frames-per-second", str(rate)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=sys.stderr, preexec_fn=pinned(core))
    began, samples, ended = time.monotonic(), [], threading.Event()

    def watch() -> None:
        while not ended.wait(1.0) and learner.process.poll() is None:
            samples.append(learner.sample(began))

    watcher = threading.Thread(target=watch)
    watcher.start()
    output, _ = process.communicate()
    ended.set()
    watcher.join()
    if process.returncode != 0:
        raise Failed(f"hrm-actor load ended with status {process.returncode}: {output.decode()[-2000:]}")
    report = json.loads(output)
    # Without the time in which sessions join and leave.
    report["samples"] = [s for s in samples if report["join_seconds"] + 2 < s.seconds < report["join_seconds"] + seconds]
    if len(report["samples"]) < 4:
        raise Failed(f"{seconds} s are too short: the learner was sampled {len(report['samples'])} times, once a second")
    return report


def busy(samples: list[Sample]) -> float:
    """Returns the share of its core that the learner used."""
    first, last = samples[0], samples[-1]
    return (last.cpu_seconds - first.cpu_seconds) / (last.seconds - first.seconds)


def quarter(samples: list[Sample], number: int) -> float:
    """Returns the median memory in a quarter of the samples, in MB."""
    size = len(samples) // 4
    return statistics.median(sample.memory_mb for sample in samples[number * size : (number + 1) * size])


def bound_mb(sessions: int, unroll_bytes: float, weights_bytes: float) -> float:
    """Returns the bound of SECURITY.md on the memory that a learner holds for its peers, in MB."""
    queued = (4 + 16) * unroll_bytes
    uploads = 2 * (sessions + 24) * 2 * unroll_bytes
    subscriptions = sessions * (PIECE_OF_WEIGHTS + weights_bytes)
    return (queued + uploads + subscriptions + (sessions + 1) * WINDOWS_PER_CONNECTION) / MB


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise Failed("two cores are needed: one for the learner, one for the load")
    programs, sessions = options.bin_dir.resolve(), options.sessions
    learner = Learner(programs, folder, cores[0], sessions)
    try:
        before = learner.sample(time.monotonic())
        fastest = load(programs, learner, cores[1], sessions, options.seconds, None)
        rate = options.frames_per_second or round(fastest["frames_per_second"] * 0.6)
        steady = load(programs, learner, cores[1], sessions, options.steady_seconds, rate)
        metrics = learner.metrics()
    finally:
        if learner.process.poll() is None:
            learner.stop()
    ledger = learner.ledger()
    admitted = fastest["frames_admitted"] + steady["frames_admitted"]
    for key in ("received", "admitted", "dropped_untrained"):
        if ledger.get(key) != admitted:
            raise Failed(f"the sessions sent {admitted} frames, but the ledger has {key} = {ledger.get(key)}")
    for test in (fastest, steady):
        test["learner_busy"] = busy(test["samples"])
    fastest.pop("samples")
    samples = steady.pop("samples")
    published = metrics["hrm_learner_weights_published_bytes_total"] / metrics["hrm_learner_weights_published_total"]
    bound = bound_mb(sessions, fastest["bytes_sent"] / fastest["frames_sent"] * 512, published)
    result = {
        "machine": machine(),
        "sessions": sessions,
        "fastest": fastest,
        "steady": steady,
        "ledger": ledger,
        "memory": {
            "before_mb": before.memory_mb,
            "quarters_mb": [quarter(samples, number) for number in range(4)],
            "bound_mb": bound,
        },
        "files": [before.files, max(sample.files for sample in samples)],
        "threads": [before.threads, max(sample.threads for sample in samples)],
        "weights_bytes": published,
    }
    if options.results:
        options.results.mkdir(parents=True, exist_ok=True)
        (options.results / "fleet.json").write_text(json.dumps(result, indent=2) + "\n")
        with (options.results / "fleet.csv").open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["seconds", "memory_mb", "threads", "files", "cpu_seconds"])
            for s in samples:
                writer.writerow([f"{s.seconds:.1f}", f"{s.memory_mb:.1f}", s.threads, s.files, f"{s.cpu_seconds:.2f}"])
    return result


def check(result: dict[str, Any]) -> None:
    """Raises if the memory does not stay level, or exceeds its bound."""
    memory = result["memory"]
    third, last = memory["quarters_mb"][2:]
    if last > third + SLACK_MB:
        raise Failed(f"the learner's memory rose from {third:.1f} to {last:.1f} MB in the last quarter")
    if last - memory["before_mb"] > memory["bound_mb"]:
        raise Failed(f"the learner's memory, {last:.1f} MB, exceeds the bound of {memory['bound_mb']:.0f} MB")


def table(result: dict[str, Any]) -> str:
    rows = [("", "as fast as permitted", "at a stated rate"), ("-", "-", "-")]

    def row(name: str, form: str, read: Any) -> None:
        rows.append((name, *(form.format(*read(result[test])) for test in ("fastest", "steady"))))

    row("frames admitted per second", "{:,.0f}", lambda t: [t["frames_per_second"]])
    row("learner's use of its core", "{:.0%}", lambda t: [t["learner_busy"]])
    row("data received", "{:.0f} MB/s", lambda t: [t["bytes_sent"] / t["seconds"] / MB])
    row("frames sent, lost", "{:,}, {:,}", lambda t: [t["frames_sent"], t["frames_sent"] - t["frames_admitted"]])
    row("sessions joined within", "{:.1f} s", lambda t: [t["join_seconds"]])
    for name, key in (("unroll to acknowledgement: median, p99, longest", "admission"),
        ("new weights, first to last session: median, p99, longest", "fan_out"),
    ):
        row(name, "{:,.1f}, {:,.1f}, {:,.1f} ms", lambda t, k=key: [t[k]["median"], t[k]["p99"], t[k]["max"]])
    row("versions that reached every session", "{}", lambda t: [t["versions_received_by_all"]])
    lines = ["| " + " | ".join(cells) + " |" for cells in rows]
    memory = result["memory"]
    quarters = ", ".join(f"{mb:.0f}" for mb in memory["quarters_mb"])
    lines.append(f"\nMemory of the learner: {memory['before_mb']:.0f} MB before, then {quarters} MB in the quarters of")
    lines.append(f"the steady test; bound of SECURITY.md for its peers: {memory['bound_mb']:,.0f} MB. Machine: {result['machine']}.")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin-dir", type=Path, default=ROOT / "target/release", help="folder of the programs")
    parser.add_argument("--sessions", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=60.0, help="length of the test without a rate")
    parser.add_argument("--steady-seconds", type=float, default=180.0, help="length of the test at a rate")
    parser.add_argument("--frames-per-second", type=float, help="that rate; without it, 60%% of the fastest")
    parser.add_argument("--results", type=Path, help="folder for fleet.json and fleet.csv")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="fleet-"))
    try:
        result = measure(options, folder)
        print(table(result))
        check(result)
    except Failed as failed:
        print(f"fleet: {failed}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
