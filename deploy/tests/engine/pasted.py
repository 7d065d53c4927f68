"""The commands of docs/compose.md, run as a reader pastes them."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from ..documents.markdown import Document
from ..paths import REPOSITORY
from ..waiting import Failure
from .compose import Project

PAGE = REPOSITORY / "docs/compose.md"


def block(heading: str) -> str:
    """Returns the first block of code below a heading of the page."""
    section = re.search(
        rf"^#+ {re.escape(heading)}\n(.*?)(?=^#+ |\Z)", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    blocks = Document(PAGE.name, section[1]).blocks if section else []
    if not blocks:
        raise Failure(f"{PAGE.name} has no commands below the heading {heading!r}, which the test runs")
    return blocks[0].text


def paste(project: Project, heading: str, folder: Path = REPOSITORY) -> str:
    """Runs the block below a heading in a terminal and in this folder. Returns what the terminal shows."""
    text = project.compose.spelled(block(heading))
    print("\n".join(f"cluster: $ {line}" for line in text.splitlines()), flush=True)
    # `script` provides the terminal. Its command is a text for the shell.
    made = subprocess.run(
        ["script", "--quiet", "--return", "--command", f"set -eu\n{text}", "/dev/null"],
        cwd=folder,
        env={**os.environ, **project.environment, "SHELL": "/bin/sh"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode != 0:
        raise Failure(f"{PAGE.name}, {heading}: exit status {made.returncode}\n{text}\n{made.stdout[-4000:]}")
    return made.stdout
