"""Our two programs: the environment they are started in, and the configuration they print."""

from __future__ import annotations

import os
import subprocess
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def environment(**variables: str) -> dict[str, str]:
    """The caller's environment without settings of our programs, and with these variables."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("HRM__")}
    return inherited | variables


def rejects(program: Path, arguments: Sequence[str]) -> str:
    """Returns the message with which a program rejects these arguments, or an empty text."""
    # Clap checks every flag and value before it prints help.
    command = [str(program), *arguments, "--help"]
    printed = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    return " ".join(printed.stderr.split()) if printed.returncode else ""


def configuration(program: Path, variables: dict[str, str], file: Path | None = None) -> dict[str, Any]:
    """The effective configuration of a program with these variables and this file.

    Raises `ValueError`, with the program's own message, where it refuses them.
    """
    command = [str(program), "config", "--print", *(["--config", str(file)] if file else [])]
    printed = subprocess.run(command, env=environment(**variables), capture_output=True, text=True, check=False)
    if printed.returncode != 0:
        raise ValueError(printed.stderr.strip())
    return tomllib.loads(printed.stdout)
