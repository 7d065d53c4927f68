"""Reads a small run back through TensorBoard and MLflow.

The run is killed after a checkpoint, and resumed. Each number of its records must then be in the event file and in
MLflow once, at its frames, with its value. TensorBoard must list its hyperparameters and final figures, and MLflow its
parameters and files. Logging the run to MLflow again must change nothing. Damaged files must be named.

    python3 -m deploy.tests.trackers.check_trackers --bin-dir target/debug
"""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlflow.entities import ViewType
from mlflow.tracking import MlflowClient
from tensorboard import program
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from .. import command_line
from ..paths import REPOSITORY
from ..waiting import Failure
from .small_run import CONFIG, TEST, SmallRun

TO_MLFLOW = REPOSITORY / "scripts/to_mlflow.py"
# A parameter and hyperparameter of the run that is not the default.
HYPERPARAMETER, VALUE = "env.max_steps", 5
# What MLflow must hold of a complete run, with its checkpoint.
FILES = {"config.toml", "summary.json", "learning-curve.svg", "episodes.csv", "replay.html", "checkpoints"}
# Content that no run writes, by file, and part of the reason that the script must give.
DAMAGE = (
    ("run.json", "{", "run.json: "),
    ("run.json", "{}", "run.json: it has no 'run_id'"),
    ("run.json", "[]", "run.json: "),
    ("config.toml", "[run", "config.toml: "),
    ("config.toml", "[run]", "config.toml: it has no 'name'"),
    ("metrics.jsonl", "{\n{}\n", "metrics.jsonl, line 1: "),
    ("metrics.jsonl", '{"kind": "train"}\n', "metrics.jsonl, line 1: it has no 'frames'"),
    ("summary.json", "{", "summary.json: "),
    ("summary.json", '{"evaluations": []}', "summary.json: it has no 'complete'"),
    ("summary.json", "[1]", "summary.json: "),
)


def event_file(run: SmallRun) -> EventAccumulator:
    """The only event file of the run, read with every event kept."""
    (path,) = run.folder.glob("*tfevents*")
    keep_all = {"scalars": 0, "tensors": 0}
    return EventAccumulator(str(path), size_guidance=keep_all, purge_orphaned_data=False).Reload()


def single(number: float) -> float:
    """The number with the 32 bits that TensorBoard keeps."""
    rounded: float = struct.unpack("f", struct.pack("f", number))[0]
    return rounded


def faults_of_scalars(run: SmallRun) -> Iterator[str]:
    """Yields differences between the event file and the run's own files."""
    events, expected = event_file(run), run.expected()
    # The first record counts where two are at the same frames.
    times = {(record["kind"], record["frames"]): record["time"] for record in reversed(run.records())}
    tags = events.Tags()["scalars"]
    if set(tags) != set(expected):
        yield f"tags differ: {sorted(set(tags) ^ set(expected))}"
    for tag in tags:
        scalars = events.Scalars(tag)
        steps = [scalar.step for scalar in scalars]
        if steps != sorted(set(steps)):
            yield f"{tag}: the steps {steps} do not increase"
        wanted = {(frames, single(number)) for frames, number in expected.get(tag, {}).items()}
        if different := {(scalar.step, scalar.value) for scalar in scalars} ^ wanted:
            yield f"{tag}: differs at {sorted(different)}"
        for scalar in scalars:
            if scalar.wall_time != times.get((tag.partition("/")[0], scalar.step), scalar.wall_time):
                yield f"{tag}: another time at {scalar.step}"
    text = events.Tensors("configuration")[0].tensor_proto.string_val[0].decode()
    if (run.folder / "config.toml").read_text(encoding="utf-8") not in text:
        yield "the text is not config.toml"


def faults_of_server(run: SmallRun) -> Iterator[str]:
    """Yields what TensorBoard's server does not show."""
    server = program.TensorBoard()
    server.configure(argv=["tensorboard", "--logdir", str(run.folder.parent), "--port", "0", "--load_fast", "false"])
    url = server.launch()

    def answer(path: str, body: dict[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{url}data/plugin/{path}", data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as response:
            return json.load(response)

    scalars = answer("scalars/tags")
    if "train/entropy" not in scalars.get(run.folder.name, {}):
        yield f"the runs are {list(scalars)}"
    table = answer("hparams/experiment", {"experimentName": ""})
    names = [info["name"]["tag"] for info in table["metricInfos"]]
    columns = [{"metric": {"tag": name}, "includeInResult": True} for name in names]
    columns += [{"hparam": info["name"], "includeInResult": True} for info in table["hparamInfos"]]
    wanted = {"experimentName": "", "allowedStatuses": ["STATUS_SUCCESS"], "colParams": columns, "sliceSize": 9}
    groups = answer("hparams/session_groups", wanted)["sessionGroups"]
    if len(groups) != 1 or groups[0]["hparams"].get(HYPERPARAMETER) != VALUE:
        yield f"the table of runs is {groups}"
        return
    shown = {metric["name"]["tag"]: metric["value"] for metric in groups[0]["metricValues"]}
    for evaluation in run.summary()["evaluations"]:
        tag = f"final/{evaluation['policy']}/success"
        if tag in names and shown.get(tag) != single(evaluation["success"]):
            yield f"{tag} is {shown.get(tag)}"


def script(run: Path, uri: str) -> subprocess.CompletedProcess[str]:
    """Runs the script on a run."""
    command = [sys.executable, str(TO_MLFLOW), str(run), "--tracking-uri", uri, "--experiment", "check", "--checkpoint"]
    environment = os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true"}
    return subprocess.run(command, cwd=run.parent, env=environment, capture_output=True, text=True, check=False)


def to_mlflow(run: Path, uri: str) -> str:
    """Logs a run to MLflow with the script, and returns its standard error."""
    logged = script(run, uri)
    if logged.returncode != 0:
        raise Failure(f"to_mlflow.py: {logged.stderr}")
    return logged.stderr


def copies(uri: str) -> list[Any]:
    """The runs in MLflow."""
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("check")
    return list(client.search_runs([experiment.experiment_id], run_view_type=ViewType.ACTIVE_ONLY))


def faults_of_copy(run: SmallRun, uri: str) -> Iterator[str]:
    """Yields differences between MLflow and the run's own files."""
    client, found, expected = MlflowClient(uri), copies(uri), run.expected()
    if len(found) != 1 or found[0].info.status != "FINISHED":
        yield f"the runs are {[(copy.info.run_id, copy.info.status) for copy in found]}"
        return
    (copy,) = found
    if set(copy.data.metrics) != set(expected):
        yield f"the metrics differ: {sorted(set(copy.data.metrics) ^ set(expected))}"
    for key in copy.data.metrics:
        history = [(metric.step, metric.value) for metric in client.get_metric_history(copy.info.run_id, key)]
        if sorted(history) != sorted(expected.get(key, {}).items()):
            yield f"{key}: differs at {sorted(set(history) ^ set(expected.get(key, {}).items()))}"
    if copy.data.params.get(HYPERPARAMETER) != str(VALUE):
        yield f"{HYPERPARAMETER} is {copy.data.params.get(HYPERPARAMETER)}"
    if copy.data.tags["mlflow.runName"] != "tracked":
        yield f"the name is {copy.data.tags['mlflow.runName']}"
    files = {file.path for file in client.list_artifacts(copy.info.run_id)}
    if different := FILES ^ files:
        yield f"the files differ: {sorted(different)}"


def faults_without_mlflow(run: SmallRun) -> Iterator[str]:
    """Yields a fault unless the script says how to install what it lacks."""
    # Without the packages of the environment.
    command = [sys.executable, "-S", str(TO_MLFLOW), str(run.folder)]
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    if refused.returncode != 1 or "pip install mlflow" not in refused.stderr:
        yield f"without mlflow: {refused.returncode}, {refused.stderr}"


def faults_of_damage(run: SmallRun, uri: str) -> Iterator[str]:
    """Yields damage that the script does not name, or that changes what MLflow has."""
    before = copies(uri)[0].info.run_id
    for name, content, reason in DAMAGE:
        with tempfile.TemporaryDirectory(prefix="hrm-damaged-") as folder:
            damaged = Path(shutil.copytree(run.folder, Path(folder) / "damaged"))
            (damaged / name).write_text(content, encoding="utf-8")
            refused = script(damaged, uri)
        said = refused.stderr
        if refused.returncode != 1 or reason not in said or "Traceback" in said:
            yield f"with {content!r} in {name}: {refused.returncode}, {said}"
    if [copy.info.run_id for copy in copies(uri)] != [before]:
        yield "damaged files have changed the copy"


def faults(run: SmallRun, uri: str) -> Iterator[str]:
    """Plays the run, and yields every fault."""
    run.kill_after_a_checkpoint()
    to_mlflow(run.folder, uri)
    (before,) = copies(uri)
    MlflowClient(uri).set_tag(before.info.run_id, "note", "kept")
    run.complete()
    if not run.lost:
        yield "the resumed run lost no record, so nothing was tested"
    yield from faults_of_scalars(run)
    yield from faults_of_server(run)
    if "replacing" not in to_mlflow(run.folder, uri):
        yield "the copy with outdated records was not replaced"
    yield from faults_of_copy(run, uri)
    (replaced,) = copies(uri)
    if replaced.data.tags.get("note") != "kept":
        yield "a tag is lost"
    if said := [line for line in to_mlflow(run.folder, uri).splitlines() if "replacing" in line]:
        yield f"the second time it says {said}"
    yield from faults_of_copy(run, uri)
    if copies(uri)[0].info.run_id != replaced.info.run_id:
        yield "the second time it is another run"
    yield from faults_of_damage(run, uri)
    yield from faults_without_mlflow(run)


def main() -> int:
    """Runs the check in a folder of its own."""
    parser = command_line.parser(__doc__)
    command_line.add_bin_dir(parser)
    learner = (parser.parse_args().bin_dir / "hrm-learner").resolve()
    if not learner.is_file():
        raise SystemExit(f"check_trackers: no {learner}: run `cargo build --workspace --bins`")
    with tempfile.TemporaryDirectory(prefix="hrm-trackers-") as folder:
        run = SmallRun(learner, REPOSITORY / CONFIG, Path(folder))
        try:
            found = list(faults(run, f"sqlite:///{folder}/mlflow.db"))
        except Failure as failure:
            found = [str(failure)]
    return command_line.report(TEST, found, "TensorBoard and MLflow have what the run has")


if __name__ == "__main__":
    sys.exit(main())
