"""The processes of the test, with their logs, starts, checks and stops."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Callable

from .. import programs, waiting
from ..waiting import Failure

# Seconds between two checks of a condition.
PAUSE = 0.25


class Process:
    """One running program."""

    def __init__(
        self, name: str, command: list[str], folder: Path, variables: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        """Starts it in the folder, with these variables in its environment."""
        self.name = name
        self.log = folder / f"{name}.log"
        environment = programs.environment(**variables)
        with self.log.open("wb") as log:
            self.child = subprocess.Popen(
                command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )

    def check(self) -> None:
        """Fails when the process has ended by itself."""
        status = self.child.poll()
        if status is not None:
            raise Failure(f"{self.name} ended with status {status}:\n{self.tail()}")

    def kill(self) -> None:
        """Kills it, as the loss of a machine does."""
        self.child.kill()
        self.child.wait()

    def stop(self) -> None:
        """Asks it to end, and kills it if it does not."""
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
            try:
                self.child.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self.kill()

    def tail(self, lines: int = 20) -> str:
        """Returns the end of its log."""
        text = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(f"    {line}" for line in text[-lines:])


def until(what: str, condition: Callable[[], object], seconds: float, alive: Iterable[Process]) -> None:
    """Waits for a condition. Fails as well when one of the processes dies meanwhile."""

    def look() -> None:
        for process in alive:
            process.check()

    waiting.until(what, condition, seconds, "live", PAUSE, look)


def free_ports(count: int) -> list[int]:
    """Returns ports that no process listens on now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def program(name: str, package: str) -> str:
    """Returns the path of a program from a Debian package."""
    path: str | None = shutil.which(name)
    if path is None:
        raise SystemExit(f"live: {name} is not in PATH; on Debian: apt install {package}")
    return path
