"""The compose project, through the Compose of this machine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from typing import Any

from ..paths import REPOSITORY
from ..waiting import Failure


def run(*command: str, environment: dict[str, str] | None = None) -> str:
    """Returns the standard output of a command that succeeds."""
    made = subprocess.run(
        command, cwd=REPOSITORY, env={**os.environ, **(environment or {})}, capture_output=True, text=True, check=False
    )
    if made.returncode != 0:
        raise Failure(f"{' '.join(command)}: exit status {made.returncode}\n{made.stdout[-2000:]}{made.stderr[-4000:]}")
    return made.stdout


def inspect(*names: str) -> list[dict[str, Any]]:
    """Returns the engine's description of images or containers."""
    return json.loads(run("docker", "inspect", *names)) if names else []


class Project:
    """docker-compose.yml under a name of its own, apart from other containers and volumes."""

    def __init__(self, name: str, settings: dict[str, str], profiles: Sequence[str] = ()) -> None:
        plugin = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0
        if not plugin and not shutil.which("docker-compose"):
            raise Failure("there is no `docker compose` and no docker-compose (on Debian: apt install docker-compose)")
        program = ["docker", "compose"] if plugin else ["docker-compose"]
        # The .env of the person who runs the test does not apply.
        self.command = [*program, "--env-file", str(REPOSITORY / ".env.example"), "--project-name", name]
        self.command += [f"--profile={profile}" for profile in profiles]
        self.name, self.settings = name, settings

    def __call__(self, *arguments: str) -> str:
        """Runs one command of Compose."""
        return run(*self.command, *arguments, environment=self.settings)

    def containers(self, service: str, every: bool = False) -> list[str]:
        """Returns the running containers of a service, or all of them."""
        labels = {"com.docker.compose.project": self.name, "com.docker.compose.service": service}
        filters = [f"--filter=label={key}={value}" for key, value in labels.items()]
        return run("docker", "ps", "--quiet", *(["--all"] if every else []), *filters).split()

    def healthy(self, service: str) -> int:
        """Returns the number of healthy containers of a service."""
        states = [container["State"] for container in inspect(*self.containers(service))]
        return sum(1 for state in states if state.get("Health", {}).get("Status") == "healthy")

    def log(self, service: str) -> list[dict[str, Any]]:
        """Returns the structured log lines of a service's containers."""
        lines = []
        for container in self.containers(service, every=True):
            made = subprocess.run(["docker", "logs", container], capture_output=True, text=True, check=False)
            lines += [json.loads(line) for line in (made.stdout + made.stderr).splitlines() if line.startswith("{")]
        return lines
