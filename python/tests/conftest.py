"""Files and programs that the tests share."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def checkpoint() -> Path:
    """A checkpoint of a short run, from which the Rust tests also act."""
    return ROOT / "learner/tests/earlier/000000006144.safetensors"


@pytest.fixture
def learner() -> Path:
    """The program that `make python-test` has built."""
    return ROOT / "target/debug/hrm-learner"


@pytest.fixture
def known_mazes() -> Path:
    """Pictures of mazes by seed, which a Rust test compares with the mazes."""
    return ROOT / "common/src/env/tests/known"
