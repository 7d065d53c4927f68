"""The imports of a made-up workspace are read as Rust reads them, and each fault is found."""

from __future__ import annotations

import tempfile
import unittest
from pathlib import Path
from unittest import mock

import imports

SOURCES = {
    "common/src/lib.rs": "pub mod env;\npub mod wire;\n",
    "common/src/env/mod.rs": "mod grid;\npub use grid::Grid;\n",
    "common/src/env/grid.rs": "pub struct Grid;\n",
    # The item is re-exported; the text and the comment name modules too, and import nothing.
    "common/src/wire.rs": 'use crate::env::Grid;\n// crate::env::mod\nconst TEXT: &str = "crate::lib::x";\n',
    "learner/src/lib.rs": "pub mod run;\npub mod storage;\n",
    "learner/src/run/mod.rs": "mod trainer;\nuse crate::storage::files::{self, write as put};\n",
    "learner/src/run/trainer.rs": "use hrm_common::{env::Grid, wire};\n#[cfg(test)]\nmod tests { use super::super::x; }\n",
    "learner/src/storage/mod.rs": "pub mod files;\n#[cfg(test)]\nmod file_tests;\n",
    "learner/src/storage/files.rs": "pub fn write() {}\n",
    "learner/src/storage/file_tests.rs": "use crate::run::trainer;\n",
}


class Imports(unittest.TestCase):
    """The graph of a workspace in a temporary folder."""

    def faults(self, changed: dict[str, str]) -> list[str]:
        with tempfile.TemporaryDirectory() as folder:
            for name, text in {**SOURCES, **changed}.items():
                path = Path(folder, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
            with mock.patch.object(imports, "REPOSITORY", Path(folder)):
                self.graph = imports.imports(imports.sources())
        circles = [" ".join(map(str, sorted(group))) for group in imports.circles(self.graph)]
        return circles + list(imports.upwards(self.graph))

    def test_items_are_followed_to_the_file_that_defines_them(self) -> None:
        self.assertEqual(self.faults({}), [])
        targets = {str(path): [str(target) for target in found] for path, found in self.graph.items()}
        self.assertEqual(targets["common/src/wire.rs"], ["common/src/env/grid.rs"])
        self.assertEqual(targets["learner/src/run/trainer.rs"], ["common/src/env/grid.rs", "common/src/wire.rs"])
        self.assertEqual(targets["learner/src/run/mod.rs"], ["learner/src/storage/files.rs"])
        self.assertNotIn("learner/src/storage/file_tests.rs", targets)

    def test_a_circle_is_found_however_long(self) -> None:
        back = {"common/src/env/grid.rs": "pub struct Grid;\nfn f() { crate::wire::g(); }\n"}
        self.assertEqual(self.faults(back), ["common/src/env/grid.rs common/src/wire.rs"])

    def test_a_room_above_is_not_imported(self) -> None:
        up = {"learner/src/storage/files.rs": "use crate::run::trainer::X;\n"}
        self.assertTrue(any("run is not below storage" in fault for fault in self.faults(up)))
        nowhere = {"learner/src/attic/mod.rs": "use crate::storage::files;\n"}
        self.assertTrue(any("no place among the rooms" in fault for fault in self.faults(nowhere)))

    def test_the_actor_is_for_local_actors(self) -> None:
        actor = {"actor/src/lib.rs": "pub fn run() {}\n", "learner/src/run/trainer.rs": "use hrm_actor::run;\n"}
        self.assertTrue(any("uses the actor's library" in fault for fault in self.faults(actor)))
        allowed = {"actor/src/lib.rs": "pub fn run() {}\n", imports.USES_ACTOR[0]: "use hrm_actor::run;\n"}
        self.assertEqual(self.faults(allowed), [])


class Flows(unittest.TestCase):
    """The opening comments of folders."""

    def test_a_module_that_the_comment_leaves_out_is_found(self) -> None:
        text = "//! Storage: files, and nothing else.\npub mod files;\npub(crate) mod run_dir;\n#[cfg(test)]\nmod tests;\n"
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "learner/src/storage/mod.rs")
            path.parent.mkdir(parents=True)
            path.write_text(text, encoding="utf-8")
            with mock.patch.object(imports, "REPOSITORY", Path(folder)):
                found = list(imports.unnamed(imports.sources()))
        self.assertEqual(found, ["learner/src/storage/mod.rs: its opening comment does not name run_dir"])


if __name__ == "__main__":
    unittest.main()
