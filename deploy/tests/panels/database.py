"""A real Prometheus with the scripted history, and with what the project's rules make of it."""

from __future__ import annotations

import json
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import promql_parser as promql
import yaml

from ..observability import expressions
from ..observability.labels import selectors
from ..observability.processes import Process, free_ports, program
from ..paths import RULES
from ..waiting import until
from . import history
from .history import Labels, Samples

# Seconds between two evaluations of a rule.
RULE_STEP = 15
# Series of a pod that is gone end at once, by markers that a file cannot contain. Here they end after this time, which
# is longer than every step.
LOOKBACK = "16s"

Points = list[tuple[float, float]]


@dataclass(frozen=True)
class Series:
    """A series of an answer."""

    labels: Labels
    points: Points


class Database:
    """A Prometheus in a folder of its own, on a port of loopback. It has no rules and no targets."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self.data = self.folder / "data"
        self.port = free_ports(1)[0]
        self.process: Process | None = None
        self.files = 0
        self.data.mkdir()
        (self.folder / "prometheus.yml").write_text("{}\n", encoding="utf-8")

    def load(self, samples: Samples) -> None:
        """Adds samples. Prometheus must be started again to see them."""
        self.files += 1
        path = self.folder / f"{self.files}.txt"
        path.write_text(samples.text(), encoding="utf-8")
        # One block holds all, else promtool reads the file again for every two hours.
        command = [program("promtool", "prometheus"), "tsdb", "create-blocks-from", "openmetrics"]
        command += ["--max-block-duration=720h", str(path), str(self.data)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        path.unlink()

    def start(self) -> None:
        """Starts Prometheus, or starts it again."""
        self.close()
        command = [program("prometheus", "prometheus"), f"--config.file={self.folder}/prometheus.yml"]
        command += [f"--storage.tsdb.path={self.data}", "--storage.tsdb.retention.time=100y"]
        command += [f"--query.lookback-delta={LOOKBACK}", f"--web.listen-address=127.0.0.1:{self.port}"]
        self.process = Process("prometheus", command, self.folder)
        until("Prometheus has the history", self.ready, 60, "check_panels", 0.1, self.process.check)

    def close(self) -> None:
        """Stops Prometheus."""
        if self.process:
            self.process.stop()
            self.process = None

    def ready(self) -> bool:
        """True if it answers queries."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/-/ready", timeout=5) as answer:
                return answer.status == 200
        except OSError:
            return False

    def at(self, expr: str, time: float) -> list[Series]:
        """Returns an expression's value at one time."""
        result = self._ask("query", query=expr, time=time)
        return [Series(found["metric"], _points([found["value"]])) for found in result]

    def over(self, expr: str, start: float, end: float, step: float) -> list[Series]:
        """Returns an expression's values over a time range."""
        result = self._ask("query_range", query=expr, start=start, end=end, step=step)
        return [Series(found["metric"], _points(found["values"])) for found in result]

    def _ask(self, kind: str, **parameters: object) -> list[dict]:
        data = urllib.parse.urlencode(parameters).encode()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/v1/{kind}", data, timeout=60) as answer:
                return json.load(answer)["data"]["result"]
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{error.read().decode('utf-8', 'replace')}: {parameters}") from error


def fill(database: Database) -> None:
    """Loads the history, then what the rules record and which alerts fire."""
    for samples in history.every():
        database.load(samples)
    database.start()
    waiting = [rule for rule in expressions.rules() if rule.kind == "record"]
    while waiting:
        names = {rule.record for rule in waiting}
        ready = [rule for rule in waiting if not names - {rule.record} & asked(rule.text)]
        # Several rules may record one name.
        samples = Samples()
        for rule in ready:
            for series in evaluate(database, rule.text):
                add(samples, rule.record, {**series.labels, **rule.labels}, series.points)
        database.load(samples)
        database.start()
        waiting = [rule for rule in waiting if rule not in ready]
    samples = Samples()
    for path in sorted(RULES.glob("*.yml")):
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]:
            for rule in group["rules"]:
                if "alert" in rule:
                    add_alert(samples, rule, evaluate(database, rule["expr"]))
    database.load(samples)
    database.start()


def asked(expr: str) -> set[str]:
    """Returns the names of the series for which an expression asks."""
    return {str(selector.name) for selector in selectors(promql.parse(expr))}


def evaluate(database: Database, expr: str) -> list[Series]:
    """Returns the values of a rule's expression in every state."""
    found: dict[tuple, Points] = defaultdict(list)
    for state in history.STATES:
        for series in database.over(expr, *history.window(state), RULE_STEP):
            # An `or` returns series with and without a name.
            labels = sorted((key, text) for key, text in series.labels.items() if key != "__name__")
            found[tuple(labels)] += series.points
    return [Series(dict(labels), sorted(points)) for labels, points in found.items()]


def add(samples: Samples, name: str, labels: Labels, points: Points) -> None:
    """Adds the values of a rule."""
    values = dict(points)
    samples.add(name, labels, values, values.__getitem__)


def add_alert(samples: Samples, rule: dict, found: list[Series]) -> None:
    """Adds the times at which an alert fires: those at which it has been true for its time."""
    held = promql.parse_duration(rule["for"]).total_seconds() if "for" in rule else 0.0
    for series in found:
        labels = {**series.labels, **rule["labels"], "alertname": rule["alert"], "alertstate": "firing"}
        since, before, firing = 0.0, 0.0, []
        for time, _ in series.points:
            if time - before > RULE_STEP:
                since = time
            before = time
            if time - since >= held:
                firing.append((time, 1.0))
        add(samples, "ALERTS", labels, firing)


def _points(values: list[list]) -> Points:
    return [(float(time), float(text)) for time, text in values]
