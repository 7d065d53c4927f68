"""Checks every overlay of deploy/k8s in the form that `kubectl kustomize` gives it.

It checks each object strictly against its schema, and the restricted Pod Security Standard. Selectors, ports, accounts,
volumes and targets must exist. Our programs, with the arguments and the environment of image and manifest, must listen
at the ports of the manifests. Autoscalers must ask for recorded series. Spot nodes must suit actors alone. Needs no
cluster.

    cargo build --workspace --bins
    python3 -m deploy.tests.kubernetes.check_manifests --kubectl kubectl --bin-dir target/debug
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from .. import command_line
from . import references, restricted, scaling, schemas, settings, spot
from .manifests import OVERLAYS, Overlay, build


def faults(overlay: Overlay, bin_dir: Path) -> Iterator[str]:
    """Yields every fault of an overlay."""
    for manifest in overlay.manifests:
        yield from (f"{manifest}: {fault}" for fault in schemas.faults(manifest))
    for workload in overlay.workloads:
        yield from (f"{workload}: {fault}" for fault in restricted.faults(workload))
    yield from references.faults(overlay)
    yield from settings.faults(overlay, bin_dir)
    yield from scaling.faults(overlay)
    yield from spot.faults(overlay)


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
            print(f"check_manifests: {overlay.name}: {len(overlay.manifests)} objects")
    if not OVERLAYS:
        found.append("there is no overlay")
    return command_line.report("check_manifests", found, f"{len(OVERLAYS)} overlays")


if __name__ == "__main__":
    sys.exit(main())
