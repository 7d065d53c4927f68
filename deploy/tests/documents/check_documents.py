"""Checks the documents against the programs and files that they describe.

Defaults and settings against `hrm-learner config --print`; every command, inline ones too, against the real flags,
targets, services, objects, values of the chart and names; TOML, YAML, JSON and PromQL with their parsers; Compose files
with their schema; paths, links and metrics against the repository. settings_stated.py describes how a document states a
default.

    cargo build --workspace --bins
    python3 -m deploy.tests.documents.check_documents --kubectl kubectl --bin-dir target/debug
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator

from .. import command_line
from . import commands, formats, names, settings_stated
from .markdown import Document, documents, tracked


def faults(document: Document, checker: commands.Checker, files: list[str]) -> Iterator[str]:
    """Yields every fault of a document."""
    yield from settings_stated.faults(document, checker.program)
    yield from checker.document(document)
    yield from formats.faults(document)
    yield from names.faults(document, files)


def main() -> int:
    """Checks every document and prints the faults."""
    parser = command_line.parser(__doc__)
    parser.add_argument("--kubectl", default="kubectl", help="kubectl, any version")
    command_line.add_bin_dir(parser)
    arguments = parser.parse_args()
    if not shutil.which("promtool"):
        raise SystemExit("check_documents: no promtool (on Debian: sudo apt install prometheus)")

    program = settings_stated.Program((arguments.bin_dir / "hrm-learner").resolve())
    checker = commands.Checker(program, arguments.kubectl)
    files = tracked()
    every = documents(files)
    found = [fault for document in every for fault in faults(document, checker, files)]
    if not every:
        found.append("there is no document")
    blocks = sum(len(document.blocks) for document in every)
    return command_line.report("check_documents", found, f"{len(every)} documents with {blocks} blocks")


if __name__ == "__main__":
    sys.exit(main())
