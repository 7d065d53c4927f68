"""Files that a program makes from others, and that are committed."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path


def main(name: str, description: str | None, texts: Mapping[Path, str], strangers: Sequence[str] = ()) -> int:
    """Writes the files; with --check, compares them with those that are there. Returns the exit status.

    `strangers` are names of files that should not be there.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a file differs")
    if not parser.parse_args().check:
        for path, text in texts.items():
            path.write_text(text, encoding="utf-8")
            print(f"{name}: wrote {path.name}")
        return 0
    differences = [line for path, text in texts.items() for line in difference(path, text)]
    sys.stdout.writelines(differences)
    for stranger in strangers:
        print(f"{stranger}: nothing writes it")
    if differences or strangers:
        print(f"{name}: run `make generated` and commit what it writes", file=sys.stderr)
        return 1
    print(f"{name}: {len(texts)} as committed")
    return 0


def difference(path: Path, wanted: str) -> list[str]:
    """Returns the changes of a file, as lines of a diff."""
    found = path.read_text(encoding="utf-8") if path.exists() else ""
    lines = (found.splitlines(keepends=True), wanted.splitlines(keepends=True))
    return list(difflib.unified_diff(*lines, f"{path.name} (committed)", f"{path.name} (made)"))
