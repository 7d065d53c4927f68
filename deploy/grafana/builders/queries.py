"""PromQL of the dashboards, with the variables' choices and the names of runs."""

from __future__ import annotations

from dataclasses import dataclass

from grafana_foundation_sdk.builders import prometheus
from grafana_foundation_sdk.models.prometheus import PromQueryFormat


@dataclass(frozen=True)
class Query:
    """An expression, with the name of its result."""

    legend: str
    expr: str


def learner(metric: str, *matchers: str) -> str:
    """A metric of the chosen learners."""
    return _selector(metric, 'instance=~"$learner"', *matchers)


def actor(metric: str, *matchers: str) -> str:
    """A metric of the chosen actors."""
    return _selector(metric, 'instance=~"$actor"', *matchers)


def recorded(rule: str, *matchers: str) -> str:
    """A recording rule over a namespace."""
    return _selector(rule, *matchers)


def process(job: str, metric: str) -> str:
    """A `process_*` metric of the chosen processes of one job, or of both programs."""
    address = {"hrm-learner": "$learner", "hrm-actor": "$actor"}.get(job, "$learner|$actor")
    return _selector(metric, f'job=~"{job}"', f'instance=~"{address}"')


def unfinished(expr: str) -> str:
    """The part of an expression that belongs to runs which are not complete."""
    # `unless` binds closer than an `or` in the expression.
    return f"(({expr}) unless on (namespace) {learner('hrm_learner_run_complete')} == 1)"


def or_named(expr: str, **labels: str) -> str:
    """An expression, or a 0 with these labels per start of a run where the expression returns nothing."""
    instead = f"0 * max({learner('hrm_learner_starts')})"
    for label, value in labels.items():
        instead = f'label_replace({instead}, "{label}", "{value}", "", "")'
    return f"{expr} or on () {instead}"


def of_run(expr: str) -> str:
    """A learner's expression, labelled with its run and maze."""
    joined = f"{expr} * on (namespace, job, instance) group_left (maze, run)"
    return f'{joined} hrm_learner_run_info{{run=~"$run"}}'


def rate(selector: str) -> str:
    """The rate per second of a counter, over the panel's resolution."""
    return f"rate({selector}[$__rate_interval])"


def range_query(
    query: Query, ref_id: str, format: PromQueryFormat = PromQueryFormat.TIME_SERIES
) -> prometheus.Dataquery:
    """A query over the time range of the panel."""
    return _query(query, ref_id, format).range()


def instant_query(
    query: Query, ref_id: str, format: PromQueryFormat = PromQueryFormat.TIME_SERIES
) -> prometheus.Dataquery:
    """A query at the end of the panel's time range."""
    return _query(query, ref_id, format).instant()


def _query(query: Query, ref_id: str, format: PromQueryFormat) -> prometheus.Dataquery:
    return prometheus.Dataquery().ref_id(ref_id).expr(query.expr).legend_format(query.legend).format(format)


def _selector(metric: str, *matchers: str) -> str:
    chosen = ", ".join(('namespace=~"$namespace"', *matchers))
    return f"{metric}{{{chosen}}}"
