"""Tests of order.py: python3 -m unittest discover --start-directory scripts"""

from __future__ import annotations

import unittest

import order


class Derives(unittest.TestCase):
    """Derives in one order."""

    def test_they_are_sorted_and_others_follow(self) -> None:
        text = "#[derive(Clone, thiserror::Error, Copy, Debug, Parser)]\nstruct S;\n"
        expected = "#[derive(Debug, Clone, Copy, thiserror::Error, Parser)]\nstruct S;\n"
        self.assertEqual(order.sort_derives(text), expected)
        self.assertEqual(order.sort_derives(expected), expected)


class Imports(unittest.TestCase):
    """Imports in three groups."""

    def test_a_group_out_of_order_is_found(self) -> None:
        good = "use std::fs;\n\nuse tch::{\n    Kind,\n};\n\nuse crate::x;\nuse super::y;\n"
        self.assertEqual(list(order.misplaced(good)), [])
        self.assertEqual(list(order.misplaced("use crate::x;\nuse std::fs;\n")), [(2, "std")])
        self.assertEqual(list(order.misplaced("use tch::A;\n\nuse std::fs;\n")), [(3, "std")])

    def test_another_module_begins_again(self) -> None:
        text = "use crate::x;\n\nmod tests {\n    use std::fs;\n    use super::*;\n    use tch::A;\n}\n"
        self.assertEqual(list(order.misplaced(text)), [(6, "tch")])


if __name__ == "__main__":
    unittest.main()
