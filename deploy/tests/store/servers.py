"""Two independent servers with the interface of S3. rclone's keeps objects in a folder, moto's in memory."""

from __future__ import annotations

import os
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3

from .. import waiting
from ..observability.processes import Process, free_ports

BUCKET = "checkpoints"
# Credentials that only these servers take, for this test.
KEY, SECRET = "test-key", "test-secret"
REGION = "eu-test-1"
PATIENCE, PAUSE = 60.0, 0.25


@dataclass
class Server:
    """A server that answers, with one empty bucket."""

    name: str
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def variables(self) -> dict[str, str]:
        """The environment with which a program finds the server."""
        return {
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_ENDPOINT": self.url,
            "AWS_REGION": REGION,
            "AWS_ALLOW_HTTP": "true",
        }

    def names(self, prefix: str) -> set[str]:
        """The keys below the prefix, without it."""
        pages = self.client().get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        return {entry["Key"].removeprefix(prefix) for page in pages for entry in page.get("Contents", [])}

    def read(self, key: str) -> bytes:
        """The content of an object."""
        content: bytes = self.client().get_object(Bucket=BUCKET, Key=key)["Body"].read()
        return content

    def client(self) -> Any:
        return boto3.client(
            "s3", endpoint_url=self.url, region_name=REGION, aws_access_key_id=KEY, aws_secret_access_key=SECRET
        )


def command(name: str, port: int, folder: Path) -> list[str]:
    """Returns the command of a server."""
    programs = Path(sys.executable).parent
    if name == "rclone":
        address, key = f"127.0.0.1:{port}", f"{KEY},{SECRET}"
        serve = ["serve", "s3", "--addr", address, "--auth-key", key, "--vfs-cache-mode", "writes"]
        return [str(programs / "rclone"), *serve, "--cache-dir", str(folder / "cache"), str(folder / "objects")]
    return [str(programs / "moto_server"), "--host", "127.0.0.1", "--port", str(port)]


@contextmanager
def running(name: str, folder: Path, test: str) -> Iterator[Server]:
    """Runs the server of this name until the end of the block."""
    (port,) = free_ports(1)
    (folder / "objects").mkdir(parents=True)
    server = Server(name, port)
    process = Process(name, command(name, port, folder), folder)
    try:

        def answers() -> bool:
            try:
                urllib.request.urlopen(server.url, timeout=5).close()
            except urllib.error.HTTPError:
                return True
            except OSError:
                return False
            return True

        waiting.until(f"{name} answers", answers, PATIENCE, test, PAUSE, process.check)
        server.client().create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
        yield server
    finally:
        process.stop()


def remaining(folder: Path) -> set[str]:
    """Returns the names of a run's files that its copy must have."""
    names = (str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    return {name for name in names if not os.path.basename(name).startswith(".")}
