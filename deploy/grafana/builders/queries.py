"""PromQL as the dashboards ask it: what the variables choose, and how a run is named."""

from __future__ import annotations

from dataclasses import dataclass

from grafana_foundation_sdk.builders import prometheus
from grafana_foundation_sdk.models.prometheus import PromQueryFormat


@dataclass(frozen=True)
class Query:
    """An expression, and how what it returns is called."""

    legend: str
    expr: str


def learner(metric: str, *matchers: str) -> str:
    """A learner's metric, of the learners that are chosen."""
    return _selector(metric, 'instance=~"$learner"', *matchers)


def actor(metric: str, *matchers: str) -> str:
    """An actor's metric, of the actors that are chosen."""
    return _selector(metric, 'instance=~"$actor"', *matchers)


def recorded(rule: str, *matchers: str) -> str:
    """A recording rule over a namespace."""
    return _selector(rule, *matchers)


def process(job: str, metric: str) -> str:
    """What every process says of itself, of those of one job that are chosen; of either program without a job."""
    address = {"hrm-learner": "$learner", "hrm-actor": "$actor"}.get(job, "$learner|$actor")
    return _selector(metric, f'job=~"{job}"', f'instance=~"{address}"')


def unfinished(expr: str) -> str:
    """Of something of learners or actors, what belongs to a run that is not complete yet."""
    # `unless` binds closer than the `or` that may stand in it.
    return f"(({expr}) unless on (namespace) {learner('hrm_learner_run_complete')} == 1)"


def or_named(expr: str, **labels: str) -> str:
    """What an expression returns or, where that is nothing, a 0 with these labels for every start there is of a run."""
    instead = f"0 * max({learner('hrm_learner_starts')})"
    for label, value in labels.items():
        instead = f'label_replace({instead}, "{label}", "{value}", "", "")'
    return f"{expr} or on () {instead}"


def of_run(expr: str) -> str:
    """Something of a learner, labelled with the run and the maze that it trains."""
    return f'{expr} * on (job, instance) group_left (maze, run) hrm_learner_run_info{{run=~"$run"}}'


def rate(selector: str) -> str:
    """The rate a second of a counter, over what the panel can resolve."""
    return f"rate({selector}[$__rate_interval])"


def range_query(
    query: Query, ref_id: str, format: PromQueryFormat = PromQueryFormat.TIME_SERIES
) -> prometheus.Dataquery:
    """A query over the time that is shown."""
    return _query(query, ref_id, format).range()


def instant_query(
    query: Query, ref_id: str, format: PromQueryFormat = PromQueryFormat.TIME_SERIES
) -> prometheus.Dataquery:
    """A query at the end of the time that is shown."""
    return _query(query, ref_id, format).instant()


def _query(query: Query, ref_id: str, format: PromQueryFormat) -> prometheus.Dataquery:
    return prometheus.Dataquery().ref_id(ref_id).expr(query.expr).legend_format(query.legend).format(format)


def _selector(metric: str, *matchers: str) -> str:
    chosen = ", ".join(('namespace=~"$namespace"', *matchers))
    return f"{metric}{{{chosen}}}"
