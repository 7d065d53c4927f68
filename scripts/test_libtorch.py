"""Tests of libtorch.py: python3 -m unittest discover --start-directory scripts"""

from __future__ import annotations

import contextlib
import io
import unittest
from pathlib import Path

import libtorch


class Architectures(unittest.TestCase):
    """The choice of the wheels by processor."""

    def test_every_wheel_is_pinned_for_every_processor(self) -> None:
        text = libtorch.PINS_FILE.read_text()
        pins = {arch: libtorch.read_pins(arch, text) for arch in libtorch.ARCHITECTURES}
        for arch, found in pins.items():
            self.assertEqual(set(found), set(libtorch.SHARED_OBJECTS), arch)
        self.assertEqual(*({name: pin[0] for name, pin in found.items()} for found in pins.values()))
        hashes = [sha256 for found in pins.values() for _, sha256 in found.values()]
        self.assertEqual(len(set(hashes)), len(hashes))

    def test_a_line_without_a_hash_for_each_processor_is_refused(self) -> None:
        text = f"torch==2.11.0 --hash=sha256:{'0' * 64}\n"
        with self.assertRaisesRegex(libtorch.Failure, "torch has 1 hashes; give one for each of x86_64, aarch64"):
            libtorch.read_pins("x86_64", text)

    def test_the_processor_of_the_machine_is_the_default(self) -> None:
        for machine, other in (libtorch.ARCHITECTURES, reversed(libtorch.ARCHITECTURES)):
            own = libtorch.Fetch(machine, libtorch.ROOT / ".libtorch")
            self.assertEqual(libtorch.parse_arguments([], machine), own)
            self.assertEqual(libtorch.parse_arguments([f"--arch={machine}"], machine), own)
            foreign = libtorch.Fetch(other, libtorch.ROOT / f".libtorch-{other}")
            self.assertEqual(libtorch.parse_arguments([f"--arch={other}"], machine), foreign)

    def test_a_folder_gets_its_own_lock_and_partial_folder(self) -> None:
        wanted = libtorch.parse_arguments(["--arch=aarch64", "--folder=/opt/arm"], "x86_64")
        self.assertEqual(wanted, libtorch.Fetch("aarch64", Path("/opt/arm")))
        self.assertEqual((wanted.partial, wanted.lock), (Path("/opt/arm.partial"), Path("/opt/arm.lock")))

    def test_an_unknown_processor_is_refused_with_the_known_ones(self) -> None:
        said = io.StringIO()
        with contextlib.redirect_stderr(said), self.assertRaises(SystemExit) as ended:
            libtorch.parse_arguments(["--arch=riscv64"], "x86_64")
        self.assertEqual(ended.exception.code, 2)
        self.assertRegex(said.getvalue(), "riscv64.*x86_64.*aarch64")

    def test_a_machine_with_an_unknown_processor_is_refused_with_a_remedy(self) -> None:
        expected = "for Linux x86_64 and Linux aarch64, and this is Linux riscv64.\n  Point LIBTORCH"
        with self.assertRaisesRegex(libtorch.Failure, expected):
            libtorch.check_platform("Linux", "riscv64")

    def test_the_linear_algebra_of_arm_is_taken_for_arm_only(self) -> None:
        places = {
            arch: set(libtorch.Fetch(arch, Path("x")).shared_objects["torch"].values())
            for arch in libtorch.ARCHITECTURES
        }
        added = {f"lib/{name}" for name in libtorch.ARM_LINEAR_ALGEBRA}
        self.assertEqual(places["aarch64"] - places["x86_64"], added)
        self.assertEqual(places["x86_64"] - places["aarch64"], set())


if __name__ == "__main__":
    unittest.main()
