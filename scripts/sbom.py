#!/usr/bin/env python3
"""Writes a software bill of materials for each program into target/sbom/, as CycloneDX 1.5 in JSON.

    Cargo.lock --cargo-cyclonedx--> a list for each program --libtorch.txt--> target/sbom/PROGRAM.cdx.json

cargo-cyclonedx lists the crates, with their licences and checksums. It does not know libtorch, which is no crate. This
script adds libtorch's wheels below torch-sys, which links it in the learner.

    python3 scripts/sbom.py CARGO-CYCLONEDX
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "target" / "sbom"
PIN = re.compile(r"^(?P<name>[\w-]+)==(?P<version>\S+) --hash=sha256:(?P<sha256>[0-9a-f]{64})$", re.MULTILINE)
# From the wheels' own metadata.
LICENCES = {
    "torch": {"license": {"id": "BSD-3-Clause"}},
    "nvidia-cuda-cupti": {"expression": "LicenseRef-NVIDIA-Proprietary"},
    "nvidia-cuda-runtime": {"expression": "LicenseRef-NVIDIA-Proprietary"},
}


def libtorch() -> list[dict[str, Any]]:
    """The wheels of libtorch, as components."""
    pins = (ROOT / "scripts" / "libtorch.txt").read_text(encoding="utf-8")
    return [
        {
            "type": "library",
            "bom-ref": f"pkg:pypi/{pin['name']}@{pin['version']}",
            "name": pin["name"],
            "version": pin["version"],
            "description": "A part of libtorch: the shared objects of this wheel that the program loads",
            "scope": "required",
            "hashes": [{"alg": "SHA-256", "content": pin["sha256"]}],
            "licenses": [LICENCES[pin["name"]]],
            "purl": f"pkg:pypi/{pin['name']}@{pin['version']}",
        }
        for pin in PIN.finditer(pins)
    ]


def complete(bill: dict[str, Any]) -> dict[str, Any]:
    """Returns the bill, with libtorch added if the program links it."""
    linked = [part["bom-ref"] for part in bill["components"] if part["name"] == "torch-sys"]
    if not linked:
        return bill
    added = libtorch()
    (links,) = (entry for entry in bill["dependencies"] if entry["ref"] == linked[0])
    links["dependsOn"] = links.get("dependsOn", []) + [part["bom-ref"] for part in added]
    bill["components"] += added
    bill["dependencies"] += [{"ref": part["bom-ref"]} for part in added]
    return bill


def main() -> int:
    """Writes the bills and prints their paths."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", help="cargo-cyclonedx")
    program = parser.parse_args().program
    options = ["--format", "json", "--spec-version", "1.5", "--describe", "binaries", "--quiet"]
    made = subprocess.run([program, "cyclonedx", *options], cwd=ROOT, check=False)
    if made.returncode != 0:
        return made.returncode
    TARGET.mkdir(parents=True, exist_ok=True)
    # cargo-cyclonedx writes them beside each Cargo.toml.
    for path in sorted(ROOT.glob("*/*.cdx.json")):
        # The bill must not reveal the path of this folder.
        text = path.read_text(encoding="utf-8").replace(f"file://{ROOT}", "file://.")
        bill = complete(json.loads(text))
        path.unlink()
        place = TARGET / path.name.replace("_bin", "")
        place.write_text(json.dumps(bill, indent=2) + "\n", encoding="utf-8")
        print(f"{place.relative_to(ROOT)}: {len(bill['components'])} components")
    return 0


if __name__ == "__main__":
    sys.exit(main())
