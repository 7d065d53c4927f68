"""Checks the texts of alerts and panels.

Every alert needs a severity, a summary, a description, a runbook of one line, and a unit test with its name. Its
runbook_url must name its heading on the page of alerts, and its dashboard_url a dashboard. Every configuration key in
an alert or a panel must exist in its section. Needs no engine and no network.

    python3 -m deploy.tests.observability.check_texts
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from typing import Any

import yaml

from .. import command_line
from ..paths import DASHBOARDS, DEPLOY, REPOSITORY, RULES
from .expressions import panels

COMMON = REPOSITORY / "common/src"
SECTIONS = "run|env|curriculum|model|rollout|actor|learner|loss|optimizer|checkpoint|eval|telemetry"
KEY = re.compile(rf"\b({SECTIONS})\.([a-z_]+)\b")
REQUIRED = ("summary", "description", "runbook")
PAGE = "docs/reference/alerts.md"
SEVERITIES = ("critical", "warning", "info")


def keys() -> set[str]:
    """Returns every configuration key as `section.key`: the fields of `SectionConfig`."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in sorted(COMMON.rglob("*.rs")))
    block = re.compile(r"^pub struct (\w+)Config \{(.*?)^\}", re.DOTALL | re.MULTILINE)
    fields = {name.lower(): re.findall(r"^    pub (\w+):", body, re.MULTILINE) for name, body in block.findall(text)}
    return {f"{section}.{key}" for section in SECTIONS.split("|") for key in fields[section]}


def dashboards() -> set[str]:
    """Returns the paths of the dashboards at Grafana."""
    files = (json.loads(path.read_text(encoding="utf-8")) for path in DASHBOARDS.glob("*.json"))
    return {f"/d/{dashboard['uid']}" for dashboard in files}


def alerts() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields every alert, with its place."""
    for path in sorted(RULES.glob("*.yml")):
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]:
            for rule in group["rules"]:
                if "alert" in rule:
                    yield f"{path.name}: {rule['alert']}", rule


def faults_of_alert(rule: dict[str, Any]) -> Iterator[str]:
    """Yields the missing parts of one alert."""
    notes = rule.get("annotations", {})
    for name in REQUIRED:
        if not notes.get(name):
            yield f"no {name}"
        elif "\n" in notes[name].strip():
            yield f"its {name} is more than one line"
    # GitHub's anchor of a heading without spaces is the heading in lower case.
    heading = f"{PAGE}#{rule['alert'].lower()}"
    if not notes.get("runbook_url", "").endswith(f"/blob/main/{heading}"):
        yield f"its runbook_url does not end in {heading}"
    elif f"\n## {rule['alert']}\n" not in (REPOSITORY / PAGE).read_text(encoding="utf-8"):
        yield f"{PAGE} has no such heading: run `make generated`"
    if notes.get("dashboard_url") not in dashboards():
        yield f"its dashboard_url is not one of {', '.join(sorted(dashboards()))}"
    if rule.get("labels", {}).get("severity") not in SEVERITIES:
        yield f"its severity is not one of {', '.join(SEVERITIES)}"
    dashed = re.sub(r"(?<!^)(?=[A-Z])", "-", rule["alert"][len("Hrm") :]).lower()
    test = DEPLOY / f"prometheus/tests/{dashed}.yml"
    if not test.exists() or f"alertname: {rule['alert']}\n" not in test.read_text(encoding="utf-8"):
        yield f"no unit test tests/{test.name}"


def texts() -> Iterator[tuple[str, str]]:
    """Yields every text that people read, with its place."""
    for where, rule in alerts():
        yield where, " ".join(rule.get("annotations", {}).values())
    for path in sorted(DASHBOARDS.glob("*.json")):
        for panel in panels(json.loads(path.read_text(encoding="utf-8"))):
            yield f"{path.name}: {panel['title']}", panel.get("description", "")


def main() -> int:
    """Checks everything and prints the faults."""
    command_line.parser(__doc__).parse_args()
    faults = [f"{where}: {fault}" for where, rule in alerts() for fault in faults_of_alert(rule)]
    known, named = keys(), 0
    for where, text in texts():
        for section, key in KEY.findall(text):
            named += 1
            if f"{section}.{key}" not in known:
                faults.append(f"{where}: there is no configuration key {section}.{key}")
    summary = f"{sum(1 for _ in alerts())} alerts; {named} mentions of configuration keys"
    return command_line.report("check_texts", faults, summary)


if __name__ == "__main__":
    sys.exit(main())
