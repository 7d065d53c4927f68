"""Tests of prose.py: python3 -m unittest discover --start-directory scripts"""

from __future__ import annotations

import unittest

import prose


def found(name: str, text: str) -> list[tuple[int, str]]:
    """The faults of a text, as line and phrase."""
    return [(fault.line, fault.phrase) for fault in prose.faults(name, text)]


class Phrases(unittest.TestCase):
    """Phrases that have a plainer word."""

    def test_whole_words_are_found_in_any_case_and_over_lines(self) -> None:
        self.assertEqual(found("a.md", "It Goes\non. Anew."), [(1, "Goes on"), (2, "Anew")])
        self.assertEqual(found("a.md", "renewed, anewly, forgoes on, on-the-books"), [])

    def test_rates_are_written_with_per(self) -> None:
        self.assertEqual(found("a.md", "900 frames a second"), [(1, "frames a second")])
        self.assertEqual(found("a.md", "900 frames per second, a second frame"), [])

    def test_a_comment_of_rust_is_read_over_its_lines(self) -> None:
        text = "fn f() {\n    // It goes\n    // on.\n    /// At\n    /// hand.\n}\n"
        self.assertEqual(found("a.rs", text), [(2, "goes on"), (4, "At hand")])

    def test_strings_of_rust_are_read_and_code_is_not(self) -> None:
        self.assertEqual(found("a.rs", "let anew = 'a';\nlet s = \"goes \\\n    on\";\n"), [(2, "goes on")])
        self.assertEqual(found("a.rs", 'f(r#"say "anew""#, b"anew");'), [(1, "anew"), (1, "anew")])
        self.assertEqual(found("a.rs", 'f("goes", "on");'), [])

    def test_comments_and_strings_of_python_are_read_and_code_is_not(self) -> None:
        self.assertEqual(found("a.py", "if anew is None:  # anew\n    pass\n"), [(1, "anew")])
        self.assertEqual(found("a.py", 'text = (\n    "goes "\n    f"on {x}"\n)\n'), [(2, "goes on")])
        self.assertEqual(found("a.py", "# goes\n# on\nf('goes', 'on')\n"), [(1, "goes on")])

    def test_a_stub_of_python_is_read_as_python(self) -> None:
        self.assertEqual(found("a.pyi", '"""At hand."""\n\ndef anew() -> None: ...\n'), [(1, "At hand")])

    def test_the_files_of_pages_are_read(self) -> None:
        script = "  // it goes\n  // on\n  f(`${n} frames a second`);\n"
        self.assertEqual(found("a.js", script), [(1, "goes on"), (3, "frames a second")])
        self.assertEqual(found("a.html", '<p title="at hand">\nIt goes\non.</p>\n'), [(1, "at hand"), (2, "goes on")])
        self.assertEqual(found("a.css", "/* drawn anew */\np { display: none }\n"), [(1, "anew")])
        self.assertEqual(found("a.svg", '<title>anew</title><path fill="none"/>'), [(1, "anew")])
        self.assertEqual(found("a.json", '{"description": "anew"}'), [(1, "anew")])

    def test_comments_of_yaml_are_read_over_their_lines(self) -> None:
        self.assertEqual(found("a.yml", "a: 1\n# it goes\n# on\n"), [(2, "goes on")])

    def test_history_and_the_table_of_rules_are_exempt(self) -> None:
        self.assertEqual(found("CHANGELOG.md", "anew\n\n## [0.1.0]\n\nanew\n"), [(1, "anew")])
        rules = "| anew |\n\n## Prose\n\n| anew | again |\n\nanew\n\n## More\n\n| anew |\n"
        self.assertEqual([line for line, _ in found("CONTRIBUTING.md", rules)], [1, 7, 11])
        self.assertEqual(found("README.md", "| anew |\n"), [(1, "anew")])

    def test_the_table_of_rules_lists_the_same_phrases(self) -> None:
        text = (prose.ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
        rows = [text[start:end].split("|")[1].strip() for start, end in prose._table(text)][2:]
        self.assertEqual(len(rows), len(prose.DENIED))
        for row in rows:
            self.assertEqual(len(found("README.md", row)), 1, row)


class Files(unittest.TestCase):
    """The files that are read."""

    def test_texts_of_people_are_read(self) -> None:
        for ending in ("md", "rs", "py", "pyi", "js", "html", "css", "svg", "json", "proto"):
            self.assertTrue(prose.is_read(f"folder/a.{ending}"), ending)
        for name in ("Makefile", "deploy/docker/Dockerfile", ".ci/run"):
            self.assertTrue(prose.is_read(name), name)

    def test_texts_of_programs_and_other_files_are_not(self) -> None:
        for name in ("docs/replay.svg", "docs/results/a/summary.json", "docs/results/a/raw/b/config.toml"):
            self.assertFalse(prose.is_read(name), name)
        for name in ("deploy/grafana/dashboards/a.json", "fuzz/corpus/config/a.toml", "Cargo.lock", "a.csv"):
            self.assertFalse(prose.is_read(name), name)
        self.assertFalse(any(map(prose.is_read, prose.OWN)))


class DocComments(unittest.TestCase):
    """Openings of doc comments."""

    def test_the_first_line_of_a_block_is_judged(self) -> None:
        text = "//! What it is.\n\n/// How it is.\n/// What follows.\nfn f() {}\n\n/// Whatever.\n// What is none.\n"
        self.assertEqual([fault.line for fault in prose.doc_openings("a.rs", text)], [1, 3])


class TestNames(unittest.TestCase):
    """Names of Rust's test functions."""

    def found(self, text: str) -> list[tuple[int, str]]:
        """The faults of the names, as line and phrase."""
        return [(fault.line, fault.phrase) for fault in prose.test_names("a.rs", text)]

    def test_names_of_tests_are_read_as_words(self) -> None:
        text = "#[test]\nfn a_run_goes_on_from_it() {}\n\n    #[tokio::test]\n    async fn moves_in_vain() {}\n"
        self.assertEqual(self.found(text), [(2, "goes on"), (5, "in vain")])
        self.assertEqual(self.found("#[test]\nfn a_run_forgoes_on_demand_renewed_lists() {}\n"), [])

    def test_a_name_needs_a_named_subject(self) -> None:
        text = "#[test]\nfn what_is_saved_is_read() {}\n#[test]\nfn it_stops() {}\n#[test]\nfn those() {}\n"
        self.assertEqual(self.found(text), [(2, "what"), (4, "it"), (6, "those")])
        self.assertEqual(self.found("#[test]\nfn items_and_whatever_it_is() {}\n"), [])

    def test_other_attributes_may_lie_between(self) -> None:
        text = '#[tokio::test(flavor = "multi_thread")]\n#[ignore = "slow"]\n// Why.\nasync fn who_waits() {}\n'
        self.assertEqual(self.found(text), [(4, "who")])
        self.assertEqual(self.found("proptest! {\n    #[test]\n    fn how_it_is(\n"), [(3, "how")])

    def test_other_functions_are_not_read(self) -> None:
        text = "#[test]\nfn a_run_ends() { it_goes_on(); }\n\nfn it_goes_on() {}\n#[test_case]\nfn it_is() {}\n"
        self.assertEqual(self.found(text), [])

    def test_a_fault_shows_the_name(self) -> None:
        faults = prose.test_names("a.rs", "#[test]\nfn it_is_none() {}\n")
        self.assertEqual(
            [str(fault) for fault in faults],
            [
                "a.rs:2: 'it': write a named subject in it_is_none",
                "a.rs:2: 'is none': write does not exist, is not a, is invalid in it_is_none",
            ],
        )


if __name__ == "__main__":
    unittest.main()
