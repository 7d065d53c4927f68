"""Checks that files which state the same version agree, and that workflows fetch nothing by a name that can move.

The Rust release is in rust-toolchain.toml, the Dockerfile, the workflows and the development container. The last two
also state the digest of the image. No image of Rust has a newer Debian than the image in which its programs run. Our
own version stands in Cargo.toml, python/Cargo.toml, CITATION.cff, .env.example, docker-compose.yml and the Dockerfile. A full commit pins every action of a workflow.

    python3 -m deploy.tests.host.check_versions
"""

from __future__ import annotations

import json
import re
import sys
import tomllib
from collections.abc import Iterator

import yaml

from .. import command_line
from ..paths import REPOSITORY

WORKFLOWS = sorted((REPOSITORY / ".github/workflows").glob("*.yml"))
IMAGE = re.compile(r"\brust:(?P<version>[\d.]+)-(?P<debian>\w+)(?:@(?P<digest>sha256:[0-9a-f]{64}))?")
RUNTIME = re.compile(r"\bgcr\.io/distroless/cc-debian(?P<debian>\d+)\b")
DEBIAN = {"bookworm": 12, "trixie": 13}
ACTION = re.compile(r"^\s*-?\s*uses: (?P<action>\S+)(?P<comment>.*)$", re.MULTILINE)
PINNED = re.compile(r"[\w./-]+@[0-9a-f]{40}")


def read(name: str) -> str:
    """The text of a file of the repository."""
    return (REPOSITORY / name).read_text(encoding="utf-8")


def faults_of_rust() -> Iterator[str]:
    """Yields images of Rust that are not the toolchain's release, or not the same image."""
    toolchain = tomllib.loads(read("rust-toolchain.toml"))["toolchain"]["channel"]
    pinned = [str(path.relative_to(REPOSITORY)) for path in WORKFLOWS] + [".devcontainer/devcontainer.json"]
    digests = set()
    for name in [*pinned, "deploy/docker/Dockerfile"]:
        images = list(IMAGE.finditer(read(name)))
        if not images:
            yield f"{name}: it names no image of Rust"
        for image in images:
            if image["version"] != toolchain:
                yield f"{name}: {image[0]}, but rust-toolchain.toml has {toolchain}"
            if name in pinned:
                digests.add(image["digest"])
    if len(digests) != 1 or None in digests:
        yield f"workflows and .devcontainer name {len(digests)} digests of the image of Rust, not one: {digests}"
    oldest = tomllib.loads(read("Cargo.toml"))["workspace"]["package"]["rust-version"]
    if _numbers(oldest) > _numbers(toolchain):
        yield f"Cargo.toml: rust-version {oldest} is newer than the toolchain, {toolchain}"


def faults_of_runtime() -> Iterator[str]:
    """Yields images of Rust whose programs need a newer glibc than that of the learner's image."""
    runtime = RUNTIME.search(read("deploy/docker/Dockerfile"))
    if not runtime:
        yield "deploy/docker/Dockerfile: RUNTIME_IMAGE is not gcr.io/distroless/cc-debianN, whose glibc is known here"
        return
    for name in ["deploy/docker/Dockerfile", ".github/workflows/release.yml"]:
        for image in IMAGE.finditer(read(name)):
            if DEBIAN.get(image["debian"], sys.maxsize) > int(runtime["debian"]):
                yield f"{name}: programs from {image[0]} may need a newer glibc than {runtime[0]} has"


def faults_of_actions() -> Iterator[str]:
    """Yields actions that are not pinned by a full commit, with the release in a comment."""
    for path in WORKFLOWS:
        for match in ACTION.finditer(path.read_text(encoding="utf-8")):
            action = match["action"]
            if action.startswith("./"):
                continue
            if not PINNED.fullmatch(action):
                yield f"{path.name}: {action} is not pinned by a full commit"
            elif not re.fullmatch(r" # v[\d.]+", match["comment"]):
                yield f"{path.name}: {action} has no comment with its release, as in `# v6.0.2`"


def faults_of_version() -> Iterator[str]:
    """Yields files that state another version than the workspace."""
    version = tomllib.loads(read("Cargo.toml"))["workspace"]["package"]["version"]
    stated = {
        "CITATION.cff": [str(yaml.safe_load(read("CITATION.cff"))["version"])],
        ".env.example": re.findall(r"^HRM_VERSION=(.*)$", read(".env.example"), re.MULTILINE),
        "docker-compose.yml": re.findall(r"\$\{HRM_VERSION:-([^}]*)\}", read("docker-compose.yml")),
        "python/Cargo.toml": [tomllib.loads(read("python/Cargo.toml"))["package"]["version"]],
        "deploy/docker/Dockerfile": re.findall(r"^ARG VERSION=(.*)$", read("deploy/docker/Dockerfile"), re.MULTILINE),
    }
    for name, found in stated.items():
        if set(found) != {version}:
            yield f"{name}: version {', '.join(sorted(set(found))) or 'none'}, but Cargo.toml has {version}"


def faults_of_container() -> Iterator[str]:
    """Yields a fault if editors cannot read the development container's file."""
    try:
        json.loads(read(".devcontainer/devcontainer.json"))
    except ValueError as error:
        yield f".devcontainer/devcontainer.json: {error}"


def main() -> int:
    """Checks everything and prints the faults."""
    command_line.parser(__doc__).parse_args()
    faults = [*faults_of_rust(), *faults_of_runtime(), *faults_of_actions(), *faults_of_version()]
    faults += faults_of_container()
    return command_line.report("check_versions", faults, f"{len(WORKFLOWS)} workflows")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


if __name__ == "__main__":
    sys.exit(main())
