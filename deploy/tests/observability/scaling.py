"""The project's rules on a faster clock, so that the test can wait for an alert of five minutes.

The clock divides every duration by `FACTOR`: `for`, ranges, offsets, and numbers of seconds that an expression compares
with `time()`. Nothing else of an expression changes.
"""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import promql_parser as promql
import yaml

# 5m becomes 15 s. With a scrape a second the shortest range, 1m, still holds three samples; rate needs two.
FACTOR = 20

_STRING_OR_DURATION = re.compile(r"\"[^\"]*\"|'[^']*'|\b(?:\d+(?:ms|[smhdwy]))+\b")
_COMPARISONS = ("==", "!=", ">", "<", ">=", "<=")


def duration(text: str) -> str:
    """Returns `5m` as `15s`."""
    shorter: timedelta = promql.parse_duration(text) / FACTOR
    return f"{round(shorter.total_seconds() * 1000)}ms"


def expression(text: str) -> str:
    """Returns a PromQL expression on the faster clock."""
    for age in _ages(promql.parse(text)):
        text = re.sub(rf"(?<=[<>=] ){age}\b", f"{age / FACTOR:g}", text)
    return _STRING_OR_DURATION.sub(lambda m: m[0] if m[0][0] in "\"'" else duration(m[0]), text)


def rules(source: Path, target: Path) -> None:
    """Writes a rule file on the faster clock."""
    content = yaml.safe_load(source.read_text(encoding="utf-8"))
    for group in content["groups"]:
        group["interval"] = "1s"
        for rule in group["rules"]:
            rule["expr"] = expression(rule["expr"])
            if "for" in rule:
                rule["for"] = duration(rule["for"])
    target.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


def _ages(node: promql.Expr) -> list[int]:
    """Returns the numbers that an expression compares with time()."""
    found: list[int] = []

    def visit(inner: promql.Expr) -> None:
        if not isinstance(inner, promql.BinaryExpr) or str(inner.op) not in _COMPARISONS:
            return
        if isinstance(inner.rhs, promql.NumberLiteral) and _has_time(inner.lhs):
            found.append(int(inner.rhs.val))

    promql.walk(node, visit)
    return found


def _has_time(node: promql.Expr) -> bool:
    names: list[str] = []

    def visit(inner: promql.Expr) -> None:
        if isinstance(inner, promql.Call):
            names.append(inner.func.name)

    promql.walk(node, visit)
    return "time" in names
