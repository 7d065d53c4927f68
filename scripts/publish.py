#!/usr/bin/env python3
"""Publishes the images of a version with signatures, bills of materials and provenance, or verifies published ones.

    images in the engine -> push, one per platform -> index -> signatures -> attestations -> verification -> tag

    python3 scripts/publish.py publish --registry ghcr.io/NAME --version 0.1.0 --revision COMMIT \\
        --key cosign.key --bills target/sbom --platforms "amd64 arm64" actor learner
    python3 scripts/publish.py verify --registry ghcr.io/NAME --version 0.1.0 --key cosign.pub actor learner

`publish` takes the images REGISTRY/hrm-impala/IMAGE:VERSION-PLATFORM from the engine, as `make images PLATFORMS=` names
them. It checks their labels before it pushes anything. The tag VERSION is set last, when everything verifies, and an
existing one is never replaced.

`verify` resolves the tag once. It requires signatures of the index and of each platform's image. Each image needs a
bill of materials and provenance. The provenance must name this image, version and platform, so an older image with a
valid signature is rejected.

Both need docker with buildx, logged in to the registry, and cosign 3. `publish` takes the password of a key file from
COSIGN_PASSWORD, or asks for it. No transparency log is used. Exit status: 0, or 1 with the reason on stderr.
"""

from __future__ import annotations

import argparse
import base64
import getpass
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Image -> its bill of materials.
PROGRAMS = {"actor": "hrm-actor", "learner": "hrm-learner", "learner-cuda": "hrm-learner-cuda"}
# Docker's name of a platform -> the processor, as scripts/libtorch.py and scripts/sbom.py name it.
PROCESSORS = {"amd64": "x86_64", "arm64": "aarch64"}
NO_REGISTRY = "registry.invalid"
LABEL = "org.opencontainers.image."


class Failure(Exception):
    """Images that cannot be published, or do not verify; the message has the cause and the remedy."""


@dataclass(frozen=True)
class Repository:
    """The repository of one image in a registry."""

    registry: str
    image: str

    @property
    def name(self) -> str:
        """The name without a tag."""
        return f"{self.registry}/hrm-impala/{self.image}"

    def at(self, digest: str) -> str:
        """The reference of one manifest."""
        return f"{self.name}@{digest}"

    def tagged(self, tag: str) -> str:
        """The reference of a tag."""
        return f"{self.name}:{tag}"


@dataclass(frozen=True)
class Built:
    """An image in the engine, for one platform."""

    reference: str
    platform: str
    labels: dict[str, str]
    created: str
    bill: Path


def run(*command: str) -> str:
    """Standard output of a command that succeeds."""
    try:
        made = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise Failure(f'there is no {command[0]}; RELEASING.md, "Published images", says what is needed') from None
    if made.returncode != 0:
        raise Failure(f"{' '.join(command)}: exit status {made.returncode}: {made.stderr.strip()}")
    return made.stdout


class Cosign:
    """cosign with one key, without a transparency log and without Sigstore's public services."""

    def __init__(self, program: str, key: str, folder: Path) -> None:
        """Writes the two configurations that name no service into `folder`."""
        self.program, self.key = program, key
        self.signing, self.trusted = folder / "signing.json", folder / "trusted.json"
        try:
            run(program, "signing-config", "create", f"--out={self.signing}")
            run(program, "trusted-root", "create", f"--out={self.trusted}")
        except Failure as failure:
            raise Failure(f"{failure}\n  cosign 3 or later is needed; COSIGN= names one") from None

    def public_key(self, folder: Path) -> str:
        """Writes the public key of the private one, and returns its path."""
        place = folder / "key.pub"
        run(self.program, "public-key", f"--key={self.key}", f"--outfile={place}")
        return str(place)

    def sign(self, index: str) -> None:
        """Signs an index and every image in it."""
        self._make("sign", "--recursive", index)

    def attest(self, image: str, kind: str, predicate: Path) -> None:
        """Attaches a signed statement about an image."""
        self._make("attest", f"--type={kind}", f"--predicate={predicate}", image)

    def verify(self, reference: str) -> None:
        """Requires a signature."""
        self._check("verify", reference)

    def statements(self, reference: str, kind: str) -> list[dict[str, Any]]:
        """Returns the content of the signed statements of a kind, of which there is at least one."""
        said = self._check("verify-attestation", f"--type={kind}", reference)
        payloads = [json.loads(line)["payload"] for line in said.splitlines() if line.startswith("{")]
        return [json.loads(base64.b64decode(payload))["predicate"] for payload in payloads]

    def _make(self, verb: str, *arguments: str) -> None:
        options = [f"--key={self.key}", f"--signing-config={self.signing}", f"--trusted-root={self.trusted}", "--yes"]
        run(self.program, verb, *options, *arguments)

    def _check(self, verb: str, *arguments: str) -> str:
        options = [f"--key={self.key}", f"--trusted-root={self.trusted}", "--insecure-ignore-tlog=true"]
        try:
            return run(self.program, verb, *options, *arguments)
        except Failure as failure:
            raise Failure(f"{arguments[-1]} does not verify with {self.key}; do not use it.\n  {failure}") from None


def require_buildx() -> None:
    """Requires the part of docker that reads and writes indexes."""
    try:
        run("docker", "buildx", "version")
    except Failure as failure:
        raise Failure(
            f"{failure}\n  docker has no buildx; install Docker's docker-buildx-plugin, or Debian's docker-buildx"
        ) from None


def manifest(reference: str) -> tuple[str, dict[str, Any]]:
    """Returns the digest and the content of what a reference names in a registry."""
    raw = run("docker", "buildx", "imagetools", "inspect", "--raw", reference)
    return f"sha256:{hashlib.sha256(raw.encode()).hexdigest()}", json.loads(raw)


def is_published(reference: str) -> bool:
    """Returns whether a registry has a reference; a failure to ask it is an error."""
    try:
        manifest(reference)
    except Failure as failure:
        if str(failure).endswith("not found"):
            return False
        raise
    return True


def platforms_of(index: dict[str, Any]) -> dict[str, str]:
    """Platform -> digest of its image, from an index."""
    entries = index.get("manifests", [])
    return {f"{entry['platform']['os']}/{entry['platform']['architecture']}": entry["digest"] for entry in entries}


def inspect(reference: str) -> dict[str, Any]:
    """What the engine knows about an image."""
    (image,) = json.loads(run("docker", "image", "inspect", reference))
    return dict(image)


def check_built(repository: Repository, version: str, revision: str, name: str, bills: Path) -> Built:
    """Returns an image of the engine, if it is what its name says."""
    reference = repository.tagged(f"{version}-{name}")
    build = f"make images IMAGES={repository.image} PLATFORMS={name} REGISTRY={repository.registry}"
    try:
        image = inspect(reference)
    except Failure as failure:
        raise Failure(f"{failure}\n  Build it with `{build}`.") from None
    labels = image["Config"]["Labels"] or {}
    expected = {"version": version, "revision": revision}
    found = {key: labels.get(LABEL + key) for key in expected}
    if (found, image["Architecture"]) != (expected, name):
        raise Failure(
            f"{reference} is {found} for {image['Architecture']}, expected {expected} for {name}.\n"
            f"  Build it with `{build}`."
        )
    bill = bills / PROCESSORS[name] / f"{PROGRAMS[repository.image]}.cdx.json"
    if not bill.exists() or revision_of(json.loads(bill.read_text(encoding="utf-8"))) != revision:
        raise Failure(f"{bill} does not exist, or is of another revision than {revision}; write it with `make sbom`")
    return Built(reference, f"linux/{name}", labels, image["Created"], bill)


def revision_of(bill: dict[str, Any]) -> str | None:
    """The commit that a bill of materials is about."""
    properties = bill.get("metadata", {}).get("properties", [])
    return next((entry["value"] for entry in properties if entry["name"] == LABEL + "revision"), None)


def subject(image: str, version: str, platform: str) -> dict[str, str]:
    """What provenance says about the image that it belongs to."""
    return {"image": image, "version": version, "platform": platform}


def provenance(image: str, built: Built, environment: dict[str, str]) -> dict[str, Any]:
    """Returns the SLSA provenance of an image: its commit, its pinned wheels, and who built it."""
    source, version, revision = (built.labels[LABEL + key] for key in ("source", "version", "revision"))
    bill = json.loads(built.bill.read_text(encoding="utf-8"))
    wheels = [part for part in bill["components"] if part.get("purl", "").startswith("pkg:pypi/")]
    builder: dict[str, Any] = {"builder": {"id": f"{source}#make-publish"}, "metadata": {"finishedOn": built.created}}
    if environment.get("GITHUB_ACTIONS") == "true":
        server, repository = environment["GITHUB_SERVER_URL"], environment["GITHUB_REPOSITORY"]
        builder["builder"]["id"] = f"{server}/{environment['GITHUB_WORKFLOW_REF']}"
        builder["metadata"]["invocationId"] = f"{server}/{repository}/actions/runs/{environment['GITHUB_RUN_ID']}"
    return {
        "buildDefinition": {
            "buildType": f"{source}/blob/{revision}/RELEASING.md#published-images",
            "externalParameters": subject(image, version, built.platform),
            "resolvedDependencies": [
                {"uri": f"git+{source}@{revision}", "digest": {"gitCommit": revision}},
                *({"uri": part["purl"], "digest": {"sha256": part["hashes"][0]["content"]}} for part in wheels),
            ],
        },
        "runDetails": builder,
    }


def push(repository: Repository, built: Built) -> str:
    """Pushes an image and returns the digest that the engine sent."""
    run("docker", "push", "--quiet", built.reference)
    sent = [entry for entry in inspect(built.reference)["RepoDigests"] if entry.startswith(f"{repository.name}@")]
    if len(sent) != 1:
        raise Failure(
            f"{built.reference} has the digests {sent} in the engine; remove the image there and build it again"
        )
    return str(sent[0]).partition("@")[2]


def publish(cosign: Cosign, repository: Repository, version: str, built: list[Built], folder: Path) -> None:
    """Publishes one image for all its platforms."""
    digests = {part.platform: push(repository, part) for part in built}
    # Registries keep what has a tag, and cosign signs what a registry has.
    candidate = repository.tagged(f"{version}-candidate")
    make_index = ("docker", "buildx", "imagetools", "create", "--progress=none", "--tag")
    run(*make_index, candidate, *(repository.at(digest) for digest in digests.values()))
    digest, index = manifest(candidate)
    if platforms_of(index) != digests:
        raise Failure(f"{candidate} has {platforms_of(index)}, and {digests} was pushed; somebody else writes to it")
    cosign.sign(repository.at(digest))
    for part in built:
        image = repository.at(digests[part.platform])
        cosign.attest(image, "cyclonedx", part.bill)
        statement = folder / "provenance.json"
        statement.write_text(json.dumps(provenance(repository.image, part, dict(os.environ))), encoding="utf-8")
        cosign.attest(image, "slsaprovenance1", statement)
    verifier = Cosign(cosign.program, cosign.public_key(folder), folder)
    verify(verifier, repository, version, digest, index)
    run(*make_index, repository.tagged(version), repository.at(digest))
    if manifest(repository.tagged(version))[0] != digest:
        raise Failure(f"{repository.tagged(version)} is not {digest}, which was pushed; somebody else writes to it")
    print(f"publish: {repository.tagged(version)}@{digest}: {', '.join(digests)}", flush=True)


def verify(cosign: Cosign, repository: Repository, version: str, digest: str, index: dict[str, Any]) -> None:
    """Requires signatures, bills of materials and provenance of an index and its images."""
    cosign.verify(repository.at(digest))
    platforms = platforms_of(index)
    if not platforms:
        raise Failure(
            f"{repository.at(digest)} is an image for one platform; expected an index, as `make publish` makes it"
        )
    for platform, image in platforms.items():
        reference = repository.at(image)
        cosign.verify(reference)
        expected = subject(repository.image, version, platform)
        found = [statement["buildDefinition"] for statement in cosign.statements(reference, "slsaprovenance1")]
        ours = [statement for statement in found if statement["externalParameters"] == expected]
        if not ours:
            named = [statement["externalParameters"] for statement in found]
            raise Failure(f"{reference} is signed as {named}, and {expected} is expected; do not use it")
        commits = {statement["resolvedDependencies"][0]["digest"]["gitCommit"] for statement in ours}
        bills = [bill for bill in cosign.statements(reference, "cyclonedx") if revision_of(bill) in commits]
        if not bills:
            raise Failure(
                f"{reference} has no bill of materials of its commit {', '.join(sorted(commits))}; do not use it"
            )
        print(
            f"verify: {reference}: {platform}, {len(bills[-1]['components'])} components, commit {', '.join(commits)}"
        )


def ask_for_password(key: str) -> None:
    """Gives cosign the password of a key file, which it would ask for at each signature."""
    if "://" in key or "COSIGN_PASSWORD" in os.environ:
        return
    if not sys.stdin.isatty():
        raise Failure(f"COSIGN_PASSWORD is not set; give the password of {key} in it (empty if it has none)")
    os.environ["COSIGN_PASSWORD"] = getpass.getpass(f"Password of {key}: ")


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for_publish = commands.add_parser("publish", help="push, sign and attest images of the engine, then set their tag")
    for_verify = commands.add_parser("verify", help="verify published images")
    for command in (for_publish, for_verify):
        command.add_argument("images", nargs="+", choices=sorted(PROGRAMS), metavar="IMAGE", help=", ".join(PROGRAMS))
        command.add_argument("--registry", required=True, help="the registry, with a path if it needs one")
        command.add_argument("--version", required=True, help="the tag")
        command.add_argument("--cosign", default="cosign", help="the program cosign (default: that of PATH)")
    for_verify.add_argument("--key", required=True, help="the public key: a file, or a URI that cosign knows")
    for_publish.add_argument("--key", required=True, help="the private key: a file, or a URI that cosign knows")
    for_publish.add_argument("--revision", required=True, help="the commit that the images were built from")
    for_publish.add_argument(
        "--bills", type=Path, required=True, help="folder of the bills of materials, of `make sbom`"
    )
    for_publish.add_argument("--platforms", required=True, help=f"of {', '.join(PROCESSORS)}; separated by spaces")
    return parser.parse_args()


def main() -> int:
    """Does what the subcommand asks for."""
    given = parse_arguments()
    try:
        if given.registry == NO_REGISTRY:
            raise Failure(f'invalid REGISTRY = "{NO_REGISTRY}": no registry has this name; name yours with REGISTRY=')
        if "://" not in given.key and not Path(given.key).is_file():
            raise Failure(
                f'invalid KEY = "{given.key}": there is no such file; name a key with KEY=, or make a pair with\n'
                f"  `{given.cosign} generate-key-pair`, which writes cosign.key and cosign.pub"
            )
        require_buildx()
        repositories = [Repository(given.registry, image) for image in given.images]
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            cosign = Cosign(given.cosign, given.key, folder)
            if given.command == "verify":
                for repository in repositories:
                    verify(cosign, repository, given.version, *manifest(repository.tagged(given.version)))
                return 0
            if given.revision.endswith("-dirty"):
                raise Failure(
                    f"invalid REVISION = {given.revision}: the working tree has changes; commit them, then build"
                )
            unknown = set(given.platforms.split()) - set(PROCESSORS)
            if unknown or not given.platforms.split():
                raise Failure(f'invalid PLATFORMS = "{given.platforms}": name one or more of {", ".join(PROCESSORS)}')
            prepared = []
            for repository in repositories:
                if is_published(repository.tagged(given.version)):
                    raise Failure(
                        f"{repository.tagged(given.version)} exists, and a published version is never replaced;\n"
                        "  release the next version (RELEASING.md), or leave the image out with IMAGES="
                    )
                parts = [
                    check_built(repository, given.version, given.revision, platform, given.bills)
                    for platform in given.platforms.split()
                ]
                prepared.append((repository, parts))
            ask_for_password(given.key)
            for repository, parts in prepared:
                publish(cosign, repository, given.version, parts, folder)
    except Failure as failure:
        print(f"publish: {failure}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
