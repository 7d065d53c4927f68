"""Blocks that are not commands: TOML, YAML, JSON and PromQL."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser as promql
import yaml

from ..observability.check_promql import inference
from ..observability.labels import Fault
from ..paths import K8S
from .commands import SHELL, is_shell
from .markdown import INDENTED, Document, Piece

PROMQL = re.compile(r"\bhrm_(?:learner|actor)_\w+")
RANGE = re.compile(r"\[(\d+)([smh])\]")
SECONDS = {"s": 1, "m": 60, "h": 3600}
# A rate needs at least two samples; with fewer than four, one failed scrape leaves a gap.
SAMPLES = 4
# Pictures, output, and languages that other checks cover.
SHOWN = ("text", "rust", "proto", "mermaid", "python", "nginx")


def is_promql(block: Piece) -> bool:
    """True for a block in PromQL: by its fence, or because every line names a metric of ours."""
    lines = block.text.splitlines()
    queries = block.language == INDENTED and not is_shell(block.text) and all(map(PROMQL.search, lines))
    return block.language == "promql" or queries


def faults(document: Document) -> Iterator[str]:
    """Yields the faults in a document's blocks."""
    for block in document.blocks:
        yield from (f"{block.where}: {fault}" for fault in _of_block(block))
    yield from _too_rarely(document)


def _of_block(block: Piece) -> Iterator[str]:
    try:
        match block.language:
            case "toml":
                tomllib.loads(block.text)
            case "json":
                json.loads(block.text)
            case "yaml" | "yml":
                for content in yaml.safe_load_all(block.text):
                    yield from _of_yaml(content, block.text)
            case language if is_promql(block):
                # A fence holds one expression, an indented block one per line.
                yield from _of_promql([block.text] if language == "promql" else block.text.splitlines())
            case language if language in (*SHELL, *SHOWN):
                pass
            case language if language == INDENTED and (is_shell(block.text) or block.text.startswith("--")):
                pass
            case language if language == INDENTED and "×" in block.text:
                pass
            case language:
                yield f"unknown kind of block ({language or 'no language'}): give its fence a language"
    except (ValueError, yaml.YAMLError) as error:
        yield " ".join(str(error).split())


def _of_promql(expressions: list[str]) -> Iterator[str]:
    for expression in expressions:
        try:
            inference().of(promql.parse(expression))
        except (Fault, ValueError) as fault:
            yield f"{expression.strip()}: {fault}"


def _of_yaml(content: Any, text: str) -> Iterator[str]:
    if not isinstance(content, dict):
        return
    if "scrape_configs" in content:
        yield from promtool(text)
    if "services" in content:
        yield from _of_compose(text)
    if content.get("kind") == "Kustomization":
        base = (K8S / "base/kustomization.yaml").read_text(encoding="utf-8")
        known = {image["name"] for image in yaml.safe_load(base)["images"]}
        for image in content.get("images", []):
            if image["name"] not in known:
                yield f"the base has no image {image['name']}"


def _of_compose(text: str) -> Iterator[str]:
    """Yields the faults of a Compose file by its schema."""
    with tempfile.NamedTemporaryFile("w", suffix=".yml", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        schema = ["--builtin-schema", "vendor.compose-spec", "--output-format", "json"]
        command = [sys.executable, "-m", "check_jsonschema", *schema, file.name]
        made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode != 0:
        found = json.loads(made.stdout)
        yield from (f"{error['path']}: {error['message']}" for error in found["errors"])


def promtool(text: str) -> Iterator[str]:
    """Yields the faults that Prometheus's own tool finds in a configuration."""
    with tempfile.NamedTemporaryFile("w", suffix=".yml", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        command = ["promtool", "check", "config", "--syntax-only", file.name]
        made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode != 0:
        yield (made.stderr or made.stdout).replace(Path(file.name).name, "this").strip()


def _too_rarely(document: Document) -> Iterator[str]:
    """Yields the ranges that hold fewer than four samples at the document's own scrape interval."""
    intervals = [
        _seconds(content.get("global", {}).get("scrape_interval", "1m"))
        for block in document.blocks
        if block.language in ("yaml", "yml")
        for content in [_loaded(block.text)]
        if isinstance(content, dict) and "scrape_configs" in content
    ]
    if not intervals:
        return
    for block in filter(is_promql, document.blocks):
        for number, unit in RANGE.findall(block.text):
            span = int(number) * SECONDS[unit]
            if span < SAMPLES * max(intervals):
                yield (
                    f"{block.where}: [{number}{unit}] holds fewer than {SAMPLES} samples: this document's "
                    f"Prometheus scrapes every {max(intervals)} s"
                )


def _loaded(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        # The block's own check reports it.
        return None


def _seconds(text: str) -> int:
    match = re.fullmatch(r"(\d+)([smh])", text)
    return int(match[1]) * SECONDS[match[2]] if match else 0
