"""Commands of kubectl and Helm in the documents, run without a cluster.

kubectl creates what a command creates, and patches the object of an overlay, on this machine alone; the results must
have their schemas. Objects that a command names must be those of an overlay. Helm renders the chart with a command's
values.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import helm_python
import yaml

from ..kubernetes import schemas
from ..kubernetes.manifests import OVERLAYS, Manifest, Overlay, build
from ..paths import REPOSITORY

# Kinds of which commands name our objects.
KINDS = {
    "deployment": "Deployment",
    "job": "Job",
    "jobset": "JobSet",
    "persistentvolumeclaim": "PersistentVolumeClaim",
    "service": "Service",
    "statefulset": "StatefulSet",
}
# Flags of Helm, and those that take a value.
HELM = {"--create-namespace", "--install", "--wait"}
HELM_VALUED = {"--namespace", "-n", "--set", "--set-file", "--set-string", "--values", "-f", "--version"}
SUBCOMMANDS = ("install", "lint", "repo", "template", "uninstall", "upgrade")


@cache
def overlays(kubectl: str) -> list[Overlay]:
    """All overlays, built once."""
    return [build(folder, kubectl) for folder in OVERLAYS]


def faults_of_kubectl(kubectl: str, arguments: Sequence[str], text: str) -> Iterator[str]:
    """Yields the faults of the objects that a command of kubectl names, reads, creates or changes."""
    if text:
        try:
            yield from _of_objects(text)
        except yaml.YAMLError as error:
            yield " ".join(str(error).split())
    for kind, name in named(arguments):
        if not any(overlay.has(KINDS[kind], name) for overlay in overlays(kubectl)):
            yield f"no overlay has {kind} {name}"
    if "create" in arguments and "-f" not in arguments:
        yield from _created(kubectl, arguments)
    if "patch" in arguments:
        yield from _patched(kubectl, arguments)


def named(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yields the objects that a command names, as KIND/NAME or as KIND NAME NAME."""
    kind = ""
    for word in arguments:
        before, _, name = word.partition("/")
        if word in KINDS:
            kind = word
        elif before in KINDS and re.fullmatch(r"[a-z0-9-]+", name):
            yield before, name
        elif word.startswith("-"):
            kind = ""
        elif kind:
            yield kind, word


def _of_objects(text: str) -> Iterator[str]:
    for content in yaml.safe_load_all(text):
        if not isinstance(content, dict) or not {"apiVersion", "kind"} <= content.keys():
            yield "this is not an object of Kubernetes"
            continue
        yield from (f"{content['kind']}: {fault}" for fault in schemas.faults(Manifest(content)))


def _created(kubectl: str, arguments: Sequence[str]) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        for word in arguments:
            if word.startswith("--from-file="):
                path = Path(folder) / word.partition("=")[2].rpartition("=")[2]
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
        yield from _printed([kubectl, *arguments, "--dry-run=client", "--output=yaml"], folder)


def _patched(kubectl: str, arguments: Sequence[str]) -> Iterator[str]:
    for kind, name in named(arguments):
        for overlay in overlays(kubectl):
            for manifest in overlay.of(KINDS[kind]):
                if manifest.name == name:
                    yield from _patched_object(kubectl, arguments, manifest)
                    return


def _patched_object(kubectl: str, arguments: Sequence[str], manifest: Manifest) -> Iterator[str]:
    flags = arguments[arguments.index(manifest.name) + 1 :]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "object.yaml"
        file.write_text(yaml.safe_dump(manifest.content), encoding="utf-8")
        yield from _printed([kubectl, "patch", "--local", f"--filename={file}", "--output=yaml", *flags], folder)


def _printed(command: Sequence[str], folder: str) -> Iterator[str]:
    """Yields the faults of the objects that a command prints."""
    made = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if made.returncode != 0:
        yield " ".join(made.stderr.split())
    else:
        yield from _of_objects(made.stdout)


def faults_of_helm(arguments: Sequence[str]) -> Iterator[str]:
    """Yields the faults of a command of Helm: of our chart the values, of others their syntax."""
    words, free = list(arguments), []
    values: dict[str, Any] = {}
    while words:
        flag, _, value = words.pop(0).partition("=")
        if flag in HELM_VALUED:
            value = value or (words.pop(0) if words else "")
            try:
                values = merged(values, _values(flag, value))
            except (helm_python.HelmError, OSError, yaml.YAMLError) as error:
                yield f"{flag} {value}: {' '.join(str(error).split())}"
        elif not flag.startswith("-"):
            free.append(flag)
        elif flag not in HELM:
            yield f"unknown flag {flag} of Helm"
    if free and free[0] not in SUBCOMMANDS:
        yield f"unknown command {free[0]} of Helm"
    for chart in free:
        if chart.startswith("deploy/"):
            yield from _rendered(chart, values)


def _values(flag: str, value: str) -> dict[str, Any]:
    """Returns the values that a flag of Helm sets."""
    key, _, file = value.partition("=")
    match flag:
        case "--set" | "--set-string":
            return helm_python.parse_set_string(value)
        case "--set-file":
            first, *rest = reversed(key.split("."))
            values: dict[str, Any] = {first: (REPOSITORY / file).read_text(encoding="utf-8")}
            for part in rest:
                values = {part: values}
            return values
        case "--values" | "-f":
            return yaml.safe_load((REPOSITORY / value).read_text(encoding="utf-8"))
    return {}


def merged(values: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """Values of Helm with more of them."""
    both = {key: merged(values[key], more[key]) for key in values.keys() & more.keys() if isinstance(more[key], dict)}
    return {**values, **more, **both}


def _rendered(chart: str, values: dict[str, Any]) -> Iterator[str]:
    try:
        with helm_python.Chart.load(str(REPOSITORY / chart)) as loaded:
            loaded.validate_schema(values)
            loaded.render(values, name="run", namespace="hrm")
    except helm_python.HelmError as error:
        yield " ".join(str(error).split())
