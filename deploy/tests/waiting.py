"""Waiting for a condition of real processes, and the failure where it does not hold in time."""

from __future__ import annotations

import time
from typing import Callable


class Failure(Exception):
    """A failed test, with the reason."""


def until(
    what: str,
    condition: Callable[[], object],
    seconds: float,
    test: str,
    pause: float = 1.0,
    meanwhile: Callable[[], None] = lambda: None,
) -> None:
    """Returns once `condition` holds, and prints how long that took.

    Raises `Failure` after `seconds`, a limit for a test that hangs and not for a slow machine. Calls `meanwhile` before
    each look, which may raise as well.
    """
    began = time.monotonic()
    while True:
        meanwhile()
        if condition():
            print(f"{test}: {what} ({time.monotonic() - began:.1f} s)", flush=True)
            return
        if time.monotonic() - began > seconds:
            raise Failure(f"not within {seconds:.0f} s: {what}")
        time.sleep(pause)
