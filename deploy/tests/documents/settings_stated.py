"""Statements about configuration keys in documents.

A document states a default as "`section.key` (V", "`section.key` (default V" or "`section.key`, V,". It states a value
in a file as "`section.key` (V in `configs/FILE.toml`" or "`section.key` of `configs/FILE.toml`, V,". A number that
follows from defaults stands after its formula, "`loss.passes × rollout.envs` = N", or in the next cell of a table. "A
batch of the defaults makes N updates" is such a formula in words. "`section.key = V`" is a setting that the program
must accept.
"""

from __future__ import annotations

import ast
import operator
import re
import subprocess
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from ..paths import REPOSITORY
from .markdown import Document, Piece

NUMBER = r"\d[\d,]*(?:\.\d+)?(?:e-?\d+)?"
VALUE = rf"{NUMBER}|true|false|`(?:{NUMBER}|true|false|\"[^\"`]*\")`"
FILE = r"`(configs/[\w/-]+\.toml)`"
IN_BRACKETS = re.compile(rf"`([a-z]+\.[a-z0-9_]+)` \((?:default )?({VALUE})(?: in {FILE})?(?![\w.]\w)")
BETWEEN_COMMAS = re.compile(rf"`([a-z]+\.[a-z0-9_]+)`(?: of {FILE})?, ({VALUE}),")
FORMULA = re.compile(rf"`([^`]*×[^`]*)`(?: = | \| )({NUMBER})")
IN_WORDS = re.compile(rf"batch of the default(?:s| configuration) makes ({NUMBER})")
UPDATES = "loss.updates_per_batch"
KEY = re.compile(r"`([a-z]+)\.([a-z0-9_]+)`")
# `run.json` is a file, and so is `loss.rs`.
FILES = {"json", "jsonl", "md", "pem", "proto", "py", "rs", "sh", "svg", "toml", "yaml", "yml"}
VARIABLE = re.compile(r"HRM__([A-Z]+)__([A-Z0-9_]+)(?:=([^\s`]+))?")
SETTING = re.compile(r"([a-z]+\.[a-z0-9_]+) = (.+)")
FRAMES = re.compile(r"\b([a-z][\w-]*-long) (?:set TOTAL_FRAMES=)?(\d{5,})")
CONFIGS = sorted((REPOSITORY / "configs").glob("*.toml"))
OPERATORS = {ast.Mult: operator.mul, ast.Div: operator.truediv, ast.Add: operator.add, ast.Sub: operator.sub}


@dataclass(frozen=True)
class Program:
    """The real program's configuration."""

    path: Path

    @cached_property
    def defaults(self) -> dict[str, Any]:
        """Every key and its default."""
        return self.of_file(None)

    @cached_property
    def sections(self) -> set[str]:
        """Every section."""
        return {key.partition(".")[0] for key in self.defaults}

    def of_file(self, file: str | None) -> dict[str, Any]:
        """Every key and its value with this file of configs/."""
        printed = self.configuration(*(["--config", file] if file else []))
        if isinstance(printed, str):
            raise ValueError(printed)
        return {f"{name}.{key}": value for name, keys in printed.items() for key, value in keys.items()}

    @lru_cache(maxsize=None)  # noqa: B019: one instance for a whole check
    def configuration(self, *arguments: str) -> dict[str, Any] | str:
        """Returns the effective configuration, or the program's error."""
        command = [str(self.path), "config", "--print", *arguments]
        made = subprocess.run(command, cwd=REPOSITORY, env={}, capture_output=True, text=True, check=False)
        return tomllib.loads(made.stdout) if made.returncode == 0 else " ".join(made.stderr.split())


def faults(document: Document, program: Program) -> Iterator[str]:
    """Yields every false statement of a document about the configuration."""
    for piece in document.paragraphs:
        flat = Piece(piece.where, " ".join(piece.text.split()))
        for fault in _of_paragraph(flat, program):
            yield f"{piece.where}: {fault}"
    for piece in [*document.blocks, *document.paragraphs]:
        for section, key, _ in VARIABLE.findall(piece.text):
            name = f"{section}.{key}".lower()
            if (section, key) != ("SECTION", "KEY") and name not in program.defaults:
                yield f"{piece.where}: HRM__{section}__{key}: there is no key {name}"


def _of_paragraph(piece: Piece, program: Program) -> Iterator[str]:
    for section, key in KEY.findall(piece.text):
        if section in program.sections and key not in FILES and f"{section}.{key}" not in program.defaults:
            yield f"there is no key {section}.{key}"
    for key, value, file in _statements(piece.text):
        yield from _stated(key, value, file, program)
    formulas = [(formula, number) for formula, number in FORMULA.findall(piece.text) if _of_keys(formula, program)]
    formulas += [(UPDATES, number) for number in IN_WORDS.findall(piece.text)]
    for formula, number in formulas:
        try:
            found = evaluate(formula, program.defaults)
        except ValueError as fault:
            yield f"{formula}: {fault}"
            continue
        if found != _number(number):
            yield f"{formula} is {found:g} with the defaults, not {number}"
    for name, number in FRAMES.findall(piece.text):
        yield from _stated("learner.total_frames", number, f"configs/{name}.toml", program)
    yield from _settings(piece, program)


def _statements(text: str) -> Iterator[tuple[str, str, str]]:
    """Key, value, and file or nothing."""
    for key, value, file in IN_BRACKETS.findall(text):
        yield key, value, file
    for key, file, value in BETWEEN_COMMAS.findall(text):
        yield key, value, file


def _stated(key: str, value: str, file: str, program: Program) -> Iterator[str]:
    # names.py reports a file that does not exist.
    if key.partition(".")[0] not in program.sections or (file and not (REPOSITORY / file).exists()):
        return
    found = program.of_file(file or None).get(key)
    # The check of keys reports a key that does not exist.
    if found is not None and not _same(found, value):
        yield f"{key} is {found} {f'in {file}' if file else 'by default'}, not {value}"


def _same(found: Any, stated: str) -> bool:
    stated = stated.strip("`")
    if isinstance(found, bool):
        return stated == str(found).lower()
    if isinstance(found, (int, float)):
        return re.fullmatch(NUMBER, stated) is not None and _number(stated) == found
    return stated.strip('"') == found


def _number(text: str) -> float:
    return float(text.replace(",", ""))


def _of_keys(formula: str, program: Program) -> bool:
    """True if a formula contains keys, not only symbols that its document defines."""
    own = {key.partition(".")[2] for key in program.defaults} | program.defaults.keys()
    return any(name in own for name in re.findall(r"[a-z_.0-9]+", formula))


def evaluate(formula: str, defaults: dict[str, Any]) -> float:
    """Returns the value of a formula over keys; a key that only one section has may omit the section."""

    def value(node: ast.AST) -> float:
        match node:
            case ast.Expression(body):
                return value(body)
            case ast.BinOp(left, kind, right) if type(kind) in OPERATORS:
                return OPERATORS[type(kind)](value(left), value(right))
            case ast.Constant(number) if isinstance(number, (int, float)):
                return number
            case ast.Name(name):
                keys = [key for key in defaults if key.partition(".")[2] == name]
                if len(keys) == 1:
                    return defaults[keys[0]]
                raise ValueError(f"{len(keys)} sections have a key {name}")
            case ast.Attribute(ast.Name(section), key) if f"{section}.{key}" in defaults:
                return defaults[f"{section}.{key}"]
            case _:
                raise ValueError(f"{ast.unparse(node)} is not a key")

    try:
        return value(ast.parse(formula.replace("×", "*").replace(",", ""), mode="eval"))
    except SyntaxError:
        raise ValueError("not a formula") from None


def _settings(piece: Piece, program: Program) -> Iterator[str]:
    """Yields the settings that the program refuses, with and without those beside them."""
    found = [match for span in piece.spans if (match := SETTING.fullmatch(span))]
    found = [match for match in found if match[1].partition(".")[0] in program.sections]
    arguments = [f"--set={key}={value.strip(chr(34))}" for key, value in (match.groups() for match in found)]
    for argument in arguments:
        refused = program.configuration(argument)
        if not isinstance(refused, str):
            continue
        # It may need another setting: one beside it, or one of a file in configs/.
        beside = [arguments, *([argument, "--config", str(file)] for file in CONFIGS)]
        if all(isinstance(program.configuration(*more), str) for more in beside):
            yield refused
