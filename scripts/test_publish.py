"""Tests of publish.py: python3 -m unittest discover --start-directory scripts"""

from __future__ import annotations

import json
import tempfile
import unittest
from pathlib import Path

import publish

COMMIT = "1" * 40
BILL = {
    "metadata": {"properties": [{"name": "org.opencontainers.image.revision", "value": COMMIT}]},
    "components": [
        {"purl": "pkg:cargo/tch@0.24.0"},
        {"purl": "pkg:pypi/torch@2.11.0", "hashes": [{"alg": "SHA-256", "content": "2" * 64}]},
    ],
}
LABELS = {"source": "https://example.com/ours", "version": "0.1.0", "revision": COMMIT}
ON_GITHUB = {
    "GITHUB_ACTIONS": "true",
    "GITHUB_SERVER_URL": "https://github.com",
    "GITHUB_REPOSITORY": "ours/hrm-impala",
    "GITHUB_WORKFLOW_REF": "ours/hrm-impala/.github/workflows/release.yml@refs/tags/v0.1.0",
    "GITHUB_RUN_ID": "7",
}


class Provenance(unittest.TestCase):
    """The statement about the origin of an image."""

    def provenance(self, environment: dict[str, str]) -> dict[str, dict[str, object]]:
        """Returns the provenance of a learner that was built in this environment."""
        with tempfile.TemporaryDirectory() as folder:
            bill = Path(folder, "bill.json")
            bill.write_text(json.dumps(BILL))
            labels = {publish.LABEL + key: value for key, value in LABELS.items()}
            built = publish.Built("learner:0.1.0-arm64", "linux/arm64", labels, "2026-01-01T00:00:00Z", bill)
            return publish.provenance("learner", built, environment)

    def test_commit_and_wheels_are_the_dependencies(self) -> None:
        definition = self.provenance({})["buildDefinition"]
        expected = [
            {"uri": f"git+https://example.com/ours@{COMMIT}", "digest": {"gitCommit": COMMIT}},
            {"uri": "pkg:pypi/torch@2.11.0", "digest": {"sha256": "2" * 64}},
        ]
        self.assertEqual(definition["resolvedDependencies"], expected)
        subject = {"image": "learner", "version": "0.1.0", "platform": "linux/arm64"}
        self.assertEqual(definition["externalParameters"], subject)

    def test_the_builder_is_the_workflow_or_the_command(self) -> None:
        by_hand, in_workflow = (self.provenance(environment)["runDetails"] for environment in ({}, ON_GITHUB))
        self.assertEqual(by_hand["builder"], {"id": "https://example.com/ours#make-publish"})
        self.assertEqual(in_workflow["builder"], {"id": f"https://github.com/{ON_GITHUB['GITHUB_WORKFLOW_REF']}"})
        expected = {
            "finishedOn": "2026-01-01T00:00:00Z",
            "invocationId": "https://github.com/ours/hrm-impala/actions/runs/7",
        }
        self.assertEqual(in_workflow["metadata"], expected)


class Contents(unittest.TestCase):
    """What publish.py reads from indexes and bills."""

    def test_the_commit_of_a_bill_is_found(self) -> None:
        self.assertEqual(publish.revision_of(BILL), COMMIT)
        self.assertIsNone(publish.revision_of({"metadata": {}}))

    def test_the_platforms_of_an_index_are_its_images(self) -> None:
        entries = [
            {"digest": "sha256:1", "platform": {"os": "linux", "architecture": "amd64"}},
            {"digest": "sha256:2", "platform": {"os": "linux", "architecture": "arm64"}},
        ]
        expected = {"linux/amd64": "sha256:1", "linux/arm64": "sha256:2"}
        self.assertEqual(publish.platforms_of({"manifests": entries}), expected)
        self.assertEqual(publish.platforms_of({"config": {}, "layers": []}), {})


if __name__ == "__main__":
    unittest.main()
