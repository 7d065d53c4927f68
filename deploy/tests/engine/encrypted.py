"""The test of profile tls: it builds, creates certificates, and only actors that have them join."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import Callable

import grpc

from .. import wire
from ..waiting import Failure
from .compose import run
from .watched import Cluster, until

CERTS = "/var/lib/hrm/certs"
JOIN = (wire.JOIN, wire.JOIN_REQUEST)
STATUS = (wire.STATUS, wire.STATUS_REQUEST)


def answer(channel: grpc.Channel, call: tuple[str, bytes], token: str = "") -> grpc.StatusCode:
    """Returns the status of one call, with this token if there is one."""
    method, request = call
    metadata = [("authorization", f"Bearer {token}")] if token else []
    with channel:
        try:
            channel.unary_unary(method)(request, timeout=10, metadata=metadata)
        except grpc.RpcError as error:
            return error.code()
    return grpc.StatusCode.OK


def callers(cluster: Cluster, port: int) -> list[str]:
    """Checks the permissions at the published port; returns the secrets that it used."""
    with tempfile.TemporaryDirectory() as folder:
        run("docker", "cp", f"{cluster.learner_container()}:{CERTS}/.", folder)

        def made(name: str) -> bytes:
            return Path(folder, name).read_bytes()

        authority, key, certificate = made("ca.pem"), made("actor-key.pem"), made("actor.pem")
        actor, viewer = made("actor-tokens").decode().strip(), made("viewer-tokens").decode().strip()
    address = f"127.0.0.1:{port}"

    def plaintext() -> grpc.Channel:
        return grpc.insecure_channel(address)

    def encrypted() -> grpc.Channel:
        return grpc.secure_channel(address, grpc.ssl_channel_credentials(authority))

    def mutual() -> grpc.Channel:
        return grpc.secure_channel(address, grpc.ssl_channel_credentials(authority, key, certificate))

    code = grpc.StatusCode
    cases: list[tuple[str, Callable[[], grpc.Channel], tuple[str, bytes], str, grpc.StatusCode]] = [
        ("in plaintext", plaintext, JOIN, actor, code.UNAVAILABLE),
        ("without a certificate", encrypted, JOIN, actor, code.UNAVAILABLE),
        ("without a token", mutual, JOIN, "", code.UNAUTHENTICATED),
        ("with another token", mutual, JOIN, actor[::-1], code.UNAUTHENTICATED),
        ("a viewer that joins", mutual, JOIN, viewer, code.PERMISSION_DENIED),
        ("a viewer that asks for the status", mutual, STATUS, viewer, code.OK),
        ("an actor", mutual, JOIN, actor, code.OK),
    ]
    for what, channel, call, token, expected in cases:
        found = answer(channel(), call, token)
        if found != expected:
            raise Failure(f"{what}: answered {found}, not {expected}")
        print(f"cluster: {what}: {found.name}", flush=True)
    return [actor, viewer, *key.decode().splitlines()[1:-1]]


def silent(cluster: Cluster, secrets: list[str]) -> None:
    """Checks that no secret is in a log or in the engine's description of a container."""
    for service in (cluster.learner, cluster.actor):
        for container in cluster.project.containers(service):
            logged = subprocess.run(["docker", "logs", container], capture_output=True, text=True, check=True)
            told = logged.stdout + logged.stderr + run("docker", "inspect", container)
            if any(secret in told for secret in secrets):
                raise Failure(f"{service}: a secret is in its log or description")


def story(cluster: Cluster, port: int) -> None:
    """Runs the test; `port` is the learner's published port."""
    cluster.start("Encryption", actors=2)
    cluster.confined()
    cluster.trains()
    secrets = callers(cluster, port)
    run("docker", "restart", "--time", "60", cluster.learner_container())
    cluster.resumes("restarted", 2)
    until("2 actors are joined", lambda: cluster.value("hrm_learner_actors") == 2)
    silent(cluster, secrets)
