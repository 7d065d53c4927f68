"""Checks every overlay of deploy/k8s in the form that `kubectl kustomize` gives it.

It checks Kubernetes's own kinds strictly against the schemas of two versions, and the restricted Pod Security Standard.
Selectors, ports, accounts, volumes and targets must exist. Our programs, with the environment of image and manifest,
must listen at the ports of the manifests. Autoscalers must ask for recorded series. Needs no cluster.

    cargo build --workspace --bins
    python3 -m deploy.tests.kubernetes.check_manifests --kubectl kubectl --bin-dir target/debug
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import kubernetes_validate

from .. import command_line
from . import references, restricted, scaling, settings
from .manifests import OVERLAYS, Overlay, build

# The newest version that the validator knows, and an old one that providers still run.
VERSIONS = ("1.31", "1.37")


def of_schema(overlay: Overlay) -> Iterator[str]:
    """Yields the fields that Kubernetes would refuse."""
    for manifest in overlay.manifests:
        if manifest.custom:
            continue
        for version in VERSIONS:
            try:
                kubernetes_validate.validate(manifest.content, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                where = ".".join(str(part) for part in error.path)
                yield f"{manifest}: Kubernetes {version}: {where}: {error.message}"


def faults(overlay: Overlay, bin_dir: Path) -> Iterator[str]:
    """Yields every fault of an overlay."""
    yield from of_schema(overlay)
    for workload in overlay.workloads:
        yield from (f"{workload}: {fault}" for fault in restricted.faults(workload))
    yield from references.faults(overlay)
    yield from settings.faults(overlay, bin_dir)
    yield from scaling.faults(overlay)


def main() -> int:
    """Checks every overlay and prints the faults."""
    parser = command_line.parser(__doc__)
    parser.add_argument("--kubectl", default="kubectl", help="kubectl 1.27 or later")
    command_line.add_bin_dir(parser)
    arguments = parser.parse_args()

    found = []
    for folder in OVERLAYS:
        overlay = build(folder, arguments.kubectl)
        wrong = [f"{overlay.name}: {fault}" for fault in faults(overlay, arguments.bin_dir)]
        found += wrong
        if not wrong:
            own = sum(1 for manifest in overlay.manifests if not manifest.custom)
            print(f"check_manifests: {overlay.name}: {len(overlay.manifests)} objects, {own} by schema")
    if not OVERLAYS:
        found.append("there is no overlay")
    return command_line.report("check_manifests", found, f"{len(OVERLAYS)} overlays")


if __name__ == "__main__":
    sys.exit(main())
