"""Writes docs/reference/alerts.md: a heading for each alert of rules/alerts.yml, which its runbook_url names.

The result is committed. Change rules/alerts.yml, run this, and commit both.

    python3 -m deploy.prometheus.alerts_page            # write
    python3 -m deploy.prometheus.alerts_page --check    # exit status 1 where the file differs from what would be written
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import yaml

from .. import generated

FOLDER = Path(__file__).resolve().parent
SOURCE = FOLDER / "rules/alerts.yml"
TARGET = FOLDER.parents[1] / "docs/reference/alerts.md"
HEAD = """\
# Alerts

Made by `make generated` from `deploy/prometheus/rules/alerts.yml`, where comments explain each condition.
[Monitoring](../monitoring.md) says how to scrape the programs.

| severity | meaning |
|-|-|
| critical | training has stopped, or its results are lost |
| warning | training continues, but below its potential |
| info | training is healthy or complete, but uses more than it needs |

`dashboard_url` of an alert is relative to Grafana's address.
"""


def section(rule: dict[str, Any]) -> str:
    """Returns the text about one alert."""
    notes = rule["annotations"]
    # The templates of Prometheus, as a reader would name their values.
    description = re.sub(r"\{\{ \$labels\.(\w+) \}\}", r"*\1*", notes["description"])
    description = re.sub(r"\{\{.*?\$value.*?\}\}", "*value*", description)
    lasting = f" for {rule['for']}" if "for" in rule else ""
    return f"""
## {rule["alert"]}

{notes["summary"]}. Severity: {rule["labels"]["severity"]}. Dashboard: `{notes["dashboard_url"]}`.

{description}

What to do: {notes["runbook"]}

It fires when this returns something{lasting}:

```promql
{rule["expr"]}
```
"""


def render() -> str:
    """Returns the text of the file."""
    groups = yaml.safe_load(SOURCE.read_text(encoding="utf-8"))["groups"]
    return HEAD + "".join(section(rule) for group in groups for rule in group["rules"])


def main() -> int:
    """Writes or checks the file."""
    return generated.main("alerts_page", __doc__, {TARGET: render()})


if __name__ == "__main__":
    sys.exit(main())
