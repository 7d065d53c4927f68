"""Questions to Prometheus and Alertmanager."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from typing import Any


class Prometheus:
    """A Prometheus server."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def ready(self) -> bool:
        """True if it answers queries."""
        return _answers(f"{self.url}/-/ready")

    def now(self, expr: str) -> list[dict[str, Any]]:
        """Returns the series of an expression now."""
        return _get(f"{self.url}/api/v1/query", query=expr)["data"]["result"]

    def ever(self, expr: str, start: float, end: float) -> list[dict[str, Any]]:
        """Returns the series of an expression at any second from `start` to `end`."""
        return _get(f"{self.url}/api/v1/query_range", query=expr, start=start, end=end, step=1)["data"]["result"]

    def unhealthy_rules(self) -> list[str]:
        """Returns the rules whose last evaluation failed, with the error."""
        groups = _get(f"{self.url}/api/v1/rules")["data"]["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        return [f"{rule['name']}: {rule.get('lastError', '')}" for rule in rules if rule["health"] == "err"]


class Alertmanager:
    """An Alertmanager."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def ready(self) -> bool:
        """True if it accepts alerts."""
        return _answers(f"{self.url}/-/ready")

    def alerts(self, name: str) -> list[dict[str, Any]]:
        """Returns the alerts of one name that have arrived and fire."""
        return _get(f"{self.url}/api/v2/alerts", active="true", filter=f'alertname="{name}"')

    def has(self, name: str, instances: set[str]) -> bool:
        """True if the alert fires for exactly these instances."""
        return {alert["labels"].get("instance", "") for alert in self.alerts(name)} == instances


def _get(url: str, **parameters: Any) -> Any:
    query = urllib.parse.urlencode(parameters)
    try:
        with urllib.request.urlopen(f"{url}?{query}", timeout=10) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        reason = error.read().decode("utf-8", "replace")
        raise RuntimeError(f"{url}: {error.code}: {reason}: {parameters}") from error


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False
