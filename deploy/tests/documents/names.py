"""Names in documents: files, links and metrics."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator
from urllib.parse import unquote

from ..paths import REPOSITORY
from .formats import inference
from .markdown import Document

LINK = re.compile(r"\]\(([^)\s]+)\)")
METRIC = re.compile(r"\b(?:\w+:hrm_\w+:\w+|hrm_(?:learner|actor)_[a-z0-9_]*[a-z0-9])\b(?![*:])")
# Files with these endings belong to this repository, others to a run or to the reader.
SOURCE = re.compile(r"[\w.*-]+\.(?:rs|py|sh|proto)")
PATH = re.compile(r"[\w.*-]+(?:/[\w.*-]+)*/?")
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)


def faults(document: Document, files: list[str]) -> Iterator[str]:
    """Yields the names that do not exist."""
    top = {name.partition("/")[0] for name in files if "/" in name}
    for paragraph in document.paragraphs:
        for span in paragraph.spans:
            yield from (f"{paragraph.where}: {fault}" for fault in _of_span(span, files, top))
        for target in LINK.findall(paragraph.text):
            yield from (f"{paragraph.where}: {fault}" for fault in _of_link(document, target))
    for piece in [*document.blocks, *document.paragraphs]:
        for name in METRIC.findall(piece.text):
            if not known(name):
                yield f"{piece.where}: no program exports and no rule records {name}"


def known(metric: str) -> bool:
    """True if a program exports the metric, or metrics that begin with its name, or a rule records it."""
    if ":" in metric:
        return metric in inference().recorded
    return any(name == metric or name.startswith(f"{metric}_") for name in inference().metrics)


def _of_span(span: str, files: list[str], top: set[str]) -> Iterator[str]:
    if not PATH.fullmatch(span):
        return
    if "/" in span and span.partition("/")[0] in top:
        pattern = span.rstrip("/")
        if not any(fnmatch.fnmatch(name, pattern) or name.startswith(f"{pattern}/") for name in files):
            yield f"there is no {span}"
    elif SOURCE.fullmatch(span.rpartition("/")[2]):
        if not any(fnmatch.fnmatch(name, span) or fnmatch.fnmatch(name, f"*/{span}") for name in files):
            yield f"there is no file {span}"


def _of_link(document: Document, target: str) -> Iterator[str]:
    if re.match(r"[a-z]+:", target):
        return
    path, _, anchor = unquote(target).partition("#")
    file = document.folder / path if path else REPOSITORY / document.name
    if not file.exists():
        yield f"the link {target} leads nowhere"
    elif anchor and file.suffix == ".md" and anchor not in anchors(file.read_text(encoding="utf-8")):
        yield f"the link {target} leads to no heading"


def anchors(text: str) -> set[str]:
    """Returns the headings of a document, as links spell them."""
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in HEADING.findall(text)}
