"""The Python blocks of docs/python.md."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT

BLOCKS = re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs/python.md").read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS)
def test_it_runs(block: str, checkpoint: Path) -> None:
    with_checkpoint = block.replace("runs/four-rooms", str(checkpoint))
    subprocess.run([sys.executable, "-c", with_checkpoint], check=True, capture_output=True, text=True)


def test_there_are_blocks() -> None:
    assert len(BLOCKS) == 3
