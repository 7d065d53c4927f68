"""PromQL of the dashboards, with the variables' choices.

Every expression depends on the variable `run`. A learner's series match their own `hrm_learner_run_info`. An actor does
not know its run, so it counts for the run of the learner in its namespace.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from grafana_foundation_sdk.builders import prometheus
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

# The chosen runs of the learners that are up. Joined with it, a learner's series have the labels run and maze.
RUN = 'hrm_learner_run_info{run=~"$run"}'
# The chosen runs, 1 if complete. It outlives a learner that is down or has exited; see recording.yml.
RECENT = 'namespace_run:hrm_learner_run_complete:recent{namespace=~"$namespace", run=~"$run"}'

# A function of PromQL, applied to a selector.
Function = Callable[[str], str]


@dataclass(frozen=True)
class Query:
    """An expression, with the name of its result."""

    legend: str
    expr: str


def rate(selector: str) -> str:
    """The rate per second of a counter, over the panel's resolution."""
    return f"rate({selector}[$__rate_interval])"


def increase(selector: str) -> str:
    """The increase of a counter, over the panel's resolution."""
    return f"increase({selector}[$__rate_interval])"


def lately(selector: str) -> str:
    """The increase of a counter in the last 10 minutes."""
    return f"increase({selector}[10m])"


def itself(selector: str) -> str:
    """The value of a gauge."""
    return selector


def learner(metric: str, *matchers: str, function: Function = itself) -> str:
    """A metric of the learners of the chosen runs, with the labels run and maze."""
    value = function(_selector(metric, 'instance=~"$learner"', *matchers))
    return f"({value} * on (namespace, job, instance) group_left (maze, run) {RUN})"


def actor(metric: str, *matchers: str, function: Function = itself) -> str:
    """A metric of the chosen actors of the chosen runs."""
    return of_namespace(function(_selector(metric, 'instance=~"$actor"', *matchers)))


def last_known(metric: str, *matchers: str) -> str:
    """A gauge of the learners in the namespaces of the chosen runs, or its last value within a day."""
    selector = _selector(metric, 'instance=~"$learner"', *matchers)
    return of_namespace(f"last_over_time({selector}[1d])")


def either(metric: str) -> str:
    """A metric of both programs."""
    return of_namespace(_selector(metric, 'job=~"hrm-learner|hrm-actor"', 'instance=~"$learner|$actor"'))


def recorded(rule: str, *matchers: str) -> str:
    """A recording rule over a namespace."""
    return of_namespace(_selector(rule, *matchers))


def gpu(metric: str) -> str:
    """A metric of NVIDIA's DCGM exporter, of the GPUs of the chosen learners.

    The exporter names the pod that uses a GPU. Prometheus renames its labels unless it honours them. Outside Kubernetes
    both sides have no pod, and all GPUs match.
    """
    value = metric
    for label in ("pod", "namespace"):
        value = f'label_replace({value}, "{label}", "$1", "exported_{label}", "(.+)")'
    return f"({value} and on (namespace, pod) {learner('hrm_learner_run_info')})"


def of_namespace(expr: str) -> str:
    """The part of an expression in the namespaces of the chosen runs."""
    return f"({expr} and on (namespace) {RECENT})"


def unfinished(expr: str) -> str:
    """The part of an expression that belongs to runs which are not complete."""
    # `unless` binds closer than an `or` in the expression.
    return f"(({expr}) unless on (namespace) {RECENT} == 1)"


def or_idle(expr: str) -> str:
    """An expression without labels. Where it returns nothing: -1 if every chosen run is complete, else 0."""
    return f"{expr} or on () 0 - min({RECENT})"


def or_named(expr: str, **labels: str) -> str:
    """An expression, or a 0 with these labels where it returns nothing."""
    instead = f"0 * min({RECENT})"
    for label, value in labels.items():
        instead = f'label_replace({instead}, "{label}", "{value}", "", "")'
    return f"{expr} or on () {instead}"


def spread(expr: str) -> list[Query]:
    """The distribution of an expression over actors, of which there may be hundreds."""
    quantiles = [("10% are below", 0.1), ("half are below", 0.5), ("90% are below", 0.9)]
    middle = [Query(legend, f"quantile({share}, {expr})") for legend, share in quantiles]
    return [Query("lowest", f"min({expr})"), *middle, Query("highest", f"max({expr})")]


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
