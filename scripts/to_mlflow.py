#!/usr/bin/env python3
"""Logs a run through MLflow's client: the configuration as parameters, metrics.jsonl, and files as artifacts.

    pip install mlflow
    python3 scripts/to_mlflow.py runs/four-rooms --tracking-uri sqlite:///mlflow.db

It can run again, also while the run trains. It then adds what is new to the same run in MLflow, which it finds by the
tag `hrm.run_id`. MLflow can neither change a parameter nor remove a metric. A run that was resumed with another
configuration, or from a checkpoint before its last record, therefore replaces its earlier copy. The earlier copy goes
to MLflow's trash, and its tags to the new one. Needs Python 3.11. Exit status: 0, or 1 with the reason on stderr.
"""

from __future__ import annotations

import argparse
import json
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

try:
    from mlflow.entities import Metric, Param, Run
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient
except ImportError as error:
    sys.exit(f"to_mlflow: {error}: install it with `pip install mlflow`; --help is in this file's first lines")

# The tag with the identity of our run.
RUN_ID = "hrm.run_id"
ARTIFACTS = ("config.toml", "summary.json", "learning-curve.svg", "episodes.csv", "replay.html")
# The step and the time themselves, and what is the same in every record.
LEFT_OUT = ("frames", "time", "seed")
# The most parameters and metrics that MLflow takes in one call.
PARAMS, METRICS = 100, 1000


class Failed(Exception):
    """A run that cannot be logged, with the reason."""


@dataclass(frozen=True)
class LoggedRun:
    """A run as its folder has it."""

    run_id: str
    name: str
    params: dict[str, str]
    metrics: list[Metric]
    status: str
    artifacts: list[Path]


def main() -> int:
    """Logs the run that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN", help="the run's folder, such as runs/four-rooms")
    parser.add_argument("--tracking-uri", metavar="URI", help="sqlite:///FILE or a server (default: MLflow's own)")
    parser.add_argument("--experiment", metavar="NAME", default="hrm-impala", help="default: %(default)s")
    parser.add_argument("--checkpoint", action="store_true", help="log the newest checkpoint too")
    arguments = parser.parse_args()
    try:
        run = read(arguments.run)
        client = MlflowClient(arguments.tracking_uri)
        mlflow_id = log(client, experiment(client, arguments.experiment), run)
        if arguments.checkpoint:
            client.log_artifact(mlflow_id, str(newest_checkpoint(arguments.run)), "checkpoints")
    except (Failed, MlflowException, OSError) as reason:
        print(f"to_mlflow: {reason}", file=sys.stderr)
        return 1
    print(f"{arguments.run} is run {mlflow_id} in MLflow: {len(run.params)} parameters, {len(run.metrics)} metrics")
    return 0


@contextmanager
def named(place: str | Path) -> Iterator[None]:
    """Turns an error about the content of a file, or of a line in it, into a failure with its name."""
    try:
        yield
    except OSError as error:
        raise Failed(f"{error}; give a run's folder, such as runs/four-rooms") from None
    except KeyError as error:
        raise Failed(f"{place}: it has no {error}; it is damaged, or of another release") from None
    except (AttributeError, TypeError, ValueError) as error:
        raise Failed(f"{place}: {error}; it is damaged, or of another release") from None


def read(folder: Path) -> LoggedRun:
    """Reads a run's folder, also while the run trains."""
    identity, configuration, log, end = (
        folder / name for name in ("run.json", "config.toml", "metrics.jsonl", "summary.json")
    )
    with named(identity):
        run_id = json.loads(identity.read_text(encoding="utf-8"))["run_id"]
    with named(configuration):
        config = tomllib.loads(configuration.read_text(encoding="utf-8"))
        name = config["run"]["name"]
    with named(log):
        found = list(records(log))
        curve = list(metrics(found))
    with named(end):
        result = summary(end)
        curve += final_metrics(result, found)
        reached = status(result)
    return LoggedRun(
        run_id=run_id,
        name=name,
        params={key: json.dumps(value).strip('"') for key, value in leaves(config, ".")},
        metrics=curve,
        status=reached,
        artifacts=[folder / file for file in ARTIFACTS if (folder / file).is_file()],
    )


def records(log: Path) -> Iterator[dict[str, Any]]:
    """Yields the records of a run so far."""
    lines = log.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, start=1):
        with named(f"{log}, line {number}"):
            try:
                record: dict[str, Any] = json.loads(line)
            except ValueError:
                # The last line may be incomplete while the run trains.
                if number == len(lines):
                    return
                raise
            # What every record needs.
            _ = record["kind"], record["frames"], milliseconds(record)
        yield record


def leaves(tree: dict[str, Any], separator: str) -> Iterator[tuple[str, Any]]:
    """Yields the values in a tree of tables, each under the names on its way."""
    for name, value in tree.items():
        if isinstance(value, dict):
            for key, leaf in leaves(value, separator):
                yield f"{name}{separator}{key}", leaf
        else:
            yield name, value


def numbers(prefix: str, record: dict[str, Any], step: int, milliseconds: int) -> Iterator[Metric]:
    """Yields the numbers of a record as metrics, with the names that they have in TensorBoard."""
    for key, value in leaves(record, "/"):
        values = {f"{key}/{i}": item for i, item in enumerate(value)} if isinstance(value, list) else {key: value}
        for name, number in values.items():
            if isinstance(number, (int, float)) and not isinstance(number, bool) and name not in LEFT_OUT:
                yield Metric(f"{prefix}/{name}", float(number), milliseconds, step)


def milliseconds(record: dict[str, Any]) -> int:
    """The time of a record. Records of old logs have none: they are dated by the training time, from 1970 on."""
    return round(1000 * record.get("time", record["seconds"]))


def metrics(records: list[dict[str, Any]]) -> Iterator[Metric]:
    """Yields the metrics of all records. Of two evaluations at the same frames, the first counts, as in TensorBoard."""
    first = {(record["kind"], record["frames"]): record for record in reversed(records)}
    for (kind, frames), record in reversed(first.items()):
        yield from numbers(kind, record, frames, milliseconds(record))


def summary(file: Path) -> dict[str, Any]:
    """The result of the run; empty while it trains."""
    try:
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return found


def final_metrics(result: dict[str, Any], records: list[dict[str, Any]]) -> Iterator[Metric]:
    """Yields the final evaluations of a complete run."""
    at = max(map(milliseconds, records), default=0)
    for evaluation in result.get("evaluations", []):
        yield from numbers(f"final/{evaluation['policy']}", evaluation, result["frames"], at)


def status(result: dict[str, Any]) -> str:
    """The run's status in MLflow."""
    if not result:
        return "RUNNING"
    return "FINISHED" if result["complete"] else "KILLED"


def newest_checkpoint(folder: Path) -> Path:
    """The newest checkpoint of a run."""
    checkpoints = sorted((folder / "checkpoints").glob("[0-9]*.safetensors"))
    if not checkpoints:
        raise Failed(f"{folder}/checkpoints holds no checkpoint yet")
    return checkpoints[-1]


def experiment(client: MlflowClient, name: str) -> str:
    """The identifier of an experiment, which is created if it is missing."""
    found = client.get_experiment_by_name(name)
    return found.experiment_id if found else client.create_experiment(name)


class Copy:
    """A run in MLflow."""

    def __init__(self, client: MlflowClient, run: Run) -> None:
        self.client = client
        self.id: str = run.info.run_id
        self.tags: dict[str, str] = run.data.tags
        self.params: dict[str, str] = run.data.params
        histories = (client.get_metric_history(self.id, key) for key in run.data.metrics)
        self.values = {(metric.key, metric.step): metric.value for history in histories for metric in history}

    def outdated(self, run: LoggedRun) -> str | None:
        """The first parameter or metric that our run no longer has."""
        for key, value in self.params.items():
            if run.params.get(key) != value:
                return f"parameter {key} = {value}"
        ours = {(metric.key, metric.step): metric.value for metric in run.metrics}
        for (key, step), value in self.values.items():
            if ours.get((key, step)) != value:
                return f"metric {key} = {value} at {step} frames"
        return None

    def add(self, run: LoggedRun) -> None:
        """Adds what MLflow lacks."""
        params = [Param(key, value) for key, value in run.params.items() if key not in self.params]
        metrics = [metric for metric in run.metrics if (metric.key, metric.step) not in self.values]
        for start in range(0, len(params), PARAMS):
            self.client.log_batch(self.id, params=params[start : start + PARAMS])
        for start in range(0, len(metrics), METRICS):
            self.client.log_batch(self.id, metrics=metrics[start : start + METRICS])
        for path in run.artifacts:
            self.client.log_artifact(self.id, str(path))
        if run.status == "RUNNING":
            self.client.update_run(self.id, status=run.status)
        else:
            self.client.set_terminated(self.id, run.status, max((m.timestamp for m in run.metrics), default=None))


def log(client: MlflowClient, experiment_id: str, run: LoggedRun) -> str:
    """Brings MLflow up to date with a run, and returns the run's identifier there."""
    tags = {RUN_ID: run.run_id}
    found = client.search_runs([experiment_id], f"tags.`{RUN_ID}` = '{run.run_id}'")
    copy = Copy(client, found[0]) if found else None
    if copy and (outdated := copy.outdated(run)):
        print(f"replacing run {copy.id}: our run no longer has its {outdated}", file=sys.stderr)
        tags = copy.tags | tags
        client.delete_run(copy.id)
        copy = None
    if copy is None:
        start = min((metric.timestamp for metric in run.metrics), default=None)
        copy = Copy(client, client.create_run(experiment_id, start, tags, run.name))
    copy.add(run)
    return copy.id


if __name__ == "__main__":
    sys.exit(main())
