#!/usr/bin/env python3
"""Checks what the documents say against the programs and files that they speak of.

Defaults and settings against `hrm-learner config --print`; every command, inline ones too, against the real flags,
targets, services and names; TOML, YAML, JSON and PromQL by their parsers; paths, links and metrics by what is there.
settings_stated.py says how a document states a default.

    pip install -r requirements.txt -r ../observability/requirements.txt
    cargo build --workspace --bins
    python3 check_documents.py --kubectl kubectl --bin-dir target/debug
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import commands
import formats
import names
import settings_stated
from markdown import Document, documents, tracked


def faults(document: Document, checker: commands.Checker, files: list[str]) -> Iterator[str]:
    """Everything that is wrong with a document."""
    yield from settings_stated.faults(document, checker.program)
    yield from checker.document(document)
    yield from formats.faults(document)
    yield from names.faults(document, files)


def main() -> int:
    """Checks every document and says what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kubectl", default="kubectl", help="kubectl, any version")
    parser.add_argument("--bin-dir", type=Path, default=Path("target/debug"), help="where hrm-learner and hrm-actor are")
    arguments = parser.parse_args()
    if not shutil.which("promtool"):
        raise SystemExit("check_documents: no promtool (on Debian: sudo apt install prometheus)")

    program = settings_stated.Program((arguments.bin_dir / "hrm-learner").resolve())
    checker = commands.Checker(program, shutil.which(arguments.kubectl) or str(Path(arguments.kubectl).resolve()))
    files = tracked()
    every = documents(files)
    found = [fault for document in every for fault in faults(document, checker, files)]
    for fault in found:
        print(f"check_documents: {fault}", file=sys.stderr)
    if not found:
        blocks = sum(len(document.blocks) for document in every)
        print(f"check_documents: {len(every)} documents with {blocks} blocks")
    return 1 if found or not every else 0


if __name__ == "__main__":
    sys.exit(main())
