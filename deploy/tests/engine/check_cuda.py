"""Checks, without a GPU, that the learner finds CUDA: with the real libtorch for CUDA, or in the image learner-cuda.

The learner must load libtorch_cuda.so, and libtorch must ask the driver. The check provides three drivers: none, one
without a device, and one that is too old. `run.device = "cuda"` must end with an error that names the cause. `auto`
must log the cause and train on the CPU.

Fetches the wheels of libtorch into the folder that is given, 2.3 GB, once, and takes those libraries that the image
has:

    python3 -m deploy.tests.engine.check_cuda --bin-dir target/debug --wheels .tools/cuda

Checks the image without a driver only, and its size, and needs an engine:

    python3 -m deploy.tests.engine.check_cuda --image registry.invalid/hrm-impala/learner-cuda:0.1.0
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from .. import command_line
from ..paths import DEPLOY
from ..waiting import Failure
from .compose import inspect

PINS = DEPLOY / "docker/libtorch-cuda.txt"
CHOOSE = DEPLOY / "docker/cuda_libraries.py"
# Bytes: 3.13 GB of libraries, the learner and its base image.
LARGEST_IMAGE = 3_300_000_000
DRIVER_SOURCE = Path(__file__).with_name("stub_driver.c")
DRIVER = "libcuda.so.1"
# The platforms of the pinned wheels; pip matches them literally.
PLATFORMS = [f"manylinux_2_{glibc}_x86_64" for glibc in (28, 27, 25, 18)] + ["manylinux2014_x86_64"]

NO_DRIVER = "libtorch's CUDA library is loaded, but there is no NVIDIA driver: "
NO_DEVICE = "libtorch's CUDA library and the NVIDIA driver's are loaded, but no CUDA device can be used: "

# A short run.
SETTINGS = {
    "model.hidden": "8",
    "model.inter_multiple": "8",
    "rollout.envs": "4",
    "rollout.unroll_length": "8",
    "learner.listen": "127.0.0.1:0",
    "learner.metrics_listen": "",
    "learner.health_listen": "",
    "learner.threads": "1",
    "learner.batch_unrolls": "1",
    "learner.total_frames": "32",
    "loss.passes": "1",
    "loss.updates_per_batch": "2",
    "eval.interval_frames": "0",
    "eval.final_episodes": "1",
    "telemetry.log_format": "json",
}


@dataclass
class Ended:
    """The end of a run of the learner."""

    status: int
    log: str

    def refuses(self, cause: str) -> None:
        """Requires the error of `run.device = "cuda"` with this cause and a remedy."""
        error = f'hrm-learner: invalid run.device = "cuda" (from --set): {cause}'
        if self.status != 1 or error not in self.log or "\n  remedy: " not in self.log:
            raise Failure(f"expected exit status 1 and {error!r}, found {self.status} and\n{self.log}")
        print(next(line for line in self.log.splitlines() if line.startswith("hrm-learner: ")), flush=True)

    def falls_back(self, cause: str) -> None:
        """Requires training on the CPU, after a warning with this cause."""
        lines = [json.loads(line) for line in self.log.splitlines() if line.startswith("{")]
        choices = [line for line in lines if line["message"] == "device chosen"]
        if self.status != 0 or len(choices) != 1:
            raise Failure(f"expected exit status 0 and one `device chosen`, found {self.status} and\n{self.log}")
        (choice,) = choices
        found = (choice["level"], choice["device"], cause in choice["reason"])
        if found != ("WARN", "cpu", True):
            raise Failure(f"expected a warning, the CPU and {cause!r}, found {choice}")
        print(f"{choice['level']} device={choice['device']} {choice['reason']}", flush=True)


def train(program: list[str], device: str, run_dir: str, environment: dict[str, str] | None = None) -> Ended:
    """Runs a short training."""
    command = [*program, "train", "--local-actors=1", "--run-dir", run_dir, "--set", f"run.device={device}"]
    for key, value in SETTINGS.items():
        command += ["--set", f"{key}={value}"]
    made = subprocess.run(
        command, env={**os.environ, **(environment or {})}, capture_output=True, text=True, check=False
    )
    return Ended(made.returncode, made.stderr)


def fetch(wheels: Path) -> None:
    """Installs the pinned wheels into a folder, as the Dockerfile does."""
    stamp = wheels / "complete"
    if stamp.exists() and stamp.read_text(encoding="utf-8") == PINS.read_text(encoding="utf-8"):
        return
    shutil.rmtree(wheels, ignore_errors=True)
    print(f"check_cuda: fetching libtorch for CUDA into {wheels} (2.3 GB; 3.6 GB on disk)", flush=True)
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--require-hashes", "--only-binary=:all:"]
    command += ["--no-cache-dir", "--quiet", "--disable-pip-version-check", "--target", str(wheels)]
    command += ["--implementation=cp", "--python-version=3.11", "--abi=cp311", "--abi=none"]
    command += [f"--platform={platform}" for platform in PLATFORMS]
    if subprocess.run([*command, "--requirement", str(PINS)], check=False).returncode != 0:
        raise Failure("pip could not fetch the wheels; its own message is above")
    stamp.write_text(PINS.read_text(encoding="utf-8"), encoding="utf-8")


def choose(wheels: Path) -> Path:
    """Returns a folder with the libraries that the image has."""
    folder = wheels / "lib"
    shutil.rmtree(folder, ignore_errors=True)
    if subprocess.run([sys.executable, CHOOSE, "--link", wheels, folder], check=False).returncode != 0:
        raise Failure(f"{CHOOSE.name} could not choose libraries; its own message is above")
    return folder


def loaded_libraries(log: Path) -> set[str]:
    """Returns the libraries that the dynamic loader initialised, from its LD_DEBUG output."""
    text = "".join(part.read_text(encoding="utf-8", errors="replace") for part in log.parent.glob(f"{log.name}.*"))
    return {line.split("calling init: ")[1].strip() for line in text.splitlines() if "calling init: " in line}


def on_this_machine(program: Path, libraries: Path) -> None:
    """Checks the program with the libraries of the image and three kinds of driver."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        broken, stub = folder / "broken", folder / "stub"
        for place in (broken, stub):
            place.mkdir()
        # It hides the driver of a machine that has one.
        (broken / DRIVER).write_text("no shared library", encoding="utf-8")
        subprocess.run(
            ["cc", "-shared", "-fPIC", f"-Wl,-soname,{DRIVER}", "-o", stub / DRIVER, DRIVER_SOURCE], check=True
        )

        def run(device: str, driver: Path, **environment: str) -> Ended:
            path = f"{libraries}:{driver}"
            run_dir = tempfile.mkdtemp(dir=folder)
            return train([str(program)], device, f"{run_dir}/run", {"LD_LIBRARY_PATH": path, **environment})

        log = folder / "loader"
        run("cuda", broken, LD_DEBUG="files", LD_DEBUG_OUTPUT=str(log)).refuses(NO_DRIVER)
        library = str((libraries / "libtorch_cuda.so").resolve())
        if library not in loaded_libraries(log):
            raise Failure(f"the dynamic loader did not initialise {library}")
        print(f"check_cuda: loaded {library}", flush=True)
        run("auto", broken).falls_back(NO_DRIVER)
        run("cuda", stub).refuses(NO_DEVICE + "No CUDA GPUs are available")
        run("auto", stub).falls_back(NO_DEVICE + "No CUDA GPUs are available")
        too_old = NO_DEVICE + "The NVIDIA driver on your system is too old (found version 12040)"
        run("cuda", stub, STUB_DRIVER_VERSION="12040").refuses(too_old)

        unused = folder / "unused"
        chosen = run("cpu", stub, LD_DEBUG="files", LD_DEBUG_OUTPUT=str(unused))
        if chosen.status != 0 or library in loaded_libraries(unused):
            raise Failure(f"run.device = cpu loads {library}, or fails:\n{chosen.log}")


def in_the_image(image: str) -> None:
    """Checks the size of the image, and the image on an engine that gives it no GPU."""
    (found,) = inspect(image)
    if found["Size"] > LARGEST_IMAGE:
        raise Failure(
            f"{image} has {found['Size']} bytes, more than {LARGEST_IMAGE}; cuda_libraries.py chooses what is in it"
        )
    print(f"check_cuda: {found['Size'] / 1e9:.2f} GB", flush=True)
    # The image has no shell, so each run is a container of its own, and its folder disappears with it.
    program = ["docker", "run", "--rm", "--network=none", image]
    run_dir = "/var/lib/hrm/runs/check"
    train(program, "cuda", run_dir).refuses(NO_DRIVER)
    train(program, "auto", run_dir).falls_back(NO_DRIVER)


def main() -> int:
    """Runs the check that the arguments select."""
    parser = command_line.parser(__doc__)
    parser.add_argument("--bin-dir", type=Path, help="where hrm-learner is")
    parser.add_argument("--wheels", type=Path, help="a folder for the wheels; fetched if they are not there")
    parser.add_argument("--image", help="check this image instead")
    arguments = parser.parse_args()
    try:
        if arguments.image:
            in_the_image(arguments.image)
        elif arguments.bin_dir and arguments.wheels:
            wheels = arguments.wheels.resolve()
            fetch(wheels)
            on_this_machine(arguments.bin_dir.resolve() / "hrm-learner", choose(wheels))
        else:
            parser.error("--bin-dir and --wheels, or --image")
    except Failure as failure:
        print(f"check_cuda: {failure}", file=sys.stderr)
        return 1
    print("check_cuda: passed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
