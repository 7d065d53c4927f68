"""Events drawn over every curve."""

from __future__ import annotations

from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import dashboard

from .queries import learner

# The shortest step of an event's query. Grafana lengthens it with the time range, to an hour and more for a week.
STEP = "10s"


class Event(Builder[dashboard.AnnotationQuery], dashboard.AnnotationQuery):
    """An annotation from Prometheus; the SDK's builders know only the annotations that Grafana itself stores."""

    def __init__(self, name: str, colour: str, expr: str, text: str, value_is_time: bool = False) -> None:
        super().__init__(
            name=name,
            datasource=dashboard.DataSourceRef(type_val="prometheus", uid="${datasource}"),
            icon_color=colour,
            expr=expr,
        )
        self.text = text
        self.value_is_time = value_is_time

    def build(self) -> dashboard.AnnotationQuery:
        """Returns itself, which is complete."""
        return self

    def to_json(self) -> dict[str, object]:
        """The annotation with the fields of Grafana's Prometheus data source."""
        own: dict[str, object] = {"step": STEP, "titleFormat": self.name, "textFormat": self.text}
        if self.value_is_time:
            own["useValueForTime"] = True
        return {**super().to_json(), **own}


def changed(metric: str, label: str) -> str:
    """The steps of the query in which a gauge changed, with its new value as a label."""
    now, before = learner(metric), learner(metric, function=a_step_ago)
    return f'count_values by (namespace, run) ("{label}", {now} unless {now} == {before})'


def a_step_ago(selector: str) -> str:
    """The value at the step before, so that no step misses a change, however long steps are.

    The hour before that bridges a restart, which does not evaluate again.
    """
    return f"last_over_time({selector}[1h] offset $__interval)"


def events() -> list[Event]:
    """Evaluations, starts and checkpoints."""
    return [
        Event(
            "Evaluation",
            "blue",
            changed("hrm_learner_eval_frames", "frames"),
            "{{run}}: weights of frame {{frames}} evaluated on held-out episodes",
        ),
        Event(
            "Learner started",
            "orange",
            changed("hrm_learner_starts", "start"),
            "{{run}}: start {{start}} of the run",
        ),
        Event(
            "Checkpoint",
            "green",
            f"{learner('hrm_learner_checkpoint_timestamp_seconds')} * 1000",
            "{{run}}: checkpoint complete",
            value_is_time=True,
        ),
    ]
