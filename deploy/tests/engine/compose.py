"""Releases of Compose, and projects that they start from docker-compose.yml."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..kubernetes.settings import PLACEHOLDER, VERSION
from ..paths import REPOSITORY
from ..waiting import Failure

EXAMPLE = REPOSITORY / ".env.example"


def run(*command: str, environment: dict[str, str] | None = None, folder: Path = REPOSITORY) -> str:
    """Returns the standard output of a command that succeeds."""
    made = subprocess.run(
        command, cwd=folder, env={**os.environ, **(environment or {})}, capture_output=True, text=True, check=False
    )
    if made.returncode != 0:
        raise Failure(f"{' '.join(command)}: exit status {made.returncode}\n{made.stdout[-2000:]}{made.stderr[-4000:]}")
    return made.stdout


def inspect(*names: str) -> list[dict[str, Any]]:
    """Returns the engine's description of images or containers."""
    found: list[dict[str, Any]] = json.loads(run("docker", "inspect", *names)) if names else []
    return found


def our_image(target: str, registry: str = PLACEHOLDER) -> str:
    """Returns the name of our image of a target of the Dockerfile."""
    return f"{registry}/hrm-impala/{target}:{VERSION}"


def log(container: str) -> list[dict[str, Any]]:
    """Returns the structured log lines of a container."""
    made = subprocess.run(["docker", "logs", container], capture_output=True, text=True, check=False)
    return [json.loads(line) for line in (made.stdout + made.stderr).splitlines() if line.startswith("{")]


def defaults() -> dict[str, str]:
    """Returns the variables of .env.example."""
    lines = [line for line in EXAMPLE.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


@dataclass(frozen=True)
class Compose:
    """One release of Compose."""

    # The words that start it.
    program: tuple[str, ...]
    version: str

    def __str__(self) -> str:
        return f"Compose {self.version}"

    def spelled(self, text: str) -> str:
        """Returns shell for `docker compose` in the words of this release, as docs/compose.md says."""
        return text.replace("docker compose", " ".join(self.program))


def releases() -> list[Compose]:
    """Returns Compose 1 and Compose 2."""
    found = []
    for major, program, remedy in (
        ("1", ("docker-compose",), "put Debian 12's docker-compose 1.29 on the PATH"),
        ("2", ("docker", "compose"), "run `make cluster-test`, which fetches it and sets DOCKER_CONFIG"),
    ):
        version = ""
        if shutil.which(program[0]):
            made = subprocess.run([*program, "version", "--short"], capture_output=True, text=True, check=False)
            version = made.stdout.strip().removeprefix("v")
        if version.partition(".")[0] != major:
            raise Failure(f"`{' '.join(program)}` is {version or 'missing'}, not Compose {major}: {remedy}")
        found.append(Compose(program, version))
    return found


class Project:
    """docker-compose.yml under a name of its own, apart from other containers and volumes."""

    def __init__(self, compose: Compose, name: str, settings: dict[str, str], profiles: Sequence[str] = ()) -> None:
        self.compose, self.name, self.profiles = compose, name, profiles
        # Variables take precedence, so the .env of the person who runs the test does not apply.
        self.environment = defaults() | settings
        self.environment["COMPOSE_PROJECT_NAME"] = name
        self.environment["COMPOSE_PROFILES"] = ""
        self.environment["COMPOSE_FILE"] = str(REPOSITORY / "docker-compose.yml")

    def __call__(self, *arguments: str) -> str:
        """Runs one command of Compose."""
        profiles = [f"--profile={profile}" for profile in self.profiles]
        return run(*self.compose.program, *profiles, *arguments, environment=self.environment)

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
        return [line for container in self.containers(service, every=True) for line in log(container)]
