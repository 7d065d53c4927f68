"""A learner process whose metrics a measurement reads, for the other scripts of this folder."""

from __future__ import annotations

import os
import platform
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Longest time until the learner serves its metrics, and until it has ended after SIGTERM.
START_SECONDS = 60.0
STOP_SECONDS = 60.0


class Failed(Exception):
    """A check that failed, or a program that did."""


class MeasuredLearner:
    """A learner whose files and log lie in a folder, with free ports of this machine."""

    def __init__(
        self,
        program: Path,
        command: str,
        config: Path,
        folder: Path,
        settings: Mapping[str, object],
        prepare: Callable[[], None] | None = None,
    ) -> None:
        """Starts `hrm-learner COMMAND` and waits until it serves its metrics. The child runs `prepare` first."""
        self.folder = folder
        self.port, self.metrics_port = free_port(), free_port()
        self.log = (folder / "learner.log").open("w")
        words: list[str | Path] = [program, command, "--config", config, "--run-dir", folder / "run"]
        words += ["--listen", f"127.0.0.1:{self.port}", "--metrics-listen", f"127.0.0.1:{self.metrics_port}"]
        for key, value in settings.items():
            words += ["--set", f"{key}={value}"]
        self.process = subprocess.Popen(words, stderr=self.log, stdout=self.log, preexec_fn=prepare)
        deadline = time.monotonic() + START_SECONDS
        while not self.metrics():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.process.kill()
                raise Failed(f"the learner did not start: see {self.log.name}")
            time.sleep(0.05)

    def metrics(self) -> dict[str, float]:
        """Returns the samples of /metrics by name with labels, or none while nobody answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=10) as page:
                lines = page.read().decode().splitlines()
        except (urllib.error.URLError, OSError):
            return {}
        samples = (line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))
        return {name: float(value) for name, value in samples}

    def stop(self) -> None:
        """Asks it to stop, and waits until it has ended in order."""
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(STOP_SECONDS)
        if status != 0:
            raise Failed(f"the learner ended with status {status}: see {self.log.name}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    return f"{os.cpu_count()} cores, {model}"
