"""Tests of release.py: python3 -m unittest discover --start-directory scripts"""

from __future__ import annotations

import tarfile
import tempfile
import unittest
from pathlib import Path

import release

CHANGELOG = """# Changelog

## [Unreleased]

## [0.2.0] - 2026-01-01

### Added

- A thing.

## [0.1.0] - 2025-01-01

[Unreleased]: https://example.com
"""


class Notes(unittest.TestCase):
    """Release notes of a tag."""

    def test_the_section_of_the_version_is_taken(self) -> None:
        self.assertEqual(release.notes("v0.2.0", CHANGELOG, "0.2.0"), "### Added\n\n- A thing.\n")

    def test_another_tag_than_the_version_is_refused(self) -> None:
        with self.assertRaisesRegex(release.Failure, "tag v0.2.0"):
            release.notes("v0.3.0", CHANGELOG, "0.2.0")

    def test_a_version_without_text_is_refused(self) -> None:
        with self.assertRaisesRegex(release.Failure, "is empty"):
            release.notes("v0.1.0", CHANGELOG, "0.1.0")
        with self.assertRaisesRegex(release.Failure, "0 sections"):
            release.notes("v0.3.0", CHANGELOG, "0.3.0")


class Archive(unittest.TestCase):
    """The tar file."""

    def test_the_same_tree_gives_the_same_bytes(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            tree = Path(folder) / "tree"
            (tree / "bin").mkdir(parents=True)
            (tree / "bin" / "program").write_text("#!/bin/sh\n")
            (tree / "bin" / "program").chmod(0o700)
            (tree / "text").write_text("text\n")
            first, second = Path(folder) / "first.tar.gz", Path(folder) / "second.tar.gz"
            release.pack(tree, first)
            (tree / "text").touch()
            release.pack(tree, second)
            self.assertEqual(first.read_bytes(), second.read_bytes())
            with tarfile.open(first) as tar:
                modes = {entry.name: oct(entry.mode) for entry in tar.getmembers()}
            self.assertEqual(modes["tree/bin/program"], "0o755")
            self.assertEqual(modes["tree/text"], "0o644")


if __name__ == "__main__":
    unittest.main()
