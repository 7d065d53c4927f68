"""Publishes images to a registry on this machine with `make publish`, verifies them, and tampers with them.

The registry is Debian's docker-registry on a free port of the loopback interface, with an empty folder. The images are
those that `make images PLATFORMS="amd64 arm64"` made of this commit. For each one that the engine lacks, the check
builds the stage `source` of the Dockerfile instead, which compiles nothing. It then takes the part of an attacker who
can write to the registry but has no key. Every change must be refused, by `make publish-verify` or by the client that
downloads.

    python3 -m deploy.tests.engine.check_publish --images "actor learner" --platforms "amd64 arm64" --revision COMMIT \\
        --cosign .tools/bin/cosign --crane .tools/bin/crane --registry-program .tools/bin/docker-registry

Needs an engine, docker with buildx, and the bills of materials of `make sbom`. `make publish-check` provides all.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from .. import command_line
from ..paths import DEPLOY, REPOSITORY
from ..waiting import Failure
from .registry import Registry, digest_of, registry

LOCAL = "registry.invalid"
LABEL = "org.opencontainers.image."
# It only copies files, so it needs no base image and runs nothing.
SMALL_STAGE = "source"


def run(*command: str | Path, environment: dict[str, str] | None = None) -> str:
    """Standard output of a command that succeeds."""
    made = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    if made.returncode != 0:
        raise Failure(f"{' '.join(map(str, command))}: exit status {made.returncode}:\n{made.stdout}{made.stderr}")
    return made.stdout


def inspect(image: str) -> dict[str, Any] | None:
    """The engine's description of an image, if it has the image."""
    made = subprocess.run(["docker", "image", "inspect", image], capture_output=True, text=True, check=False)
    return json.loads(made.stdout)[0] if made.returncode == 0 else None


class Check:
    """One registry, one pair of keys and the images of this commit."""

    def __init__(self, registry: Registry, folder: Path, given: Any) -> None:
        self.registry, self.folder, self.revision = registry, folder, given.revision
        self.images, self.platforms = given.images.split(), given.platforms.split()
        self.cosign, self.crane = given.cosign, given.crane
        self.version = re.findall(r'^version = "(.+)"$', (REPOSITORY / "Cargo.toml").read_text(encoding="utf-8"), re.M)[
            0
        ]
        self.password = secrets.token_hex()
        self.tags: list[str] = []
        self.keys = [self.pair("ours"), self.pair("another")]

    def pair(self, name: str) -> Path:
        """Makes a pair of keys, and returns its path without the suffix."""
        prefix = self.folder / name
        environment = {**os.environ, "COSIGN_PASSWORD": self.password}
        run(self.cosign, "generate-key-pair", f"--output-key-prefix={prefix}", environment=environment)
        return prefix

    def make(
        self, target: str, images: str, key: Path | None = None, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Runs a target of the Makefile for this registry."""
        key = key or self.keys[0]
        command = ["make", "--no-print-directory", target, f"REGISTRY={self.registry.address}", f"IMAGES={images}"]
        command += [f"KEY={key}.key", f"PUBLIC_KEY={key}.pub", f"PLATFORMS={' '.join(self.platforms)}"]
        command += [f"COSIGN={self.cosign}", f"REVISION={self.revision}"]
        command += [f"{name}={value}" for name, value in variables.items()]
        environment = {**os.environ, "COSIGN_PASSWORD": self.password}
        return subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)

    def succeeds(self, target: str, images: str) -> None:
        """Requires that a target succeeds, and prints its output."""
        made = self.make(target, images)
        if made.returncode != 0:
            raise Failure(f"make {target}: exit status {made.returncode}:\n{made.stdout}{made.stderr}")
        print(made.stdout, end="", flush=True)

    def refuses(
        self, what: str, cause: str, target: str = "publish-verify", key: Path | None = None, **variables: str
    ) -> None:
        """Requires that a target refuses the first image, with this cause."""
        made = self.make(target, self.images[0], key, **variables)
        if made.returncode == 0 or not re.search(cause, made.stderr):
            raise Failure(
                f"{what}: expected a refusal with {cause!r}, found status {made.returncode} and\n{made.stderr}"
            )
        print(f"check_publish: refused {what}:\n    {made.stderr.strip()}", flush=True)

    def name(self, image: str) -> str:
        """The repository of an image in the registry."""
        return f"hrm-impala/{image}"

    def reference(self, image: str, tag: str) -> str:
        """The name of a tag, with the registry."""
        return f"{self.registry.address}/{self.name(image)}:{tag}"

    def prepare(self) -> None:
        """Gives each image the registry's name."""
        for image in self.images:
            for platform in self.platforms:
                tag = f"{self.version}-{platform}"
                built, target = f"{LOCAL}/{self.name(image)}:{tag}", self.reference(image, tag)
                self.tags.append(target)
                found = inspect(built)
                if found and (found["Config"]["Labels"] or {}).get(LABEL + "revision") == self.revision:
                    print(f"check_publish: {built} is published", flush=True)
                    run("docker", "tag", built, target)
                else:
                    print(f"check_publish: {built} of this commit does not exist; the stage {SMALL_STAGE} is published")
                    self.build_small(image, platform, target)

    def build_small(self, image: str, platform: str, target: str, **different: str) -> None:
        """Builds a small image from the Dockerfile, with the labels that the images have, or with different ones."""
        labels = {
            "version": self.version,
            "revision": self.revision,
            "source": "https://github.com/hrm-impala/hrm-impala",
            "title": image,
        } | different
        options = [f"--label={LABEL}{name}={value}" for name, value in labels.items()]
        options += [f"--platform=linux/{platform}", f"--target={SMALL_STAGE}", f"--tag={target}", "--quiet"]
        environment = {**os.environ, "DOCKER_BUILDKIT": "1", "BUILDX_NO_DEFAULT_ATTESTATIONS": "1"}
        run("docker", "build", "--file", DEPLOY / "docker/Dockerfile", *options, ".", environment=environment)

    def download(self, image: str, digest: str) -> dict[str, Any]:
        """Downloads an image with a client that compares every digest, and returns its configuration."""
        reference = f"{self.registry.address}/{self.name(image)}@{digest}"
        run(self.crane, "pull", "--format=oci", reference, tempfile.mkdtemp(dir=self.folder))
        return dict(json.loads(run(self.crane, "config", reference)))

    def index(self, image: str, tag: str) -> tuple[str, bytes, dict[str, str]]:
        """Media type, bytes, and platform -> digest, of a published index."""
        kind, raw = self.registry.read(self.name(image), tag)
        entries = json.loads(raw)["manifests"]
        return kind, raw, {entry["platform"]["architecture"]: entry["digest"] for entry in entries}

    def published(self) -> None:
        """Checks what the registry has after `make publish`."""
        for image in self.images:
            _, _, digests = self.index(image, self.version)
            if sorted(digests) != sorted(self.platforms):
                raise Failure(f"{image} has the platforms {sorted(digests)}, expected {sorted(self.platforms)}")
            for platform, digest in digests.items():
                found = self.download(image, digest)
                built = inspect(self.reference(image, f"{self.version}-{platform}"))
                layers = built["RootFS"]["Layers"] if built else []
                if (found["architecture"], found["rootfs"]["diff_ids"]) != (platform, layers):
                    raise Failure(f"{image} for {platform} in the registry is not the image in the engine")
        print("check_publish: every image in the registry is the one in the engine", flush=True)

    def tamper(self) -> None:
        """Changes what the registry has, and requires that each change is refused."""
        image, platform = self.images[0], self.platforms[0]
        repository = self.name(image)
        kind, raw, digests = self.index(image, self.version)

        self.refuses(
            "a second publication of the version", "exists, and a published version is never replaced", "publish"
        )
        self.refuses("an image of another commit", "'revision': '0{40}'", "publish", VERSION=self.foreign())
        self.refuses("the key of somebody else", "could not verify envelope", key=self.keys[1])

        # Somebody else's image, complete but unsigned, in the place of one platform's.
        evil = self.reference(image, "evil")
        self.build_small(f"{image}-evil", platform, evil)
        self.tags.append(evil)
        run("docker", "push", "--quiet", evil)
        evil_kind, evil_raw = self.registry.read(repository, "evil")
        self.registry.write(repository, self.version, evil_kind, evil_raw)
        self.refuses("an unsigned image under the tag", "no signatures found")
        changed = exchanged(raw, digests[platform], evil_raw)
        self.registry.write(repository, self.version, kind, changed)
        self.refuses("an index with one exchanged image", "no signatures found")

        # The registry keeps signatures under a tag that is named after the signed digest.
        signed = digest_of(raw)
        signature_kind, signature = self.registry.read(repository, signed.replace(":", "-"))
        self.registry.write(repository, digest_of(changed).replace(":", "-"), signature_kind, signature)
        self.refuses("the signature of another index", "digest does not match any digest in statement")

        if len(self.images) > 1:
            other = self.images[1]
            self.copy_signed(other, image)
            self.refuses("a signed image of another name", "is signed as .*, and .* is expected")
        self.registry.write(repository, self.version, kind, raw)
        run(self.crane, "tag", self.reference(image, self.version), "9.9.9")
        self.refuses(
            "this version under the tag of a later one", "is signed as .*, and .* is expected", VERSION="9.9.9"
        )
        self.succeeds("publish-verify", image)

        self.damage(image, digests[platform])

    def foreign(self) -> str:
        """Tags images of another commit with a version of their own, and returns that version."""
        version = f"{self.version}-foreign"
        for platform in self.platforms:
            target = self.reference(self.images[0], f"{version}-{platform}")
            self.tags.append(target)
            self.build_small(self.images[0], platform, target, version=version, revision="0" * 40)
        return version

    def copy_signed(self, source: str, target: str) -> None:
        """Copies a published image with all its signatures into the repository of another one."""
        _, raw, digests = self.index(source, self.version)
        for tag in [self.version, *(digest.replace(":", "-") for digest in (digest_of(raw), *digests.values()))]:
            run(self.crane, "copy", self.reference(source, tag), self.reference(target, tag))

    def damage(self, image: str, digest: str) -> None:
        """Changes a byte of a layer on the registry's disk; a client must refuse the download."""
        _, manifest = self.registry.read(self.name(image), digest)
        largest = max(json.loads(manifest)["layers"], key=lambda layer: layer["size"])
        layer = self.registry.blob(largest["digest"])
        content = bytearray(layer.read_bytes())
        content[len(content) // 2] ^= 1
        layer.write_bytes(content)
        try:
            self.download(image, digest)
        except Failure as failure:
            if "error verifying sha256 checksum" not in str(failure):
                raise
            print(f"check_publish: refused a changed layer: {str(failure).strip().splitlines()[-1]}", flush=True)
        else:
            raise Failure("the client accepts a layer with a changed byte")

    def clean(self) -> None:
        """Removes the registry's names from the engine."""
        subprocess.run(["docker", "image", "rm", "--force", *self.tags], capture_output=True, check=False)


def exchanged(index: bytes, digest: str, manifest: bytes) -> bytes:
    """An index in which a manifest takes the place of the one with this digest."""
    content = json.loads(index)
    (entry,) = (entry for entry in content["manifests"] if entry["digest"] == digest)
    entry |= {"digest": digest_of(manifest), "size": len(manifest)}
    return json.dumps(content).encode()


def main() -> int:
    """Publishes, verifies and tampers."""
    parser = command_line.parser(__doc__)
    parser.add_argument("--images", required=True, help="the images, separated by spaces")
    parser.add_argument("--platforms", required=True, help="the platforms, separated by spaces")
    parser.add_argument("--revision", required=True, help="the commit of the images and the bills of materials")
    for program in ("cosign", "crane", "registry-program"):
        parser.add_argument(f"--{program}", type=Path, required=True, help="the program's path")
    given = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            with registry(given.registry_program, folder) as started:
                check = Check(started, folder, given)
                try:
                    check.prepare()
                    check.succeeds("publish", given.images)
                    check.published()
                    check.succeeds("publish-verify", given.images)
                    check.tamper()
                finally:
                    check.clean()
    except Failure as failure:
        print(f"check_publish: {failure}", file=sys.stderr)
        return 1
    print("check_publish: passed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
