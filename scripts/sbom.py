#!/usr/bin/env python3
"""Writes a software bill of materials for each program and processor into target/sbom/, as CycloneDX 1.5 in JSON.

    Cargo.lock --cargo-cyclonedx--> a list for each program --libtorch.txt--> target/sbom/ARCH/PROGRAM.cdx.json

cargo-cyclonedx lists the crates, with their licences and checksums. It does not know libtorch, which is no crate. This
script adds libtorch's wheels below torch-sys, which links it in the learner. The bill hrm-learner-cuda is that of the
image learner-cuda, with the wheels of libtorch for CUDA instead.

    python3 scripts/sbom.py CARGO-CYCLONEDX --revision COMMIT
"""

from __future__ import annotations

import argparse
import copy
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from libtorch import ARCHITECTURES, PINS_FILE, read_pins

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "target" / "sbom"
LEARNER = "hrm-learner"
CUDA_PINS = ROOT / "deploy" / "docker" / "libtorch-cuda.txt"
# The image learner-cuda is for this processor only.
CUDA_ARCHITECTURE = "x86_64"
CUDA_PIN = re.compile(r"^([\w-]+)==(\S+) --hash=sha256:([0-9a-f]{64})$", re.MULTILINE)
# From the wheels' own metadata. NVIDIA's are proprietary, except for these.
NVIDIA = {"expression": "LicenseRef-NVIDIA-Proprietary"}
LICENCES = {"torch": {"license": {"id": "BSD-3-Clause"}}, "nvidia-nvtx": {"license": {"id": "Apache-2.0"}}}

# Distribution -> (version, sha256 of its wheel).
Pins = dict[str, tuple[str, str]]


def cuda_pins() -> Pins:
    """Reads the pins of libtorch for CUDA."""
    return {
        name: (version, sha256) for name, version, sha256 in CUDA_PIN.findall(CUDA_PINS.read_text(encoding="utf-8"))
    }


def libtorch(pins: Pins) -> list[dict[str, Any]]:
    """The wheels of libtorch, as components."""
    return [
        {
            "type": "library",
            "bom-ref": f"pkg:pypi/{name}@{version}",
            "name": name,
            "version": version,
            "description": "A part of libtorch: the shared objects of this wheel that the program loads",
            "scope": "required",
            "hashes": [{"alg": "SHA-256", "content": sha256}],
            "licenses": [LICENCES.get(name, NVIDIA)],
            "purl": f"pkg:pypi/{name}@{version}",
        }
        for name, (version, sha256) in pins.items()
    ]


def complete(bill: dict[str, Any], pins: Pins, revision: str) -> dict[str, Any]:
    """Returns the bill with the commit that it is about, and with libtorch if the program links it."""
    bill = copy.deepcopy(bill)
    named = {"name": "org.opencontainers.image.revision", "value": revision}
    bill["metadata"]["properties"] = [*bill["metadata"].get("properties", []), named]
    linked = [part["bom-ref"] for part in bill["components"] if part["name"] == "torch-sys"]
    if not linked:
        return bill
    added = libtorch(pins)
    (links,) = (entry for entry in bill["dependencies"] if entry["ref"] == linked[0])
    links["dependsOn"] = links.get("dependsOn", []) + [part["bom-ref"] for part in added]
    bill["components"] += added
    bill["dependencies"] += [{"ref": part["bom-ref"]} for part in added]
    return bill


def list_crates(program: str, arch: str) -> dict[str, dict[str, Any]]:
    """Returns the bills of cargo-cyclonedx for a processor, by the name of the program."""
    options = ["--format", "json", "--spec-version", "1.5", "--describe", "binaries", "--quiet"]
    target = f"--target={arch}-unknown-linux-gnu"
    subprocess.run([program, "cyclonedx", *options, target], cwd=ROOT, check=True)
    bills = {}
    # cargo-cyclonedx writes them beside each Cargo.toml.
    for path in sorted(ROOT.glob("*/*.cdx.json")):
        # The bill must not reveal the path of this folder.
        text = path.read_text(encoding="utf-8").replace(f"file://{ROOT}", "file://.")
        bills[path.name.removesuffix(".cdx.json").replace("_bin", "")] = json.loads(text)
        path.unlink()
    return bills


def main() -> int:
    """Writes the bills and prints their paths."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", help="cargo-cyclonedx")
    parser.add_argument("--revision", required=True, help="the commit that the bills are about")
    given = parser.parse_args()
    for arch in ARCHITECTURES:
        pins = read_pins(arch, PINS_FILE.read_text(encoding="utf-8"))
        try:
            listed = list_crates(given.program, arch)
        except subprocess.CalledProcessError as error:
            return int(error.returncode)
        bills = {name: complete(bill, pins, given.revision) for name, bill in listed.items()}
        if arch == CUDA_ARCHITECTURE:
            bills[f"{LEARNER}-cuda"] = complete(listed[LEARNER], cuda_pins(), given.revision)
        folder = TARGET / arch
        folder.mkdir(parents=True, exist_ok=True)
        for name, bill in bills.items():
            place = folder / f"{name}.cdx.json"
            place.write_text(json.dumps(bill, indent=2) + "\n", encoding="utf-8")
            print(f"{place.relative_to(ROOT)}: {len(bill['components'])} components")
    return 0


if __name__ == "__main__":
    sys.exit(main())
