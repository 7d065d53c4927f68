"""The parts of a document: blocks of code, and prose with spans of code."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from ..paths import REPOSITORY

FENCE = re.compile(r"^ {0,3}```(\S*)\s*$")
INDENT = "    "
SPAN = re.compile(r"`([^`]+)`")
INDENTED = "indented"


@dataclass(frozen=True)
class Piece:
    """Text of a document, with its place."""

    where: str
    text: str
    # The language that a block's fence names, or INDENTED.
    language: str = ""

    @property
    def spans(self) -> list[str]:
        """The spans of code in a paragraph, each on one line."""
        return [" ".join(span.split()) for span in SPAN.findall(self.text)]


@dataclass(frozen=True)
class Document:
    """One document."""

    name: str
    text: str
    folder: Path = field(default=REPOSITORY)

    @cached_property
    def blocks(self) -> list[Piece]:
        """Fenced and indented blocks of code."""
        return [piece for piece, is_block in self._pieces if is_block]

    @cached_property
    def paragraphs(self) -> list[Piece]:
        """Paragraphs and rows of tables: everything but blocks."""
        return [piece for piece, is_block in self._pieces if not is_block]

    @cached_property
    def _pieces(self) -> list[tuple[Piece, bool]]:
        return list(_pieces(self.name, self.text.splitlines()))


def _pieces(name: str, lines: list[str]) -> Iterator[tuple[Piece, bool]]:
    at, blank = 0, True
    while at < len(lines):
        line, first = lines[at], at
        fence = FENCE.match(line)
        if fence:
            at += 1
            while at < len(lines) and not FENCE.match(lines[at]):
                at += 1
            yield Piece(f"{name}:{first + 1}", "\n".join(lines[first + 1 : at]), fence[1]), True
            at += 1
        elif line.startswith(INDENT) and blank:
            while at < len(lines) and (lines[at].startswith(INDENT) or not lines[at].strip()):
                at += 1
            text = "\n".join(inner.removeprefix(INDENT) for inner in lines[first:at]).rstrip()
            yield Piece(f"{name}:{first + 1}", text, INDENTED), True
            blank = True
            continue
        elif line.strip():
            at += 1
            # A row of a table, like an item of a list, is a piece of its own.
            while at < len(lines) and lines[at].strip() and not lines[at].startswith(("|", "- ", "```", "#")):
                at += 1
            yield Piece(f"{name}:{first + 1}", "\n".join(lines[first:at])), False
        else:
            at += 1
            blank = True
            continue
        blank = False


def tracked() -> list[str]:
    """Returns every file of the repository that git does not ignore."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return sorted(name for name in listed.stdout.splitlines() if (REPOSITORY / name).exists())


def documents(files: list[str]) -> list[Document]:
    """Returns the documents; comments of .env.example and docker-compose.yml count as prose."""
    found = []
    for name in files:
        path = REPOSITORY / name
        if name.endswith(".md"):
            found.append(Document(name, path.read_text(encoding="utf-8"), path.parent))
        elif name in (".env.example", "docker-compose.yml"):
            lines = path.read_text(encoding="utf-8").splitlines()
            comments = [line.lstrip("# ") if line.startswith("#") else "" for line in lines]
            found.append(Document(name, "\n".join(comments), path.parent))
    return found
