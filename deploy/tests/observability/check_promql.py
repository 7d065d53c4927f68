"""Checks that rules and dashboards use only metrics that exist.

It parses every expression. A metric must be declared in common/src/telemetry/names.rs, be a `process_*` metric, or be
recorded by a rule. Each label that selects, groups or matches must be one of the metric's labels. If the values of a
label are declared, the expression must use one of them. Needs no engine and no network.

    python3 -m deploy.tests.observability.check_promql
"""

from __future__ import annotations

import re
import sys
from functools import cache
from pathlib import Path

import promql_parser as promql

from .. import command_line
from . import expressions
from .exported import TELEMETRY, Metric, metrics
from .expressions import Expression
from .labels import Fault, Inference, Labels, selectors

# level:metric:operations, as Prometheus recommends.
RECORD = re.compile(r"[a-z_]+:[a-z_]+:[a-z0-9_]+")


def recorded(rules: list[Expression], exported: dict[str, Metric]) -> dict[str, Labels]:
    """Returns the labels of every recorded series, whatever the order of the rules."""
    known: dict[str, Labels] = {}
    waiting = [rule for rule in rules if rule.kind == "record"]
    while waiting:
        made: dict[str, Labels] = {}
        for rule in waiting:
            if any(used.record in rule.text for used in waiting):
                continue
            inference = Inference(exported, known)
            labels = inference.of(promql.parse(rule.text)) | frozenset(rule.labels)
            # Several rules may record one metric. Only the labels of all of them are certain.
            made[rule.record] = made[rule.record] & labels if rule.record in made else labels
        if not made:
            raise Fault(f"these recording rules use each other in a circle: {[rule.record for rule in waiting]}")
        known.update(made)
        waiting = [rule for rule in waiting if rule.record not in made]
    return known


@cache
def inference() -> Inference:
    """Returns the known labels of every exported and recorded metric."""
    exported = metrics()
    return Inference(exported, recorded(expressions.every(), exported))


def faults_of(expression: Expression, inference: Inference) -> list[str]:
    """Returns the faults of one expression."""
    try:
        inference.of(promql.parse(expression.plain("1m")))
    except (Fault, ValueError) as fault:
        return [f"{expression.where}: {fault}"]
    return []


def unused(every: list[Expression], names: list[str]) -> list[str]:
    """Returns the recorded series that nothing uses."""
    asked = {s.name for e in every for s in selectors(promql.parse(e.plain("1m")))}
    return [name for name in names if name not in asked]


def main() -> int:
    """Checks everything and prints the faults."""
    parser = command_line.parser(__doc__)
    parser.add_argument("--names", type=Path, default=TELEMETRY, help="file that declares the metrics")
    arguments = parser.parse_args()

    exported = metrics(arguments.names)
    every = expressions.every()
    try:
        known = recorded(every, exported)
    except Fault as fault:
        return command_line.report("check_promql", [f"recording rules: {fault}"], "")
    inference = Inference(exported, known)
    faults = [fault for expression in every for fault in faults_of(expression, inference)]
    faults += [f"recording.yml: {name} is not level:metric:operations" for name in known if not RECORD.fullmatch(name)]
    if not faults:
        faults += [f"recording.yml: nothing uses {name}" for name in unused(every, list(known))]
    summary = f"{len(every)} expressions over {len(exported)} series and {len(known)} recorded ones"
    return command_line.report("check_promql", faults, summary)


if __name__ == "__main__":
    sys.exit(main())
