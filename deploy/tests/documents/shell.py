"""The commands of a piece of shell, expanded by bash, without running any.

Bash runs the text with nothing in its PATH, and a handler records each command that it should start.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

# A program by its path: one of ours from `make build`, or one that the reader installed.
PROGRAM = re.compile(r"(^|\s)(?:target/release|/[\w./-]*/bin)/([\w-]+)", re.MULTILINE)
RECORDER = r"""
record() {
    local input=
    [[ " $* " == *" - "* ]] && IFS= read -r -d '' input
    printf '%s\0' "$@" "$input" >"$RECORD/$EPOCHREALTIME-$BASHPID"
}
command_not_found_handle() { record "$@"; }
for builtin in cd export source kill wait exec; do eval "$builtin() { record $builtin \"\$@\"; }"; done
PATH=/nonexistent
"""


@dataclass(frozen=True)
class Command:
    """A command that the text would start."""

    words: tuple[str, ...]
    # Its standard input, if it reads that.
    text: str = ""

    def __str__(self) -> str:
        return " ".join(self.words)


class Unreadable(Exception):
    """Shell that bash rejects."""


def commands(text: str, braces: bool = True) -> list[Command]:
    """Returns every command in the order of its start; those of one pipeline start in any order."""
    # Bash asks the handler for bare names only.
    text = PROGRAM.sub(r"\1\2", text)
    with tempfile.TemporaryDirectory() as folder:
        # One file per command, because the two sides of a pipe write at the same time.
        record = Path(folder) / "record"
        record.mkdir()
        made = subprocess.run(
            ["/bin/bash", "--norc", "--noprofile", "-c", f"{RECORDER}\nset {'-' if braces else '+'}B\n{text}\n"],
            cwd=folder,
            env={"HOME": folder, "RECORD": str(record)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if made.stderr:
            raise Unreadable(made.stderr.strip().splitlines()[0])
        return [_recorded(file) for file in sorted(record.iterdir())]


def _recorded(file: Path) -> Command:
    *words, text, _ = file.read_text(encoding="utf-8").split("\0")
    return Command(tuple(words), text)
