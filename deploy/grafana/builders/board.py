"""The parts that the three dashboards share: variables, links, events, time."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    DataSourceRef,
    VariableOption,
    VariableRefresh,
    VariableSort,
)

from .annotations import events

TAG = "hrm-impala"
# Where docker-compose.yml publishes the learner's live page.
LIVE_PAGE = "http://127.0.0.1:8080/"
DATASOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
ALL = VariableOption(selected=True, text=["All"], value=["$__all"])


def board(uid: str, title: str, description: str) -> dashboard.Dashboard:
    """An empty dashboard with its variables."""
    made = (
        dashboard.Dashboard(f"HRM: {title}")
        .uid(f"hrm-{uid}")
        .description(description)
        .tags([TAG])
        .readonly()
        .timezone("browser")
        .time("now-30m", "now")
        .refresh("10s")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .link(
            dashboard.DashboardLink("HRM dashboards")
            .type(DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .as_dropdown(False)
            .include_vars(True)
            .keep_time(True)
        )
        .link(
            dashboard.DashboardLink("Live page")
            .type(DashboardLinkType.LINK)
            .url(LIVE_PAGE)
            .tooltip("Watch the agent while it trains (learner.web_listen)")
            .icon("external link")
            .target_blank(True)
        )
        .with_variable(
            dashboard.DatasourceVariable("datasource")
            .label("Prometheus")
            .description("The data source with the metrics")
            .type("prometheus")
            .current(VariableOption(selected=True, text="Prometheus", value="prometheus"))
        )
        # A compose project has no namespaces; "All" also matches a missing label.
        .with_variable(
            chosen("namespace", "Namespace", "Kubernetes namespace, with one learner each", "hrm_learner_run_info")
        )
        .with_variable(chosen("run", "Run", "run.name of the learner", 'hrm_learner_run_info{namespace=~"$namespace"}'))
        .with_variable(
            chosen(
                "learner",
                "Learner",
                "Pod or address of the learner",
                'hrm_learner_run_info{namespace=~"$namespace", run=~"$run"}',
                label="instance",
            )
        )
        .with_variable(
            chosen(
                "actor",
                "Actor",
                "Pod or address of the actor",
                'hrm_actor_connected{namespace=~"$namespace"}',
                label="instance",
            )
        )
    )
    for event in events():
        made.annotation(event)
    return made


def chosen(name: str, title: str, description: str, selector: str, label: str = "") -> dashboard.QueryVariable:
    """A variable with the values of a label; it allows several and starts with all."""
    return (
        dashboard.QueryVariable(name)
        .label(title)
        .description(description)
        .datasource(DATASOURCE)
        .query({"query": f"label_values({selector}, {label or name})", "refId": name})
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.NATURAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(ALL)
    )
