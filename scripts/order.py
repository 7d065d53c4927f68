#!/usr/bin/env python3
"""Checks the order of imports and derives in Rust files.

    python3 scripts/order.py          # what `make lint` runs
    python3 scripts/order.py --fix    # sorts derives

Imports at the top of a file or module stand in three groups: the standard library, other crates, this crate. Derives
stand in the order of DERIVES, then any others. Exit status: 0, or 1 with every fault on stderr.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DERIVES = (
    "Debug",
    "Clone",
    "Copy",
    "Default",
    "PartialEq",
    "Eq",
    "PartialOrd",
    "Ord",
    "Hash",
    "Serialize",
    "Deserialize",
)
DERIVE = re.compile(r"#\[derive\(([^)]*)\)\]")
IMPORT = re.compile(r"^( *)use (\w+)[^;]*;\n", re.MULTILINE)
STANDARD = ("std", "core", "alloc")
OWN = ("crate", "super", "self")


def rank(derive: str) -> int:
    """The place of a derive; those that are not listed keep their order at the end."""
    name = derive.rpartition("::")[2]
    return DERIVES.index(name) if name in DERIVES else len(DERIVES)


def sort_derives(text: str) -> str:
    """The text with its derives in order."""

    def ordered(found: re.Match[str]) -> str:
        names = [name.strip() for name in found[1].split(",") if name.strip()]
        in_order = sorted(names, key=rank)
        return found[0] if in_order == names else f"#[derive({', '.join(in_order)})]"

    return DERIVE.sub(ordered, text)


def group(crate: str) -> int:
    """The group of an import by its first name."""
    return 0 if crate in STANDARD else 2 if crate in OWN else 1


def misplaced(text: str) -> Iterator[tuple[int, str]]:
    """The line and the first name of each import that stands after one of a later group, in the same run of imports."""
    end, highest, indent = -1, 0, ""
    for found in IMPORT.finditer(text):
        # A new run begins after other code, or in another module.
        if text[end : found.start()].strip() or found[1] != indent or end < 0:
            highest, indent = 0, found[1]
        here = group(found[2])
        if here < highest:
            yield text.count("\n", 0, found.start()) + 1, found[2]
        highest, end = max(highest, here), found.end()


def files() -> list[Path]:
    """Every tracked Rust file."""
    listed = subprocess.run(["git", "ls-files", "-z", "*.rs"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def main() -> int:
    """Says every fault, or sorts derives."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fix", action="store_true", help="sort derives in place")
    arguments = parser.parse_args()
    faults = []
    for path in files():
        text = path.read_text(encoding="utf-8")
        ordered = sort_derives(text)
        name = path.relative_to(ROOT)
        if ordered != text:
            if arguments.fix:
                path.write_text(ordered, encoding="utf-8")
            else:
                faults.append(f"{name}: derives are out of order; python3 scripts/order.py --fix")
        faults += [f"{name}:{line}: {crate} stands after a later group" for line, crate in misplaced(text)]
    for fault in faults:
        print(f"order: {fault}", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
