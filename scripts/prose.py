#!/usr/bin/env python3
"""Checks the project's prose: words that CONTRIBUTING.md replaces, and the openings of doc comments and test names.

    python3 scripts/prose.py            checks every tracked text; exit status 1 where a fault is found
    python3 scripts/prose.py --count    prints how many faults each file has, and exits 0

It reads Rust and Python in their comments and strings, and Rust in the names of its tests. It reads other texts whole:
Markdown, YAML, TOML, JSON, protobuf, shell, make, and the files of pages. A line break within a phrase does not matter.
Standard library only.
"""

from __future__ import annotations

import argparse
import io
import re
import subprocess
import sys
import tokenize
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

UNITS = "frames?|steps?|bytes|unrolls?|calls?|batch|batches|samples?|episodes?|versions?|segments?|tokens?|[MG]i?B|KiB"
PER = "second|minute|hour|decision|unroll|batch|session|connection|call|actor|tick|core|subscription|file|run"
# A phrase, as a regular expression over words, and its replacement. Letter case does not matter unless the phrase says
# so. CONTRIBUTING.md lists the same phrases.
DENIED = {
    "anew": "again",
    "whoever": "anyone who, or the role: the operator, the client",
    "(?:goes|go|going|gone|went) on": "resume, continue",
    "(?:comes|come|coming|came) to": "reach, is, are; the result of",
    # Python's `is None` is code.
    "(?-i:(?:is|are) none)": "does not exist, is not a, is invalid",
    "at hand": "available",
    "the books": "frame accounting",
    "what it stands": "robustness",
    "as it stands": "unchanged",
    "in vain": "without effect, wasted",
    "(?:has|have|had) no part in": "does not affect, is ignored by",
    "lest": "so that ... not",
    f"(?:{UNITS}) an? (?:{PER})": "per: frames per second",
}
DOC_OPENINGS = ("What", "Who", "Whoever", "Where", "How", "When", "Whether", "It", "Those")
# Doc comments that may open so, in the whole repository. The name of a test never may.
DOC_LIMIT = 10

WHOLE = (".md", ".yml", ".yaml", ".toml", ".json", ".proto", ".sh", ".cff", ".js", ".html", ".css", ".svg")
WHOLE_NAMES = ("Makefile", "Dockerfile", ".env.example", ".ci/run", "requirements.txt")
PYTHON = (".py", ".pyi")
# Written by programs, not by people. The builders of the dashboards are checked themselves.
RECORDED = re.compile(
    r"docs/results/.*/raw/|docs/.*\.(?:json|svg)$|deploy/grafana/dashboards/|fuzz/corpus/|Cargo\.lock$"
)
# This list and its tests name the words themselves.
OWN = ("scripts/prose.py", "scripts/test_prose.py")

RUST = re.compile(
    r"""
    (?P<comment>//[^\n]*|/\*.*?\*/)
    | b?r(?P<hashes>\#*)"(?P<raw>.*?)"(?P=hashes)
    | b?"(?P<string>(?:\\.|[^"\\])*)"
    | b?'(?:\\[^']+|[^'\\])'
    """,
    re.VERBOSE | re.DOTALL,
)
# A test function of Rust, from its attribute to its name. Other attributes may lie between.
TEST = re.compile(r"^[ \t]*#\[(?:tokio::)?test\b.*?\bfn\s+(\w+)\s*\(", re.MULTILINE | re.DOTALL)
# Code between two pieces of prose keeps them apart.
CODE = "\0"


@dataclass(frozen=True)
class Fault:
    """A phrase to replace, with its place."""

    file: str
    line: int
    phrase: str
    advice: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.phrase!r}: write {self.advice}"


def prose(name: str, text: str) -> str:
    """The text with everything blanked that is not prose; lines stay where they are."""
    if name.endswith(".rs"):
        kept = _blank(_kept(text, _rust_spans(text)), r"^[ \t]*//[/!]?")
        # A string that goes over a line's end.
        return _blank(kept, r"\\$")
    if name.endswith(PYTHON):
        kept = _blank(_kept(text, _python_spans(text)), r"^[ \t]*#")
        # Two strings beside each other are one.
        return _blank(kept, r"[\"']\s*\n\s*f?[\"']")
    if name == "CHANGELOG.md":
        # History stays as it was published.
        released = re.search(r"^## \[\d", text, re.MULTILINE)
        text = text[: released.start()] if released else text
    if name == "CONTRIBUTING.md":
        for start, end in _table(text):
            text = text[:start] + CODE * (end - start) + text[end:]
    if not name.endswith(".md"):
        text = _blank(text, r"^[ \t]*(?:#|//)+")
    return text


def faults(name: str, text: str) -> list[Fault]:
    """Every phrase of a file that has a plainer one."""
    kept = prose(name, text)
    found = [
        Fault(name, kept.count("\n", 0, at) + 1, " ".join(phrase.split()), advice)
        for at, phrase, advice in _denied(kept)
    ]
    return sorted(found, key=lambda fault: fault.line)


def test_names(name: str, text: str) -> list[Fault]:
    """Phrases to replace in the names of a Rust file's tests, and names without a named subject."""
    found = []
    for match in TEST.finditer(text):
        line = text.count("\n", 0, match.start(1)) + 1
        words = match[1].replace("_", " ")
        opening = words.split(maxsplit=1)[0]
        if opening.capitalize() in DOC_OPENINGS:
            found.append(Fault(name, line, opening, f"a named subject in {match[1]}"))
        for _, phrase, advice in _denied(words):
            found.append(Fault(name, line, phrase, f"{advice} in {match[1]}"))
    return found


def doc_openings(name: str, text: str) -> list[Fault]:
    """Doc comments of a Rust file whose first line does not say what the item is or does."""
    found = []
    before = ""
    for number, line in enumerate(text.splitlines(), start=1):
        match = re.match(r"\s*(//[/!])(?!/) ?(.*)", line)
        marker = match[1] if match else ""
        if match and marker != before:
            word = re.match(r"\w*", match[2])[0]
            if word in DOC_OPENINGS:
                found.append(Fault(name, number, word, "a noun phrase or a third-person verb"))
        before = marker
    return found


def is_read(name: str) -> bool:
    """True if people wrote this file and others read it."""
    text = name.endswith((*WHOLE, *WHOLE_NAMES, *PYTHON, ".rs"))
    return text and not RECORDED.search(name) and name not in OWN


def texts() -> Iterator[tuple[str, str]]:
    """Every tracked file that people read, with its text."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in filter(is_read, listed.stdout.split("\0")):
        path = ROOT / name
        if path.is_file():
            yield name, path.read_text(encoding="utf-8")


def main() -> int:
    """Checks every text and prints the faults."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", action="store_true", help="print counts by file, and exit 0")
    arguments = parser.parse_args()
    phrases: list[Fault] = []
    openings: list[Fault] = []
    for name, text in texts():
        phrases += faults(name, text)
        if name.endswith(".rs"):
            phrases += test_names(name, text)
            openings += doc_openings(name, text)
    if arguments.count:
        for title, found in (("phrases", phrases), ("doc comments", openings)):
            for name, count in Counter(fault.file for fault in found).most_common():
                print(f"{count:5} {title} {name}")
            print(f"{len(found):5} {title} in all")
        return 0
    wrong = [str(fault) for fault in phrases]
    if len(openings) > DOC_LIMIT:
        wrong += [str(fault) for fault in openings]
        wrong.append(f"{len(openings)} doc comments open with {', '.join(DOC_OPENINGS)}; at most {DOC_LIMIT} may")
    for fault in wrong:
        print(f"prose: {fault}", file=sys.stderr)
    if not wrong:
        print(f"prose: no phrase to replace, and {len(openings)} doc comments to reword")
    return 1 if wrong else 0


def _denied(text: str) -> Iterator[tuple[int, str, str]]:
    """Every phrase to replace, with its place and its replacement."""
    for phrase, advice in DENIED.items():
        pattern = r"(?<![\w-])" + phrase.replace(" ", r"\s+") + r"(?![\w-])"
        for match in re.finditer(pattern, text, re.IGNORECASE):
            yield match.start(), match[0], advice


def _table(text: str) -> Iterator[tuple[int, int]]:
    """The rows of CONTRIBUTING.md's table of these phrases, in its section on prose."""
    section = re.search(r"^## Prose$.*?(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    for row in re.finditer(r"^\|.*$", section[0], re.MULTILINE) if section else ():
        yield section.start() + row.start(), section.start() + row.end()


def _kept(text: str, spans: Iterator[tuple[int, int]]) -> str:
    """The text with these spans, and white space, kept and the rest blanked."""
    parts, end = [], 0
    for start, stop in spans:
        parts += [re.sub(r"\S", CODE, text[end:start]), text[start:stop]]
        end = stop
    return "".join([*parts, re.sub(r"\S", CODE, text[end:])])


def _blank(text: str, pattern: str) -> str:
    """The text with what matches as white space, so that a phrase is found on both sides of it."""
    return re.sub(pattern, lambda match: re.sub(r"\S", " ", match[0]), text, flags=re.MULTILINE)


def _rust_spans(text: str) -> Iterator[tuple[int, int]]:
    for match in RUST.finditer(text):
        for kind in ("raw", "string"):
            if match[kind] is not None:
                yield match.span(kind)
        if match["comment"] is not None:
            yield match.span("comment")


def _python_spans(text: str) -> Iterator[tuple[int, int]]:
    starts = [0]
    for line in text.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    strings = {tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in strings or token.type == tokenize.COMMENT:
            yield starts[token.start[0] - 1] + token.start[1], starts[token.end[0] - 1] + token.end[1]


if __name__ == "__main__":
    sys.exit(main())
