"""A registry of images on this machine, and what anyone who may write to it can do."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..waiting import Failure, until

MEDIA_TYPES = ", ".join(
    f"application/vnd.{kind}"
    for kind in (
        "docker.distribution.manifest.list.v2+json",
        "docker.distribution.manifest.v2+json",
        "oci.image.index.v1+json",
        "oci.image.manifest.v1+json",
    )
)


@dataclass
class Registry:
    """A registry on this machine."""

    address: str
    folder: Path

    def read(self, repository: str, reference: str) -> tuple[str, bytes]:
        """The media type and the bytes of a manifest."""
        url = f"http://{self.address}/v2/{repository}/manifests/{reference}"
        request = urllib.request.Request(url, headers={"Accept": MEDIA_TYPES})
        with urllib.request.urlopen(request) as answer:
            return answer.headers["Content-Type"], answer.read()

    def write(self, repository: str, reference: str, content_type: str, manifest: bytes) -> None:
        """Stores a manifest under a tag, as anyone who may write can."""
        url = f"http://{self.address}/v2/{repository}/manifests/{reference}"
        headers = {"Content-Type": content_type}
        with urllib.request.urlopen(urllib.request.Request(url, manifest, headers, method="PUT")):
            pass

    def blob(self, digest: str) -> Path:
        """The file of a blob."""
        hexadecimal = digest.partition(":")[2]
        return self.folder / f"docker/registry/v2/blobs/sha256/{hexadecimal[:2]}/{hexadecimal}/data"


@contextmanager
def registry(program: Path, folder: Path) -> Iterator[Registry]:
    """Runs an empty registry on a free port."""
    configuration, log, data = folder / "registry.yml", folder / "registry.log", folder / "registry"
    settings = {
        "version": 0.1,
        "storage": {"filesystem": {"rootdirectory": str(data)}},
        "http": {"addr": "127.0.0.1:0"},
    }
    # JSON is YAML.
    configuration.write_text(json.dumps(settings), encoding="utf-8")
    with open(log, "w", encoding="utf-8") as output:
        process = subprocess.Popen([program, "serve", configuration], stdout=output, stderr=output)
    try:
        found: list[str] = []

        def listens() -> bool:
            text = log.read_text(encoding="utf-8")
            if process.poll() is not None:
                raise Failure(f"{program} ended:\n{text}")
            found[:] = re.findall(r"listening on (127\.0\.0\.1:\d+)", text)
            return bool(found)

        until("the registry listens", listens, 60, "check_publish", pause=0.1)
        yield Registry(found[0], data)
    finally:
        process.terminate()
        process.wait()


def digest_of(manifest: bytes) -> str:
    """The digest of a manifest."""
    return f"sha256:{hashlib.sha256(manifest).hexdigest()}"
