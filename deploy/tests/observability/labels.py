"""The labels of an expression's result, found without running it, and the faults on the way."""

from __future__ import annotations

import promql_parser as promql

from .exported import TARGET, Metric

Labels = frozenset[str]
NONE: Labels = frozenset()
SET_OPERATORS = ("and", "or", "unless")


class Fault(Exception):
    """An expression that uses a metric or a label which does not exist."""


class Inference:
    """Follows labels through an expression."""

    def __init__(self, metrics: dict[str, Metric], recorded: dict[str, Labels]) -> None:
        self.metrics = metrics
        # Labels of recorded series.
        self.recorded = recorded

    def of(self, node: promql.Expr) -> Labels:
        """Returns the labels of the result of `node`.

        Raises `Fault` for a metric or a label that does not exist.
        """
        if isinstance(node, promql.ParenExpr) or isinstance(node, promql.UnaryExpr):
            return self.of(node.expr)
        if isinstance(node, promql.SubqueryExpr):
            return self.of(node.expr)
        if isinstance(node, promql.MatrixSelector):
            return self.selector(node.vector_selector)
        if isinstance(node, promql.VectorSelector):
            return self.selector(node)
        if isinstance(node, promql.AggregateExpr):
            return self.aggregate(node)
        if isinstance(node, promql.BinaryExpr):
            return self.binary(node)
        if isinstance(node, promql.Call):
            return self.call(node)
        return NONE

    def selector(self, node: promql.VectorSelector) -> Labels:
        """Returns the labels of a metric or a recorded series."""
        if node.name in self.recorded:
            known = {label: None for label in self.recorded[node.name]}
        elif node.name in self.metrics:
            known = {**{label: None for label in TARGET}, **self.metrics[node.name].labels}
        else:
            raise Fault(f"no program exports {node.name}, and no rule records it")
        for matcher in node.matchers.matchers:
            if matcher.name not in known:
                raise Fault(f"{node.name} has no label {matcher.name}: it has {_list(known)}")
            values = known[matcher.name]
            if values is not None and matcher.op in (promql.MatchOp.Equal, promql.MatchOp.NotEqual):
                if matcher.value not in values:
                    raise Fault(f"{node.name} has no {matcher.name}={matcher.value!r}: there are {_list(values)}")
        return frozenset(known)

    def aggregate(self, node: promql.AggregateExpr) -> Labels:
        """Returns the labels after an aggregation: `by` keeps, `without` removes, topk and bottomk keep all."""
        inner = self.of(node.expr)
        named = list(node.modifier.labels) if node.modifier else []
        self.require(named, inner, str(node.op))
        if str(node.op) in ("topk", "bottomk"):
            return inner
        if node.modifier and node.modifier.type == promql.AggModifierType.Without:
            result = inner - frozenset(named)
        else:
            result = frozenset(named)
        if str(node.op) == "count_values":
            result |= {node.param.val}
        return result

    def binary(self, node: promql.BinaryExpr) -> Labels:
        """Returns the labels of the side with several series per match."""
        left, right = self.of(node.lhs), self.of(node.rhs)
        if _scalar(node.lhs) or _scalar(node.rhs):
            return left | right
        modifier = node.modifier
        matching = modifier.matching if modifier else None
        if matching:
            included = matching.type == promql.LabelModifierType.Include
            sides = [left, right] if included else [left | right]
            for side in sides:
                self.require(matching.labels, side, f"{node.op} {'on' if included else 'ignoring'}")
        if str(node.op) == "or":
            # The result may come from either side, so only the labels of both are certain.
            return left & right
        if str(node.op) in SET_OPERATORS:
            return left
        group = list(modifier.group_labels or []) if modifier else []
        if modifier and modifier.card == promql.VectorMatchCardinality.ManyToOne:
            self.require(group, right, f"{node.op} group_left")
            return left | frozenset(group)
        if modifier and modifier.card == promql.VectorMatchCardinality.OneToMany:
            self.require(group, left, f"{node.op} group_right")
            return right | frozenset(group)
        if matching is None:
            if left != right:
                raise Fault(f"{node.op} matches on all labels, but the sides have {_list(left)} and {_list(right)}")
            return left
        if matching.type == promql.LabelModifierType.Include:
            return frozenset(matching.labels)
        return left - frozenset(matching.labels)

    def call(self, node: promql.Call) -> Labels:
        """Returns the labels after a function: histogram_quantile removes `le`, the others keep all."""
        if node.func.name == "vector":
            raise Fault("vector() creates a series that no program exports")
        found = [self.of(argument) for argument in node.args]
        result = frozenset().union(*found) if found else NONE
        if node.func.name == "histogram_quantile":
            self.require(["le"], result, node.func.name)
            return result - {"le"}
        return result

    @staticmethod
    def require(wanted: list[str], there: Labels, by: str) -> None:
        """Raises `Fault` for labels that do not exist."""
        missing = [label for label in wanted if label not in there]
        if missing:
            raise Fault(f"{by} ({', '.join(missing)}): there is only {_list(there)}")


def selectors(node: promql.Expr) -> list[promql.VectorSelector]:
    """Returns every selector in an expression; a range counts as its selector."""
    found: list[promql.VectorSelector] = []

    def visit(inner: promql.Expr) -> None:
        if isinstance(inner, promql.MatrixSelector):
            found.append(inner.vector_selector)
        elif isinstance(inner, promql.VectorSelector) and inner not in found:
            found.append(inner)

    promql.walk(node, visit)
    return found


def _scalar(node: promql.Expr) -> bool:
    if isinstance(node, (promql.ParenExpr, promql.UnaryExpr)):
        return _scalar(node.expr)
    if isinstance(node, promql.BinaryExpr):
        return _scalar(node.lhs) and _scalar(node.rhs)
    return isinstance(node, promql.NumberLiteral) or (isinstance(node, promql.Call) and node.func.name == "time")


def _list(names) -> str:
    return ", ".join(sorted(names)) or "none"
