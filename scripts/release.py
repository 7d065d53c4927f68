#!/usr/bin/env python3
"""Makes the parts of a release that are not images: RELEASING.md describes when.

    python3 scripts/release.py notes v0.1.0    prints the release notes of a tag
    python3 scripts/release.py archive --learner FILE --actor FILE --lib-dir LIB --out-dir OUT
                                               packs both programs with libtorch

The archive's learner finds libtorch beside itself, in lib/. Needs patchelf and strip for that. The same input gives
the same archive, byte for byte. Exit status: 0, or 1 with the reason on stderr.
"""

from __future__ import annotations

import argparse
import gzip
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LEARNER, ACTOR = "hrm-learner", "hrm-actor"
PLATFORM = "x86_64-linux-gnu"
# Beside the programs and libtorch.
COPIED = ("LICENSE", "CHANGELOG.md", "UPGRADING.md", "configs")
# In the clone this is a linker script, and no program loads it.
LINKER_SCRIPT = "libtorch.so"
# 1980, for tar readers that also write zip files.
TIME = 315_532_800


class Failure(Exception):
    """A release that cannot be made, with the reason."""


def version() -> str:
    """The workspace's version."""
    match = re.search(r'^version = "(.+)"$', (ROOT / "Cargo.toml").read_text(encoding="utf-8"), re.MULTILINE)
    if not match:
        raise Failure("Cargo.toml has no version")
    return match[1]


def notes(tag: str, changelog: str, workspace_version: str) -> str:
    """The section of the changelog for a tag, which must be the workspace's version."""
    if tag != f"v{workspace_version}":
        raise Failure(f"tag {tag}: the version in Cargo.toml is {workspace_version}; tag v{workspace_version}")
    sections = re.split(r"^## ", changelog, flags=re.MULTILINE)[1:]
    found = [section for section in sections if section.startswith(f"[{workspace_version}]")]
    if len(found) != 1:
        raise Failure(f"CHANGELOG.md has {len(found)} sections [{workspace_version}]; move Unreleased into one")
    body = re.sub(r"^\[[^\]]+\]: .*\n?", "", found[0].partition("\n")[2], flags=re.MULTILINE).strip()
    if not body:
        raise Failure(f"CHANGELOG.md: section [{workspace_version}] is empty")
    return f"{body}\n"


def archive(learner: Path, actor: Path, lib_dir: Path, out_dir: Path) -> Path:
    """Packs both programs with what they need to run; returns the archive's path."""
    name = f"hrm-impala-{version()}-{PLATFORM}"
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / name
        for sub in ("bin", "lib"):
            (tree / sub).mkdir(parents=True)
        libraries = [path for path in sorted(lib_dir.glob("lib*.so*")) if path.name != LINKER_SCRIPT]
        if not libraries:
            raise Failure(f"{lib_dir} has no shared objects")
        for library in libraries:
            shutil.copy(library, tree / "lib")
            run("strip", "--strip-unneeded", str(tree / "lib" / library.name))
        for source, name_in_bin in ((learner, LEARNER), (actor, ACTOR)):
            place = tree / "bin" / name_in_bin
            shutil.copy(source, place)
            run("strip", str(place))
        run("patchelf", "--set-rpath", "$ORIGIN/../lib", str(tree / "bin" / LEARNER))
        starts_with_libraries(tree / "bin" / LEARNER)
        starts_alone(tree / "bin" / ACTOR)
        for entry in COPIED:
            source = ROOT / entry
            (shutil.copytree if source.is_dir() else shutil.copy)(source, tree / entry)
        out_dir.mkdir(parents=True, exist_ok=True)
        target = out_dir / f"{name}.tar.gz"
        pack(tree, target)
    return target


def starts_alone(program: Path) -> None:
    """Requires that a program starts with an empty environment and loads no library."""
    said = run(str(program), "--version")
    if "INTERP" in run("readelf", "--program-headers", "--wide", str(program)):
        raise Failure(f"{program.name} loads libraries; `make actor` builds it without")
    print(f"release: {said.strip()} starts without libraries", file=sys.stderr)


def starts_with_libraries(program: Path) -> None:
    """Requires that a program starts with an empty environment, with the libraries beside it."""
    said = run(str(program), "--version")
    loaded = run("ldd", str(program))
    lib = str(program.parent.parent / "lib")
    ours = [line for line in loaded.splitlines() if "libtorch" in line or "libc10" in line]
    resolved = {Path(line.split("=>")[1].split()[0]) for line in ours}
    for library in resolved:
        if str(library.resolve().parent) != str(Path(lib).resolve()):
            raise Failure(f"{program.name} loads {library}, not the one in lib/")
    print(f"release: {said.strip()} starts with {len(resolved)} libraries of lib/", file=sys.stderr)


def run(*command: str) -> str:
    """Standard output of a command that succeeds, in an empty environment."""
    try:
        made = subprocess.run(command, env={"PATH": os.defpath}, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise Failure(f"there is no {command[0]} (on Debian: sudo apt install patchelf binutils)") from None
    if made.returncode != 0:
        raise Failure(f"{' '.join(command)}: exit status {made.returncode}: {made.stderr.strip()}")
    return made.stdout


def pack(tree: Path, target: Path) -> None:
    """Writes a folder as a tar file: sorted, owned by root, without times."""

    def plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.uid = entry.gid = 0
        entry.uname = entry.gname = "root"
        entry.mtime = TIME
        entry.mode = 0o755 if entry.isdir() or entry.mode & 0o100 else 0o644
        return entry

    with open(target, "wb") as raw, gzip.GzipFile("", "wb", mtime=TIME, fileobj=raw) as packed:
        with tarfile.open(fileobj=packed, mode="w") as tar:
            for path in [tree, *sorted(tree.rglob("*"))]:
                tar.add(path, str(path.relative_to(tree.parent)), recursive=False, filter=plain)


def main() -> int:
    """Does what the subcommand asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for_notes = commands.add_parser("notes", help="print the changelog's section for a tag")
    for_notes.add_argument("tag", help="v and the version")
    for_archive = commands.add_parser("archive", help="pack both programs with libtorch")
    for_archive.add_argument("--learner", type=Path, required=True, help="the program hrm-learner")
    for_archive.add_argument("--actor", type=Path, required=True, help="the program hrm-actor, static")
    for_archive.add_argument("--lib-dir", type=Path, required=True, help="folder of libtorch's shared objects")
    for_archive.add_argument("--out-dir", type=Path, required=True, help="folder for the archive")
    arguments = parser.parse_args()
    try:
        if arguments.command == "notes":
            changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
            print(notes(arguments.tag, changelog, version()), end="")
        else:
            print(archive(arguments.learner, arguments.actor, arguments.lib_dir, arguments.out_dir))
    except (Failure, OSError) as failure:
        print(f"release: {failure}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
