#!/usr/bin/env python3
"""Copies the libraries of libtorch for CUDA that a learner with one GPU can load, and leaves the others out.

    libtorch_cuda.so --the ELF headers' NEEDED--> what the loader requires
    OPENED           --------------------------->  what these libraries open by name while they run

    python3 cuda_libraries.py WHEELS FOLDER [--link]

WHEELS is a folder into which pip installed the wheels of libtorch-cuda.txt. All copies go into one folder, which
LD_LIBRARY_PATH names, so libraries that others open by name are found too. Needs readelf. Exit status: 0, or 1 with the
reason on stderr.

The learner loads libtorch_cuda.so and resolves all its symbols at once. Everything that it needs is therefore required,
even NCCL, NVSHMEM, cuSPARSELt and cuFile, which one GPU has no use for. What only several GPUs, other programs,
profilers or linear algebra open is left out.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = "libtorch_cuda.so"
# cuDNN opens its parts by name, and the GPU decides which. NVRTC compiles kernels for libtorch, cuBLASLt and cuDNN.
OPENED = ("libcudnn_*.so.*", "libcaffe2_nvrtc.so", "libnvrtc-builtins.so.*")
# The C and C++ libraries come with the base image, and libcuda.so.1 with the driver.
ELSEWHERE = re.compile(
    r"(ld-linux-|libc\.so|libm\.so|libdl\.so|librt\.so|libpthread\.so|libutil\.so|libgcc_s|libstdc\+\+|libcuda\.so)"
)


class Failure(Exception):
    """Libraries that cannot be copied, with the reason."""


def needed(library: Path) -> list[str]:
    """The names in a library's header that the loader looks for."""
    command = ["readelf", "--dynamic", "--wide", str(library)]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    if said.returncode != 0 or not said.stdout.strip():
        raise Failure(f"{library} is no shared library: {said.stderr.strip()}")
    return re.findall(r"\(NEEDED\).*\[(.+)\]", said.stdout)


def choose(wheels: Path) -> tuple[set[Path], set[str]]:
    """Returns the libraries of the wheels to copy, and the names of what they need from the system."""
    found = {path.name: path for path in sorted(wheels.rglob("lib*.so*"))}
    opened = [path for pattern in OPENED for path in sorted(wheels.rglob(pattern))]
    if ROOT not in found or not opened:
        raise Failure(
            f"{wheels} has no {ROOT}, or none of {', '.join(OPENED)}; install the wheels of libtorch-cuda.txt there"
        )
    chosen, system = set(), set()
    waiting = [found[ROOT], *opened]
    while waiting:
        library = waiting.pop()
        if library in chosen:
            continue
        chosen.add(library)
        for name in needed(library):
            if name in found:
                waiting.append(found[name])
            elif not ELSEWHERE.match(name):
                system.add(name)
    return chosen, system


def of_system(name: str) -> Path:
    """The file of a library of this system, such as zlib, which cuDNN needs and small base images lack."""
    said = subprocess.run(["ldconfig", "--print-cache"], capture_output=True, text=True, check=False).stdout
    for path in re.findall(rf"^\s*{re.escape(name)} .*=> (.+)$", said, re.MULTILINE):
        if needed(Path(path)):
            return Path(path).resolve()
    raise Failure(f"{name} is in no wheel and not on this system; add its wheel to libtorch-cuda.txt, or install it")


def copy(wheels: Path, folder: Path, link: bool) -> None:
    """Copies the libraries into a folder, or makes hard links to them."""
    chosen, system = choose(wheels)
    left_out = sum(path.stat().st_size for path in wheels.rglob("*.so*") if path not in chosen)
    folder.mkdir(parents=True, exist_ok=True)
    for path in chosen:
        (os.link if link else shutil.copy)(path, folder / path.name)
    for name in system:
        shutil.copy(of_system(name), folder / name)
    size = sum(path.stat().st_size for path in folder.iterdir())
    print(
        f"cuda_libraries: {len(chosen) + len(system)} libraries, {size / 1e6:.0f} MB; left out {left_out / 1e6:.0f} MB"
    )


def main() -> int:
    """Does what the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheels", type=Path, help="folder with torch/ and nvidia/")
    parser.add_argument("folder", type=Path, help="where the copies go")
    parser.add_argument("--link", action="store_true", help="make hard links, on the same file system, not copies")
    given = parser.parse_args()
    try:
        copy(given.wheels, given.folder, given.link)
    except (Failure, OSError) as failure:
        print(f"cuda_libraries: {failure}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
