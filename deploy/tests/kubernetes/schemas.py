"""The schema of every kind, which refuses unknown fields: Kubernetes's own kinds, and those of operators.

Kubernetes's come from its OpenAPI description, in two versions. Those of KEDA and of the Prometheus operator come from
models made of their custom resource definitions. JobSet's is here, because no package has it; its jobs are checked as
Kubernetes's own.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator
from kubernetes_validate import utils
from referencing import Registry, Resource

from .manifests import Manifest

# The newest version that the validator knows, and an old one that providers still run.
VERSIONS = ("1.31", "1.37")
MODELS = {
    ("keda.sh/v1alpha1", "ScaledObject"): "cloudcoil.models.keda.v1alpha1",
    ("monitoring.coreos.com/v1", "ServiceMonitor"): "cloudcoil.models.prometheus_operator.v1",
    ("monitoring.coreos.com/v1", "PodMonitor"): "cloudcoil.models.prometheus_operator.v1",
    ("monitoring.coreos.com/v1", "PrometheusRule"): "cloudcoil.models.prometheus_operator.v1",
}


def _object(required: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


TEXT, NUMBER, FLAG = {"type": "string"}, {"type": "integer", "minimum": 0}, {"type": "boolean"}
TEXTS = {"type": "array", "items": TEXT}
# https://github.com/kubernetes-sigs/jobset, api/jobset/v1alpha2: what this project uses of it.
JOBSET = _object(
    ("apiVersion", "kind", "metadata", "spec"),
    apiVersion={"const": "jobset.x-k8s.io/v1alpha2"},
    kind={"const": "JobSet"},
    metadata={"type": "object"},
    spec=_object(
        ("replicatedJobs",),
        network=_object(enableDNSHostnames=FLAG, subdomain=TEXT, publishNotReadyAddresses=FLAG),
        successPolicy=_object(("operator",), operator={"enum": ["All", "Any"]}, targetReplicatedJobs=TEXTS),
        suspend=FLAG,
        ttlSecondsAfterFinished=NUMBER,
        replicatedJobs={
            "type": "array",
            "items": _object(
                ("name", "template"),
                name=TEXT,
                replicas=NUMBER,
                template=_object(("spec",), metadata={"type": "object"}, spec={"type": "object"}),
            ),
        },
    ),
)


def faults(manifest: Manifest) -> Iterator[str]:
    """Yields the fields that an API server would refuse or ignore."""
    content = manifest.content
    key = (content["apiVersion"], manifest.kind)
    if key == ("jobset.x-k8s.io/v1alpha2", "JobSet"):
        yield from _of(Draft202012Validator(JOBSET), content)
        for job in content.get("spec", {}).get("replicatedJobs", []):
            parts = {"metadata": content.get("metadata"), "spec": job.get("template", {}).get("spec")}
            yield from _own({"apiVersion": "batch/v1", "kind": "Job", **parts})
    elif key in MODELS:
        yield from _of(_model(*key), content)
    else:
        yield from _own(content)


def _own(content: dict[str, Any]) -> Iterator[str]:
    for version in VERSIONS:
        try:
            validator = _kubernetes(version, content["apiVersion"], content["kind"])
        except FileNotFoundError:
            yield f"Kubernetes {version} has no {content['kind']} of {content['apiVersion']}"
            continue
        found = [f"Kubernetes {version}: {fault}" for fault in _of(validator, content)]
        yield from found
        if found:
            # The other version mostly says the same.
            return


def _of(validator: Draft202012Validator, content: dict[str, Any]) -> Iterator[str]:
    for error in validator.iter_errors(content):
        yield f"{'.'.join(str(part) for part in error.path)}: {error.message}"


@cache
def _kubernetes(version: str, api_version: str, kind: str) -> Draft202012Validator:
    full = next(known for known in utils.all_versions() if utils.major_minor(known) == version)
    folder = f"kubernetes-json-schema/v{full}-local-strict"
    group, _, last = api_version.rpartition("/")
    name = "-".join(filter(None, (kind.lower(), group.split(".")[0], last)))
    schema = utils.schema_contents(f"{folder}/{name}.json", version)
    return Draft202012Validator(schema, registry=Resource.from_contents(schema) @ _definitions(folder, version))


@cache
def _definitions(folder: str, version: str) -> Registry:
    definitions = Resource.from_contents(utils.schema_contents(f"{folder}/_definitions.json", version))
    return definitions @ Registry()


@cache
def _model(api_version: str, kind: str) -> Draft202012Validator:
    model = getattr(importlib.import_module(MODELS[api_version, kind]), kind)
    schema = _closed(model.model_json_schema(by_alias=True))
    # The model has defaults for these.
    return Draft202012Validator({**schema, "required": ["apiVersion", "kind", "metadata", "spec"]})


def _closed(schema: Any) -> Any:
    """Returns the schema with no fields allowed but those that it names."""
    if isinstance(schema, list):
        return [_closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(part) for key, part in schema.items()}
    if isinstance(schema.get("properties"), dict):
        closed.setdefault("additionalProperties", False)
    return closed
