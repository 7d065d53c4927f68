#!/usr/bin/env python3
"""Fetches libtorch for the CPU into .libtorch/, where .cargo/config.toml points torch-sys.

    platform and disk checks -> lock -> pip download (by hash) -> unpack -> stamp -> rename into place

It installs nothing. It keeps five shared objects and the headers (0.5 GB) of the three wheels that libtorch.txt pins,
and drops the rest, mostly CUDA kernels. All work happens in .libtorch.partial/, which one rename turns into .libtorch/
at the end. So .libtorch/ is always absent or complete. After an interruption, run it again; pip does not download a
saved wheel twice.

Python 3.9 or later, standard library only. Exit status: 0 when .libtorch/ is complete (at once, if it already was) or
LIBTORCH names another libtorch; 1 on failure, with the remedy on stderr.
"""

from __future__ import annotations

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
from pathlib import Path

PINS_FILE = Path(__file__).resolve().with_name("libtorch.txt")
ROOT = PINS_FILE.parent.parent
TARGET = ROOT / ".libtorch"
PARTIAL = ROOT / ".libtorch.partial"
LOCK = ROOT / ".libtorch.lock"
STAMP = "stamp.json"

# Distribution -> member of its wheel -> place under .libtorch/.
SHARED_OBJECTS = {
    "torch": {
        "torch/lib/libtorch_cpu.so": "lib/libtorch_cpu.so",
        "torch/lib/libc10.so": "lib/libc10.so",
        "torch/lib/libgomp.so.1": "lib/libgomp.so.1",
    },
    "nvidia-cuda-cupti": {"nvidia/cu13/lib/libcupti.so.13": "lib/libcupti.so.13"},
    "nvidia-cuda-runtime": {"nvidia/cu13/lib/libcudart.so.13": "lib/libcudart.so.13"},
}
HEADERS_FROM, HEADERS = "torch", ("torch/include/", "include/")

# pip matches a wheel's platform tag literally, so the list has each tag of the pinned wheels.
PLATFORM_TAGS = ("manylinux_2_28_x86_64", "manylinux_2_25_x86_64", "manylinux2014_x86_64")
OLDEST_GLIBC = (2, 28)

# pip holds the torch wheel (531 MB) twice for a moment; the unpacked files (0.5 GB) replace one of the two.
DISK_NEEDED = 1_300_000_000


class Failure(Exception):
    """libtorch cannot be fetched; the message gives the cause and the remedy."""


def main() -> int:
    # As an exception, so that pip, which this process starts, ends too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        ensure_libtorch()
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


def ensure_libtorch() -> None:
    own = os.environ.get("LIBTORCH")
    if own:
        say(f"LIBTORCH={own} is set in the environment, so nothing is fetched")
        if not Path(own).is_absolute() or not Path(own, "lib", "libtorch_cpu.so").exists():
            say("but it is no absolute path with a lib/libtorch_cpu.so, so the build will fail: correct or unset it")
        return
    pins = read_pins()
    if is_complete(pins):
        return
    check_platform()
    with lock() as lock_fd:
        # The previous holder of the lock may have done the work.
        if is_complete(pins):
            return
        fetch(pins, lock_fd)


def fetch(pins: dict[str, tuple[str, str]], lock_fd: int) -> None:
    wheels, scratch, tree = PARTIAL / "wheels", PARTIAL / "tmp", PARTIAL / "tree"
    for stale in (scratch, tree):
        shutil.rmtree(stale, ignore_errors=True)
        stale.mkdir(parents=True)
    check_disk()

    say("fetching libtorch 2.11.0 for the CPU: 544 MB to download, 0.5 GB on disk, once per clone")
    download(wheels, scratch, lock_fd)
    for name in SHARED_OBJECTS:
        unpack(name, wheel_of(wheels, name, pins[name][0]), tree)

    # torch-sys asks the linker for -ltorch. The wheel's own libtorch.so only adds the CUDA libraries.
    (tree / "lib" / "libtorch.so").write_text("INPUT(libtorch_cpu.so)\n")
    # torch-sys compares this with the version it binds.
    (tree / "build-version").write_text(pins["torch"][0] + "\n")
    stamp = {"wheels": describe(pins), "sizes": sizes_under(tree)}
    (tree / STAMP).write_text(json.dumps(stamp, indent=2) + "\n")

    if os.path.lexists(TARGET):
        # Out of date or damaged. A move, unlike a deletion, never leaves half of it.
        os.rename(TARGET, scratch / "replaced")
    os.rename(tree, TARGET)
    shutil.rmtree(PARTIAL)
    say(f"{TARGET.name}/ is complete")


def read_pins() -> dict[str, tuple[str, str]]:
    """Reads the pins: distribution name -> (version, sha256 of its wheel). pip reads the same file."""
    pin = re.compile(r"([\w-]+)==(\S+) --hash=sha256:([0-9a-f]{64})$")
    found = filter(None, map(pin.match, PINS_FILE.read_text().splitlines()))
    return {match[1]: (match[2], match[3]) for match in found}


def describe(pins: dict[str, tuple[str, str]]) -> dict[str, str]:
    return {f"{name}=={version}": f"sha256:{sha256}" for name, (version, sha256) in pins.items()}


def sizes_under(tree: Path) -> dict[str, int]:
    places = [place for places in SHARED_OBJECTS.values() for place in places.values()]
    return {place: (tree / place).stat().st_size for place in [*places, "lib/libtorch.so"]}


def is_complete(pins: dict[str, tuple[str, str]]) -> bool:
    try:
        stamp = json.loads((TARGET / STAMP).read_text())
        return stamp == {"wheels": describe(pins), "sizes": sizes_under(TARGET)}
    except (OSError, ValueError):
        return False


def check_platform() -> None:
    here = f"{platform.system()} {platform.machine()}"
    remedy = (
        "Point LIBTORCH at a libtorch 2.11.0 of your own: a folder with lib/ and include/, such as the\n"
        "  `torch` folder of a Python environment that has torch 2.11.0 installed."
    )
    if here != "Linux x86_64":
        raise Failure(f"the pinned wheels are for Linux x86_64, and this is {here}.\n  {remedy}")
    try:
        glibc = os.confstr("CS_GNU_LIBC_VERSION") or "none"
    except (OSError, ValueError):
        glibc = "none"
    found = re.match(r"glibc (\d+)\.(\d+)", glibc)
    if not found or (int(found[1]), int(found[2])) < OLDEST_GLIBC:
        oldest = ".".join(map(str, OLDEST_GLIBC))
        raise Failure(f"the pinned wheels need glibc {oldest} or later, and this system has {glibc}.\n  {remedy}")


def check_disk() -> None:
    free = shutil.disk_usage(PARTIAL).free
    if free < DISK_NEEDED:
        raise Failure(
            f"{ROOT} has {free / 1e9:.1f} GB free, and fetching needs {DISK_NEEDED / 1e9:.1f} GB for a moment\n"
            "  (0.5 GB afterwards). Free some space and run `make libtorch` again."
        )


@contextlib.contextmanager
def lock():
    """Holds the lock against a second fetch; the kernel drops it when the last holder dies."""
    with open(LOCK, "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another fetch is running in this folder; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


def download(wheels: Path, scratch: Path, lock_fd: int) -> None:
    command = [*find_pip(scratch), "download", "--no-deps", "--only-binary=:all:", "--require-hashes"]
    # A cache would keep a second copy of half a gigabyte in the home folder, although it is needed only once.
    command += ["--no-cache-dir", "--no-input", "--disable-pip-version-check"]
    command += [f"--platform={tag}" for tag in PLATFORM_TAGS]
    command += ["--python-version=3.11", "--implementation=cp", "--abi=cp311", "--abi=none"]
    command += [f"--dest={wheels}", f"--requirement={PINS_FILE}"]
    # pip's temporary files would fill a /tmp that lives in memory. Some users configure pip to refuse work outside a
    # virtual environment, so that it installs nothing there; here it only downloads.
    environment = {**os.environ, "TMPDIR": str(scratch), "PIP_REQUIRE_VIRTUALENV": "0"}
    # A pip that outlives this process keeps the lock, so the next run waits for it.
    done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, pass_fds=(lock_fd,))
    if done.returncode != 0:
        raise Failure(
            "pip could not fetch the wheels (544 MB); its own message is above.\n"
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
        raise Failure(f"expected one wheel of {name} {version}, found {found}; delete {PARTIAL} and try again")
    return found[0]


def unpack(name: str, wheel: Path, tree: Path) -> None:
    say(f"unpacking {wheel.name}")
    members = dict(SHARED_OBJECTS[name])
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
