#!/usr/bin/env python3
"""Fetches libtorch for the CPU into .libtorch/, where .cargo/config.toml points torch-sys.

    platform and disk checks -> lock -> pip download (by hash) -> unpack -> stamp -> rename into place

It installs nothing. It keeps the shared objects that the learner loads and the headers (0.5 GB) of the three wheels that
libtorch.txt pins, and drops the rest, mostly CUDA kernels. All work happens in .libtorch.partial/, which one rename
turns into .libtorch/ at the end. So .libtorch/ is always absent or complete. After an interruption, run it again; pip
does not download a saved wheel twice.

The wheels are those of this machine's processor. A build for another one names it, and a folder of its own:

    python3 scripts/libtorch.py --arch aarch64 --folder /opt/libtorch-aarch64

Python 3.9 or later, standard library only. Exit status: 0 when .libtorch/ is complete (at once, if it already was) or
LIBTORCH names another libtorch; 1 on failure, with the remedy on stderr; 2 for a wrong command line.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PINS_FILE = Path(__file__).resolve().with_name("libtorch.txt")
ROOT = PINS_FILE.parent.parent
STAMP = "stamp.json"
# The processors that the pins are for, in the order of the hashes in each line of libtorch.txt.
ARCHITECTURES = ("x86_64", "aarch64")

# Distribution -> member of its wheel -> place in the folder.
SHARED_OBJECTS = {
    "torch": {
        "torch/lib/libtorch_cpu.so": "lib/libtorch_cpu.so",
        "torch/lib/libc10.so": "lib/libc10.so",
        "torch/lib/libgomp.so.1": "lib/libgomp.so.1",
    },
    "nvidia-cuda-cupti": {"nvidia/cu13/lib/libcupti.so.13": "lib/libcupti.so.13"},
    "nvidia-cuda-runtime": {"nvidia/cu13/lib/libcudart.so.13": "lib/libcudart.so.13"},
}
# For x86_64, libtorch_cpu.so contains its linear algebra. For aarch64 it loads these.
ARM_LINEAR_ALGEBRA = (
    "libarm_compute.so",
    "libarm_compute_graph.so",
    "libnvpl_blas_core.so.0",
    "libnvpl_blas_lp64_gomp.so.0",
    "libnvpl_lapack_core.so.0",
    "libnvpl_lapack_lp64_gomp.so.0",
)
HEADERS_FROM, HEADERS = "torch", ("torch/include/", "include/")

# pip matches a wheel's platform tag literally, so the list has each tag of the pinned wheels.
PLATFORM_TAGS = ("manylinux_2_28", "manylinux_2_25", "manylinux2014")
OLDEST_GLIBC = (2, 28)

DOWNLOAD = {"x86_64": "544 MB", "aarch64": "432 MB"}

# pip holds the torch wheel (531 MB) twice for a moment; the unpacked files (0.5 GB) replace one of the two.
DISK_NEEDED = 1_300_000_000


class Failure(Exception):
    """libtorch cannot be fetched; the message gives the cause and the remedy."""


@dataclass(frozen=True)
class Fetch:
    """One libtorch: its processor, and the folder that it goes to."""

    arch: str
    folder: Path

    @property
    def partial(self) -> Path:
        """The folder in which the work happens."""
        return self.folder.with_name(self.folder.name + ".partial")

    @property
    def lock(self) -> Path:
        """The file that two fetches into one folder compete for."""
        return self.folder.with_name(self.folder.name + ".lock")

    @property
    def shared_objects(self) -> dict[str, dict[str, str]]:
        """Distribution -> member of its wheel -> place in the folder, for this processor."""
        if self.arch != "aarch64":
            return SHARED_OBJECTS
        more = {f"torch/lib/{name}": f"lib/{name}" for name in ARM_LINEAR_ALGEBRA}
        return {**SHARED_OBJECTS, "torch": {**SHARED_OBJECTS["torch"], **more}}


def main() -> int:
    # As an exception, so that pip, which this process starts, ends too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        wanted = parse_arguments(sys.argv[1:], platform.machine())
        ensure_libtorch(wanted)
    except Failure as failure:
        print(f"libtorch: {failure}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"libtorch: {error}; correct it and run `make libtorch` again", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("libtorch: interrupted; run `make libtorch` again to resume", file=sys.stderr)
        return 130
    return 0


def parse_arguments(arguments: list[str], machine: str) -> Fetch:
    """Reads the command line; without options, libtorch is for this machine and goes to .libtorch/."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", choices=ARCHITECTURES, help="the processor (default: this machine's)")
    parser.add_argument("--folder", type=Path, help="where libtorch goes (default: .libtorch, or .libtorch-ARCH)")
    given = parser.parse_args(arguments)
    arch = given.arch or machine
    default = ROOT / (".libtorch" if arch == machine else f".libtorch-{arch}")
    return Fetch(arch, (given.folder or default).absolute())


def ensure_libtorch(wanted: Fetch) -> None:
    own = os.environ.get("LIBTORCH")
    # It is this machine's, so it says nothing about another processor or folder.
    if own and wanted.folder == ROOT / ".libtorch":
        say(f"LIBTORCH={own} is set in the environment, so nothing is fetched")
        if not Path(own).is_absolute() or not Path(own, "lib", "libtorch_cpu.so").exists():
            say("but it is no absolute path with a lib/libtorch_cpu.so, so the build will fail: correct or unset it")
        return
    if wanted.arch == platform.machine():
        check_platform(platform.system(), wanted.arch)
    pins = read_pins(wanted.arch, PINS_FILE.read_text())
    if is_complete(wanted, pins):
        return
    with lock(wanted.lock) as lock_fd:
        # The previous holder of the lock may have done the work.
        if is_complete(wanted, pins):
            return
        fetch(wanted, pins, lock_fd)


def fetch(wanted: Fetch, pins: dict[str, tuple[str, str]], lock_fd: int) -> None:
    wheels, scratch, tree = (wanted.partial / name for name in ("wheels", "tmp", "tree"))
    for stale in (scratch, tree):
        shutil.rmtree(stale, ignore_errors=True)
        stale.mkdir(parents=True)
    check_disk(wanted.partial)

    say(f"fetching libtorch 2.11.0 for {wanted.arch} CPUs: {DOWNLOAD[wanted.arch]} to download, once per clone")
    download(wanted, pins, scratch, lock_fd)
    for name, members in wanted.shared_objects.items():
        unpack(name, members, wheel_of(wheels, name, pins[name][0]), tree)

    # torch-sys asks the linker for -ltorch. The wheel's own libtorch.so only adds the CUDA libraries.
    (tree / "lib" / "libtorch.so").write_text("INPUT(libtorch_cpu.so)\n")
    # torch-sys compares this with the version it binds.
    (tree / "build-version").write_text(pins["torch"][0] + "\n")
    stamp = {"wheels": describe(pins), "sizes": sizes_under(tree, wanted)}
    (tree / STAMP).write_text(json.dumps(stamp, indent=2) + "\n")

    if os.path.lexists(wanted.folder):
        # Out of date or damaged. A move, unlike a deletion, never leaves half of it.
        os.rename(wanted.folder, scratch / "replaced")
    os.rename(tree, wanted.folder)
    shutil.rmtree(wanted.partial)
    say(f"{wanted.folder.name}/ is complete")


def read_pins(arch: str, text: str) -> dict[str, tuple[str, str]]:
    """Reads the pins for a processor: distribution name -> (version, sha256 of its wheel)."""
    pin = re.compile(r"([\w-]+)==(\S+)((?: --hash=sha256:[0-9a-f]{64})+)$")
    pins = {}
    for match in filter(None, map(pin.match, text.splitlines())):
        hashes = re.findall("[0-9a-f]{64}", match[3])
        if len(hashes) != len(ARCHITECTURES):
            raise Failure(
                f"{PINS_FILE}: {match[1]} has {len(hashes)} hashes; give one for each of {', '.join(ARCHITECTURES)}"
            )
        pins[match[1]] = (match[2], hashes[ARCHITECTURES.index(arch)])
    return pins


def describe(pins: dict[str, tuple[str, str]]) -> dict[str, str]:
    return {f"{name}=={version}": f"sha256:{sha256}" for name, (version, sha256) in pins.items()}


def sizes_under(tree: Path, wanted: Fetch) -> dict[str, int]:
    places = [place for places in wanted.shared_objects.values() for place in places.values()]
    return {place: (tree / place).stat().st_size for place in [*places, "lib/libtorch.so"]}


def is_complete(wanted: Fetch, pins: dict[str, tuple[str, str]]) -> bool:
    try:
        stamp = json.loads((wanted.folder / STAMP).read_text())
        return bool(stamp == {"wheels": describe(pins), "sizes": sizes_under(wanted.folder, wanted)})
    except (OSError, ValueError):
        return False


def check_platform(system: str, machine: str) -> None:
    here = f"{system} {machine}"
    supported = [f"Linux {arch}" for arch in ARCHITECTURES]
    remedy = (
        "Point LIBTORCH at a libtorch 2.11.0 of your own: a folder with lib/ and include/, such as the\n"
        "  `torch` folder of a Python environment that has torch 2.11.0 installed."
    )
    if here not in supported:
        raise Failure(f"the pinned wheels are for {' and '.join(supported)}, and this is {here}.\n  {remedy}")
    try:
        glibc = os.confstr("CS_GNU_LIBC_VERSION") or "none"
    except (OSError, ValueError):
        glibc = "none"
    found = re.match(r"glibc (\d+)\.(\d+)", glibc)
    if not found or (int(found[1]), int(found[2])) < OLDEST_GLIBC:
        oldest = ".".join(map(str, OLDEST_GLIBC))
        raise Failure(f"the pinned wheels need glibc {oldest} or later, and this system has {glibc}.\n  {remedy}")


def check_disk(partial: Path) -> None:
    free = shutil.disk_usage(partial).free
    if free < DISK_NEEDED:
        raise Failure(
            f"{partial.parent} has {free / 1e9:.1f} GB free, and fetching needs {DISK_NEEDED / 1e9:.1f} GB for a moment\n"
            "  (0.5 GB afterwards). Free some space and run `make libtorch` again."
        )


@contextlib.contextmanager
def lock(path: Path) -> Iterator[int]:
    """Holds the lock against a second fetch; the kernel drops it when the last holder dies."""
    with open(path, "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another fetch is running in this folder; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


def download(wanted: Fetch, pins: dict[str, tuple[str, str]], scratch: Path, lock_fd: int) -> None:
    # With the hashes of one processor only, pip finds a hash that stands in the wrong place of its line. The small wheels
    # come first, as in the file.
    requirements = scratch / "requirements.txt"
    requirements.write_text("".join(f"{name} --hash={sha256}\n" for name, sha256 in describe(pins).items()))
    command = [*find_pip(scratch), "download", "--no-deps", "--only-binary=:all:", "--require-hashes"]
    # A cache would keep a second copy of half a gigabyte in the home folder, although it is needed only once.
    command += ["--no-cache-dir", "--no-input", "--disable-pip-version-check"]
    command += [f"--platform={tag}_{wanted.arch}" for tag in PLATFORM_TAGS]
    command += ["--python-version=3.11", "--implementation=cp", "--abi=cp311", "--abi=none"]
    command += [f"--dest={wanted.partial / 'wheels'}", f"--requirement={requirements}"]
    # pip's temporary files would fill a /tmp that lives in memory. Some users configure pip to refuse work outside a
    # virtual environment, so that it installs nothing there; here it only downloads.
    environment = {**os.environ, "TMPDIR": str(scratch), "PIP_REQUIRE_VIRTUALENV": "0"}
    # A pip that outlives this process keeps the lock, so the next run waits for it.
    done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, pass_fds=(lock_fd,))
    if done.returncode != 0:
        raise Failure(
            f"pip could not fetch the wheels ({DOWNLOAD[wanted.arch]}); its own message is above.\n"
            "  - The network failed: run `make libtorch` again.\n"
            "  - A proxy or a mirror: pip reads HTTPS_PROXY, PIP_INDEX_URL and PIP_CERT.\n"
            "  - DO NOT MATCH THE HASHES: the server sent other files than were published; do not use them.\n"
            "  - No access to PyPI at all: set LIBTORCH to a libtorch 2.11.0 of your own."
        )


def find_pip(scratch: Path) -> list[str]:
    """Returns the pip of this Python or, without one, the pip of a temporary virtual environment."""
    own = [sys.executable, "-m", "pip"]
    if subprocess.run([*own, "--version"], capture_output=True).returncode == 0:
        return own
    venv = scratch / "venv"
    made = subprocess.run([sys.executable, "-m", "venv", str(venv)], capture_output=True, text=True)
    if made.returncode != 0:
        raise Failure(
            f"{sys.executable} has neither pip nor a venv module that can provide it.\n"
            "  On Debian and Ubuntu: sudo apt install python3-pip (or python3-venv), then `make libtorch` again.\n"
            "  Or set LIBTORCH to a libtorch 2.11.0 of your own."
        )
    return [str(venv / "bin" / "python"), "-m", "pip"]


def wheel_of(wheels: Path, name: str, version: str) -> Path:
    found = list(wheels.glob(f"{name.replace('-', '_')}-{version}-*.whl"))
    if len(found) != 1:
        raise Failure(f"expected one wheel of {name} {version}, found {found}; delete {wheels.parent} and try again")
    return found[0]


def unpack(name: str, places: dict[str, str], wheel: Path, tree: Path) -> None:
    say(f"unpacking {wheel.name}")
    members = dict(places)
    with zipfile.ZipFile(wheel) as archive:
        if name == HEADERS_FROM:
            prefix, place = HEADERS
            for entry in archive.namelist():
                if entry.startswith(prefix) and not entry.endswith("/"):
                    members[entry] = place + entry[len(prefix) :]
        for member, place in members.items():
            path = tree / place
            path.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(member) as source, open(path, "wb") as sink:
                shutil.copyfileobj(source, sink, 1 << 20)


def say(text: str) -> None:
    print(f"libtorch: {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
