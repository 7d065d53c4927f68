"""Requests of hrm.v1.Learner, encoded by hand: the checks need no generated code."""

from __future__ import annotations

JOIN = "/hrm.v1.Learner/Join"
STATUS = "/hrm.v1.Learner/Status"
UPLOAD = "/hrm.v1.Learner/Upload"

# hrm.v1.JoinRequest: an actor id, the wire's major version and one rollout thread.
JOIN_REQUEST = b"\x09" + (1).to_bytes(8, "little") + b"\x10\x01" + b"\x28\x01"
STATUS_REQUEST = b""
