"""A peer that joins and uploads an unroll of another model."""

from __future__ import annotations

import contextlib

import grpc

from .. import wire


def upload(port: int) -> None:
    """Sends one unroll of another model, and requires that the learner refuses it."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        joined = channel.unary_unary(wire.JOIN)(wire.JOIN_REQUEST, timeout=10)
        # hrm.v1.JoinResponse and hrm.v1.UnrollBatch both begin with the session. This unroll has nothing else.
        unroll = joined[:9]
        acknowledgements = channel.stream_stream(wire.UPLOAD)(iter([unroll]), timeout=10)
        with contextlib.suppress(grpc.RpcError):
            for _ in acknowledgements:
                pass
        if acknowledgements.code() != grpc.StatusCode.FAILED_PRECONDITION:
            raise RuntimeError(f"an unroll of another model was answered {acknowledgements.code()}")
