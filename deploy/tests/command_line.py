"""The command line of a check, and its result."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path


def parser(description: str | None) -> argparse.ArgumentParser:
    """A parser whose help is the module's own description, line by line."""
    return argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)


def add_bin_dir(arguments: argparse.ArgumentParser) -> None:
    """Adds `--bin-dir`, the folder of our two programs."""
    help_text = "folder of hrm-learner and hrm-actor"
    arguments.add_argument("--bin-dir", type=Path, default=Path("target/debug"), help=help_text)


def report(check: str, faults: Sequence[str], summary: str) -> int:
    """Prints every fault, or the summary if there are no faults; returns the exit status."""
    for fault in faults:
        print(f"{check}: {fault}", file=sys.stderr)
    if not faults:
        print(f"{check}: {summary}")
    return 1 if faults else 0
