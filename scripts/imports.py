#!/usr/bin/env python3
"""Checks that imports between source files run downwards, and that each folder's `mod.rs` names its files.

    python3 scripts/imports.py            # what `make lint` runs
    python3 scripts/imports.py --list     # every import, one per line

Four rules: no circle of files import each other, a room of the learner imports no room above it, the learner uses the
actor's library for local and simulated actors only, and the comment that opens a `mod.rs` names every module of the folder, so that
its flow is complete. Test modules are left out. A re-export counts as an import of the file that
defines the item.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
CRATES = {
    "hrm_proto": "proto",
    "hrm_kernels": "kernels",
    "hrm_common": "common",
    "hrm_actor": "actor",
    "hrm_learner": "learner",
}
# The learner's rooms, the highest first. Rooms in one line may not import each other either.
ROOMS = (
    ("cli",),
    ("study",),
    ("run",),
    ("view",),
    ("transport", "analyse", "training"),
    ("admission",),
    ("evaluation",),
    ("storage",),
)
# The files of the learner that may use the actor's library: one starts actors, the other simulates them.
USES_ACTOR = ("learner/src/run/local_actors.rs", "learner/src/run/virtual_time.rs")

COMMENT_OR_STRING = re.compile(
    r'//[^\n]*|/\*.*?\*/|b?r(#*)".*?"\1|b?"(?:\\.|[^"\\])*"|b?\'(?:\\.[^\']*|[^\'\\])\'', re.DOTALL
)
TEST_MODULE = re.compile(r"#\[cfg\(test\)\]\s*(?:pub(?:\([^)]*\))? )?(?:mod \w+\s*\{|use |mod \w+;|impl |fn |pub)")
TEST_FILE = re.compile(r"#\[cfg\(test\)\]\s*(?:pub(?:\([^)]*\))? )?mod (\w+);")
USE = re.compile(r"(?P<visible>\bpub(?:\([^)]*\))?\s+)?\buse\s+(?P<tree>[^;]+);")
MODULE = re.compile(r"^(?:pub(?:\([^)]*\))? )?mod (\w+);", re.MULTILINE)
PATH = re.compile(r"\b(?:crate|super|hrm_\w+)(?:::\w+)+")

Module = tuple[str, ...]


@dataclass
class Source:
    """One file and the names that it uses."""

    path: Path
    module: Module
    # Absolute paths of modules and items, from the crate's name on.
    uses: set[Module] = field(default_factory=set)
    # What is re-exported: the name here, and the path where it comes from.
    exports: dict[str, Module] = field(default_factory=dict)


def code(text: str) -> str:
    """The text without comments, strings and what only tests compile."""
    text = COMMENT_OR_STRING.sub(" ", text)
    while found := TEST_MODULE.search(text):
        text = text[: found.start()] + text[_end(text, found.end()) :]
    return text


def _end(text: str, at: int) -> int:
    """The end of the item whose start is before `at`: its closing brace, or its semicolon."""
    depth = text.count("{", at - 1, at)
    while at < len(text):
        if text[at] == "{":
            depth += 1
        elif text[at] == "}":
            depth -= 1
            if depth <= 0:
                return at + 1
        elif text[at] == ";" and depth == 0:
            return at + 1
        at += 1
    return at


def leaves(tree: str) -> Iterator[tuple[Module, str]]:
    """Each path of a use tree, and the name that it gets."""
    tree = " ".join(tree.split())
    head, brace, rest = tree.partition("{")
    if brace:
        prefix = tuple(part for part in head.strip().split("::") if part)
        for part in _split(rest.rpartition("}")[0]):
            for path, name in leaves(part):
                yield (prefix + path, name) if path != ("self",) else (prefix, prefix[-1])
        return
    path, _, name = tree.partition(" as ")
    parts = tuple(part.strip() for part in path.split("::") if part.strip())
    yield parts, name.strip() or parts[-1]


def _split(list_of: str) -> Iterator[str]:
    depth, start = 0, 0
    for at, letter in enumerate(list_of):
        depth += (letter == "{") - (letter == "}")
        if letter == "," and depth == 0:
            yield list_of[start:at]
            start = at + 1
    if list_of[start:].strip():
        yield list_of[start:]


def sources() -> dict[Module, Source]:
    """Every file of the workspace's libraries and programs but tests, by its module."""
    found: dict[Module, Source] = {}
    for crate, folder in CRATES.items():
        root = REPOSITORY / folder / "src"
        for path in sorted(root.rglob("*.rs")):
            parts = path.relative_to(root).with_suffix("").parts
            if parts == ("main",):
                # The program: its modules stand in the same tree as the library's.
                module: Module = (crate, "main")
            else:
                module = (crate, *(part for part in parts if part not in ("mod", "lib")))
            found[module] = Source(path.relative_to(REPOSITORY), module)
    for test in _test_modules(found):
        for module in [module for module in found if module[: len(test)] == test]:
            del found[module]
    for source in found.values():
        _read(source, found)
    return found


def _test_modules(all_of: dict[Module, Source]) -> list[Module]:
    """The modules that are declared for tests only."""
    texts = ((source.module, (REPOSITORY / source.path).read_text(encoding="utf-8")) for source in all_of.values())
    return [module + (name,) for module, text in texts for name in TEST_FILE.findall(text)]


def _read(source: Source, all_of: dict[Module, Source]) -> None:
    text = code((REPOSITORY / source.path).read_text(encoding="utf-8"))
    crate = source.module[0]

    def absolute(path: Module) -> Module | None:
        if path[0] == "crate":
            return (crate, *path[1:])
        if path[0] in CRATES:
            return path
        if path[0] in ("self", "super"):
            base = source.module
            while path and path[0] in ("self", "super"):
                base, path = (base[:-1] if path[0] == "super" else base), path[1:]
            return base + path
        return source.module + path if source.module + path[:1] in all_of else None

    for found in USE.finditer(text):
        for path, name in leaves(found["tree"]):
            if target := absolute(path):
                if found["visible"]:
                    source.exports[name] = target
                else:
                    source.uses.add(target)
    text = USE.sub(" ", text)
    for path in PATH.findall(text):
        if target := absolute(tuple(path.split("::"))):
            source.uses.add(target)
    # A child by its bare name.
    for child in re.findall(r"(?<![\w:])([a-z_]\w*)::", text):
        if source.module + (child,) in all_of:
            source.uses.add(source.module + (child,))


def defining(path: Module, all_of: dict[Module, Source]) -> Source | None:
    """The file that a path leads to, through re-exports."""
    for length in range(len(path), 0, -1):
        source = all_of.get(path[:length])
        if source is None:
            continue
        if length < len(path) and (export := source.exports.get(path[length])):
            return defining(export + path[length + 1 :], all_of) or source
        return source
    return None


def imports(all_of: dict[Module, Source]) -> dict[Path, list[Path]]:
    """The files that each file imports."""
    found: dict[Path, list[Path]] = {}
    for source in all_of.values():
        targets = {id(target): target for path in source.uses if (target := defining(path, all_of))}
        targets.pop(id(source), None)
        found[source.path] = sorted((target.path for target in targets.values()), key=str)
    return found


def circles(graph: dict[Path, list[Path]]) -> Iterator[list[Path]]:
    """Files that reach each other, a list for each group (Tarjan's strongly connected components)."""
    index: dict[Path, int] = {}
    low: dict[Path, int] = {}
    stack: list[Path] = []

    def visit(node: Path) -> Iterator[list[Path]]:
        index[node] = low[node] = len(index)
        stack.append(node)
        for target in graph.get(node, ()):
            if target not in index:
                yield from visit(target)
                low[node] = min(low[node], low[target])
            elif target in stack:
                low[node] = min(low[node], index[target])
        if low[node] == index[node]:
            at = stack.index(node)
            group = stack[at:]
            del stack[at:]
            if len(group) > 1:
                yield group

    for node in graph:
        if node not in index:
            yield from visit(node)


def room(path: Path) -> str | None:
    """The learner's room that a file stands in."""
    parts = path.parts
    return parts[2] if parts[:2] == ("learner", "src") and len(parts) > 3 else None


def upwards(graph: dict[Path, list[Path]]) -> Iterator[str]:
    """Imports of a room by one that is not above it, and of the actor by other files than the one that may."""
    level = {name: at for at, names in enumerate(ROOMS) for name in names}
    for path, targets in graph.items():
        for target in targets:
            here, there = room(path), room(target)
            if here and there and here != there:
                if not {here, there} <= level.keys():
                    yield f"{path}: no place among the rooms for {here} or {there}; see ROOMS"
                elif level[here] >= level[there]:
                    yield f"{path}: imports {target}, and {there} is not below {here}"
            if path.parts[0] == "learner" and target.parts[0] == "actor" and str(path) not in USES_ACTOR:
                yield f"{path}: imports {target}; the learner uses the actor's library in {' and '.join(USES_ACTOR)} only"


def unnamed(all_of: dict[Module, Source]) -> Iterator[str]:
    """Modules that the comment which opens their folder's `mod.rs` does not name; subcommands name themselves."""
    for source in all_of.values():
        if source.path.name != "mod.rs" or source.path.parent.name == "cli":
            continue
        text = (REPOSITORY / source.path).read_text(encoding="utf-8")
        flow = " ".join(line for line in text.splitlines() if line.startswith("//!"))
        for module in MODULE.findall(code(text)):
            if not re.search(rf"\b{module}\b", flow):
                yield f"{source.path}: its opening comment does not name {module}"


def main() -> int:
    """Says every fault and exits with 1 if there is one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="print every import")
    arguments = parser.parse_args()
    all_of = sources()
    graph = imports(all_of)
    if arguments.list:
        for path, targets in graph.items():
            for target in targets:
                print(f"{path} -> {target}")
        return 0
    faults = [f"these files import each other: {', '.join(map(str, group))}" for group in circles(graph)]
    faults += upwards(graph)
    faults += unnamed(all_of)
    for fault in faults:
        print(f"imports: {fault}", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
